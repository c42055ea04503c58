package usage

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/acf68eca/usage/store"
)

// Summary is what one tenant used in its own period.
type Summary struct {
	Tenant Tenant
	Period Period
	Sums
}

// SummaryFilter selects tenants' summaries.
type SummaryFilter struct {
	// At is an instant in the period. Defaults to now.
	At time.Time
	// Per is the window. Defaults to Month.
	Per Window
	// Top is how many tenants to return, those that spent most first. Defaults to all.
	Top int
}

// Summaries returns what the tenants used, each in its own period that contains the instant asked for: those that spent
// most first, and by id where they spent the same.
func (t *Tracker) Summaries(ctx context.Context, filter SummaryFilter) ([]Summary, error) {
	var f faults
	at := f.time("At", filter.At)
	if filter.Per != "" && filter.Per != Month && filter.Per != Day {
		f.add("Per", "is not a window: month or day")
	}
	if filter.Top < 0 {
		f.add("Top", "is negative")
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	if at.IsZero() {
		at = t.now()
	}
	var summaries []Summary
	for after := ""; ; after = summaries[len(summaries)-1].Tenant.ID {
		page, err := t.store.TenantTotals(ctx, cmp.Or(filter.Per, Month), at, after, maxPage)
		if err != nil {
			return nil, err
		}
		for i := range page {
			summaries = append(summaries, summaryOf(&page[i]))
		}
		if len(page) < maxPage {
			break
		}
	}
	slices.SortFunc(summaries, func(a, b Summary) int {
		return cmp.Or(b.Cost.Cmp(a.Cost), cmp.Compare(a.Tenant.ID, b.Tenant.ID))
	})
	if filter.Top > 0 && filter.Top < len(summaries) {
		summaries = summaries[:filter.Top]
	}
	return summaries, nil
}

func summaryOf(t *store.TenantTotals) Summary {
	summary := Summary{Tenant: t.Tenant, Period: t.Period}
	for i := range t.Totals {
		summary.add(&t.Totals[i])
	}
	return summary
}
