package usage

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acf68eca/usage/prices"
	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"
)

// perUnit is a price of something of the host's own.
func perUnit(model, amount, from, until string) Price {
	p := Price{Provider: "acme", Model: model, Meter: Requests, Amount: usd(amount), Per: PerUnit}
	if from != "" {
		p.From = day(from)
	}
	if until != "" {
		p.Until = day(until)
	}
	return p
}

func TestDefaultPrices(t *testing.T) {
	t.Parallel()
	b := DefaultPrices()
	t.Run("the version starts with the date of the table", func(t *testing.T) {
		t.Parallel()
		if !strings.HasPrefix(b.Version(), prices.Date+"+") {
			t.Errorf("version %s, date %s", b.Version(), prices.Date)
		}
	})
	t.Run("every row of the table is a price", func(t *testing.T) {
		rows, err := prices.Default()
		if err != nil {
			t.Fatal(err)
		}
		stated := 0
		for _, row := range rows {
			if row.Rule == "" && row.Unit != "ratio" {
				stated++
			}
		}
		if got := len(slices.Collect(b.Prices())); got < stated {
			t.Errorf("%d prices of %d rows", got, stated)
		}
	})
	t.Run("every price has a source", func(t *testing.T) {
		for p := range b.Prices() {
			if p.Source == "" {
				t.Errorf("%+v", p)
			}
		}
	})
	t.Run("no two prices can apply alike", func(t *testing.T) {
		for key, model := range b.models {
			for _, m := range model.meters {
				for _, set := range m.sets {
					for i, row := range set.rows {
						for _, other := range set.rows[:i] {
							if row.ranksWith(&other) && row.from < other.until && other.from < row.until && canBothHold(row.needs, other.needs) {
								t.Errorf("%v %s: %+v and %+v", key, m.meter, row, other)
							}
						}
					}
				}
			}
		}
	})
}

func canBothHold(a, b []condition) bool {
	for _, x := range a {
		for _, y := range b {
			if x.key == y.key && x.value != y.value {
				return false
			}
		}
	}
	return true
}

func TestPriceBookResolves(t *testing.T) {
	t.Parallel()
	input := func(model, amount string) Price {
		return Price{Provider: "acme", Model: model, Meter: InputTokens, Amount: usd(amount), Per: PerUnit}
	}
	b := mustBook(t)(NewPriceBook(
		input("big", "0.1"), input("big-2026-01-02", "0.2"), input("ft:big:*", "0.3"), input("ft:*", "0.4"), input("base-*", "0.5"),
		Price{Provider: "acme", Model: "", Meter: WebSearches, Amount: usd("3"), Per: PerUnit},
	))
	b = mustBook(t)(b.WithAlias("acme", "prod", "big"))
	b = mustBook(t)(b.WithAlias("acme", "tuned", "ft:big:acme::x"))
	for model, want := range map[string]string{
		"big": "0.1", "big-2026-01-02": "0.2", "big-2026-01-03": "0.1", "prod": "0.1", "prod-2026-01-02": "0.1",
		"ft:big:org": "0.3", "ft:small:org": "0.4", "tuned": "0.3", "base-2026-01-02": "0.5",
	} {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			wantCost(t, b, PriceQuery{Provider: "acme", Model: model}, linesOf(InputTokens, 1), want)
			wantCost(t, b, PriceQuery{Provider: "acme", Model: model}, linesOf(WebSearches, 1), "3")
		})
	}
	for _, model := range []string{"", "bi", "bigger", "big-", "Big", "big-2026-01-0x", "-2026-01-02"} {
		t.Run("not "+model, func(t *testing.T) {
			t.Parallel()
			if _, err := b.Price(PriceQuery{Provider: "acme", Model: model}, linesOf(InputTokens, 1)); !errors.Is(err, ErrUnpriced) {
				t.Errorf("error %v, want unpriced", err)
			}
		})
	}
}

