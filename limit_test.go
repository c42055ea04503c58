package usage

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"
	"pgregory.net/rapid"
)

func TestQuotaRow(t *testing.T) {
	t.Parallel()
	percents := []int{100, 80, 100}
	got, err := Quota{
		TenantID: "acme",
		Limits: []Limit{
			{Provider: OpenAI, Meter: Tokens, Max: decimal.NewFromInt(1_000)},
			{Meter: Cost, Max: decimal.RequireFromString("500.000000000001"), Soft: true},
			{Meter: Cost, Per: Day, Max: decimal.RequireFromString("5e1")},
			{Provider: "my.provider", Model: "m 1", Meter: Minutes, Max: decimal.RequireFromString("0.5")},
			{Meter: "pages", Max: decimal.Zero},
		},
		AlertPercents: percents,
	}.row()
	if err != nil {
		t.Fatal(err)
	}
	want := store.Quota{
		TenantID: "acme",
		Limits: []store.Limit{
			{Provider: OpenAI, Meter: Tokens, Per: Month, Max: 1_000},
			{Meter: Cost, Per: Month, Max: 500_000_000_000_001, Soft: true},
			{Meter: Cost, Per: Day, Max: 50_000_000_000_000},
			{Provider: "my.provider", Model: "m 1", Meter: Minutes, Per: Month, Max: 30_000},
			{Meter: "pages", Per: Month},
		},
		AlertPercents: []int{80, 100},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("row (-want +got):\n%s", diff)
	}
	if !slices.Equal(percents, []int{100, 80, 100}) {
		t.Errorf("the host's percents were changed to %v", percents)
	}
}

func TestQuotaFaults(t *testing.T) {
	t.Parallel()
	ok := Limit{Meter: Tokens, Max: decimal.NewFromInt(1)}
	one := func(change func(*Limit)) Quota {
		limit := ok
		change(&limit)
		return Quota{TenantID: "acme", Limits: []Limit{limit}}
	}
	limited := func(meter Meter, most string) Quota {
		return one(func(l *Limit) { l.Meter, l.Max = meter, decimal.RequireFromString(most) })
	}
	for _, tt := range []struct {
		name   string
		quota  Quota
		fields []string
	}{
		{"no tenant", Quota{Limits: []Limit{ok}}, []string{"TenantID"}},
		{"an unknown window", one(func(l *Limit) { l.Per = "week" }), []string{"Limits[0].Per"}},
		{"no meter", one(func(l *Limit) { l.Meter = "" }), []string{"Limits[0].Meter"}},
		{"a meter in upper case", one(func(l *Limit) { l.Meter = "Tokens" }), []string{"Limits[0].Meter"}},
		{"a provider with a space", one(func(l *Limit) { l.Provider = "open ai" }), []string{"Limits[0].Provider"}},
		{"a model with NUL", one(func(l *Limit) { l.Model = "\x00" }), []string{"Limits[0].Model"}},
		{"a negative maximum", limited(Tokens, "-1"), []string{"Limits[0].Max"}},
		{"half a token", limited(Tokens, "0.5"), []string{"Limits[0].Max"}},
		{"more tokens than an int64", limited(Tokens, "9223372036854775808"), []string{"Limits[0].Max"}},
		{"more dollars than an int64 of picodollars", limited(Cost, "9223372.036854775808"), []string{"Limits[0].Max"}},
		{"a fraction of a picodollar", limited(Cost, "0.0000000000001"), []string{"Limits[0].Max"}},
		{"a fraction of a millisecond", limited(Minutes, "0.00001"), []string{"Limits[0].Max"}},
		{"more minutes than an int64 of milliseconds", limited(Minutes, "153722867280913"), []string{"Limits[0].Max"}},
		{"a burst of a month", one(func(l *Limit) { l.Burst = 1 }), []string{"Limits[0].Burst"}},
		{"a negative burst", one(func(l *Limit) { l.Per, l.Burst = Minute, -1 }), []string{"Limits[0].Burst"}},
		{"a burst past the bound", one(func(l *Limit) { l.Per, l.Burst = Second, maxRate+1 }), []string{"Limits[0].Burst"}},
		{"a burst that takes years", one(func(l *Limit) { l.Per, l.Burst = Minute, 366*24*60+1 }), []string{"Limits[0].Burst"}},
		{"a burst of a rate of nothing", one(func(l *Limit) { l.Per, l.Max, l.Burst = Minute, decimal.Zero, 1 }), []string{"Limits[0].Burst"}},
		{"a rate past the bound", one(func(l *Limit) { l.Per, l.Max = Minute, decimal.NewFromInt(maxRate+1) }), []string{"Limits[0].Max"}},
		{"cost a minute", one(func(l *Limit) { l.Per, l.Meter = Minute, Cost }), []string{"Limits[0].Meter"}},
		{"minutes a second", one(func(l *Limit) { l.Per, l.Meter = Second, Minutes }), []string{"Limits[0].Meter"}},
		{"a negative burst of cost a minute", one(func(l *Limit) { l.Per, l.Meter, l.Burst = Minute, Cost, -1 }), []string{"Limits[0].Meter", "Limits[0].Burst"}},
		{"a negative burst and a rate past the bound", one(func(l *Limit) { l.Per, l.Max, l.Burst = Second, decimal.NewFromInt(maxRate+1), -1 }),
			[]string{"Limits[0].Max", "Limits[0].Burst"}},
		{"a rate and a burst past their bounds", one(func(l *Limit) { l.Per, l.Max, l.Burst = Second, decimal.NewFromInt(maxRate+1), maxRate+1 }),
			[]string{"Limits[0].Max", "Limits[0].Burst"}},
		{"a negative burst of a month", one(func(l *Limit) { l.Burst = -1 }), []string{"Limits[0].Burst"}},
		{"half a call a second", one(func(l *Limit) { l.Per, l.Max = Second, decimal.RequireFromString("0.5") }), []string{"Limits[0].Max"}},
		{"the same metric twice", Quota{TenantID: "a", Limits: []Limit{ok, {Meter: Tokens, Per: Month}}}, []string{"Limits[1]"}},
		{"101 limits", Quota{TenantID: "a", Limits: slices.Repeat([]Limit{ok}, 101)}, []string{"Limits"}},
		{"21 percents", Quota{TenantID: "a", AlertPercents: slices.Repeat([]int{80}, 21)}, []string{"AlertPercents"}},
		{"percents out of range", Quota{TenantID: "a", AlertPercents: []int{0, 1, 1000, 1001}}, []string{"AlertPercents[0]", "AlertPercents[3]"}},
		{"everything at once", Quota{Limits: []Limit{{Provider: " ", Meter: "a b", Per: "x", Max: decimal.NewFromInt(-1)}}, AlertPercents: []int{-5}},
			[]string{"TenantID", "Limits[0].Provider", "Limits[0].Meter", "Limits[0].Per", "Limits[0].Max", "AlertPercents[0]"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := tt.quota.row()
			wantFaults(t, err, tt.fields...)
		})
	}
}

