package usage

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acf68eca/usage/store"
	"github.com/shopspring/decimal"
)

// canonicalPrices returns copies of the prices in the one form that equal prices have, and everything that is wrong
// with them.
func canonicalPrices(prices []Price) ([]Price, faults) {
	var f faults
	canonical := make([]Price, len(prices))
	for i, p := range prices {
		canonical[i] = p.canonical(&f, indexed("prices", i))
	}
	overlappingPrices(&f, canonical)
	return canonical, f
}

func (p Price) canonical(f *faults, field string) Price {
	if p.Model == "" {
		p.Model = "*"
	}
	f.provider(field+".Provider", p.Provider)
	f.model(field+".Model", p.Model)
	if i := strings.IndexByte(p.Model, '*'); i >= 0 && i < len(p.Model)-1 {
		f.add(field+".Model", "has a '*' that is not at its end")
	}
	f.meterName(field+".Meter", p.Meter)
	if p.AboveInputTokens < 0 {
		f.add(field+".AboveInputTokens", "is negative")
	}
	f.text(field+".Source", p.Source, maxErrorText)
	p.Conditions = p.Conditions.canonical(f, field+".Conditions")
	p.From, p.Until = priceTime(f, field+".From", p.From), priceTime(f, field+".Until", p.Until)
	if from, until := p.interval(); from >= until {
		f.add(field+".From", "is not before Until")
	}
	if p.BilledAs != "" {
		p.checkRedirect(f, field)
		return p
	}
	p.Currency = cmp.Or(p.Currency, "USD")
	checkCurrency(f, field+".Currency", p.Currency)
	p.checkUnits(f, field)
	p.Amount = priceAmount(f, field+".Amount", p.Amount)
	if p.Currency == "USD" && p.Per > 0 && tooDear(p.Meter, p.Amount, p.Per) {
		f.add(field+".Amount", "is more than "+dearest(p.Meter).words)
	}
	return p
}

// canonical returns a copy with the strict conditions as a call's are read: a tier that is none is left out.
func (c Conditions) canonical(f *faults, field string) Conditions {
	if len(c) == 0 {
		return nil
	}
	n := len(*f)
	kept := make(Conditions, len(c))
	for key, value := range c {
		switch {
		case !isName(key, "_"):
			f.add(keyed(field, key), "is not named by 1 to 64 lower-case letters, digits or '_'")
		case value == "":
			f.add(keyed(field, key), "is missing")
		case key == Batch && value != "true":
			f.add(keyed(field, key), `is not "true"`)
		case key == ServiceTier:
			value = canonicalTier(value)
		}
		f.condition(keyed(field, key), value)
		if value != "" {
			kept[key] = value
		}
	}
	f.sortFrom(n)
	if len(kept) == 0 {
		return nil
	}
	return kept
}

// priceTime keeps what the ledger keeps of a time. Years past 9999 do not fit its microseconds everywhere.
func priceTime(f *faults, field string, t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	t = t.UTC().Truncate(time.Microsecond)
	if t.Year() < 1 || t.Year() > 9999 {
		f.add(field, "is not in the years 1 to 9999")
		return time.Time{}
	}
	return t
}

func checkCurrency(f *faults, field, currency string) {
	if len(currency) != 3 || strings.Trim(currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		f.add(field, "is not three upper-case letters")
	}
}

// checkRedirect also keeps milliseconds from being charged as tokens.
func (p *Price) checkRedirect(f *faults, field string) {
	f.meterName(field+".BilledAs", p.BilledAs)
	if p.BilledAs == p.Meter {
		f.add(field+".BilledAs", "is the meter itself")
	}
	if isTime(p.BilledAs) != isTime(p.Meter) {
		f.add(field+".BilledAs", "counts time where the meter does not, or the other way round")
	}
	if p.Amount.Sign() != 0 || p.Per != 0 || p.RoundUpTo != 0 || p.Currency != "" {
		f.add(field+".BilledAs", "comes with an Amount, Per, RoundUpTo or Currency")
	}
	p.Amount = decimal.Decimal{}
}

func (p *Price) checkUnits(f *faults, field string) {
	switch {
	case p.Per <= 0:
		f.add(field+".Per", "is not positive")
	case isTime(p.Meter) && p.Per%PerSecond != 0:
		f.add(field+".Per", "is not a whole number of seconds: it is in milliseconds, as PerSecond and PerMinute are")
	case !isTime(p.Meter) && p.Per != PerUnit && p.Per != PerThousand && p.Per != PerMillion:
		f.add(field+".Per", "is none of 1, 1000 and 1000000")
	}
	switch {
	case p.RoundUpTo < 0:
		f.add(field+".RoundUpTo", "is negative")
	case isTime(p.Meter) && p.RoundUpTo%PerSecond != 0:
		f.add(field+".RoundUpTo", "is not a whole number of seconds: it is in milliseconds, as PerSecond and PerMinute are")
	}
}

