package usage

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acf68eca/usage/prices"
	"github.com/acf68eca/usage/store"
	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"
)

func usd(s string) decimal.Decimal { return decimal.RequireFromString(s) }

func day(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return t
}

// linesOf makes the lines of a call from pairs of Meter and int.
func linesOf(pairs ...any) []Line {
	var lines []Line
	for i := 0; i < len(pairs); i += 2 {
		lines = append(lines, Line{Meter: pairs[i].(Meter), Quantity: int64(pairs[i+1].(int))})
	}
	return lines
}

func mustBook(t testing.TB) func(*PriceBook, error) *PriceBook {
	return func(b *PriceBook, err error) *PriceBook {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

// wantCost checks the sum, and that the lines add up to it.
func wantCost(t *testing.T, b *PriceBook, q PriceQuery, lines []Line, want string) {
	t.Helper()
	got, err := b.Price(q, lines)
	if err != nil {
		t.Errorf("%s %s: %v, want %s", q.Model, q.At.Format(time.DateOnly), err, want)
		return
	}
	if !got.Equal(usd(want)) {
		t.Errorf("%s %s: cost %s, want %s (%+v)", q.Model, q.At.Format(time.DateOnly), got, want, lines)
	}
	var sum Money
	for _, l := range lines {
		sum += l.Cost
	}
	if !sum.Decimal().Equal(got) {
		t.Errorf("%s: the lines add up to %s, the cost is %s", q.Model, sum, got)
	}
}

func wantUnpriced(t *testing.T, b *PriceBook, q PriceQuery, lines []Line, reason string) {
	t.Helper()
	got, err := b.Price(q, lines)
	var unpriced *UnpricedError
	if !errors.As(err, &unpriced) || !errors.Is(err, ErrUnpriced) {
		t.Errorf("%s: cost %s, error %v, want unpriced: %s", q.Model, got, err, reason)
		return
	}
	if unpriced.Reason != reason {
		t.Errorf("%s: reason %q, want %q", q.Model, unpriced.Reason, reason)
	}
	for _, l := range lines {
		if diff := cmp.Diff(Line{Meter: l.Meter, Quantity: l.Quantity}, l); diff != "" {
			t.Errorf("a line of an unpriced call has a price (-want +got):\n%s", diff)
		}
	}
}

func TestPrice(t *testing.T) {
	t.Parallel()
	at := day("2026-10-20")
	smartflo := func(pulse int64) *PriceBook {
		return mustBook(t)(DefaultPrices().With(Price{
			Provider: Smartflo, Meter: CallTime, Amount: usd("0.02"), Per: PerMinute, RoundUpTo: pulse,
		}))
	}
	tests := []struct {
		promise string
		book    *PriceBook
		query   PriceQuery
		lines   []Line
		want    string
	}{
		{
			"cached input of a pro model is billed as input", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-5.4-pro", At: at},
			linesOf(InputTokens, 10_000, InputCachedTokens, 200_000, OutputTokens, 5_000), "7.2",
		},
		{
			"being billed as input follows into a long prompt", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-5.4-pro", At: at},
			linesOf(InputTokens, 100_000, InputCachedTokens, 200_000), "18",
		},
		{
			"being billed as input follows into a tier", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-5.4-pro", At: at, Conditions: Conditions{ServiceTier: "flex"}},
			linesOf(InputTokens, 10_000, InputCachedTokens, 10_000), "0.3",
		},
		{
			"a long prompt is long for the whole call", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-5.5", At: at},
			linesOf(InputTokens, 270_540, InputCachedTokens, 7_936, OutputTokens, 630), "2.741686",
		},
		{
			"a prompt of exactly the threshold is short", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-5.4", At: at},
			linesOf(InputTokens, 272_000, OutputTokens, 1_000), "0.695",
		},
		{
			"one token above the threshold is long", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-5.4", At: at},
			linesOf(InputTokens, 272_001, OutputTokens, 1_000), "1.382505",
		},
		{
			"the caller's prompt size decides, not the lines'", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-5.4", At: at, PromptTokens: 150_000},
			linesOf(InputTokens, 300_000), "0.75",
		},
		{
			"cache writes count into the prompt", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-6-sol", At: at},
			linesOf(InputTokens, 1, InputCachedTokens, 200_000, InputCacheWriteTokens, 72_000), "0.440004",
		},
		{"gpt-4", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-4", At: at}, linesOf(InputTokens, 150, OutputTokens, 450), "0.0315"},
		{"flex", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-5-mini", At: at, Conditions: Conditions{ServiceTier: "flex"}}, linesOf(InputTokens, 1976, InputCachedTokens, 1024, OutputTokens, 500), "0.0007598"},
		{"fast is priority", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-5.4", At: at, Conditions: Conditions{ServiceTier: "fast"}}, linesOf(InputTokens, 1_000), "0.005"},
		{"the default tier is none", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-5.4", At: at, Conditions: Conditions{ServiceTier: "default", Batch: "false"}}, linesOf(InputTokens, 1_000), "0.0025"},
		{"batch", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-4o", At: at, Conditions: Conditions{Batch: "true"}}, linesOf(InputTokens, 1_000, OutputTokens, 1_000), "0.00625"},
		{"a long prompt in a tier", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-6-sol", At: at, Conditions: Conditions{ServiceTier: "priority"}}, linesOf(InputTokens, 300_000), "2.4"},
		{"regional processing costs a tenth more", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-5.4", At: at, Conditions: Conditions{RegionalProcessing: "true"}}, linesOf(InputTokens, 1_000, OutputTokens, 1_000), "0.01925"},
		{"regional processing in a tier with a long prompt", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-6-sol", At: at, Conditions: Conditions{RegionalProcessing: "true", ServiceTier: "flex"}}, linesOf(InputTokens, 300_000), "0.66"},
		{"models before regional prices cost the same in a region", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-4.1", At: at, Conditions: Conditions{RegionalProcessing: "true"}}, linesOf(InputTokens, 1_000), "0.002"},
		{"a snapshot costs what its model does", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-6.1-sol-2026-09-29", At: at}, linesOf(InputTokens, 1_000), "0.002"},
		{"a listed snapshot has its own price", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-4o-2024-05-13", At: at}, linesOf(InputTokens, 1_000), "0.005"},
		{"a fine-tuned model costs what its base does", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "ft:gpt-4o-mini-2024-07-18:acme::AbC12345", At: at}, linesOf(InputTokens, 500, OutputTokens, 100), "0.00027"},
		{"a web search is charged beside any model", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-6-sol", At: at}, linesOf(InputTokens, 5_000, OutputTokens, 300, WebSearches, 2), "0.033"},
		{"a web search costs the same in a tier and with a long prompt", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-6-sol", At: at, Conditions: Conditions{ServiceTier: "flex"}, PromptTokens: 300_000}, linesOf(InputTokens, 1_000, WebSearches, 1), "0.012"},
		{"file search and a container", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-4.1", At: at}, linesOf(FileSearches, 2, ContainerSessions, 1), "0.035"},
		{"either size of an image", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "dall-e-3", At: at, Conditions: Conditions{Size: "1792x1024", Quality: "hd"}}, linesOf(Images, 2), "0.24"},
		{"characters", DefaultPrices(), PriceQuery{Provider: ElevenLabs, Model: "eleven_flash_v2_5", At: at}, linesOf(Characters, 101), "0.00404"},
		{"1,200 characters in spring", mustBook(t)(NewPriceBook(Price{Provider: ElevenLabs, Meter: Characters, Amount: usd("0.03"), Per: PerThousand})), PriceQuery{Provider: ElevenLabs, At: at}, linesOf(Characters, 1_200), "0.036"},
		{"credits of a plan", DefaultPrices(), PriceQuery{Provider: ElevenLabs, Model: "eleven_flash_v2_5", At: at, Conditions: Conditions{Plan: "scale"}}, linesOf(Credits, 51), "0.00918"},
		{"characters of a plan are charged in credits", DefaultPrices(), PriceQuery{Provider: ElevenLabs, Model: "eleven_multilingual_v2", At: at, Conditions: Conditions{Plan: "scale"}}, linesOf(Characters, 100), "0.018"},
		{"two characters of a fast model are one credit", DefaultPrices(), PriceQuery{Provider: ElevenLabs, Model: "eleven_flash_v2_5", At: at, Conditions: Conditions{Plan: "scale"}}, linesOf(Characters, 101), "0.00909"},
		{"a price an hour is rounded half to even at 12 digits", DefaultPrices(), PriceQuery{Provider: ElevenLabs, Model: "scribe_v1", At: at}, linesOf(AudioTime, 125_500), "0.007669444444"},
		{"a watermark", DefaultPrices(), PriceQuery{Provider: ElevenLabs, Model: "dubbing_v1", At: at, Conditions: Conditions{Watermark: "true"}}, linesOf(AudioTime, 60_000), "0.33"},
		{"185 seconds without a pulse", smartflo(0), PriceQuery{Provider: Smartflo, At: at}, linesOf(CallTime, 185_000), "0.061666666667"},
		{"185 seconds with a pulse of a minute", smartflo(PerMinute), PriceQuery{Provider: Smartflo, At: at}, linesOf(CallTime, 185_000), "0.08"},
		{"a whole pulse is not rounded up", smartflo(PerMinute), PriceQuery{Provider: Smartflo, At: at}, linesOf(CallTime, 180_000), "0.06"},
		{"no line costs nothing", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-9", At: at}, nil, "0"},
		{"a quantity of 0 needs no price", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-4", At: at}, linesOf(InputTokens, 150, InputAudioTokens, 0), "0.0045"},
		{"what is free costs nothing", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "omni-moderation-latest", At: at}, linesOf(InputTokens, 150), "0"},
	}
	for _, tt := range tests {
		t.Run(tt.promise, func(t *testing.T) {
			t.Parallel()
			wantCost(t, tt.book, tt.query, tt.lines, tt.want)
		})
	}
}

func TestPriceUnpriced(t *testing.T) {
	t.Parallel()
	at := day("2026-10-20")
	ambiguous := mustBook(t)(NewPriceBook(
		Price{Provider: "acme", Meter: Requests, Amount: usd("1"), Per: 1, Conditions: Conditions{Plan: "pro"}},
		Price{Provider: "acme", Meter: Requests, Amount: usd("2"), Per: 1, Conditions: Conditions{Direction: "inbound"}},
	))
	tests := []struct {
		promise string
		book    *PriceBook
		query   PriceQuery
		lines   []Line
		reason  string
	}{
		{"a model without a price is unpriced, never free", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-9-imaginary-2031-01-01", At: at}, linesOf(InputTokens, 1), "unknown model gpt-9-imaginary-2031-01-01"},
		{"a longer name is another model", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-4-turbo-max", At: at}, linesOf(InputTokens, 1), "unknown model gpt-4-turbo-max"},
		{"only a date is a snapshot", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-4-2024-1-01", At: at}, linesOf(InputTokens, 1), "unknown model gpt-4-2024-1-01"},
		{"a fine-tuned model of another base is unpriced", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "ft:gpt-4:acme::x", At: at}, linesOf(InputTokens, 1), "unknown model ft:gpt-4:acme::x"},
		{"a provider without prices is unpriced", DefaultPrices(), PriceQuery{Provider: Smartflo, At: at}, linesOf(CallTime, 1), "unknown provider smartflo"},
		{"a class of tokens without a price makes the call unpriced", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-4", At: at}, linesOf(InputTokens, 10, InputCachedTokens, 1), "no price for input_cached_tokens of gpt-4"},
		{"a tier without a price is not charged the plain one", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-5.5-pro", At: at, Conditions: Conditions{ServiceTier: "flex"}}, linesOf(InputTokens, 10), "no price for gpt-5.5-pro with service_tier=flex"},
		{"a batch without a price is not charged the plain one", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-5.5-pro", At: at, Conditions: Conditions{Batch: "true"}}, linesOf(InputTokens, 10), "no price for gpt-5.5-pro with batch=true"},
		{"a long prompt is never charged the short price", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-5.4", At: at, Conditions: Conditions{ServiceTier: "flex"}}, linesOf(InputTokens, 272_001), "no price for gpt-5.4 with service_tier=flex above 272000 input tokens"},
		{"before the first price", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-5", At: day("2020-01-01")}, linesOf(InputTokens, 10), "no price for gpt-5 at 2020-01-01"},
		{"an expired price", DefaultPrices(), PriceQuery{Provider: OpenAI, Model: "gpt-4.5-preview", At: day("2025-07-14")}, linesOf(InputTokens, 10), "no price for gpt-4.5-preview at 2025-07-14"},
		{"credits of an unknown plan", DefaultPrices(), PriceQuery{Provider: ElevenLabs, Model: "eleven_v3", At: at, Conditions: Conditions{Plan: "gold"}}, linesOf(Credits, 1), "no price for eleven_v3 with plan=gold"},
		{"credits without a plan", DefaultPrices(), PriceQuery{Provider: ElevenLabs, Model: "eleven_v3", At: at}, linesOf(Credits, 1), "no price for eleven_v3 without plan"},
		{"two prices that apply alike are ambiguous", ambiguous, PriceQuery{Provider: "acme", At: at, Conditions: Conditions{Plan: "pro", Direction: "inbound"}}, linesOf(Requests, 1), "ambiguous prices for requests of acme with direction=inbound, plan=pro"},
		{"a provider's name is exact", DefaultPrices(), PriceQuery{Provider: "OpenAI", Model: "gpt-4", At: at}, linesOf(InputTokens, 1), "unknown provider OpenAI"},
	}
	for _, tt := range tests {
		t.Run(tt.promise, func(t *testing.T) {
			t.Parallel()
			wantUnpriced(t, tt.book, tt.query, tt.lines, tt.reason)
		})
	}
}

func TestPriceRefuses(t *testing.T) {
	t.Parallel()
	book := mustBook(t)(NewPriceBook(Price{Provider: "acme", Meter: Requests, Amount: usd("1000"), Per: 1, RoundUpTo: 10}))
	for promise, lines := range map[string][]Line{
		"a negative quantity":               {{Meter: Requests, Quantity: -1}},
		"a cost past the ledger":            {{Meter: Requests, Quantity: 10_000}},
		"a sum past the ledger":             {{Meter: Requests, Quantity: 9_000}, {Meter: Requests, Quantity: 9_000}},
		"a quantity past its pulse":         {{Meter: Requests, Quantity: math.MaxInt64}},
		"a line that is not charged":        {{Meter: Requests, Quantity: 1}, {Meter: Requests, Quantity: -1, Unbilled: true}},
		"an earlier line keeps no cost too": {{Meter: Requests, Quantity: 1}, {Meter: Requests, Quantity: -1}},
	} {
		t.Run(promise, func(t *testing.T) {
			t.Parallel()
			_, err := book.Price(PriceQuery{Provider: "acme"}, lines)
			if !errors.Is(err, ErrInvalid) || lines[0].Rate.Per != 0 || lines[0].Cost != 0 {
				t.Errorf("error %v, lines %+v, want ErrInvalid and no cost", err, lines)
			}
		})
	}
}

func TestPriceUnbilledLine(t *testing.T) {
	t.Parallel()
	lines := []store.Line{
		{Meter: OutputTokens, Quantity: 900},
		{Meter: ReasoningTokens, Quantity: 640, Unbilled: true, Cost: 7, Rate: store.Rate{Per: 1}},
	}
	got, err := DefaultPrices().price(&PriceQuery{Provider: OpenAI, Model: "gpt-6.1-sol", At: day("2026-10-15")}, lines)
	want := []store.Line{
		{Meter: OutputTokens, Quantity: 900, Rate: store.Rate{Amount: 10e12, Per: PerMillion}, Cost: 9e9},
		{Meter: ReasoningTokens, Quantity: 640, Unbilled: true},
	}
	if diff := cmp.Diff(want, lines); err != nil || got != 9e9 || diff != "" {
		t.Errorf("cost %s, error %v, lines (-want +got):\n%s", got, err, diff)
	}
}

// The price changes that providers announced: the day before and the day of.
func TestPriceChanges(t *testing.T) {
	t.Parallel()
	tests := []struct {
		provider, model string
		meter           Meter
		day             string
		before, after   string // for a million units; "" is unpriced
	}{
		{OpenAI, "gpt-3.5-turbo", InputTokens, "2023-06-13", "2", "1.5"},
		{OpenAI, "gpt-3.5-turbo", InputTokens, "2023-12-11", "1.5", "1"},
		{OpenAI, "gpt-3.5-turbo", InputTokens, "2024-02-16", "1", "0.5"},
		{OpenAI, "text-embedding-ada-002", InputTokens, "2023-06-13", "0.4", "0.1"},
		{OpenAI, "gpt-4o", InputTokens, "2024-10-02", "5", "2.5"},
		{OpenAI, "gpt-4o", OutputTokens, "2024-10-02", "15", "10"},
		{OpenAI, "gpt-4o-2024-08-06", InputCachedTokens, "2024-10-01", "", "1.25"},
		{OpenAI, "o1-mini", InputTokens, "2025-01-31", "3", "1.1"},
		{OpenAI, "o1-mini", OutputTokens, "2025-01-31", "12", "4.4"},
		{OpenAI, "o3", InputTokens, "2025-06-10", "10", "2"},
		{OpenAI, "o3", InputCachedTokens, "2025-06-10", "2.5", "0.5"},
		{OpenAI, "o3", OutputTokens, "2025-06-10", "40", "8"},
		{OpenAI, "gpt-4o-transcribe", InputAudioTokens, "2026-05-14", "6", "2.5"},
		{OpenAI, "gpt-5.6-luna", InputTokens, "2026-07-30", "1", "0.2"},
		{OpenAI, "gpt-5.6-terra", InputTokens, "2026-07-30", "2.5", "2"},
		{OpenAI, "gpt-5.6-sol", InputTokens, "2026-08-21", "5", "4"},
		{OpenAI, "gpt-5.6-sol", OutputTokens, "2026-08-21", "30", "20"},
		{OpenAI, "gpt-4.5-preview", InputTokens, "2025-07-14", "75", ""},
		{ElevenLabs, "eleven_multilingual_v2", Characters, "2026-06-01", "120", "100"},
		{ElevenLabs, "eleven_flash_v2_5", Characters, "2026-10-01", "50", "40"},
	}
	for _, tt := range tests {
		t.Run(tt.model+" "+string(tt.meter)+" "+tt.day, func(t *testing.T) {
			t.Parallel()
			for at, want := range map[time.Time]string{day(tt.day).Add(-time.Microsecond): tt.before, day(tt.day): tt.after} {
				// One prompt is short whatever the quantity.
				q := PriceQuery{Provider: tt.provider, Model: tt.model, At: at, PromptTokens: 1}
				lines := linesOf(tt.meter, 1_000_000)
				if want == "" {
					wantUnpriced(t, DefaultPrices(), q, lines, "no price for "+tt.model+" at "+at.Format(time.DateOnly))
				} else {
					wantCost(t, DefaultPrices(), q, lines, want)
				}
			}
		})
	}
}

// manifest is testdata/fixtures/manifest.json: provider payloads, the usage they carry and their exact cost.
type manifest struct {
	Cases []struct {
		ID, Provider string
		OccurredAt   time.Time `json:"occurred_at"`
		Expect       struct {
			Outcome, Reason, Model, Direction string
			ModelReturned                     string `json:"model_returned"`
			ServiceTier                       string `json:"service_tier"`
			CostUSD                           string `json:"cost_usd"`
			CostByScalePlan                   string `json:"cost_usd_by_credits_scale_plan"`
			AnsweredSeconds                   int64  `json:"answered_seconds"`
			Meters                            map[string]decimal.Decimal
			TotalInput                        int64 `json:"total_input"`
			Lines                             []struct {
				Meter, Quantity string
				CostUSD         string `json:"cost_usd"`
			}
		}
	}
}

// manifestMeter maps what the fixtures count to our meters; factor turns their unit into ours. "" is not charged.
func manifestMeter(name, model string) (meter Meter, factor int64) {
	switch name {
	case "tool_web_search_calls":
		return WebSearches, 1
	case "audio_seconds", "audio_duration":
		return AudioTime, 1_000
	case "input_characters":
		if model == "sound_effects" {
			return "", 0
		}
		return Characters, 1
	case "generation":
		return Generations, 1
	case "utf8_bytes", "utf16_units", "credits_header":
		return "", 0
	}
	return Meter(name + "_tokens"), 1
}

func TestPriceManifest(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/fixtures/manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	book := mustBook(t)(DefaultPrices().With(examplePrices(t)...))
	for _, c := range m.Cases {
		e := c.Expect
		if e.Outcome != "ok" && e.Outcome != "no_price" {
			continue
		}
		t.Run(c.ID, func(t *testing.T) {
			t.Parallel()
			q := PriceQuery{
				Provider: c.Provider, Model: e.ModelReturned + e.Model, At: c.OccurredAt, PromptTokens: e.TotalInput,
				Conditions: Conditions{ServiceTier: e.ServiceTier, Direction: e.Direction},
			}
			var lines []Line
			for name, quantity := range e.Meters {
				if meter, factor := manifestMeter(name, q.Model); meter != "" {
					lines = append(lines, Line{Meter: meter, Quantity: quantity.Mul(decimal.NewFromInt(factor)).IntPart()})
				}
			}
			if c.Provider == Smartflo {
				q.Model, lines = "example-contract", []Line{{Meter: CallTime, Quantity: e.AnsweredSeconds * 1_000}}
			}
			if e.Outcome == "no_price" {
				wantUnpriced(t, book, q, lines, e.Reason)
				return
			}
			wantCost(t, book, q, lines, e.CostUSD)
			for _, want := range e.Lines {
				meter, _ := manifestMeter(want.Meter, q.Model)
				for _, l := range lines {
					if l.Meter == meter && l.Cost.String() != usd(want.CostUSD).String() {
						t.Errorf("%s costs %s, want %s", meter, l.Cost, want.CostUSD)
					}
				}
			}
			if e.CostByScalePlan != "" {
				q.Conditions = Conditions{Plan: "scale"}
				wantCost(t, book, q, linesOf(Credits, int(e.Meters["credits_header"].IntPart())), e.CostByScalePlan)
			}
		})
	}
}

// examplePrices are those of an invented telephone contract, with a pulse and a price per direction.
func examplePrices(t *testing.T) []Price {
	t.Helper()
	rows, err := prices.Load(os.DirFS("prices/testdata"))
	if err != nil {
		t.Fatal(err)
	}
	list, err := pricesOf(rows)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestPriceConcurrently(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				q := PriceQuery{Provider: OpenAI, Model: "gpt-4", At: day("2026-01-01")}
				if got, err := DefaultPrices().Price(q, linesOf(InputTokens, 150, OutputTokens, 450)); err != nil || !got.Equal(usd("0.0315")) {
					t.Errorf("cost %s, %v", got, err)
				}
				if _, err := DefaultPrices().With(Price{Provider: OpenAI, Model: "gpt-4", Meter: InputTokens, Per: PerMillion}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzPriceRounding(f *testing.F) {
	f.Add(int64(185_000), int64(20_000_000_000), int64(60_000), int64(0))
	f.Add(int64(125_500), int64(220_000_000_000), int64(3_600_000), int64(0))
	f.Add(int64(1), int64(1), int64(2_000), int64(1_000))
	f.Add(int64(1_500_000), int64(1), int64(1_000_000), int64(0))
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), int64(1_000), int64(1_000))
	f.Fuzz(func(t *testing.T, quantity, amount, per, pulse int64) {
		if quantity < 0 || amount < 0 || per <= 0 || pulse < 0 {
			return
		}
		var row priceRow
		row.setRate(&Price{Per: per, RoundUpTo: pulse}, store.Money(amount).Decimal())
		got, ok := row.cost(quantity)
		want := exactCost(quantity, amount, per, pulse)
		if ok != want.IsInt64() || ok && int64(got) != want.Int64() {
			t.Errorf("%d × %d ÷ %d by %d: %d, %v, want %s", quantity, amount, per, pulse, got, ok, want)
		}
	})
}

// exactCost is the rule in rational numbers: the exact cost, and half to even of what is left.
func exactCost(quantity, amount, per, pulse int64) *big.Int {
	q := big.NewInt(quantity)
	if pulse > 0 {
		q.Add(q, big.NewInt(pulse-1)).Div(q, big.NewInt(pulse)).Mul(q, big.NewInt(pulse))
		if !q.IsInt64() {
			return q.Lsh(q, 64) // a quantity that does not fit is refused, whatever it costs
		}
	}
	exact := new(big.Rat).SetFrac(q.Mul(q, big.NewInt(amount)), big.NewInt(per))
	floor := new(big.Int).Div(exact.Num(), exact.Denom())
	rest := new(big.Rat).Sub(exact, new(big.Rat).SetInt(floor))
	if c := rest.Cmp(big.NewRat(1, 2)); c > 0 || c == 0 && floor.Bit(0) == 1 {
		floor.Add(floor, big.NewInt(1))
	}
	return floor
}

func TestAHostsOwnInputCountsInThePrompt(t *testing.T) {
	t.Parallel()
	price := func(meter Meter, amount string, above int64) Price {
		return Price{Provider: "acme", Meter: meter, Amount: usd(amount), Per: PerMillion, AboveInputTokens: above}
	}
	book := mustBook(t)(NewPriceBook(price(InputTokens, "1", 0), price(InputTokens, "2", 200_000),
		price("input_video_tokens", "1", 0), price("input_video_tokens", "2", 200_000)))
	wantCost(t, book, PriceQuery{Provider: "acme"}, linesOf(InputTokens, 150_000, Meter("input_video_tokens"), 50_000), "0.2")
	wantCost(t, book, PriceQuery{Provider: "acme"}, linesOf(InputTokens, 150_000, Meter("input_video_tokens"), 50_001), "0.400002")
}

func BenchmarkPrice(b *testing.B) {
	book := DefaultPrices()
	at := day("2026-10-20")
	for _, model := range []string{"gpt-4.1", "gpt-6-sol", "gpt-6-sol-2026-09-22", "ft:gpt-4.1-2025-04-14:acme::x"} {
		q := PriceQuery{Provider: OpenAI, Model: model, At: at, PromptTokens: 2_006}
		b.Run("ledger/"+model, func(b *testing.B) {
			lines := []store.Line{{Meter: InputTokens, Quantity: 86}, {Meter: InputCachedTokens, Quantity: 1_920}, {Meter: OutputTokens, Quantity: 300}}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := book.price(&q, lines); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("public/"+model, func(b *testing.B) {
			lines := linesOf(InputTokens, 86, InputCachedTokens, 1_920, OutputTokens, 300)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := book.Price(q, lines); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("decimals", benchmarkDecimals)
}

// benchmarkDecimals is the arithmetic alone, on decimals.
func benchmarkDecimals(b *testing.B) {
	rates := []decimal.Decimal{usd("2"), usd("0.5"), usd("8")}
	quantities := []int64{86, 1_920, 300}
	million := decimal.NewFromInt(1_000_000)
	b.ReportAllocs()
	for b.Loop() {
		sum := decimal.Zero
		for i, rate := range rates {
			sum = sum.Add(rate.Mul(decimal.NewFromInt(quantities[i])).DivRound(million, 12))
		}
		if strings.HasPrefix(sum.String(), "-") {
			b.Fatal(sum)
		}
	}
}
