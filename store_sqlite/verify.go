package storesqlite

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/acf68eca/usage/store"
)

// Verify implements store.Store. It reads one snapshot; as long as it does, the write-ahead log cannot be folded back
// into the file and grows with what others write.
func (s *Store) Verify(ctx context.Context, tenantID string) (drift []store.Drift, err error) {
	err = s.read(ctx, "verify", func(q queryer) error {
		n, err := readTenant(ctx, q, tenantID)
		if err != nil || n.number == 0 {
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
		days, err := s.selectDays(ctx, q, n, math.MinInt64, math.MaxInt64)
		if err != nil {
			return err
		}
		months, err := s.selectAnyMonths(ctx, q, n, math.MinInt64, math.MaxInt64)
		if err != nil {
			return err
		}
		drift = append(drift, tally.Drift(totalsOf(append(days, months...)))...)
		return nil
	})
	return drift, err
}

// Rebuild implements store.Store.
func (s *Store) Rebuild(ctx context.Context, tenantID string) error {
	return s.write(ctx, "rebuild", time.Time{}, func(t *tx) error {
		n, err := t.knownTenant(ctx, tenantID)
		if err != nil || n == nil {
			return err
		}
		return t.rebuild(ctx, n)
	})
}

const deleteMonths = `
DELETE FROM usage_months
WHERE tenant = ?`

const deleteDays = `
DELETE FROM usage_days
WHERE tenant = ?`

// rebuild replaces a tenant's totals by what its records, and those that were dropped, add up to.
func (t *tx) rebuild(ctx context.Context, n *tenant) error {
	tally, err := t.store.tally(ctx, t, n, func(*store.Record) {})
	if err != nil {
		return err
	}
	for _, statement := range []string{deleteMonths, deleteDays} {
		if _, err := t.ExecContext(ctx, statement, n.number); err != nil {
			return err
		}
	}
	if err := t.addTotals(ctx, n, tally.Totals()); err != nil {
		return err
	}
	if err := t.writeTotals(ctx, n); err != nil {
		return err
	}
	_, err = t.reload(ctx, n.row.ID)
	return err
}

// addTotals takes all totals of a tenant that has none, by window and start: days, and then months.
func (t *tx) addTotals(ctx context.Context, n *tenant, totals []store.Total) error {
	type monthOf struct{ model, start int64 }
	months := make(map[monthOf]*total)
	for _, sum := range slices.Backward(totals) { // the months, and then their days from the last one on
		model, err := t.modelNumber(ctx, modelName{sum.Provider, sum.Model})
		if err != nil {
			return err
		}
		row, key := &total{Total: sum, model: model}, monthOf{model, n.calendar.Month(sum.Start).Start.UnixMicro()}
		switch month := months[key]; {
		case sum.Window == store.Month:
			months[key] = row
		case month.lastDay == nil:
			month.lastDay = row
		}
		n.change(row)
	}
	return nil
}

const selectAllFiled = `
SELECT` + recordColumns + `
FROM usage_times AS f
CROSS JOIN usage_records AS r ON r.record = f.record
WHERE f.tenant = ?1
  AND r.tenant = ?1
ORDER BY f.at`

const selectAllUnfiled = `
SELECT` + recordColumns + `
FROM usage_records AS r
WHERE r.record > (SELECT value FROM usage_watermarks WHERE name = 'filed')
  AND r.tenant = ?1`

// eachRecord hands every record of a tenant to fn, most of them in the order of time.
func (s *Store) eachRecord(ctx context.Context, q queryer, n *tenant, fn func(*store.Record) error) error {
	for _, statement := range []string{selectAllFiled, selectAllUnfiled} {
		if err := s.eachSelected(ctx, q, n, statement, fn); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) eachSelected(
	ctx context.Context, q queryer, n *tenant, statement string, fn func(*store.Record) error,
) error {
	rows, err := q.QueryxContext(ctx, statement, n.number)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	for rows.Next() {
		var row recordRow
		if err := rows.StructScan(&row); err != nil {
			return err
		}
		r, err := s.record(ctx, q, n, &row)
		if err != nil {
			return err
		}
		if err := fn(&r); err != nil {
			return err
		}
	}
	return rows.Err()
}
