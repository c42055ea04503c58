package usage

import (
	"errors"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/acf68eca/usage/store"
	"github.com/shopspring/decimal"
)

// Price is what a provider charges for one meter. The zero value of a field is what its comment says, so that the
// shortest price is a provider, a meter, an amount and what that is per:
//
//	usage.Price{Provider: "deepgram", Model: "nova-3", Meter: usage.AudioTime, Amount: amount, Per: usage.PerMinute}
//
// Prices of the same provider, model, meter, conditions and threshold are one price over time: their intervals do not
// overlap.
type Price struct {
	// Provider is required.
	Provider string
	// Model is an exact id or a pattern: a prefix and one "*" at its end, such as "ft:gpt-4o-mini-2024-07-18:*". ""
	// and "*" are every model of the provider.
	Model string
	// Meter is required.
	Meter Meter
	// Amount is the price of Per units, in Currency. 0 is free.
	Amount decimal.Decimal
	// Per is PerMillion, PerThousand or PerUnit for what is counted, PerSecond, PerMinute or PerHour (or another whole
	// number of seconds) for AudioTime and CallTime. It has no default: a price without its unit is off by a factor.
	Per int64
	// RoundUpTo is the pulse: a quantity is charged as the next multiple of it. 0 is no rounding.
	RoundUpTo int64
	// Conditions must all hold for the price to apply. Nil is no condition.
	Conditions Conditions
	// AboveInputTokens is the prompt size that a call must exceed for the price to apply, to the whole call. A prompt
	// of exactly that size is below it. 0 is no threshold.
	AboveInputTokens int64
	// BilledAs makes Meter cost what that other meter of the same call costs, instead of an Amount: cached input that
	// a provider charges as input. It follows the other meter into every service tier and context size, and gives way
	// to a price of its own. Amount, Per, RoundUpTo and Currency are then zero.
	BilledAs Meter
	// From and Until bound when the price applies: [From, Until), in microseconds. A zero time is open.
	From, Until time.Time
	// Currency is an ISO 4217 code; "" is "USD". Any other needs PriceBook.WithExchangeRates.
	Currency string
	// Source says where the price was read. It decides nothing.
	Source string
}

// Conditions are what besides model, time and prompt size decides a price. Keys are lower-case letters, digits and '_';
// values are not empty and hold no ';', '=' or control character, at most 64 bytes.
//
// ServiceTier and Batch are strict: a call in a tier is only charged prices of that tier, and a price of a tier
// applies to no other call. Every other key is lenient: a price without it applies whatever the call says, a price
// with it needs the call to say the same, and of several that apply the one with the most conditions wins. Two
// different prices with equally many make the call unpriced.
type Conditions map[string]string

// The keys of conditions that the built-in providers use.
const (
	// ServiceTier is the tier that the provider reports. "", "auto", "default" and "standard" are no tier, and "fast"
	// is "priority".
	ServiceTier = "service_tier"
	// Batch is "true" for a call made through the provider's batch interface. Other values are no condition.
	Batch = "batch"
	// Plan is the subscription that credits were bought with.
	Plan = "plan"
	// Direction is "inbound" or "outbound".
	Direction = "direction"
	Size      = "size"
	Quality   = "quality"
	// RegionalProcessing is "true" for a call kept within a region at an extra charge.
	RegionalProcessing = "regional_processing"
	Watermark          = "watermark"
)

// String lists the conditions, sorted, as a record keeps them: "batch=true;service_tier=flex".
func (c Conditions) String() string {
	var b strings.Builder
	for i, key := range slices.Sorted(maps.Keys(c)) {
		if i > 0 {
			b.WriteByte(';')
		}
		b.WriteString(key + "=" + c[key])
	}
	return b.String()
}

// ExchangeRate is what one unit of a currency costs in US dollars from an instant on, until the next rate of that
// currency. A zero From has always been.
type ExchangeRate struct {
	Currency string
	USD      decimal.Decimal
	From     time.Time
}

// PriceQuery is what decides the price of a call.
type PriceQuery struct {
	Provider string
	// Model is the one that the provider returned.
	Model string
	// At is when the call happened. The zero time is the year 1, which only prices without a From cover.
	At         time.Time
	Conditions Conditions
	// PromptTokens is the whole prompt: uncached, cached and cache writes together. 0 is the sum of the lines' input
	// tokens.
	PromptTokens int64
}

// Line is one meter of a call: its quantity, and what PriceBook.Price found it to cost.
type Line = store.Line

// Rate is what a line was charged by: US dollars for so many units.
type Rate = store.Rate