// priceAmount returns the amount in the form of store.Money: two decimals that are equal are then the same.
func priceAmount(f *faults, field string, d decimal.Decimal) decimal.Decimal {
	n, ok := store.ScaledInt(d, moneyDigits)
	switch {
	case d.IsNegative():
		f.add(field, "is negative")
	case !ok:
		f.add(field, "has more than 12 fraction digits or is too large")
	default:
		return store.Money(n).Decimal()
	}
	return decimal.Decimal{}
}

// priceLimit is the highest price that can be meant: so many dollars for so many units. What is above is a slip in Per
// or in the currency.
type priceLimit struct {
	dollars, units int64
	words          string
}

func dearest(meter Meter) priceLimit {
	switch {
	case countsTokens(meter) || meter == Characters || meter == Credits:
		return priceLimit{1, 1, "1 USD for one"}
	case isTime(meter):
		return priceLimit{1_000, PerMinute, "1000 USD a minute"}
	}
	return priceLimit{10_000, 1, "10000 USD for one"}
}

func tooDear(meter Meter, dollars decimal.Decimal, per int64) bool {
	most := dearest(meter)
	return dollars.Mul(decimal.NewFromInt(most.units)).GreaterThan(decimal.NewFromInt(most.dollars).Mul(decimal.NewFromInt(per)))
}

// interval returns From and Until in microseconds, open ends as the ends of time.
func (p *Price) interval() (from, until int64) {
	from, until = math.MinInt64, math.MaxInt64
	if !p.From.IsZero() {
		from = p.From.UnixMicro()
	}
	if !p.Until.IsZero() {
		until = p.Until.UnixMicro()
	}
	return from, until
}

// overlappingPrices names each price of a batch that another one of its key overlaps: which of them applies would
// depend on their order.
func overlappingPrices(f *faults, prices []Price) {
	byKey := map[string][]int{}
	for i, p := range prices {
		key := strconv.Quote(p.Provider) + strconv.Quote(p.Model) + p.key()
		byKey[key] = append(byKey[key], i)
	}
	n := len(*f)
	for _, same := range byKey {
		slices.SortStableFunc(same, func(i, j int) int { return compareFrom(&prices[i], &prices[j]) })
		last := same[0]
		for _, i := range same[1:] {
			_, until := prices[last].interval()
			if from, _ := prices[i].interval(); from < until {
				f.add(indexed("prices", max(i, last)), fmt.Sprintf("overlaps prices[%d]", min(i, last)))
			}
			if _, end := prices[i].interval(); end > until {
				last = i
			}
		}
	}
	f.sortFrom(n)
}

func compareFrom(a, b *Price) int {
	fromA, untilA := a.interval()
	fromB, untilB := b.interval()
	return cmp.Or(cmp.Compare(fromA, fromB), cmp.Compare(untilA, untilB))
}

// key is what prices of one model have in common that replace each other.
func (p *Price) key() string {
	return fmt.Sprintf("%s\x00%020d\x00%s", p.Meter, p.AboveInputTokens, p.Conditions.String())
}

// circularRedirects names each new price that makes a meter be billed as itself over others. It looks at all models
// and times of the provider at once: a circle that only some call could enter is a slip as well.
func circularRedirects(f *faults, prices []Price, models map[modelKey]*modelPrices) {
	edges := map[string]map[Meter][]Meter{}
	for key, model := range models {
		for _, p := range model.prices {
			if p.BilledAs != "" {
				if edges[key.provider] == nil {
					edges[key.provider] = map[Meter][]Meter{}
				}
				edges[key.provider][p.Meter] = append(edges[key.provider][p.Meter], p.BilledAs)
			}
		}
	}
	for i, p := range prices {
		if p.BilledAs != "" && p.BilledAs != p.Meter && leadsTo(edges[p.Provider], p.BilledAs, p.Meter, map[Meter]bool{}) {
			f.add(indexed("prices", i)+".BilledAs", "leads back to the meter itself")
		}
	}
}

func leadsTo(edges map[Meter][]Meter, from, to Meter, seen map[Meter]bool) bool {
	if from == to {
		return true
	}
	if seen[from] {
		return false
	}
	seen[from] = true
	return slices.ContainsFunc(edges[from], func(next Meter) bool { return leadsTo(edges, next, to, seen) })
}
