package storesqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/acf68eca/usage/internal/pack"
	"github.com/acf68eca/usage/store"
)

const upsertMonth = `
INSERT INTO usage_months (tenant, start, model, earlier, day)
VALUES (?, ?, ?, ?, ?)
ON CONFLICT (tenant, start, model) DO UPDATE
SET earlier = excluded.earlier,
    day = excluded.day`

const insertDay = `
INSERT INTO usage_days (tenant, start, model, sums)
VALUES (?, ?, ?, ?)`

const updateDay = `
UPDATE usage_days
SET sums = ?
WHERE rowid = ?`

// writeTotals stores the totals of a tenant that have changed, each once however many records changed it.
func (t *tx) writeTotals(ctx context.Context, n *tenant) error {
	for _, row := range n.dirty {
		write := t.writeDay
		if row.Window == store.Month {
			write = t.writeMonth
		}
		if err := write(ctx, n, row); err != nil {
			return err
		}
		row.dirty = false
	}
	n.dirty = n.dirty[:0]
	n.trim()
	return nil
}

func (t *tx) writeMonth(ctx context.Context, n *tenant, row *total) error {
	earlier := row.earlier()
	packed, err := t.packSums(ctx, &earlier)
	if err != nil {
		return err
	}
	_, err = t.exec(upsertMonthRow, n.number, row.Start.UnixMicro(), row.model, packed, row.lastDay.Start.UnixMicro())
	return err
}

// earlier returns what a month has before its last day.
func (m *total) earlier() store.Total {
	left, last := m.Total, m.lastDay
	left.Calls -= last.Calls
	left.Errors -= last.Errors
	left.Unpriced -= last.Unpriced
	left.Cost -= last.Cost
	left.Meters = slices.Clone(m.Meters)
	for _, of := range last.Meters {
		i := slices.IndexFunc(left.Meters, func(sum store.MeterTotal) bool { return sum.Meter == of.Meter })
		left.Meters[i].Quantity -= of.Quantity
		left.Meters[i].Cost -= of.Cost
	}
	return left
}

func (t *tx) writeDay(ctx context.Context, n *tenant, row *total) error {
	packed, err := t.packSums(ctx, &row.Total)
	if err != nil {
		return err
	}
	if row.rowid != 0 {
		_, err = t.exec(updateDayRow, packed, row.rowid)
		return err
	}
	row.rowid, err = t.insert(insertDayRow, n.number, row.Start.UnixMicro(), row.model, packed)
	return err
}

// packSums packs the sums of a total, until it is called again.
func (t *tx) packSums(ctx context.Context, total *store.Total) ([]byte, error) {
	t.packed = pack.AppendSums(t.packed[:0], pack.Sums{
		Calls: total.Calls, Errors: total.Errors, Unpriced: total.Unpriced, Cost: int64(total.Cost),
	})
	for _, m := range total.Meters {
		number, err := t.textNumber(ctx, string(m.Meter))
		if err != nil {
			return nil, err
		}
		t.packed = pack.AppendMeter(t.packed, pack.Meter{Meter: number, Quantity: m.Quantity, Cost: int64(m.Cost)})
	}
	return t.packed, nil
}

type monthRow struct {
	Start    int64
	Model    int64
	Earlier  []byte
	Day      int64
	DayRowID sql.NullInt64 `db:"day_rowid"`
	DaySums  []byte        `db:"day_sums"`
}

const selectMonthRows = `
SELECT m.start, m.model, m.earlier, m.day, d.rowid AS day_rowid, d.sums AS day_sums
FROM usage_months AS m
LEFT JOIN usage_days AS d ON d.tenant = m.tenant AND d.start = m.day AND d.model = m.model
WHERE m.tenant = ?
  AND m.start >= ?
  AND m.start < ?
ORDER BY m.start, m.model`

// selectMonths reads the totals of months that start in [from, to), each with the last day in it.
func (s *Store) selectMonths(ctx context.Context, q queryer, n *tenant, from, to int64) ([]*total, error) {
	months, err := s.selectAnyMonths(ctx, q, n, from, to)
	if err != nil {
		return nil, err
	}
	for _, month := range months {
		if month.lastDay == nil {
			return nil, fmt.Errorf("the month of %s of tenant %q, provider %q and model %q lacks its last day: %w",
				month.Start.Format(time.RFC3339), month.TenantID, month.Provider, month.Model, store.ErrCorrupt)
		}
	}
	return months, nil
}

