package usage

import (
	"slices"
	"strconv"

	"github.com/acf68eca/usage/store"
	"github.com/shopspring/decimal"
)

// Window is the length of the periods that a limit counts in, which follow the tenant's time zone and billing day, or the
// unit of a rate (Minute, Second), which is as long everywhere and at any time.
type Window = store.Window

// The windows of limits. The zero value is Month.
const (
	Month = store.Month
	Day   = store.Day
)

// Quota is what a tenant may use. Setting one replaces the one before, in the same period: what has been used counts.
type Quota struct {
	TenantID string
	// Limits all apply, at most 100 and no two on the same thing. A tenant without limits is unlimited.
	Limits []Limit
	// AlertPercents are the shares of every limit at which an alert is raised, in percent from 1 to 1000, at most 20.
	// Their order and repetition mean nothing. Empty raises no alerts about limits.
	AlertPercents []int
}

// Limit bounds one metric of a tenant over a window.
//
// A limit per Minute or Second is a rate, by the generic cell rate algorithm (GCRA): Max units come back in each window,
// evenly, and at most Burst are there at once. It counts calls, tokens, or another meter in whole units: what Reserve takes
// when it is taken, and what is logged without a reservation when it happened. What a reservation has taken stands, whatever
// its call really used: providers count that way too. A rate that was changed goes on from where it was, with no more than
// Burst taken. Its alert is AlertRateLimit; AlertPercents are of no meaning to it.
type Limit struct {
	// Provider and Model narrow what is counted. Empty is all of them. A model counts its dated snapshots too:
	// "gpt-4o" counts "gpt-4o-2024-08-06", which is the name that the provider returns for it. A name with a date counts, and
	// holds, only calls and estimates of that very name; an alias of the price book is a name of its own.
	Provider, Model string
	// Meter is what is counted: any meter, or one of the sums Tokens, Minutes, Calls and Cost. Required. Meters of the host's
	// own are not known before they are used, so a limit on a misspelt one is never reached.
	Meter Meter
	// Per is the window. Defaults to Month.
	Per Window
	// Max is the most that may be used: dollars with up to 12 fraction digits for Cost, minutes that make whole
	// milliseconds for Minutes, and whole units for every other meter. The most it can be is what an int64 of picodollars,
	// milliseconds or units holds (9,223,372 dollars). Zero allows nothing; to allow everything, have no limit.
	// Of a rate it is at most 10,000,000,000.
	Max decimal.Decimal
	// Burst is the most that a rate gives at once, in the unit of Max, when nothing was taken for long enough. It is at most
	// 10,000,000,000 and what comes back in 366 days. Defaults to Max, one window's worth: a tenant that was idle may use
	// that at once, and as much again while the next window passes. No other limit has one.
	Burst int64
	// Soft limits raise alerts and refuse nothing.
	Soft bool
}

const (
	maxLimits      = 100
	maxPercents    = 20
	maxPercent     = 1000
	moneyDigits    = 12                // of a price, an exchange rate, their product and a cost: those of store.Money
	picosPerDollar = 1_000_000_000_000 // also the scale of a fraction with 12 digits
	maxName        = 64                // of meters and providers
)

// row checks the quota and returns its row, with windows filled in and percents sorted.
func (q Quota) row() (store.Quota, error) {
	var f faults
	f.id("TenantID", q.TenantID)
	row := store.Quota{TenantID: q.TenantID, Limits: q.limitRows(&f), AlertPercents: q.percents(&f)}
	if err := f.err(); err != nil {
		return store.Quota{}, err
	}
	return row, nil
}

func (q Quota) limitRows(f *faults) []store.Limit {
	if len(q.Limits) > maxLimits {
		f.add("Limits", "has more than "+strconv.Itoa(maxLimits)+" entries")
		return nil
	}
	rows := make([]store.Limit, 0, len(q.Limits))
	for i, limit := range q.Limits {
		field := indexed("Limits", i)
		row := limit.row(f, field)
		if j := slices.IndexFunc(rows, func(r store.Limit) bool { return sameMetric(r, row) }); j >= 0 {
			f.add(field, "limits the same as "+indexed("Limits", j))
		}
		rows = append(rows, row)
	}
	return rows
}

func sameMetric(a, b store.Limit) bool {
	return a.Provider == b.Provider && a.Model == b.Model && a.Meter == b.Meter && a.Per == b.Per
}

func (q Quota) percents(f *faults) []int {
	if len(q.AlertPercents) > maxPercents {
		f.add("AlertPercents", "has more than "+strconv.Itoa(maxPercents)+" entries")
		return nil
	}
	for i, percent := range q.AlertPercents {
		if percent < 1 || percent > maxPercent {
			f.add(indexed("AlertPercents", i), "is not from 1 to "+strconv.Itoa(maxPercent))
		}
	}
	percents := slices.Clone(q.AlertPercents)
	slices.Sort(percents)
	return slices.Compact(percents)
}

