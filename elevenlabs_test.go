package usage

import (
	"strings"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
	"github.com/shopspring/decimal"
)

func TestElevenLabsChargesOneQuantity(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		call       ElevenLabsCall
		conditions string
		want       []store.Line
	}{
		{
			"speech is charged by character", ElevenLabsCall{Characters: 1_200, Audio: 15500 * time.Millisecond, Credits: 1_200}, "",
			[]store.Line{billed(Characters, 1_200), counted(AudioTime, 15_500), counted(Credits, 1_200)},
		},
		{
			"a plan is charged by credit", ElevenLabsCall{Characters: 101, Credits: 51, Plan: "Scale"}, "plan=scale",
			[]store.Line{counted(Characters, 101), billed(Credits, 51)},
		},
		{
			"a plan whose credits are not known is charged by character", ElevenLabsCall{Characters: 101, Plan: "scale"}, "plan=scale",
			[]store.Line{billed(Characters, 101)},
		},
		{
			"a plan is charged for an agent when there are no credits", ElevenLabsCall{CallTime: time.Minute, Plan: "scale"}, "plan=scale",
			[]store.Line{billed(CallTime, 60_000)},
		},
		{
			"a sound effect is charged by the piece", ElevenLabsCall{Generations: 1, Characters: 18, Credits: 100}, "",
			[]store.Line{billed(Generations, 1), counted(Characters, 18), counted(Credits, 100)},
		},
		{
			"a sound effect of a plan is charged by credit", ElevenLabsCall{Generations: 1, Credits: 100, Plan: "scale"}, "plan=scale",
			[]store.Line{counted(Generations, 1), billed(Credits, 100)},
		},
		{
			"an agent's minute includes its speech", ElevenLabsCall{CallTime: time.Minute, Characters: 900, Credits: 700}, "",
			[]store.Line{billed(CallTime, 60_000), counted(Characters, 900), counted(Credits, 700)},
		},
		{
			"transcription is charged by time", ElevenLabsCall{Audio: 125500 * time.Millisecond, Credits: 7}, "",
			[]store.Line{billed(AudioTime, 125_500), counted(Credits, 7)},
		},
		{"credits alone are charged", ElevenLabsCall{Credits: 7}, "", []store.Line{billed(Credits, 7)}},
		{"dubbing with a watermark says so", ElevenLabsCall{Audio: time.Second, Watermark: true}, "watermark=true", []store.Line{billed(AudioTime, 1_000)}},
		{
			"a cost that is reported is charged, digits past money's rounded",
			ElevenLabsCall{ReportedCost: reported("0.0123456789012345"), CallTime: time.Minute, Credits: 700, Plan: "scale"}, "plan=scale",
			[]store.Line{billed(ReportedCost, 12_345_678_901), counted(CallTime, 60_000), counted(Credits, 700)},
		},
		{
			"a cost that is reported as zero is free", ElevenLabsCall{ReportedCost: reported("0"), CallTime: time.Minute}, "",
			[]store.Line{counted(CallTime, 60_000)},
		},
		{"a refused call used nothing", ElevenLabsCall{Status: 401}, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.call.TenantID = "acme"
			got, err := tt.call.draft()
			if err != nil {
				t.Fatal(err)
			}
			if diff := lineDiff(tt.want, got.record.Lines); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
			if got.record.Conditions != tt.conditions {
				t.Errorf("conditions are %q, want %q", got.record.Conditions, tt.conditions)
			}
		})
	}
}

func reported(dollars string) decimal.NullDecimal {
	return decimal.NewNullDecimal(decimal.RequireFromString(dollars))
}

func TestElevenLabsReportedCostIsBounded(t *testing.T) {
	t.Parallel()
	for _, dollars := range []decimal.Decimal{
		decimal.New(-1, 0), decimal.New(1001, 0), decimal.New(1, 50_000_000), decimal.New(1, -50_000_000),
		decimal.RequireFromString("123456789012345678901234567890123456789012345.1"),
	} {
		_, err := ElevenLabsCall{TenantID: "acme", ReportedCost: decimal.NewNullDecimal(dollars)}.draft()
		wantFaults(t, err, "ReportedCost")
	}
}

func TestAReportedCostIsItsPrice(t *testing.T) {
	t.Parallel()
	lines := []Line{{Meter: ReportedCost, Quantity: 12_345_678_901}}
	cost, err := DefaultPrices().Price(PriceQuery{Provider: ElevenLabs, Model: "agents", At: time.Date(2026, 10, 20, 0, 0, 0, 0, time.UTC)}, lines)
	if err != nil || cost.String() != "0.012345678901" {
		t.Errorf("%s, %v", cost, err)
	}
}

func TestElevenLabsFaultsAreAllNamed(t *testing.T) {
	t.Parallel()
	_, err := ElevenLabsCall{Characters: -1, Credits: maxQuantity + 1, Audio: -1, CallTime: -1, Generations: -1, Plan: strings.Repeat("p", 65)}.draft()
	wantFaults(t, err, "TenantID", "Characters", "Credits", "Audio", "CallTime", "Generations", "Plan")
}