// selectAnyMonths is selectMonths also of months whose last day is not there.
func (s *Store) selectAnyMonths(ctx context.Context, q queryer, n *tenant, from, to int64) ([]*total, error) {
	var rows []monthRow
	if err := q.SelectContext(ctx, &rows, selectMonthRows, n.number, from, to); err != nil {
		return nil, err
	}
	totals := make([]*total, len(rows))
	for i, row := range rows {
		month, err := s.total(ctx, q, n, store.Month, &sumsRow{0, row.Start, row.Model, row.Earlier})
		if err != nil {
			return nil, err
		}
		totals[i] = month
		if !row.DayRowID.Valid {
			continue
		}
		month.lastDay, err = s.total(ctx, q, n, store.Day, &sumsRow{row.DayRowID.Int64, row.Day, row.Model, row.DaySums})
		if err != nil {
			return nil, err
		}
		if !month.Merge(&month.lastDay.Total) {
			return nil, fmt.Errorf("sums of a month: %w", store.ErrCorrupt)
		}
	}
	return totals, nil
}

// sumsRow are sums of a model: of a day, of a month before its last day, or of records that were dropped.
type sumsRow struct {
	RowID int64 `db:"rowid"`
	Start int64
	Model int64
	Sums  []byte
}

const selectDayRows = `
SELECT rowid, start, model, sums
FROM usage_days
WHERE tenant = ?
  AND start >= ?
  AND start < ?
ORDER BY start, model`

// selectDays reads the totals of days that start in [from, to).
func (s *Store) selectDays(ctx context.Context, q queryer, n *tenant, from, to int64) ([]*total, error) {
	var rows []sumsRow
	if err := q.SelectContext(ctx, &rows, selectDayRows, n.number, from, to); err != nil {
		return nil, err
	}
	totals := make([]*total, len(rows))
	for i := range rows {
		day, err := s.total(ctx, q, n, store.Day, &rows[i])
		if err != nil {
			return nil, err
		}
		totals[i] = day
	}
	return totals, nil
}

func (s *Store) total(ctx context.Context, q queryer, n *tenant, w store.Window, row *sumsRow) (*total, error) {
	name, err := s.model(ctx, q, row.Model)
	if err != nil {
		return nil, err
	}
	sums, err := pack.ParseSums(row.Sums)
	if err != nil {
		return nil, err
	}
	meters := make([]store.MeterTotal, len(sums.Meters))
	for i, m := range sums.Meters {
		text, err := s.text(ctx, q, m.Meter)
		if err != nil {
			return nil, err
		}
		meters[i] = store.MeterTotal{Meter: store.Meter(text), Quantity: m.Quantity, Cost: store.Money(m.Cost)}
	}
	return &total{rowid: row.RowID, model: row.Model, Total: store.Total{
		TenantID: n.row.ID, Window: w, Start: instant(row.Start), Provider: name.Provider, Model: name.Name,
		Calls: sums.Calls, Errors: sums.Errors, Unpriced: sums.Unpriced, Cost: store.Money(sums.Cost), Meters: meters,
	}}, nil
}

// Totals implements store.Store.
func (s *Store) Totals(ctx context.Context, query store.TotalQuery) (totals []store.Total, err error) {
	err = s.read(ctx, "totals", func(q queryer) error {
		n, err := readTenant(ctx, q, query.TenantID)
		if err != nil || n.number == 0 {
			return err
		}
		totals, err = s.sortedTotals(ctx, q, n, query.Window, micros(query.From), micros(query.To))
		return err
	})
	return totals, err
}

// sortedTotals reads the totals of a window that start in [from, to).
func (s *Store) sortedTotals(ctx context.Context, q queryer, n *tenant, w store.Window, from, to int64) ([]store.Total, error) {
	read := s.selectMonths
	if w == store.Day {
		read = s.selectDays
	}
	rows, err := read(ctx, q, n, from, to)
	if err != nil {
		return nil, err
	}
	totals := totalsOf(rows)
	store.SortTotals(totals)
	return totals, nil
}

func totalsOf(rows []*total) []store.Total {
	totals := make([]store.Total, len(rows))
	for i, row := range rows {
		totals[i] = row.Total
	}
	return totals
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
			totals, err := s.sortedTotals(ctx, q, n, w, period.Start.UnixMicro(), period.End.UnixMicro())
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
