package storepostgres

import (
	"context"
	"slices"
	"time"

	"github.com/acf68eca/usage/store"
)

// Verify implements store.Store. It reads one snapshot; as long as it does, the server keeps the rows that others have
// replaced since.
func (s *Store) Verify(ctx context.Context, tenantID string) (drift []store.Drift, err error) {
	err = s.read(ctx, "verify", func(q queryer) error {
		drift = nil
		n, exists, err := readTenant(ctx, q, tenantID)
		if err != nil || !exists {
			return err
		}
		tally, err := s.tally(ctx, q, n, func(r *store.Record) {
			if d, found := r.CostDrift(); found {
				drift = append(drift, d)
			}
		})
		if err != nil {
			return err
		}
		var stored []store.Total
		for _, w := range []store.Window{store.Day, store.Month} {
			totals, err := s.listTotals(ctx, q, tenantID, w, time.Time{}, time.Time{})
			if err != nil {
				return err
			}
			stored = append(stored, totals...)
		}
		drift = append(drift, tally.Drift(stored)...)
		return nil
	})
	return drift, err
}

// Rebuild implements store.Store.
func (s *Store) Rebuild(ctx context.Context, tenantID string) error {
	return s.write(ctx, change{op: "rebuild", tenants: []string{tenantID}, apply: func(t *tx) error {
		n := t.tenants[tenantID]
		if n == nil {
			return nil
		}
		n.stale = true
		return t.rebuild(ctx, n)
	}})
}

const deleteMonths = `
DELETE FROM usage_months
WHERE tenant = $1`

const deleteDays = `
DELETE FROM usage_days
WHERE tenant = $1`

// Who remembers totals that are not there any more has to forget them: what is deleted has no revision.
const updateRebuilt = `
UPDATE usage_tenants
SET settings = version
WHERE tenant = $1`

// rebuild replaces a tenant's totals by what its records, and those that were dropped, add up to by its calendar.
func (t *tx) rebuild(ctx context.Context, n *tenant) error {
	tally, err := t.store.tally(ctx, t, n, func(*store.Record) {})
	if err != nil {
		return err
	}
	for _, statement := range []string{deleteMonths, deleteDays, updateRebuilt} {
		if _, err := t.ExecContext(ctx, statement, n.row.ID); err != nil {
			return err
		}
	}
	return t.addTotals(n, tally.Totals())
}

// addTotals takes all totals of a tenant that has none, by window and start: days, and then months.
func (t *tx) addTotals(n *tenant, totals []store.Total) error {
	type monthOf struct {
		model int32
		start int64
	}
	months := make(map[monthOf]*total)
	for _, sum := range slices.Backward(totals) { // the months, and then their days from the last one on
		model, ok := t.store.dictionary.modelNumber(modelName{sum.Provider, sum.Model})
		if !ok {
			return unnumbered(sum.Model) // it has just been read
		}
		row, key := &total{Total: sum, model: model}, monthOf{model, n.calendar.Month(sum.Start).Start.UnixMicro()}
		switch month := months[key]; {
		case sum.Window == store.Month:
			months[key] = row
			n.change(row)
		case month.lastDay == nil:
			month.lastDay = row
		default:
			n.change(row)
		}
	}
	return nil
}

// eachPage is how many records are read at once where all are.
const eachPage = 2000

const selectAllRecords = `
SELECT` + recordColumns + `
FROM usage_records AS r
WHERE r.tenant = $1
  AND ($2::timestamptz IS NULL OR (r.at, r.id) > ($2, $3::text))
  AND r.at >= COALESCE($2::timestamptz, '-infinity')
ORDER BY r.at, r.id
LIMIT $4`

// eachRecord hands every record of a tenant to fn, in the order of time. It reads in pages, so that the ledger need not
// fit into memory.
func (s *Store) eachRecord(ctx context.Context, q queryer, tenantID string, fn func(*store.Record) error) error {
	var after store.Position
	for {
		var rows []recordRow
		err := q.SelectContext(ctx, &rows, selectAllRecords, tenantID, timestamp(after.At), after.ID, eachPage)
		if err != nil {
			return err
		}
		records, err := s.records(ctx, q, rows)
		if err != nil {
			return err
		}
		for i := range records {
			if err := fn(&records[i]); err != nil {
				return err
			}
		}
		if len(records) < eachPage {
			return nil
		}
		last := &records[len(records)-1]
		after = store.Position{At: last.At, ID: last.ID}
	}
}
