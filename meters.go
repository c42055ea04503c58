package usage

import (
	"math"
	"strings"

	"github.com/acf68eca/usage/store"
)

// isTokens reports whether a meter is part of the sum Tokens. A host's own meters are when their names end in "_tokens".
func isTokens(m Meter) bool {
	return strings.HasSuffix(string(m), "_tokens") && m != ReasoningTokens
}

func isTime(m Meter) bool { return m == AudioTime || m == CallTime }

// counts reports whether a metric that is no sum of calls or cost counts a meter.
func counts(metric, m Meter) bool {
	switch metric {
	case Tokens:
		return isTokens(m)
	case Minutes:
		return isTime(m)
	}
	return metric == m
}

// usedOf returns how much of a metric some totals make up, in its base unit. A sum past an int64 stays there: what is
// compared with it is never larger.
func usedOf(metric Meter, t *store.Total) (sum int64) {
	switch metric {
	case Cost:
		return int64(t.Cost)
	case Calls:
		return t.Calls
	}
	for i := range t.Meters {
		if counts(metric, t.Meters[i].Meter) {
			sum = addUp(sum, t.Meters[i].Quantity)
		}
	}
	return sum
}

// demand is what one call asks of the limits that apply to it.
type demand struct {
	provider, model string
	lines           []store.Line
	cost            store.Money
}

func demandOf(h *store.Hold) *demand { return &demand{h.Provider, h.Model, h.Lines, h.Cost} }

// of returns how much of a metric is asked for.
func (d *demand) of(metric Meter) (sum int64) {
	switch metric {
	case Cost:
		return int64(d.cost)
	case Calls:
		return 1
	}
	for i := range d.lines {
		if counts(metric, d.lines[i].Meter) {
			sum = addUp(sum, d.lines[i].Quantity)
		}
	}
	return sum
}

// addUp adds amounts that are not negative.
func addUp(a, b int64) int64 {
	if sum, ok := store.Add(a, b); ok {
		return sum
	}
	return math.MaxInt64
}
