package storepostgres

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/acf68eca/usage/internal/pack"
	"github.com/acf68eca/usage/store"
)

// totalLists are the arguments that write totals, one list for each column.
type totalLists struct {
	tenants                         []string
	starts                          []time.Time
	models                          []int32
	calls, errors, unpriced, picods []int64
	meters                          [][]byte
}

func (c *totalLists) add(row *total, s *Store) error {
	meters, err := s.packMeters(row.Meters)
	c.tenants, c.starts, c.models = append(c.tenants, row.TenantID), append(c.starts, row.Start), append(c.models, row.model)
	c.calls, c.errors, c.unpriced = append(c.calls, row.Calls), append(c.errors, row.Errors), append(c.unpriced, row.Unpriced)
	c.picods, c.meters = append(c.picods, int64(row.Cost)), append(c.meters, meters)
	return err
}

// changedTotals are the totals of the locked tenants that have changed, each once however many records changed it.
type changedTotals struct {
	months, lastDays       totalLists // months that have a row, and the last day of each
	newMonths, newLastDays totalLists // months that have none yet
	days                   totalLists // days with rows of their own
}

func (t *tx) changedTotals() (c changedTotals, err error) {
	var changed []*total
	for _, n := range t.tenants {
		changed = append(changed, n.dirty...)
		n.dirty = n.dirty[:0]
	}
	slices.SortFunc(changed, func(a, b *total) int { // neighbours in the table are written one after the other
		return cmp.Or(cmp.Compare(a.TenantID, b.TenantID), a.Start.Compare(b.Start), cmp.Compare(a.model, b.model))
	})
	for _, row := range changed {
		row.dirty = false
		if err = c.add(row, t.store); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c *changedTotals) add(row *total, s *Store) error {
	if row.Window == store.Day {
		return c.days.add(row, s)
	}
	months, lastDays := &c.months, &c.lastDays
	if !row.stored {
		months, lastDays, row.stored = &c.newMonths, &c.newLastDays, true
	}
	if err := months.add(row, s); err != nil {
		return err
	}
	return lastDays.add(row.lastDay, s)
}

// upsertDays writes days that are not, or no longer, the last of their month.
const upsertDays = `
INSERT INTO usage_days (tenant, start, model, calls, errors, unpriced, cost, meters)
SELECT g.tenant, g.start, g.model, g.calls, g.errors, g.unpriced, g.picodollars * 0.000000000001, g.meters
FROM unnest($1::text[], $2::timestamptz[], $3::integer[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bytea[])
	AS g (tenant, start, model, calls, errors, unpriced, picodollars, meters)
WHERE ` + ifDone + `
ON CONFLICT (tenant, start, model) DO UPDATE
SET calls = excluded.calls,
    errors = excluded.errors,
    unpriced = excluded.unpriced,
    cost = excluded.cost,
    meters = excluded.meters`

func (s *Store) packMeters(meters []store.MeterTotal) ([]byte, error) {
	packed := make([]byte, 0, 16*len(meters))
	for _, m := range meters {
		number, ok := s.dictionary.textNumber(string(m.Meter))
		if !ok {
			return nil, unnumbered(string(m.Meter))
		}
		packed = pack.AppendMeter(packed, pack.Meter{Meter: int64(number), Quantity: m.Quantity, Cost: int64(m.Cost)})
	}
	return packed, nil
}

type dayRow struct {
	Tenant                          string
	Start                           time.Time
	Model                           int32
	Calls, Errors, Unpriced, Picods int64
	Meters                          []byte
}

type monthRow struct {
	dayRow
	Day         time.Time
	DayCalls    int64  `db:"day_calls"`
	DayErrors   int64  `db:"day_errors"`
	DayUnpriced int64  `db:"day_unpriced"`
	DayPicods   int64  `db:"day_picods"`
	DayMeters   []byte `db:"day_meters"`
}

// day is the last day in a month.
func (r *monthRow) day() dayRow {
	return dayRow{r.Tenant, r.Day, r.Model, r.DayCalls, r.DayErrors, r.DayUnpriced, r.DayPicods, r.DayMeters}
}

// periodKey names one period of a tenant.
type periodKey struct {
	tenant string
	start  time.Time
}

func lists(keys []periodKey) (tenants []string, starts []time.Time) {
	tenants, starts = make([]string, len(keys)), make([]time.Time, len(keys))
	for i, key := range keys {
		tenants[i], starts[i] = key.tenant, key.start
	}
	return tenants, starts
}

// selectMonthsOf reads what of some months was written after a revision of their tenants; all has been after 0.
const selectMonthsOf = `
SELECT t.tenant, t.start, t.model, t.calls, t.errors, t.unpriced, t.picods, t.meters,
       t.day, t.day_calls, t.day_errors, t.day_unpriced, t.day_picods, t.day_meters
FROM unnest($1::text[], $2::timestamptz[], $3::bigint[]) AS g (tenant, start, revision)
CROSS JOIN LATERAL (
	SELECT tenant, start, model, calls, errors, unpriced, (cost * 1000000000000)::bigint AS picods, meters,
	       day, day_calls, day_errors, day_unpriced, (day_cost * 1000000000000)::bigint AS day_picods, day_meters
	FROM usage_months
	WHERE tenant = g.tenant
	  AND start = g.start
	  AND revision > g.revision
	OFFSET 0) AS t`

// selectMonths reads the totals of some months, each with the last day in it.
func (s *Store) selectMonths(ctx context.Context, q queryer, months []periodKey) ([]*total, error) {
	if len(months) == 0 {
		return nil, nil
	}
	var rows []monthRow
	tenants, starts := lists(months)
	if err := q.SelectContext(ctx, &rows, selectMonthsOf, tenants, starts, make([]int64, len(months))); err != nil {
		return nil, err
	}
	return s.months(ctx, q, rows)
}

const selectDaysOf = `
SELECT t.tenant, t.start, t.model, t.calls, t.errors, t.unpriced, t.picods, t.meters
FROM unnest($1::text[], $2::timestamptz[]) AS g (tenant, start)
CROSS JOIN LATERAL (
	SELECT tenant, start, model, calls, errors, unpriced, (cost * 1000000000000)::bigint AS picods, meters
	FROM usage_days
	WHERE tenant = g.tenant
	  AND start = g.start
	OFFSET 0) AS t`

// selectDays reads the totals of some days that have rows of their own: all but the last of a month.
func (s *Store) selectDays(ctx context.Context, q queryer, days []periodKey) ([]*total, error) {
	if len(days) == 0 {
		return nil, nil
	}
	var rows []dayRow
	tenants, starts := lists(days)
	if err := q.SelectContext(ctx, &rows, selectDaysOf, tenants, starts); err != nil {
		return nil, err
	}
	return s.totals(ctx, q, store.Day, rows)
}

// months resolves the numbers of rows.
func (s *Store) months(ctx context.Context, q queryer, rows []monthRow) ([]*total, error) {
	ofMonths, ofDays := make([]dayRow, len(rows)), make([]dayRow, len(rows))
	for i := range rows {
		ofMonths[i], ofDays[i] = rows[i].dayRow, rows[i].day()
	}
	months, err := s.totals(ctx, q, store.Month, ofMonths)
	if err != nil {
		return nil, err
	}
	days, err := s.totals(ctx, q, store.Day, ofDays)
	for i := range days {
		months[i].lastDay, months[i].stored = days[i], true
	}
	return months, err
}

// totals resolves the numbers of rows.
func (s *Store) totals(ctx context.Context, q queryer, w store.Window, rows []dayRow) (totals []*total, err error) {
	packed := make([][]pack.Meter, len(rows))
	var texts, models []int32
	for i := range rows {
		if packed[i], err = pack.ParseMeters(rows[i].Meters); err != nil {
			return nil, err
		}
		models = append(models, rows[i].Model)
		for _, m := range packed[i] {
			texts = append(texts, int32(m.Meter))
		}
	}
	if err := s.readNumbers(ctx, q, texts, models); err != nil {
		return nil, err
	}
	totals = make([]*total, len(rows))
	for i := range rows {
		if totals[i], err = s.total(w, &rows[i], packed[i]); err != nil {
			return nil, err
		}
	}
	return totals, nil
}

func (s *Store) total(w store.Window, row *dayRow, packed []pack.Meter) (*total, error) {
	name, ok := s.dictionary.model(row.Model)
	if !ok {
		return nil, dangling("model", row.Model)
	}
	meters := make([]store.MeterTotal, len(packed))
	for i, m := range packed {
		text, ok := s.dictionary.text(int32(m.Meter))
		if !ok {
			return nil, dangling("text", int32(m.Meter))
		}
		meters[i] = store.MeterTotal{Meter: store.Meter(text), Quantity: m.Quantity, Cost: store.Money(m.Cost)}
	}
	return &total{model: row.Model, Total: store.Total{
		TenantID: row.Tenant, Window: w, Start: row.Start.UTC(), Provider: name.Provider, Model: name.Name,
		Calls: row.Calls, Errors: row.Errors, Unpriced: row.Unpriced, Cost: store.Money(row.Picods), Meters: meters,
	}}, nil
}

const selectMonthRows = `
SELECT tenant, start, model, calls, errors, unpriced, (cost * 1000000000000)::bigint AS picods, meters,
       day, day_calls, day_errors, day_unpriced, (day_cost * 1000000000000)::bigint AS day_picods, day_meters
FROM usage_months
WHERE tenant = $1
  AND start >= COALESCE($2::timestamptz, '-infinity')
  AND start < COALESCE($3::timestamptz, 'infinity')`

const selectDayRows = `
SELECT tenant, start, model, calls, errors, unpriced, (cost * 1000000000000)::bigint AS picods, meters
FROM usage_days
WHERE tenant = $1
  AND start >= COALESCE($2::timestamptz, '-infinity')
  AND start < COALESCE($3::timestamptz, 'infinity')`

// longestMonth is longer than any month.
const longestMonth = 40 * 24 * time.Hour

// listTotals reads a tenant's totals of a window that start in [from, to), in order. A zero time is no bound.
func (s *Store) listTotals(ctx context.Context, q queryer, tenant string, w store.Window, from, to time.Time) ([]store.Total, error) {
	monthsFrom := timestamp(from)
	if w == store.Day && monthsFrom.Valid {
		monthsFrom.Time = from.Add(-longestMonth) // the last day of a month is in its row
	}
	var monthRows []monthRow
	if err := q.SelectContext(ctx, &monthRows, selectMonthRows, tenant, monthsFrom, timestamp(to)); err != nil {
		return nil, err
	}
	months, err := s.months(ctx, q, monthRows)
	if err != nil || w == store.Month {
		return sorted(months), err
	}
	var dayRows []dayRow
	if err := q.SelectContext(ctx, &dayRows, selectDayRows, tenant, timestamp(from), timestamp(to)); err != nil {
		return nil, err
	}
	days, err := s.totals(ctx, q, store.Day, dayRows)
	for _, month := range months {
		if start := month.lastDay.Start; (from.IsZero() || !start.Before(from)) && (to.IsZero() || start.Before(to)) {
			days = append(days, month.lastDay)
		}
	}
	return sorted(days), err
}

// Totals implements store.Store.
func (s *Store) Totals(ctx context.Context, query store.TotalQuery) (totals []store.Total, err error) {
	err = s.read(ctx, "totals", func(q queryer) error {
		totals, err = s.listTotals(ctx, q, query.TenantID, query.Window, query.From, query.To)
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
		byTenant, err := s.totalsAt(ctx, q, w, at, tenants)
		if err != nil {
			return err
		}
		list = make([]store.TenantTotals, len(tenants))
		for i, n := range tenants {
			list[i] = store.TenantTotals{Tenant: n.row, Period: n.calendar.Period(w, at), Totals: sorted(byTenant[n.row.ID])}
		}
		return nil
	})
	return list, err
}

// totalsAt reads the totals of each tenant's own period that contains an instant.
func (s *Store) totalsAt(
	ctx context.Context, q queryer, w store.Window, at time.Time, tenants []*tenant,
) (map[string][]*total, error) {
	months, days := make([]periodKey, len(tenants)), make([]periodKey, len(tenants))
	dayOf := make(map[string]time.Time, len(tenants))
	for i, n := range tenants {
		months[i], days[i] = periodKey{n.row.ID, n.calendar.Month(at).Start}, periodKey{n.row.ID, n.calendar.Day(at).Start}
		dayOf[n.row.ID] = days[i].start
	}
	byTenant := make(map[string][]*total, len(tenants))
	rows, err := s.selectMonths(ctx, q, months)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if w == store.Month {
			byTenant[row.TenantID] = append(byTenant[row.TenantID], row)
		} else if row.lastDay.Start.Equal(dayOf[row.TenantID]) {
			byTenant[row.TenantID] = append(byTenant[row.TenantID], row.lastDay)
		}
	}
	if w == store.Month {
		return byTenant, nil
	}
	rows, err = s.selectDays(ctx, q, days)
	for _, row := range rows {
		byTenant[row.TenantID] = append(byTenant[row.TenantID], row)
	}
	return byTenant, err
}