func TestPriceBookWith(t *testing.T) {
	t.Parallel()
	costs := func(t *testing.T, b *PriceBook, want map[string]string) {
		t.Helper()
		for at, cost := range want {
			wantCost(t, b, PriceQuery{Provider: "acme", Model: "m", At: day(at)}, linesOf(Requests, 1), cost)
		}
	}
	base := mustBook(t)(NewPriceBook(perUnit("m", "1", "", "")))

	t.Run("an overlay splits the price under it", func(t *testing.T) {
		t.Parallel()
		b := mustBook(t)(base.With(perUnit("m", "2", "2026-02-01", "2026-03-01")))
		costs(t, b, map[string]string{"2026-01-31": "1", "2026-02-01": "2", "2026-02-28": "2", "2026-03-01": "1"})
		costs(t, base, map[string]string{"2026-02-01": "1"})
	})
	t.Run("an overlay trims both of its neighbours", func(t *testing.T) {
		t.Parallel()
		b := mustBook(t)(NewPriceBook(perUnit("m", "1", "2026-01-01", "2026-02-01"), perUnit("m", "2", "2026-02-01", "")))
		b = mustBook(t)(b.With(perUnit("m", "3", "2026-01-15", "2026-02-15")))
		costs(t, b, map[string]string{"2026-01-14": "1", "2026-01-15": "3", "2026-02-14": "3", "2026-02-15": "2"})
	})
	t.Run("an overlay of a longer time replaces", func(t *testing.T) {
		t.Parallel()
		b := mustBook(t)(NewPriceBook(perUnit("m", "1", "2026-01-01", "2026-02-01"), perUnit("m", "2", "2026-02-01", "2026-03-01")))
		b = mustBook(t)(b.With(perUnit("m", "3", "", "")))
		if got := len(slices.Collect(b.Prices())); got != 1 {
			t.Errorf("%d prices, want 1", got)
		}
	})
	t.Run("an overlay leaves other conditions alone", func(t *testing.T) {
		t.Parallel()
		flex := perUnit("m", "5", "", "")
		flex.Conditions = Conditions{ServiceTier: "flex"}
		b := mustBook(t)(base.With(flex))
		costs(t, b, map[string]string{"2026-02-01": "1"})
		wantCost(t, b, PriceQuery{Provider: "acme", Model: "m", Conditions: Conditions{ServiceTier: "flex"}}, linesOf(Requests, 1), "5")
	})
	t.Run("an expired promotion falls back to nothing", func(t *testing.T) {
		t.Parallel()
		b := mustBook(t)(NewPriceBook(perUnit("m", "1", "2026-01-01", "2026-02-01")))
		wantUnpriced(t, b, PriceQuery{Provider: "acme", Model: "m", At: day("2026-02-01")}, linesOf(Requests, 1), "no price for m at 2026-02-01")
	})
	t.Run("a long price that ran out is not replaced by the short one", func(t *testing.T) {
		t.Parallel()
		short := Price{Provider: "acme", Model: "m", Meter: InputTokens, Amount: usd("1"), Per: PerMillion}
		long := short
		long.AboveInputTokens, long.Amount, long.From, long.Until = 1_000, usd("2"), day("2026-01-01"), day("2026-02-01")
		b := mustBook(t)(NewPriceBook(short, long))
		q := PriceQuery{Provider: "acme", Model: "m", PromptTokens: 1_001}
		for at, want := range map[string]string{"2025-12-31": "1", "2026-01-01": "2"} {
			q.At = day(at)
			wantCost(t, b, q, linesOf(InputTokens, 1_000_000), want)
		}
		q.At = day("2026-02-01")
		wantUnpriced(t, b, q, linesOf(InputTokens, 1_000_000), "no price for m at 2026-02-01")
	})
	t.Run("of several thresholds the largest exceeded applies", func(t *testing.T) {
		t.Parallel()
		var list []Price
		for above, amount := range map[int64]string{0: "1", 100: "2", 200: "3"} {
			list = append(list, Price{Provider: "acme", Model: "m", Meter: InputTokens, Amount: usd(amount), Per: PerMillion, AboveInputTokens: above})
		}
		b := mustBook(t)(NewPriceBook(list...))
		for prompt, want := range map[int64]string{1: "1", 100: "1", 101: "2", 200: "2", 201: "3"} {
			wantCost(t, b, PriceQuery{Provider: "acme", Model: "m", PromptTokens: prompt}, linesOf(InputTokens, 1_000_000), want)
		}
	})
	t.Run("a price of its own comes before being billed as another", func(t *testing.T) {
		t.Parallel()
		cached := Price{Provider: OpenAI, Model: "gpt-5-pro", Meter: InputCachedTokens, Amount: usd("1"), Per: PerMillion}
		b := mustBook(t)(DefaultPrices().With(cached))
		wantCost(t, b, PriceQuery{Provider: OpenAI, Model: "gpt-5-pro", At: day("2026-01-01")}, linesOf(InputCachedTokens, 1_000_000), "1")
	})
	t.Run("the more conditions hold, the closer", func(t *testing.T) {
		t.Parallel()
		two, three := perUnit("m", "2", "", ""), perUnit("m", "3", "", "")
		two.Conditions, three.Conditions = Conditions{Plan: "pro"}, Conditions{Plan: "pro", Direction: "inbound"}
		b := mustBook(t)(base.With(two, three))
		for want, c := range map[string]Conditions{"1": {Direction: "inbound"}, "2": {Plan: "pro"}, "3": {Plan: "pro", Direction: "inbound"}} {
			wantCost(t, b, PriceQuery{Provider: "acme", Model: "m", Conditions: c}, linesOf(Requests, 1), want)
		}
	})
	t.Run("the host's later changes do not reach the book", func(t *testing.T) {
		t.Parallel()
		p := perUnit("m", "4", "", "")
		p.Conditions = Conditions{Plan: "pro"}
		b := mustBook(t)(base.With(p))
		version := b.Version()
		p.Conditions[Plan] = "free"
		for got := range b.Prices() {
			clear(got.Conditions)
		}
		wantCost(t, b, PriceQuery{Provider: "acme", Model: "m", Conditions: Conditions{Plan: "pro"}}, linesOf(Requests, 1), "4")
		if again := mustBook(t)(b.With()); again.Version() != version {
			t.Errorf("version %s, then %s", version, again.Version())
		}
	})
}

