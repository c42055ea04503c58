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

const upsertTotalSQL = `
INSERT INTO usage_totals (tenant, window, start, model, calls, errors, unpriced, cost, meters)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, window, start, model) DO UPDATE
SET calls = excluded.calls,
    errors = excluded.errors,
    unpriced = excluded.unpriced,
    cost = excluded.cost,
    meters = excluded.meters`

// writeTotals stores the totals of a tenant that have changed, each once however many records changed it.
func (t *tx) writeTotals(ctx context.Context, n *tenant) error {
	for _, row := range n.dirty {
		meters := make([]byte, 0, 16*len(row.Meters))
		for _, m := range row.Meters {
			number, err := t.textNumber(ctx, string(m.Meter))
			if err != nil {
				return err
			}
			meters = appendMeter(meters, packedMeter{number, m.Quantity, int64(m.Cost)})
		}
		_, err := t.exec(upsertTotal, n.number, windowNumber(row.Window), row.Start.UnixMicro(), row.model,
			row.Calls, row.Errors, row.Unpriced, int64(row.Cost), meters)
		if err != nil {
			return err
		}
		row.dirty = false
	}
	n.dirty = n.dirty[:0]
	return nil
}

type totalRow struct {
	Start, Model, Calls, Errors, Unpriced, Cost int64
	Meters                                      []byte
}

const selectTotalsSQL = `
SELECT start, model, calls, errors, unpriced, cost, meters
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
	return &total{model: row.Model, Total: store.Total{
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
