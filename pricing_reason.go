package usage

import (
	"slices"
	"strconv"
	"strings"
)

// reason says in words why a search found no price. The words are stable: hosts and alerts group by them.
func (c *pricedCall) reason(q *PriceQuery, found *priceFinding) string {
	model := q.Model
	if model == "" {
		model = q.Provider
	}
	switch found.verdict {
	case meterUnlisted:
		return c.unlisted(q, found.meter, model)
	case severalApply:
		return "ambiguous prices for " + string(found.meter) + " of " + model + c.given(found.prices)
	case noExchangeRate:
		return "no exchange rate for " + found.currency + " at " + priceDay(c.at)
	}
	limits := priceLimits{above: found.prices.threshold(c), tier: c.tier, batch: c.batch}
	if found.prices.appliesEver(c, &limits) {
		return "no price for " + model + " at " + priceDay(c.at)
	}
	circumstances := c.given(found.prices) + c.missing(found.prices, &limits)
	if limits.above > 0 {
		circumstances += " above " + strconv.FormatInt(limits.above, 10) + " input tokens"
	}
	if circumstances == "" {
		return "no price for " + string(found.meter) + " of " + model
	}
	return "no price for " + model + circumstances
}

func (c *pricedCall) unlisted(q *PriceQuery, meter Meter, model string) string {
	switch {
	case c.provider == nil:
		return "unknown provider " + q.Provider
	case c.isListed() || q.Model == "":
		return "no price for " + string(meter) + " of " + model
	}
	return "unknown model " + model
}

// appliesEver reports whether the meter has a price for such a call at another time.
func (m *meterPrices) appliesEver(c *pricedCall, limits *priceLimits) bool {
	applies := func(row priceRow) bool { return row.applies(c, limits) }
	for _, set := range m.sets {
		if set.priceLimits == *limits && slices.ContainsFunc(set.rows, applies) {
			return true
		}
	}
	return slices.ContainsFunc(m.redirects, applies)
}

// given lists the conditions of the call that prices of the meter could ask for.
func (c *pricedCall) given(prices *meterPrices) string {
	var list []string
	if c.batch {
		list = append(list, Batch+"=true")
	}
	if c.tier != "" {
		list = append(list, ServiceTier+"="+c.tier)
	}
	for key := range prices.keys(func(priceLimits) bool { return true }) {
		if value := c.conditions[key]; value != "" {
			list = append(list, key+"="+value)
		}
	}
	return sortedList(" with ", list)
}

// missing lists the conditions that a price would ask for which the call does not say.
func (c *pricedCall) missing(prices *meterPrices, limits *priceLimits) string {
	var list []string
	for key := range prices.keys(func(of priceLimits) bool { return of == *limits }) {
		if c.conditions[key] == "" {
			list = append(list, key)
		}
	}
	return sortedList(" without ", list)
}

func sortedList(intro string, list []string) string {
	if len(list) == 0 {
		return ""
	}
	slices.Sort(list)
	return intro + strings.Join(list, ", ")
}

// keys returns the lenient conditions of the meter's prices in the chosen sets.
func (m *meterPrices) keys(chosen func(priceLimits) bool) map[string]bool {
	keys := map[string]bool{}
	for _, set := range m.sets {
		if !chosen(set.priceLimits) {
			continue
		}
		for _, row := range set.rows {
			for _, need := range row.needs {
				keys[need.key] = true
			}
		}
	}
	return keys
}
