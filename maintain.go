package usage

import (
	"context"
	"time"

	"github.com/acf68eca/usage/store"
)

// Drift is a place where a tenant's totals are not the sum of its records.
type Drift = store.Drift

// Verify adds up a tenant's records and returns every difference to its totals and every record whose cost is not the
// sum of its lines: none when all is well. It reads the whole ledger of the tenant, in one snapshot.
func (t *Tracker) Verify(ctx context.Context, tenantID string) ([]Drift, error) {
	if err := checkID("tenantID", tenantID); err != nil {
		return nil, err
	}
	return t.store.Verify(ctx, tenantID)
}

// Rebuild makes a tenant's totals anew from its records, in one transaction. Totals are always right unless somebody
// wrote to the database by other means; an unknown tenant has none.
func (t *Tracker) Rebuild(ctx context.Context, tenantID string) error {
	if err := checkID("tenantID", tenantID); err != nil {
		return err
	}
	return t.store.Rebuild(ctx, tenantID)
}

// RepriceFilter selects records of one tenant by when they happened.
type RepriceFilter struct {
	TenantID string // required
	// From and To bound At: [From, To). A zero time is no bound.
	From, To time.Time
}

// Repriced says what Reprice did.
type Repriced struct {
	// Priced is how many records got a price, and Unpriced how many still have none.
	Priced, Unpriced int
}

// Reprice gives a price to records that have none, from the book in force now as of the time of each call, and adds
// their cost to the totals of their own periods. Records that have a price keep it, so repeating Reprice, or running it
// twice at once, changes nothing more. Records whose usage is not known stay unpriced.
//
// It works in batches: when it fails, those before are done.
func (t *Tracker) Reprice(ctx context.Context, filter RepriceFilter) (done Repriced, err error) {
	query, err := RecordFilter{TenantID: filter.TenantID, From: filter.From, To: filter.To, Unpriced: true}.query()
	if err != nil {
		return done, err
	}
	query.Limit = maxPage
	book := t.prices.Load().of(filter.TenantID)
	for {
		rows, err := t.store.Records(ctx, query)
		if err != nil {
			return done, err
		}
		priced := priceable(book, rows)
		outcomes, err := t.store.Reprice(ctx, t.now(), priced, judge)
		if err != nil {
			return done, err
		}
		done.Unpriced += len(rows) - len(priced)
		for i := range outcomes {
			if outcomes[i].Err != nil {
				return done, outcomes[i].Err
			}
			t.alerts.add(outcomes[i].Alerts)
			if !outcomes[i].Duplicate {
				done.Priced++
			}
		}
		if len(rows) < query.Limit {
			return done, nil
		}
		last := &rows[len(rows)-1]
		query.After = &store.Position{At: last.At, ID: last.ID}
	}
}

// priceable returns the records that the book has a price for, priced.
func priceable(book *PriceBook, rows []store.Record) []store.Record {
	priced := make([]store.Record, 0, len(rows))
	for _, r := range rows {
		if len(r.Lines) == 0 {
			continue // its usage is not known
		}
		query := PriceQuery{
			Provider: r.Provider, Model: r.Model, At: r.At, Conditions: parseConditions(r.Conditions),
			PromptTokens: promptTokens(r.Lines),
		}
		cost, err := book.price(&query, r.Lines)
		if err != nil {
			continue
		}
		r.Cost, r.Unpriced, r.PriceVersion = cost, "", book.Version()
		priced = append(priced, r)
	}
	return priced
}
