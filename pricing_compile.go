package usage

import (
	"cmp"
	"maps"
	"slices"

	"github.com/acf68eca/usage/store"
	"github.com/shopspring/decimal"
)

// compileModel makes the tables of a model from its prices, which are sorted by key and time.
func compileModel(f *faults, prices []Price, rates map[string][]ExchangeRate) []meterPrices {
	var meters []meterPrices
	for _, p := range prices {
		if len(meters) == 0 || meters[len(meters)-1].meter != p.Meter {
			meters = append(meters, meterPrices{meter: p.Meter, tiers: contextTiers(prices, p.Meter)})
		}
		meters[len(meters)-1].add(p.compile(f, rates[p.Currency]))
	}
	for i := range meters {
		meters[i].sort()
	}
	return meters
}

// contextTiers returns the thresholds that decide a meter: for tokens those of the whole model, so that a class of
// tokens without a price for long prompts is unpriced there; for anything else those that its own prices name.
func contextTiers(prices []Price, meter Meter) []contextTier {
	since := map[int64]int64{}
	for _, p := range prices {
		if p.AboveInputTokens == 0 || p.Meter != meter && !countsTokens(meter) {
			continue
		}
		from, _ := p.interval()
		if known, ok := since[p.AboveInputTokens]; !ok || from < known {
			since[p.AboveInputTokens] = from
		}
	}
	var tiers []contextTier
	for above, from := range since {
		tiers = append(tiers, contextTier{above, from})
	}
	slices.SortFunc(tiers, func(a, b contextTier) int { return cmp.Compare(b.above, a.above) })
	return tiers
}

func (m *meterPrices) add(rows []priceRow) {
	limits := rows[0].priceLimits
	if rows[0].billedAs != "" {
		m.redirects = append(m.redirects, rows...)
		return
	}
	i := slices.IndexFunc(m.sets, func(s priceSet) bool { return s.priceLimits == limits })
	if i < 0 {
		i = len(m.sets)
		m.sets = append(m.sets, priceSet{priceLimits: limits})
	}
	m.sets[i].rows = append(m.sets[i].rows, rows...)
}

func (m *meterPrices) sort() {
	for _, set := range m.sets {
		slices.SortStableFunc(set.rows, compareRank)
	}
	slices.SortStableFunc(m.redirects, compareRank)
	for i := range m.sets {
		if set := &m.sets[i]; set.tier == "" && !set.batch {
			m.plain = append(m.plain, set.unconditional()...)
		}
	}
}

// unconditional returns the rows without conditions, the newest first. Their intervals are disjoint.
func (s *priceSet) unconditional() (rows []*priceRow) {
	for i := range s.rows {
		if len(s.rows[i].needs) == 0 {
			rows = append(rows, &s.rows[i])
		}
	}
	slices.SortFunc(rows, func(a, b *priceRow) int { return cmp.Compare(b.from, a.from) })
	return rows
}

func compareRank(a, b priceRow) int {
	return cmp.Or(cmp.Compare(b.above, a.above), cmp.Compare(len(b.needs), len(a.needs)))
}

// compile returns the price as rows: one, or one for each exchange rate that its interval meets. At least one.
func (p *Price) compile(f *faults, rates []ExchangeRate) []priceRow {
	row := priceRow{
		priceLimits: priceLimits{above: p.AboveInputTokens, tier: p.Conditions[ServiceTier], batch: p.Conditions[Batch] == "true"},
		needs:       p.Conditions.lenient(),
		billedAs:    p.BilledAs,
	}
	row.from, row.until = p.interval()
	switch {
	case p.BilledAs != "":
		return []priceRow{row}
	case p.Currency == "USD":
		row.setRate(p, p.Amount)
		return []priceRow{row}
	}
	return p.exchange(f, row, rates)
}

// setRate sets what the row charges. The amount has been checked to be Money.
func (r *priceRow) setRate(p *Price, dollars decimal.Decimal) {
	amount, _ := store.MoneyOf(dollars)
	r.rate = store.Rate{Amount: amount, Per: p.Per, RoundUpTo: p.RoundUpTo}
	if int64(amount)%p.Per == 0 {
		r.unit = int64(amount) / p.Per
	}
}

// exchange cuts the row where the exchange rate changes. Before the first rate it has no value.
func (p *Price) exchange(f *faults, row priceRow, rates []ExchangeRate) []priceRow {
	var rows []priceRow
	until := row.until
	for _, rate := range slices.Backward(rates) {
		if from := max(rate.micros(), row.from); from < until {
			part := row
			part.from, part.until = from, until
			part.setRate(p, p.dollars(f, rate))
			rows = append(rows, part)
			until = from
		}
	}
	if row.from < until {
		row.until, row.currency = until, p.Currency
		rows = append(rows, row)
	}
	return rows
}

// dollars is the amount at a rate, which has to be exact in 12 fraction digits: a price is never rounded.
func (p *Price) dollars(f *faults, rate ExchangeRate) decimal.Decimal {
	field := "price of " + string(p.Meter) + " of " + p.Provider + " " + p.Model + " in " + p.Currency
	dollars := p.Amount.Mul(rate.USD)
	if _, ok := store.MoneyOf(dollars); !ok {
		f.add(field, "has more than 12 fraction digits in USD or is too large, at the rate "+rate.USD.String())
		return decimal.Decimal{}
	}
	if tooDear(p.Meter, dollars, p.Per) {
		f.add(field, "is more than "+dearest(p.Meter).words+", at the rate "+rate.USD.String())
	}
	return dollars
}

func (c Conditions) lenient() []condition {
	var needs []condition
	for _, key := range slices.Sorted(maps.Keys(c)) {
		if key != ServiceTier && key != Batch {
			needs = append(needs, condition{key, c[key]})
		}
	}
	return needs
}
