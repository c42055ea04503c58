package storepostgres

import (
	"context"
	"time"

	"github.com/acf68eca/usage/store"
)

// totalColumns are the arguments that write totals, one list for each column.
type totalColumns struct {
	tenants, pers                   []string
	starts                          []time.Time
	models                          []int32
	calls, errors, unpriced, picods []int64
	meters                          [][]byte
}

// changedTotals are the totals of the locked tenants that have changed, each once however many records changed it.
func (t *tx) changedTotals() (c totalColumns, err error) {
	for _, n := range t.tenants {
		for _, row := range n.dirty {
			meters, err := t.store.packMeters(row.Meters)
			if err != nil {
				return c, err
			}
			c.tenants, c.pers, c.starts = append(c.tenants, row.TenantID), append(c.pers, string(row.Window)), append(c.starts, row.Start)
			c.models, c.calls, c.errors = append(c.models, row.model), append(c.calls, row.Calls), append(c.errors, row.Errors)
			c.unpriced, c.picods, c.meters = append(c.unpriced, row.Unpriced), append(c.picods, int64(row.Cost)), append(c.meters, meters)
			row.dirty = false
		}
		n.dirty = n.dirty[:0]
	}
	return c, nil
}

const upsertTotals = `
INSERT INTO usage_totals (tenant, start, per, model, calls, errors, unpriced, cost, meters)
SELECT g.tenant, g.start, g.per, g.model, g.calls, g.errors, g.unpriced, g.picodollars * 0.000000000001, g.meters
FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::integer[], $5::bigint[], $6::bigint[], $7::bigint[],
            $8::bigint[], $9::bytea[])
	AS g (tenant, start, per, model, calls, errors, unpriced, picodollars, meters)
ON CONFLICT (tenant, start, per, model) DO UPDATE
SET calls = excluded.calls,
    errors = excluded.errors,
    unpriced = excluded.unpriced,
    cost = excluded.cost,
    meters = excluded.meters`

// writeTotals stores the totals that have changed.
func (t *tx) writeTotals(ctx context.Context) error {
	c, err := t.changedTotals()
	if err != nil || len(c.tenants) == 0 {
		return err
	}
	_, err = t.ExecContext(ctx, upsertTotals, c.tenants, c.starts, c.pers, c.models, c.calls, c.errors, c.unpriced, c.picods, c.meters)
	return err
}

func (s *Store) packMeters(meters []store.MeterTotal) ([]byte, error) {
	packed := make([]byte, 0, 16*len(meters))
	for _, m := range meters {
		number, ok := s.dictionary.textNumber(string(m.Meter))
		if !ok {
			return nil, unnumbered(string(m.Meter))
		}
		packed = appendMeter(packed, packedMeter{int64(number), m.Quantity, int64(m.Cost)})
	}
	return packed, nil
}

type totalRow struct {
	Tenant, Per                     string
	Start                           time.Time
	Model                           int32
	Calls, Errors, Unpriced, Picods int64
	Meters                          []byte
}

// periodKey names one period of a tenant.
type periodKey struct {
	tenant string
	window store.Window
	start  time.Time
}

const selectPeriodTotals = `
SELECT t.tenant, t.start, t.per, t.model, t.calls, t.errors, t.unpriced, t.picods, t.meters
FROM unnest($1::text[], $2::timestamptz[], $3::text[]) AS g (tenant, start, per)
CROSS JOIN LATERAL (
	SELECT tenant, start, per, model, calls, errors, unpriced, (cost * 1000000000000)::bigint AS picods, meters
	FROM usage_totals
	WHERE tenant = g.tenant
	  AND start = g.start
	  AND per = g.per
	OFFSET 0) AS t`

// selectPeriods reads the totals of some periods.
func (s *Store) selectPeriods(ctx context.Context, q queryer, periods []periodKey) ([]*total, error) {
	if len(periods) == 0 {
		return nil, nil
	}
	tenants, pers, starts := make([]string, len(periods)), make([]string, len(periods)), make([]time.Time, len(periods))
	for i, p := range periods {
		tenants[i], pers[i], starts[i] = p.tenant, string(p.window), p.start
	}
	var rows []totalRow
	if err := q.SelectContext(ctx, &rows, selectPeriodTotals, tenants, starts, pers); err != nil {
		return nil, err
	}
	return s.totals(ctx, q, rows)
}