func (l Limit) row(f *faults, field string) store.Limit {
	if l.Provider != "" {
		f.provider(field+".Provider", l.Provider)
	}
	f.model(field+".Model", l.Model)
	f.meterName(field+".Meter", l.Meter)
	if w := l.window(); w != Month && w != Day && !w.IsRate() {
		f.add(field+".Per", quote(string(l.Per))+" is not a window: month, day, minute or second")
	}
	units, ok := l.maxUnits()
	switch {
	case l.Max.IsNegative():
		f.add(field+".Max", "is negative")
	case !ok:
		f.add(field+".Max", l.maxProblem())
	}
	row := store.Limit{
		Provider: l.Provider, Model: l.Model, Meter: l.Meter, Per: l.window(), Max: units, Burst: l.Burst, Soft: l.Soft,
	}
	checkRate(f, field, &row)
	return row
}

// checkRate keeps a rate within what its arithmetic holds, and bursts to rates.
func checkRate(f *faults, field string, l *store.Limit) {
	switch {
	case !l.Per.IsRate():
	case l.Meter == Cost || l.Meter == Minutes:
		f.add(field+".Meter", quote(string(l.Meter))+" is not counted per "+string(l.Per)+", but per month or day")
	case l.Max > maxRate:
		f.add(field+".Max", "is more than 1e10 per "+string(l.Per))
	}
	switch {
	case l.Burst == 0:
	case l.Burst < 0:
		f.add(field+".Burst", "is negative")
	case !l.Per.IsRate():
		f.add(field+".Burst", "is of no use per "+string(l.Per)+": only a limit per minute or second has one")
	case l.Burst > maxRate:
		f.add(field+".Burst", "is more than 1e10")
	case l.Max <= maxRate && l.Burst > l.Max*(maxDrain.Microseconds()/rateOf(l).window): // at most 3e17
		f.add(field+".Burst", "is more than comes back in 366 days")
	}
}

// maxUnits returns Max in the metric's base unit. It never scales Max before ScaledInt has looked at its exponent: a
// decimal of a few bytes can have a billion digits.
func (l Limit) maxUnits() (units int64, ok bool) {
	switch l.Meter {
	case Cost:
		return store.ScaledInt(l.Max, moneyDigits)
	case Minutes:
		return store.ScaledInt(l.Max.Mul(decimal.NewFromInt(PerMinute)), 0)
	}
	return store.ScaledInt(l.Max, 0)
}

// maxProblem says what Max may be. It does not look at how large it is: see maxUnits.
func (l Limit) maxProblem() string {
	switch l.Meter {
	case Cost:
		return "has more than 12 fraction digits or is more than 9223372.036854775807 dollars"
	case Minutes:
		return "is not of whole milliseconds or is more than an int64 of them"
	}
	return "is not of whole units or is more than an int64 of them"
}

func (l Limit) window() Window {
	if l.Per == "" {
		return Month
	}
	return l.Per
}

// burst is the most that a rate gives at once.
func (l Limit) burst() int64 {
	if l.Burst == 0 {
		return l.Max.IntPart()
	}
	return l.Burst
}

// metric says what the limit counts, for people: "openai gpt-4 tokens".
func (l Limit) metric() string {
	text := string(l.Meter)
	if l.Model != "" {
		text = quote(l.Model) + " " + text
	}
	if l.Provider != "" {
		text = l.Provider + " " + text
	}
	return text
}

// limitOf is the inverse of Limit.row, exactly.
func limitOf(row store.Limit) Limit {
	return Limit{
		Provider: row.Provider, Model: row.Model, Meter: row.Meter, Per: row.Per,
		Max: unitsOf(row.Meter, row.Max), Burst: row.Burst, Soft: row.Soft,
	}
}

// unitsOf returns n base units of a metric, n ≥ 0, in the unit that hosts see: picodollars as dollars, milliseconds as
// minutes, anything else as it is. Minutes that have no end are rounded half-even at 12 fraction digits.
func unitsOf(m Meter, n int64) decimal.Decimal {
	switch m {
	case Cost:
		return store.Money(n).Decimal()
	case Minutes:
		return minutesOf(n)
	}
	return decimal.NewFromInt(n)
}

func minutesOf(milliseconds int64) decimal.Decimal {
	whole := decimal.NewFromInt(milliseconds / PerMinute)
	rest := milliseconds % PerMinute
	if rest == 0 {
		return whole
	}
	// Only the part of a minute is divided, so that the quotient always fits.
	fraction, _ := store.MulDiv(rest, picosPerDollar, PerMinute)
	return whole.Add(decimal.New(fraction, -moneyDigits))
}