func TestPriceBookVersion(t *testing.T) {
	t.Parallel()
	one, two := perUnit("a", "1", "", ""), perUnit("b", "2", "2026-01-01", "")
	book := mustBook(t)(NewPriceBook(one, two))
	version := func(b *PriceBook, err error) string { return mustBook(t)(b, err).Version() }

	restored := mustBook(t)(book.With(perUnit("a", "9", "2026-01-01", "2026-02-01")))
	zone := two
	zone.From = two.From.In(time.FixedZone("", 3600)).Add(time.Nanosecond)
	zone.Amount, zone.Currency = decimal.New(2000, -3), "USD"
	other, _ := NewPriceBook(one)
	for promise, got := range map[string]string{
		"the order of prices is no content":        version(NewPriceBook(two, one)),
		"the order of overlays is no content":      version(other.With(two)),
		"what is restored is the same":             version(restored.With(perUnit("a", "1", "2026-01-01", "2026-02-01"))),
		"what is stated again is the same":         version(book.With(two)),
		"the form of a time or number is the same": version(NewPriceBook(one, zone)),
	} {
		if got != book.Version() {
			t.Errorf("%s: %s, want %s", promise, got, book.Version())
		}
	}
	seen := map[string]string{book.Version(): "the book"}
	euro := ExchangeRate{Currency: "EUR", USD: usd("1.1")}
	tier := one
	tier.Conditions = Conditions{ServiceTier: "flex"}
	for promise, got := range map[string]string{
		"amount": version(book.With(perUnit("a", "1.000000000001", "", ""))), "time": version(book.With(perUnit("a", "3", "2026-01-01", ""))),
		"model": version(book.With(perUnit("c", "1", "", ""))), "tier": version(book.With(tier)), "alias": version(book.WithAlias("acme", "x", "a")),
		"other alias": version(book.WithAlias("acme", "x", "b")), "rate": version(book.WithExchangeRates(euro)), "fewer": other.Version(),
		"none": version(NewPriceBook()),
	} {
		if same, ok := seen[got]; ok {
			t.Errorf("%s has the version of %s", promise, same)
		}
		seen[got] = promise
	}
	overlaid := version(DefaultPrices().With(one))
	if overlaid == DefaultPrices().Version() || !strings.HasPrefix(overlaid, prices.Date+"+") {
		t.Errorf("version of an overlay %s, of the table %s", overlaid, DefaultPrices().Version())
	}
}

