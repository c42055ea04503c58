package usage

import (
	"strings"
	"time"

	"github.com/acf68eca/usage/store"
)

// The tables that prices are found in: made once when a book is built, and only read afterwards.
type (
	// providerPrices are the models of a provider by id and alias, and its patterns, the longest prefix first.
	providerPrices struct {
		name     string
		models   map[string]listedModel
		patterns []*modelPrices
	}

	// listedModel is a model under one of its names. id is the target of an alias.
	listedModel struct {
		*modelPrices
		id string
	}

	// meterPrices are the prices of one meter of one model.
	meterPrices struct {
		meter Meter
		// plain has the rows that apply to a call without conditions, the newest first: what most calls are charged by.
		plain []*priceRow
		// tiers are the context sizes that the model has prices for, the largest first.
		tiers []contextTier
		sets  []priceSet
		// redirects are the rows with BilledAs, the largest threshold first and then the most conditions.
		redirects []priceRow
	}

	// contextTier counts from when the first price of its size began. It never ends by itself: the price of a short
	// prompt is no stand-in for that of a long one which ran out.
	contextTier struct{ above, from int64 }

	// priceSet are the rows of one threshold and one pair of strict conditions, those with the most lenient ones first.
	priceSet struct {
		priceLimits
		rows []priceRow
	}

	priceLimits struct {
		above int64
		tier  string
		batch bool
	}

	// priceRow is a Price over an interval in which its value in dollars is fixed, in microseconds since 1970.
	priceRow struct {
		from, until int64
		rate        store.Rate
		unit        int64 // what one unit costs, 0 when that is no whole number of picodollars
		priceLimits
		needs    []condition
		billedAs Meter
		// currency is set where no exchange rate is known: the row applies and has no value.
		currency string
	}

	condition struct{ key, value string }
)

// pricedCall is a query in the form that the tables are read with.
type pricedCall struct {
	*namedModel
	at, prompt int64
	tier       string
	batch      bool
	conditions Conditions
	// plain says that the call has no conditions, or the default tier as its only one.
	plain bool
}

// ask fills in the call from a query.
func (c *pricedCall) ask(q *PriceQuery) {
	c.at, c.prompt, c.conditions = q.At.UnixMicro(), q.PromptTokens, q.Conditions
	c.plain = len(q.Conditions) == 0
	if !c.plain {
		tier, named := q.Conditions[ServiceTier]
		c.tier, c.batch = canonicalTier(tier), q.Conditions[Batch] == "true"
		c.plain = named && c.tier == "" && len(q.Conditions) == 1
	}
}

// canonicalTier maps what providers call one and the same tier to one name.
func canonicalTier(tier string) string {
	switch tier {
	case "auto", "default", "standard":
		return ""
	case "fast":
		return "priority"
	}
	return tier
}

type priceVerdict int

const (
	meterUnlisted priceVerdict = iota
	noneApplies
	severalApply
	noExchangeRate
)

// priceFinding is how a search ended without a price, and where: enough to say why.
type priceFinding struct {
	verdict  priceVerdict
	meter    Meter
	prices   *meterPrices
	currency string
}

// standard is find for most calls: it returns nil unless the call is plain and there is a price of the meter's own that
// applies and has a value.
func (c *pricedCall) standard(meter Meter) *priceRow {
	if !c.plain || c.first == nil {
		return nil
	}
	prices := c.first.meter(meter)
	if prices == nil {
		return nil
	}
	if row := prices.standard(c, prices.threshold(c)); row != nil && row.currency == "" {
		return row
	}
	return nil
}

// find returns the row that a meter is charged by, or nil and why there is none. It follows BilledAs; a book has no
// circle of them.
func (c *pricedCall) find(meter Meter) (*priceRow, *priceFinding) {
	for {
		prices := c.prices(meter)
		if prices == nil {
			return nil, &priceFinding{meterUnlisted, meter, nil, ""}
		}
		row, several := prices.find(c)
		switch {
		case several:
			return nil, &priceFinding{severalApply, meter, prices, ""}
		case row == nil:
			return nil, &priceFinding{noneApplies, meter, prices, ""}
		case row.currency != "":
			return nil, &priceFinding{noExchangeRate, meter, prices, row.currency}
		case row.billedAs == "":
			return row, nil
		}
		meter = row.billedAs
	}
}

// prices returns the meter's prices in the model of the call, or else in the closest pattern that lists the meter. A
// model that lists a meter at all decides alone: what it leaves open is not filled from a pattern.
func (c *pricedCall) prices(meter Meter) *meterPrices {
	if c.model != nil {
		if prices := c.model.meter(meter); prices != nil {
			return prices
		}
	}
	for _, pattern := range c.patterns {
		if strings.HasPrefix(c.id, pattern.prefix()) {
			if prices := pattern.meter(meter); prices != nil {
				return prices
			}
		}
	}
	return nil
}

func (m *modelPrices) meter(meter Meter) *meterPrices {
	for i := range m.meters {
		if m.meters[i].meter == meter {
			return &m.meters[i]
		}
	}
	return nil
}

// threshold returns the largest context size that the prompt exceeds, 0 for none. It applies to the whole call.
func (m *meterPrices) threshold(c *pricedCall) int64 {
	for _, tier := range m.tiers {
		if c.prompt > tier.above && c.at >= tier.from {
			return tier.above
		}
	}
	return 0
}

// find returns the one row that applies, nil when there is none, and whether there are several. A price of the meter's
// own comes before being billed as another.
func (m *meterPrices) find(c *pricedCall) (row *priceRow, several bool) {
	above := m.threshold(c)
	if c.plain {
		if row = m.standard(c, above); row != nil {
			return row, false
		}
	}
	limits := priceLimits{above: above, tier: c.tier, batch: c.batch}
	for i := range m.sets {
		if m.sets[i].priceLimits == limits {
			if row, several = closest(m.sets[i].rows, c, &limits); row != nil {
				return row, several
			}
			break
		}
	}
	return closest(m.redirects, c, &limits)
}

// standard returns the row without conditions that applies.
func (m *meterPrices) standard(c *pricedCall, above int64) *priceRow {
	for _, row := range m.plain {
		if row.above == above && c.at >= row.from && c.at < row.until {
			return row
		}
	}
	return nil
}

// closest returns the first row that applies, and whether another one of its rank does too. The rows come with the
// highest rank first.
func closest(rows []priceRow, c *pricedCall, limits *priceLimits) (found *priceRow, several bool) {
	for i := range rows {
		row := &rows[i]
		if found != nil && !row.ranksWith(found) {
			break
		}
		if c.at < row.from || c.at >= row.until || !row.applies(c, limits) {
			continue
		}
		if found != nil {
			return found, true
		}
		found = row
	}
	return found, false
}

func (r *priceRow) ranksWith(other *priceRow) bool {
	return r.above == other.above && len(r.needs) == len(other.needs)
}

// applies reports whether the row applies to a call at some time.
func (r *priceRow) applies(c *pricedCall, limits *priceLimits) bool {
	if r.billedAs != "" && !r.redirects(limits) {
		return false
	}
	for i := range r.needs {
		if c.conditions[r.needs[i].key] != r.needs[i].value {
			return false
		}
	}
	return true
}

// redirects is looser than a price of the meter's own: a rule without a tier or size holds in all of them, since the
// meter that it points to is searched with the call's own.
func (r *priceRow) redirects(limits *priceLimits) bool {
	return r.above <= limits.above && (r.tier == "" || r.tier == limits.tier) && (!r.batch || limits.batch)
}

func priceDay(at int64) string { return time.UnixMicro(at).UTC().Format(time.DateOnly) }