// Money is an exact amount of US dollars with 12 fraction digits. Decimal is what to reckon with; it prints, and crosses
// JSON, in dollars.
type Money = store.Money

// ErrUnpriced: the price book has no price for a call, or more than one. Always a *UnpricedError.
var ErrUnpriced = errors.New("unpriced")

// UnpricedError says which meter of a call has no price, and why. It unwraps to ErrUnpriced.
type UnpricedError struct {
	Provider, Model string
	Meter           Meter
	// Reason is in words: "unknown model gpt-9", "no price for gpt-5.5-pro with service_tier=flex".
	Reason string
}

// Error gives the reason.
func (e *UnpricedError) Error() string { return ErrUnpriced.Error() + ": " + e.Reason }

// Unwrap returns ErrUnpriced.
func (e *UnpricedError) Unwrap() error { return ErrUnpriced }

// Price sets rate and cost of each line in place and returns the sum of the costs. The lines of a call are priced
// together or not at all: with an error, no line has a rate or a cost. A line of quantity 0 costs nothing, with a
// price or without, and so does one that is Unbilled.
//
// A call without a price is never free and never charged the price of a similar one: the error is then a
// *UnpricedError. A negative quantity, or a cost past what a record can hold, is a *InvalidError.
func (b *PriceBook) Price(q PriceQuery, lines []Line) (decimal.Decimal, error) {
	sum, err := b.price(&q, lines)
	if err != nil {
		return decimal.Decimal{}, err
	}
	return sum.Decimal(), nil
}

// price is Price in the ledger's unit.
func (b *PriceBook) price(q *PriceQuery, lines []Line) (Money, error) {
	var own namedModel
	return b.named(q.Provider, q.Model, &own).price(q, lines)
}

// price is PriceBook.price of the model that the query names.
func (n *namedModel) price(q *PriceQuery, lines []Line) (sum Money, err error) {
	c := pricedCall{namedModel: n}
	c.ask(q)
	if q.PromptTokens == 0 {
		c.prompt = promptTokens(lines)
	}
	for i := range lines {
		l := &lines[i]
		l.Rate, l.Cost = Rate{}, 0
		if err := c.charge(q, l, &sum); err != nil {
			clearPrices(lines)
			return 0, err
		}
	}
	return sum, nil
}

func clearPrices(lines []Line) {
	for i := range lines {
		lines[i].Rate, lines[i].Cost = Rate{}, 0
	}
}

// charge finds the price of a line and adds its cost to sum.
func (c *pricedCall) charge(q *PriceQuery, l *Line, sum *Money) error {
	if l.Quantity < 0 {
		return &InvalidError{Faults: []Fault{{Field: string(l.Meter), Problem: "is negative"}}}
	}
	if l.Unbilled {
		return nil
	}
	row := c.standard(l.Meter)
	if row == nil {
		var unfound *priceFinding
		if row, unfound = c.find(l.Meter); row == nil {
			if l.Quantity == 0 {
				return nil
			}
			return &UnpricedError{Provider: q.Provider, Model: q.Model, Meter: l.Meter, Reason: c.reason(q, unfound)}
		}
	}
	cost, ok := row.cost(l.Quantity)
	total, fits := store.Add(int64(*sum), int64(cost))
	if !ok || !fits {
		return &InvalidError{Faults: []Fault{{Field: "Cost", Problem: "of " + string(l.Meter) + " is more than a record can hold"}}}
	}
	l.Rate, l.Cost, *sum = row.rate, cost, Money(total)
	return nil
}

// cost is the cost of a quantity: rounded up to the pulse, then priced with the one rounding of store.MulDiv. ok is
// false when it does not fit.
func (r *priceRow) cost(quantity int64) (cost store.Money, ok bool) {
	if pulse := r.rate.RoundUpTo; pulse > 0 {
		if rest := quantity % pulse; rest > 0 {
			if quantity, ok = store.Add(quantity, pulse-rest); !ok {
				return 0, false
			}
		}
	}
	if r.unit > 0 { // most prices: what is whole needs no division
		high, low := bits.Mul64(uint64(quantity), uint64(r.unit))
		return store.Money(low), high == 0 && low <= math.MaxInt64
	}
	n, ok := store.MulDiv(quantity, int64(r.rate.Amount), r.rate.Per)
	return store.Money(n), ok
}

// countsTokens reports whether a meter is of tokens: those are what service tiers and context sizes are about.
func countsTokens(m Meter) bool { return m == Tokens || strings.HasSuffix(string(m), "_tokens") }