func TestPriceBookWithAlias(t *testing.T) {
	t.Parallel()
	at := PriceQuery{Provider: OpenAI, Model: "prod-chat-eu", At: day("2025-03-01")}
	b := mustBook(t)(DefaultPrices().WithAlias(OpenAI, "prod-chat-eu", "gpt-4o-2024-08-06"))
	t.Run("an alias costs what its model does", func(t *testing.T) {
		t.Parallel()
		wantCost(t, b, at, linesOf(InputTokens, 100, OutputTokens, 50), "0.00075")
	})
	t.Run("an alias follows a later overlay of its model", func(t *testing.T) {
		t.Parallel()
		b := mustBook(t)(b.With(Price{Provider: OpenAI, Model: "gpt-4o-2024-08-06", Meter: InputTokens, Amount: usd("1"), Per: PerMillion}))
		wantCost(t, b, at, linesOf(InputTokens, 1_000_000), "1")
	})
	t.Run("an alias given again is replaced", func(t *testing.T) {
		t.Parallel()
		b := mustBook(t)(b.WithAlias(OpenAI, "prod-chat-eu", "gpt-4"))
		wantCost(t, b, at, linesOf(InputTokens, 100), "0.003")
	})
	t.Run("the book before it has no alias", func(t *testing.T) {
		t.Parallel()
		wantUnpriced(t, DefaultPrices(), at, linesOf(InputTokens, 1), "unknown model prod-chat-eu")
	})
	t.Run("what is refused", func(t *testing.T) {
		t.Parallel()
		_, err := b.WithAlias(OpenAI, "gpt-4", "gpt-99")
		wantPriceFaults(t, err, `alias "gpt-4" is a listed model or pattern`, `model "gpt-99" is not a listed model of the provider`)
		_, err = b.WithAlias(OpenAI, "other", "prod-chat-eu")
		wantPriceFaults(t, err, `model "prod-chat-eu" is not a listed model of the provider`)
	})
}

func TestPriceBookWithExchangeRates(t *testing.T) {
	t.Parallel()
	rupees := Price{Provider: Smartflo, Meter: CallTime, Amount: usd("0.60"), Per: PerMinute, Currency: "INR", From: day("2026-01-15")}
	rate := func(amount, from string) ExchangeRate {
		return ExchangeRate{Currency: "INR", USD: usd(amount), From: day(from)}
	}
	without := mustBook(t)(NewPriceBook(rupees))
	b := mustBook(t)(without.WithExchangeRates(rate("0.0125", "2026-03-01"), rate("0.012", "2026-02-01"), rate("0.01", "2025-01-01")))
	call := func(at string) PriceQuery { return PriceQuery{Provider: Smartflo, At: day(at)} }

	t.Run("the rate of the call's time applies", func(t *testing.T) {
		t.Parallel()
		for at, want := range map[string]string{"2026-01-15": "0.006", "2026-01-31": "0.006", "2026-02-01": "0.0072", "2026-03-01": "0.0075"} {
			wantCost(t, b, call(at), linesOf(CallTime, 60_000), want)
		}
		wantUnpriced(t, b, call("2026-01-14"), linesOf(CallTime, 1), "no price for smartflo at 2026-01-14")
	})
	t.Run("a time without a rate is unpriced", func(t *testing.T) {
		t.Parallel()
		wantUnpriced(t, without, call("2026-02-01"), linesOf(CallTime, 1), "no exchange rate for INR at 2026-02-01")
		late := mustBook(t)(without.WithExchangeRates(rate("0.012", "2026-02-01")))
		wantUnpriced(t, late, call("2026-01-31"), linesOf(CallTime, 1), "no exchange rate for INR at 2026-01-31")
		wantCost(t, late, call("2026-02-01"), linesOf(CallTime, 60_000), "0.0072")
	})
	t.Run("rates may come before prices", func(t *testing.T) {
		t.Parallel()
		rates := mustBook(t)(new(PriceBook).WithExchangeRates(rate("0.012", "2026-02-01")))
		wantCost(t, mustBook(t)(rates.With(rupees)), call("2026-02-01"), linesOf(CallTime, 60_000), "0.0072")
	})
	t.Run("a rate given again is replaced", func(t *testing.T) {
		t.Parallel()
		b := mustBook(t)(b.WithExchangeRates(rate("0.02", "2026-02-01")))
		wantCost(t, b, call("2026-02-01"), linesOf(CallTime, 60_000), "0.012")
	})
	t.Run("what is refused", func(t *testing.T) {
		t.Parallel()
		_, err := b.WithExchangeRates(
			ExchangeRate{Currency: "USD", USD: usd("1")}, ExchangeRate{Currency: "rupee", USD: usd("-1")},
			rate("1", "2026-01-01"), rate("2", "2026-01-01"), ExchangeRate{Currency: "EUR", USD: decimal.New(1, 50_000_000)},
		)
		wantPriceFaults(t, err, "rates[0].Currency is that of the ledger", "rates[1].Currency is not three upper-case letters",
			"rates[1].USD is not positive, has more than 12 fraction digits or is too large", "rates[3].From is that of another rate of the currency",
			"rates[4].USD is not positive, has more than 12 fraction digits or is too large")
		_, err = b.WithExchangeRates(rate("0.011111111111", "2026-05-01"), rate("2000000", "2026-06-01"))
		wantPriceFaults(t, err,
			"price of call_time of smartflo * in INR is more than 1000 USD a minute, at the rate 2000000",
			"price of call_time of smartflo * in INR has more than 12 fraction digits in USD or is too large, at the rate 0.011111111111")
	})
}

