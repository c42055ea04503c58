package storepostgres

import (
	"context"
	"time"

	"github.com/acf68eca/usage/store"
)

// Reprice implements store.Store.
func (s *Store) Reprice(ctx context.Context, now time.Time, records []*store.Record, judge store.Judge) ([]store.Outcome, error) {
	if len(records) == 0 {
		return nil, s.ready(ctx, "reprice")
	}
	b := &batch{records: records, order: byTenant(records)}
	tenants := make([]string, len(records))
	for i := range records {
		tenants[i] = records[i].TenantID
	}
	prepare := func() error {
		words := s.newWords()
		for i := range records {
			words.text(records[i].PriceVersion)
			words.lines(records[i].Lines)
		}
		return s.number(ctx, words)
	}
	apply := func(t *tx) error { return t.reprice(ctx, b, judge) }
	err := s.write(ctx, change{op: "reprice", now: now, tenants: tenants, once: true, prepare: prepare, ask: b.ask, apply: apply})
	if err != nil {
		return nil, err
	}
	return b.outcomes, nil
}

func (t *tx) reprice(ctx context.Context, b *batch, judge store.Judge) error {
	a, err := t.newAdder(ctx, b)
	if err != nil {
		return err
	}
	stored := a.known
	b.instants = make(map[string][]time.Time)
	for key, r := range stored {
		b.instant(key.tenantID, r.At)
	}
	if err := t.load(ctx, b.instants); err != nil {
		return err
	}
	var held []holdRow
	t.queueHolds(&held, holdsOf(stored))
	if err := t.send(ctx); err != nil {
		return err
	}
	a.holds = holdsByKey(held)
	for _, i := range b.order {
		if b.outcomes[i], err = a.reprice(b.records[i]); err != nil {
			return err
		}
	}
	changed, last := t.changed(b)
	if len(changed) == 0 {
		return nil
	}
	if err := t.updatePrices(ctx, changed); err != nil {
		return err
	}
	return t.judgeBatch(ctx, b, changed, last, judge)
}

func holdsOf(records map[recordKey]*store.Record) (keys []holdKey) {
	for key, r := range records {
		if r.Settlement == store.Settled {
			keys = append(keys, holdKey{key.tenantID, r.HoldID})
		}
	}
	return keys
}

// reprice gives one record its price, unless it has one.
func (a *adder) reprice(given *store.Record) (store.Outcome, error) {
	stored := a.known[recordKey{given.TenantID, given.ID}]
	if stored == nil {
		return store.Outcome{Record: given, Err: store.ErrNotFound}, nil
	}
	if stored.Unpriced == "" {
		return store.Outcome{Record: stored, Duplicate: true}, nil
	}
	r := *stored
	r.Lines, r.Cost, r.Unpriced, r.PriceVersion = given.Lines, given.Cost, "", given.PriceVersion
	if r.Settlement == store.Settled {
		r.Overage = a.holds[holdKey{r.TenantID, r.HoldID}].overage(r.Cost)
	}
	model, ok := a.store.dictionary.modelNumber(modelName{r.Provider, r.Model})
	if !ok {
		return store.Outcome{}, unnumbered(r.Model)
	}
	if err := a.tenants[r.TenantID].count(model, &r, (*store.Total).Price); err != nil {
		return refuse(given, err)
	}
	*stored = r
	return store.Outcome{Record: &r}, nil
}

const updateRecordPrices = `
UPDATE usage_records AS r
SET lines = g.lines,
    cost = g.picodollars * 0.000000000001,
    unpriced = NULL,
    prices = g.prices,
    overage = CASE WHEN g.overage > 0 THEN g.overage * 0.000000000001 END
FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::bytea[], $5::bigint[], $6::integer[], $7::bigint[])
	AS g (tenant, at, id, lines, picodollars, prices, overage)
WHERE r.tenant = g.tenant
  AND r.at = g.at
  AND r.id = g.id`

func (t *tx) updatePrices(ctx context.Context, records []*store.Record) error {
	c := newRecordLists(len(records))
	for i, r := range records {
		if err := c.set(i, r, t.store); err != nil {
			return err
		}
	}
	_, err := t.ExecContext(ctx, updateRecordPrices, c.tenants, c.ats, c.ids, c.lines, c.picods, c.prices, c.overages)
	return err
}