const selectTotals = `
SELECT tenant, start, per, model, calls, errors, unpriced, (cost * 1000000000000)::bigint AS picods, meters
FROM usage_totals
WHERE tenant = $1
  AND per = $2
  AND start >= $3
  AND start < $4`

// totals resolves the numbers of rows.
func (s *Store) totals(ctx context.Context, q queryer, rows []totalRow) (totals []*total, err error) {
	packed := make([][]packedMeter, len(rows))
	var texts, models []int32
	for i := range rows {
		if packed[i], err = unpackMeters(rows[i].Meters); err != nil {
			return nil, err
		}
		models = append(models, rows[i].Model)
		for _, m := range packed[i] {
			texts = append(texts, int32(m.meter))
		}
	}
	if err := s.readNumbers(ctx, q, texts, models); err != nil {
		return nil, err
	}
	totals = make([]*total, len(rows))
	for i := range rows {
		if totals[i], err = s.total(&rows[i], packed[i]); err != nil {
			return nil, err
		}
	}
	return totals, nil
}

func (s *Store) total(row *totalRow, packed []packedMeter) (*total, error) {
	name, ok := s.dictionary.model(row.Model)
	if !ok {
		return nil, dangling("model", row.Model)
	}
	meters := make([]store.MeterTotal, len(packed))
	for i, m := range packed {
		text, ok := s.dictionary.text(int32(m.meter))
		if !ok {
			return nil, dangling("text", int32(m.meter))
		}
		meters[i] = store.MeterTotal{Meter: store.Meter(text), Quantity: m.quantity, Cost: store.Money(m.cost)}
	}
	return &total{model: row.Model, Total: store.Total{
		TenantID: row.Tenant, Window: store.Window(row.Per), Start: row.Start.UTC(), Provider: name.Provider, Model: name.Name,
		Calls: row.Calls, Errors: row.Errors, Unpriced: row.Unpriced, Cost: store.Money(row.Picods), Meters: meters,
	}}, nil
}

// Totals implements store.Store.
func (s *Store) Totals(ctx context.Context, query store.TotalQuery) (totals []store.Total, err error) {
	err = s.read(ctx, "totals", func(q queryer) error {
		var rows []totalRow
		err := q.SelectContext(ctx, &rows, selectTotals, query.TenantID, string(query.Window), query.From, query.To)
		if err != nil {
			return err
		}
		resolved, err := s.totals(ctx, q, rows)
		totals = sorted(resolved)
		return err
	})
	return totals, err
}

func sorted(rows []*total) []store.Total {
	totals := make([]store.Total, len(rows))
	for i, row := range rows {
		totals[i] = row.Total
	}
	store.SortTotals(totals)
	return totals
}

// TenantTotals implements store.Store.
func (s *Store) TenantTotals(
	ctx context.Context, w store.Window, at time.Time, after string, limit int,
) (list []store.TenantTotals, err error) {
	err = s.read(ctx, "tenant totals", func(q queryer) error {
		tenants, err := listTenants(ctx, q, after, limit)
		if err != nil {
			return err
		}
		periods := make([]periodKey, len(tenants))
		for i, n := range tenants {
			periods[i] = periodKey{n.row.ID, w, n.calendar.Period(w, at).Start}
		}
		rows, err := s.selectPeriods(ctx, q, periods)
		if err != nil {
			return err
		}
		byTenant := make(map[string][]*total)
		for _, row := range rows {
			byTenant[row.TenantID] = append(byTenant[row.TenantID], row)
		}
		list = make([]store.TenantTotals, len(tenants))
		for i, n := range tenants {
			list[i] = store.TenantTotals{Tenant: n.row, Period: n.calendar.Period(w, at), Totals: sorted(byTenant[n.row.ID])}
		}
		return nil
	})
	return list, err
}