func wantPriceFaults(t *testing.T, err error, want ...string) {
	t.Helper()
	var invalid *InvalidError
	if !errors.As(err, &invalid) || !errors.Is(err, ErrInvalid) {
		t.Errorf("error %v, want %q", err, want)
		return
	}
	var got []string
	for _, fault := range invalid.Faults {
		got = append(got, fault.Field+" "+fault.Problem)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestPriceBookWithRefuses(t *testing.T) {
	t.Parallel()
	t.Run("every fault of every price is named at once", func(t *testing.T) {
		t.Parallel()
		_, err := NewPriceBook(
			Price{Amount: usd("-1")},
			Price{Provider: "acme", Model: "a*b", Meter: "Tokens", Per: 7, RoundUpTo: -1, AboveInputTokens: -1, From: day("2026-01-01"), Until: day("2026-01-01"), Currency: "usd", Source: "a\nb"},
			perUnit("m", "1", "2026-01-01", ""), perUnit("m", "2", "2026-02-01", "2026-03-01"), perUnit("m", "3", "", "2025-01-01"),
			Price{Provider: "acme", Meter: CallTime, Per: 100, RoundUpTo: 1_500},
			Price{Provider: "acme", Model: "c", Meter: Requests, Per: 1, Conditions: Conditions{"": "x", "plan": "", "size": "a;b", "Batch": "true", Batch: "yes"}},
		)
		wantPriceFaults(t, err,
			"prices[0].Provider is missing", "prices[0].Meter is missing", "prices[0].Per is not positive", "prices[0].Amount is negative",
			"prices[1].Model has a '*' that is not at its end", "prices[1].Meter is not 1 to 64 lower-case letters, digits or '_'",
			"prices[1].AboveInputTokens is negative", "prices[1].Source has a control character", "prices[1].From is not before Until",
			"prices[1].Currency is not three upper-case letters", "prices[1].Per is none of 1, 1000 and 1000000", "prices[1].RoundUpTo is negative",
			"prices[5].Per is not a whole number of seconds: it is in milliseconds, as PerSecond and PerMinute are", "prices[5].RoundUpTo is not a whole number of seconds: it is in milliseconds, as PerSecond and PerMinute are",
			`prices[6].Conditions[""] is not named by 1 to 64 lower-case letters, digits or '_'`,
			`prices[6].Conditions["Batch"] is not named by 1 to 64 lower-case letters, digits or '_'`,
			`prices[6].Conditions["batch"] is not "true"`, `prices[6].Conditions["plan"] is missing`, `prices[6].Conditions["size"] has a ';' or '='`,
			"prices[3] overlaps prices[2]",
		)
	})
	t.Run("an absurd price is a slip in its unit", func(t *testing.T) {
		t.Parallel()
		for meter, c := range map[Meter]struct {
			most, over string
			per        int64
		}{
			OutputTokens: {"1000000", "1000000.000001", PerMillion}, Characters: {"1000", "1001", PerThousand}, Credits: {"1", "1.01", PerUnit},
			AudioTime: {"60000", "60001", PerHour}, CallTime: {"1000", "1000.1", PerMinute}, Images: {"10000", "10001", PerUnit},
		} {
			if _, err := NewPriceBook(Price{Provider: "acme", Meter: meter, Amount: usd(c.most), Per: c.per}); err != nil {
				t.Errorf("%s %s per %d: %v", meter, c.most, c.per, err)
			}
			_, err := NewPriceBook(Price{Provider: "acme", Meter: meter, Amount: usd(c.over), Per: c.per})
			wantPriceFaults(t, err, "prices[0].Amount is more than "+dearest(meter).words)
		}
	})
	t.Run("a hostile amount is refused at once", func(t *testing.T) {
		t.Parallel()
		for _, amount := range []decimal.Decimal{
			decimal.New(1, 50_000_000), decimal.New(1, -50_000_000), usd("0.0000000000001"), usd("99999999999999999999"),
		} {
			p := perUnit("m", "0", "", "")
			p.Amount = amount
			_, err := NewPriceBook(p)
			wantPriceFaults(t, err, "prices[0].Amount has more than 12 fraction digits or is too large")
		}
		p := perUnit("m", "0", "", "")
		p.Amount = decimal.New(0, 50_000_000)
		b := mustBook(t)(NewPriceBook(p))
		wantCost(t, b, PriceQuery{Provider: "acme", Model: "m"}, linesOf(Requests, 1), "0")
	})
	t.Run("billed as", func(t *testing.T) {
		t.Parallel()
		as := func(meter, other Meter) Price {
			return Price{Provider: "acme", Model: "m", Meter: meter, BilledAs: other}
		}
		both := as("a", "b")
		both.Amount, both.Per = usd("1"), PerUnit
		_, err := NewPriceBook(both, as("c", "c"), as(AudioTime, InputTokens))
		wantPriceFaults(t, err, "prices[0].BilledAs comes with an Amount, Per, RoundUpTo or Currency", "prices[1].BilledAs is the meter itself",
			"prices[2].BilledAs counts time where the meter does not, or the other way round")
		b := mustBook(t)(NewPriceBook(as("a", "b"), as("b", "c")))
		circle := as("c", "a")
		circle.Model = "other"
		_, err = b.With(circle)
		wantPriceFaults(t, err, "prices[0].BilledAs leads back to the meter itself")
	})
	t.Run("overlapping prices of one batch, in any order", func(t *testing.T) {
		t.Parallel()
		_, err := NewPriceBook(perUnit("m", "1", "2026-02-01", "2026-03-01"), perUnit("m", "1", "", ""), perUnit("m", "1", "2026-05-01", "2026-06-01"))
		wantPriceFaults(t, err, "prices[1] overlaps prices[0]", "prices[2] overlaps prices[1]")
	})
	t.Run("a tier that is none is no condition", func(t *testing.T) {
		t.Parallel()
		p := perUnit("m", "1", "", "")
		p.Conditions = Conditions{ServiceTier: "default"}
		b := mustBook(t)(NewPriceBook(p))
		for got := range b.Prices() {
			if len(got.Conditions) != 0 {
				t.Errorf("conditions %v", got.Conditions)
			}
		}
	})
}

func TestPriceBookPrices(t *testing.T) {
	t.Parallel()
	got := slices.Collect(DefaultPrices().Prices())
	sorted := slices.IsSortedFunc(got, func(a, b Price) int {
		if c := (modelKey{a.Provider, a.Model}).compare(modelKey{b.Provider, b.Model}); c != 0 {
			return c
		}
		if c := strings.Compare(a.key(), b.key()); c != 0 {
			return c
		}
		return compareFrom(&a, &b)
	})
	if !sorted {
		t.Error("prices are not in order")
	}
	for range DefaultPrices().Prices() {
		break // stopping early is allowed
	}
	rebuilt := mustBook(t)((&PriceBook{date: prices.Date}).With(got...))
	if rebuilt.Version() != DefaultPrices().Version() {
		t.Errorf("a book of all prices of another has version %s, want %s", rebuilt.Version(), DefaultPrices().Version())
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(rebuilt.providers)), []string{ElevenLabs, OpenAI}); diff != "" {
		t.Error(diff)
	}
}
