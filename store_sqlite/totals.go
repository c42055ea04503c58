package storesqlite

import (
	"context"
	"time"

	"github.com/acf68eca/usage/store"
)

// windows are numbered in the order in which they are stored.
func windowNumber(w store.Window) int64 {
	if w == store.Day {
		return 0
	}
	return 1
}

const insertTotalSQL = `
INSERT INTO usage_totals (tenant, window, start, model, calls, errors, unpriced, cost, meters)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`

const updateTotalSQL = `
UPDATE usage_totals
SET calls = ?,
    errors = ?,
    unpriced = ?,
    cost = ?,
    meters = ?
WHERE rowid = ?`

// writeTotals stores the totals of a tenant that have changed, each once however many records changed it.
func (t *tx) writeTotals(ctx context.Context, n *tenant) error {
	for _, row := range n.dirty {
		meters, err := t.packMeters(ctx, row.Meters)
		if err != nil {
			return err
		}
		if row.rowid != 0 {
			_, err = t.exec(updateTotal, row.Calls, row.Errors, row.Unpriced, int64(row.Cost), meters, row.rowid)
		} else {
			row.rowid, err = t.insertTotal(n, row, meters)
		}
		if err != nil {
			return err
		}
		row.dirty = false
	}
	n.dirty = n.dirty[:0]
	return nil
}

func (t *tx) insertTotal(n *tenant, row *total, meters []byte) (rowid int64, err error) {
	result, err := t.exec(insertTotal, n.number, windowNumber(row.Window), row.Start.UnixMicro(), row.model,
		row.Calls, row.Errors, row.Unpriced, int64(row.Cost), meters)
	if err != nil {
		return 0, err
	}
	return result.LastInsertId()
}

func (t *tx) packMeters(ctx context.Context, meters []store.MeterTotal) ([]byte, error) {
	packed := make([]byte, 0, 16*len(meters))
	for _, m := range meters {
		number, err := t.textNumber(ctx, string(m.Meter))
		if err != nil {
			return nil, err
		}
		packed = appendMeter(packed, packedMeter{number, m.Quantity, int64(m.Cost)})
	}
	return packed, nil
}

type totalRow struct {
	RowID                                       int64 `db:"rowid"`
	Start, Model, Calls, Errors, Unpriced, Cost int64
	Meters                                      []byte
}

const selectTotalsSQL = `
SELECT rowid, start, model, calls, errors, unpriced, cost, meters
FROM usage_totals
WHERE tenant = ?
  AND window = ?
  AND start >= ?
  AND start < ?
ORDER BY start, model`

// selectTotals reads the totals that start in [from, to).
func (s *Store) selectTotals(ctx context.Context, q queryer, n *tenant, w store.Window, from, to time.Time) ([]*total, error) {
	var rows []totalRow
	err := q.SelectContext(ctx, &rows, selectTotalsSQL, n.number, windowNumber(w), micros(from), micros(to))
	if err != nil {
		return nil, err
	}
	totals := make([]*total, len(rows))
	for i := range rows {
		if totals[i], err = s.total(ctx, q, n, w, &rows[i]); err != nil {
			return nil, err
		}
	}
	return totals, nil
}

func (s *Store) total(ctx context.Context, q queryer, n *tenant, w store.Window, row *totalRow) (*total, error) {
	name, err := s.model(ctx, q, row.Model)
	if err != nil {
		return nil, err
	}
	packed, err := unpackMeters(row.Meters)
	if err != nil {
		return nil, err
	}
	meters := make([]store.MeterTotal, len(packed))
	for i, m := range packed {
		text, err := s.text(ctx, q, m.meter)
		if err != nil {
			return nil, err
		}
		meters[i] = store.MeterTotal{Meter: store.Meter(text), Quantity: m.quantity, Cost: store.Money(m.cost)}
	}
	return &total{rowid: row.RowID, model: row.Model, Total: store.Total{
		TenantID: n.row.ID, Window: w, Start: instant(row.Start), Provider: name.Provider, Model: name.Name,
		Calls: row.Calls, Errors: row.Errors, Unpriced: row.Unpriced, Cost: store.Money(row.Cost), Meters: meters,
	}}, nil
}

// Totals implements store.Store.
func (s *Store) Totals(ctx context.Context, query store.TotalQuery) (totals []store.Total, err error) {
	err = s.read(ctx, "totals", func(q queryer) error {
		n, err := readTenant(ctx, q, query.TenantID)
		if err != nil || n.number == 0 {
			return err
		}
		totals, err = s.sortedTotals(ctx, q, n, query.Window, query.From, query.To)
		return err
	})
	return totals, err
}

func (s *Store) sortedTotals(ctx context.Context, q queryer, n *tenant, w store.Window, from, to time.Time) ([]store.Total, error) {
	rows, err := s.selectTotals(ctx, q, n, w, from, to)
	if err != nil {
		return nil, err
	}
	totals := make([]store.Total, len(rows))
	for i, row := range rows {
		totals[i] = row.Total
	}
	store.SortTotals(totals)
	return totals, nil
}

// TenantTotals implements store.Store.
func (s *Store) TenantTotals(
	ctx context.Context, w store.Window, at time.Time, after string, limit int,
) (list []store.TenantTotals, err error) {
	err = s.read(ctx, "tenant totals", func(q queryer) error {
		rows, err := listTenants(ctx, q, after, limit)
		if err != nil {
			return err
		}
		for i := range rows {
			n, err := rows[i].tenant()
			if err != nil {
				return err
			}
			period := n.calendar.Period(w, at)
			totals, err := s.sortedTotals(ctx, q, n, w, period.Start, period.Start.Add(time.Microsecond))
			if err != nil {
				return err
			}
			list = append(list, store.TenantTotals{Tenant: n.row, Period: period, Totals: totals})
		}
		return nil
	})
	return list, err
}

// micros and instant convert between times and columns; the zero time is 0.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func instant(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}
