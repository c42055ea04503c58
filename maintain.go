package usage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/acf68eca/usage/store"
)

// Drift is a place where a tenant's totals are not the sum of its records. Its fields are those of store.Drift.
type Drift = store.Drift

// Verify adds up a tenant's records, and what those that were pruned counted for, and returns every difference to its totals
// and every record whose cost is not the sum of its lines: none when all is well. It reads the whole ledger of the tenant, in
// one snapshot. An unknown tenant has no drift.
func (t *Tracker) Verify(ctx context.Context, tenantID string) ([]Drift, error) {
	if err := checkTenant(tenantID); err != nil {
		return nil, err
	}
	return t.store.Verify(ctx, tenantID)
}

// Rebuild makes a tenant's totals anew from its records and what pruned ones counted for, in one transaction. Totals are
// always right unless somebody wrote to the database by other means; an unknown tenant has none.
func (t *Tracker) Rebuild(ctx context.Context, tenantID string) error {
	if err := checkTenant(tenantID); err != nil {
		return err
	}
	err := t.store.Rebuild(ctx, tenantID)
	t.standings.forget(tenantID)
	return err
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
// It works in batches: when the store fails, those before are done. A record that cannot be priced for a reason of its
// own, such as a total that would overflow, stays unpriced and does not keep the others from their price; the error
// then names each of them.
func (t *Tracker) Reprice(ctx context.Context, filter RepriceFilter) (done Repriced, err error) {
	var f faults
	query := RecordFilter{TenantID: filter.TenantID, From: filter.From, To: filter.To, Unpriced: true}.query(&f)
	if err := f.err(); err != nil {
		return done, err
	}
	query.Limit = maxPage
	book := t.prices.Load().of(filter.TenantID)
	var refused []error
	for {
		rows, err := t.store.Records(ctx, query)
		if err != nil {
			return done, errors.Join(append(refused, err)...)
		}
		w := t.standings.witness()
		outcomes, err := t.store.Reprice(ctx, t.now(), priceable(book, rows), w.judgeRepriced)
		w.recordsCameAbout(outcomes)
		w.done(err)
		if err != nil {
			return done, errors.Join(append(refused, err)...)
		}
		done.Unpriced += len(rows) - len(outcomes)
		refused = append(refused, t.repriced(&done, outcomes)...)
		if len(rows) < query.Limit {
			return done, errors.Join(refused...)
		}
		last := &rows[len(rows)-1]
		query.After = &store.Position{At: last.At, ID: last.ID}
	}
}

// repriced counts a batch's outcomes and returns what was refused.
func (t *Tracker) repriced(done *Repriced, outcomes []store.Outcome) (refused []error) {
	for i := range outcomes {
		o := &outcomes[i]
		t.alerts.add(o.Alerts)
		switch {
		case errors.Is(o.Err, ErrNotFound): // it was pruned meanwhile
		case o.Err != nil:
			done.Unpriced++
			refused = append(refused, fmt.Errorf("reprice call %s of tenant %s: %w", quote(o.Record.ID), quote(o.Record.TenantID), o.Err))
		case !o.Duplicate:
			done.Priced++
		}
	}
	return refused
}

// priceable returns the records that the book has a price for, priced.
func priceable(book *PriceBook, rows []store.Record) []*store.Record {
	priced := make([]*store.Record, 0, len(rows))
	for i := range rows {
		r := &rows[i]
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