func TestAMaximumThatIsRefusedSaysWhatItMayBe(t *testing.T) {
	t.Parallel()
	for meter, want := range map[Meter]string{
		Cost:       "Max has more than 12 fraction digits or is more than 9223372.036854775807 dollars",
		Minutes:    "Max is not of whole milliseconds or is more than an int64 of them",
		Tokens:     "Max is not of whole units or is more than an int64 of them",
		Characters: "Max is not of whole units or is more than an int64 of them",
	} {
		_, err := Quota{TenantID: "a", Limits: []Limit{{Meter: meter, Max: decimal.RequireFromString("0.0000000000001")}}}.row()
		if err == nil || err.Error() != "invalid: Limits[0]."+want {
			t.Errorf("%s: %v, want %s", meter, err, want)
		}
	}
}

func TestHugeDecimalsAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	for _, most := range []decimal.Decimal{
		decimal.New(1, 50_000_000), decimal.New(-1, 50_000_000), decimal.New(1, -50_000_000),
		decimal.New(1, math.MaxInt32), decimal.New(math.MaxInt64, math.MinInt32),
	} {
		for _, meter := range []Meter{Tokens, Minutes, Cost} {
			start := time.Now()
			_, err := Quota{TenantID: "a", Limits: []Limit{{Meter: meter, Max: most}}}.row()
			wantFaults(t, err, "Limits[0].Max")
			if took := time.Since(start); took > 5*time.Second { // to scale them takes longer
				t.Errorf("%d×10^%d of %s took %v", most.Coefficient(), most.Exponent(), meter, took)
			}
		}
	}
}

func TestLimitsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		meter := rapid.SampledFrom([]Meter{Tokens, Cost, Calls, AudioTime, Minutes}).Draw(t, "meter")
		row := store.Limit{Provider: OpenAI, Model: "m", Meter: meter, Per: Day, Max: rapid.Int64Min(0).Draw(t, "max"), Soft: true}
		if meter == Minutes {
			row.Max -= row.Max % 3 // only these are decimals with an end
		}
		if rapid.Bool().Draw(t, "rate") {
			row.Meter, row.Per, row.Max = Calls, rapid.SampledFrom([]Window{Minute, Second}).Draw(t, "per"), row.Max%maxRate
			row.Burst = min(row.Max, rapid.Int64Range(0, 1_000).Draw(t, "burst"))
		}
		var f faults
		if diff := cmp.Diff(row, limitOf(row).row(&f, "")); diff != "" || f != nil {
			t.Errorf("row (-want +got):\n%s%v", diff, f)
		}
	})
}

func TestUnits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		meter Meter
		n     int64
		want  string
	}{
		{Cost, 0, "0"},
		{Cost, 31_500_000_000, "0.0315"},
		{Tokens, 1_020, "1020"},
		{AudioTime, 15_500, "15500"},
		{Minutes, 0, "0"},
		{Minutes, 180_000, "3"},
		{Minutes, 185_000, "3.083333333333"},
		{Minutes, 1, "0.000016666667"},
		{Minutes, math.MaxInt64, "153722867280912.930116666667"},
	} {
		if got := unitsOf(tt.meter, tt.n).String(); got != tt.want {
			t.Errorf("%d of %s is %s, want %s", tt.n, tt.meter, got, tt.want)
		}
	}
}
