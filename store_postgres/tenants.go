package storepostgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/acf68eca/usage/store"
)

type tenantRow struct {
	Tenant     string
	Name       string
	TimeZone   string `db:"time_zone"`
	BillingDay int    `db:"billing_day"`
	Contacts   string
	Suspended  string
	Quota      string
	Horizon    sql.NullTime
	CreatedAt  time.Time `db:"created_at"`
}

// tenant unpacks a row.
func (r *tenantRow) tenant() (*tenant, error) {
	n := &tenant{months: make(map[int64]*period), row: store.Tenant{
		ID: r.Tenant, Name: r.Name, TimeZone: r.TimeZone, BillingDay: r.BillingDay,
		Suspended: r.Suspended, Horizon: instant(r.Horizon), CreatedAt: r.CreatedAt.UTC(),
	}}
	if err := json.Unmarshal([]byte(r.Contacts), &n.row.Contacts); err != nil {
		return nil, fmt.Errorf("contacts of tenant %q: %w: %w", r.Tenant, store.ErrCorrupt, err)
	}
	if err := json.Unmarshal([]byte(r.Quota), &n.quota); err != nil {
		return nil, fmt.Errorf("quota of tenant %q: %w: %w", r.Tenant, store.ErrCorrupt, err)
	}
	n.quota.TenantID = r.Tenant
	calendar, err := n.row.Calendar()
	n.calendar = calendar
	return n, err
}

// newTenant is what the store takes an unknown tenant for.
func newTenant(id string) store.Tenant {
	return store.Tenant{ID: id, Name: id, TimeZone: "UTC", BillingDay: 1}
}

// lockTenants locks rows in the order of their ids, made first where they do not exist and $4 says so, and gives them a
// new version. It also sees to it that the commit is synced to disk where the server's setting would not, and that
// statements with names are not planned anew for each batch: their plans do not depend on how long the lists are.
const lockTenants = `
INSERT INTO usage_tenants AS t (tenant, name, time_zone, billing_day, suspended, created_at, version, previous)
SELECT g.tenant, g.tenant, 'UTC', 1, '', $2::timestamptz, $3::bigint, 0
FROM unnest($1::text[]) AS g (tenant)
WHERE $4::boolean
   OR (SELECT k.version FROM usage_tenants AS k WHERE k.tenant = g.tenant) IS NOT NULL
ORDER BY g.tenant COLLATE "C"
ON CONFLICT (tenant) DO UPDATE
SET version = excluded.version,
    previous = t.version
RETURNING tenant, previous, pg_current_xact_id()::text::bigint AS number,
	(SELECT pg_postmaster_start_time()::text || ' ' || 'usage_texts'::regclass::oid) AS server,
	(SELECT set_config('plan_cache_mode', 'force_generic_plan', true) || set_config('synchronous_commit',
		CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END,
		true)) AS settings`

const selectTenantsByID = `
SELECT tenant, name, time_zone, billing_day, COALESCE(contacts::text, 'null') AS contacts, suspended,
       COALESCE(quota::text, '{}') AS quota, horizon, created_at
FROM usage_tenants
WHERE tenant = ANY ($1::text[])`

// lock locks tenants and remembers them in t.tenants; those that do not exist are made if create says so, and left out
// if not. It is called once, first of all.
func (t *tx) lock(ctx context.Context, ids []string, create bool) error {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	var locked []struct {
		Tenant           string
		Previous, Number int64
		Server, Settings string
	}
	version := newVersion()
	if err := t.SelectContext(ctx, &locked, lockTenants, ids, t.now, version, create); err != nil {
		return err
	}
	t.tenants = make(map[string]*tenant, len(locked))
	var unknown []string
	for _, row := range locked {
		if t.number = row.Number; !t.store.sameServer(t, row.Server) {
			return errAgain
		}
		if n := t.store.cache.take(row.Tenant, row.Previous); n != nil {
			n.version = version
			t.tenants[row.Tenant] = n
		} else {
			unknown = append(unknown, row.Tenant)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	var rows []tenantRow
	if err := t.SelectContext(ctx, &rows, selectTenantsByID, unknown); err != nil {
		return err
	}
	for i := range rows {
		n, err := rows[i].tenant()
		if err != nil {
			return err
		}
		n.version = version
		t.tenants[rows[i].Tenant] = n
	}
	return nil
}

// lockOne locks one tenant, made when it does not exist and create says so; nil when there is none.
func (t *tx) lockOne(ctx context.Context, id string, create bool) (*tenant, error) {
	err := t.lock(ctx, []string{id}, create)
	return t.tenants[id], err
}

const selectTenant = `
SELECT tenant, name, time_zone, billing_day, COALESCE(contacts::text, 'null') AS contacts, suspended,
       COALESCE(quota::text, '{}') AS quota, horizon, created_at
FROM usage_tenants
WHERE tenant = $1`

// readTenant returns a tenant from a snapshot, and whether it exists; an unknown one has the defaults.
func readTenant(ctx context.Context, q queryer, id string) (n *tenant, exists bool, err error) {
	var row tenantRow
	err = q.GetContext(ctx, &row, selectTenant, id)
	if errors.Is(err, sql.ErrNoRows) {
		return &tenant{row: newTenant(id), quota: store.Quota{TenantID: id}}, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	n, err = row.tenant()
	return n, true, err
}

const selectTenants = `
SELECT tenant, name, time_zone, billing_day, COALESCE(contacts::text, 'null') AS contacts, suspended,
       COALESCE(quota::text, '{}') AS quota, horizon, created_at
FROM usage_tenants
WHERE tenant > $1
ORDER BY tenant
LIMIT $2`

func listTenants(ctx context.Context, q queryer, after string, limit int) (tenants []*tenant, err error) {
	var rows []tenantRow
	if err := q.SelectContext(ctx, &rows, selectTenants, after, limit); err != nil {
		return nil, err
	}
	tenants = make([]*tenant, len(rows))
	for i := range rows {
		if tenants[i], err = rows[i].tenant(); err != nil {
			return nil, err
		}
	}
	return tenants, nil
}

// Tenants implements store.Store.
func (s *Store) Tenants(ctx context.Context, after string, limit int) (tenants []store.Tenant, err error) {
	err = s.read(ctx, "tenants", func(q queryer) error {
		rows, err := listTenants(ctx, q, after, limit)
		tenants = make([]store.Tenant, len(rows))
		for i, n := range rows {
			tenants[i] = n.row
		}
		return err
	})
	return tenants, err
}

const updateTenant = `
UPDATE usage_tenants
SET name = $2,
    time_zone = $3,
    billing_day = $4,
    contacts = $5::text::jsonb
WHERE tenant = $1`

// SetTenant implements store.Store.
func (s *Store) SetTenant(ctx context.Context, now time.Time, row store.Tenant) error {
	contacts, err := json.Marshal(row.Contacts)
	if err != nil {
		return wrap("set tenant", err)
	}
	calendar, err := row.Calendar()
	if err != nil {
		return wrap("set tenant", err)
	}
	return s.write(ctx, "set tenant", now, func(t *tx) error {
		n, err := t.lockOne(ctx, row.ID, true)
		if err != nil {
			return err
		}
		n.stale = true
		_, err = t.ExecContext(ctx, updateTenant, row.ID, row.Name, row.TimeZone, row.BillingDay, string(contacts))
		if err != nil || row.TimeZone == n.row.TimeZone && row.BillingDay == n.row.BillingDay {
			return err
		}
		n.calendar = calendar
		return t.rebuild(ctx, n)
	}, nil)
}

const updateSuspended = `
UPDATE usage_tenants
SET suspended = $2
WHERE tenant = $1`

// Suspend implements store.Store.
func (s *Store) Suspend(ctx context.Context, now time.Time, tenantID, reason string) error {
	return s.write(ctx, "suspend", now, func(t *tx) error {
		n, err := t.lockOne(ctx, tenantID, true)
		if err != nil {
			return err
		}
		n.row.Suspended = reason
		_, err = t.ExecContext(ctx, updateSuspended, tenantID, reason)
		return err
	}, nil)
}

const updateQuota = `
UPDATE usage_tenants
SET quota = $2::text::jsonb
WHERE tenant = $1`

// SetQuota implements store.Store.
func (s *Store) SetQuota(ctx context.Context, now time.Time, quota store.Quota, judge store.Judge) (alerts []store.Alert, err error) {
	packed, err := json.Marshal(quota)
	if err != nil {
		return nil, wrap("set quota", err)
	}
	err = s.write(ctx, "set quota", now, func(t *tx) error {
		n, err := t.lockOne(ctx, quota.TenantID, true)
		if err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, updateQuota, quota.TenantID, string(packed)); err != nil {
			return err
		}
		n.quota = quota
		n.quota.Limits, n.quota.AlertPercents = slices.Clone(quota.Limits), slices.Clone(quota.AlertPercents)
		if err := t.load(ctx, nil); err != nil {
			return err
		}
		raised, err := t.judge(ctx, []judged{{tenant: n}}, judge)
		if err == nil {
			alerts = raised[0]
		}
		return err
	}, nil)
	return alerts, err
}

// Standing implements store.Store.
func (s *Store) Standing(ctx context.Context, tenantID string, at time.Time) (standing store.Standing, err error) {
	err = s.read(ctx, "standing", func(q queryer) error {
		n, exists, err := readTenant(ctx, q, tenantID)
		if err != nil {
			return err
		}
		standing = store.Standing{
			Tenant: n.row, Quota: n.quota, At: at, Month: n.calendar.Month(at), Day: n.calendar.Day(at),
		}
		if !exists {
			return nil
		}
		return s.standing(ctx, q, &standing)
	})
	return standing, err
}

// standing reads what tx.standing has cached.
func (s *Store) standing(ctx context.Context, q queryer, standing *store.Standing) error {
	id := standing.Tenant.ID
	months, err := s.selectMonths(ctx, q, []periodKey{{id, standing.Month.Start}})
	if err != nil {
		return err
	}
	days, err := s.selectDays(ctx, q, []periodKey{{id, standing.Day.Start}})
	if err != nil {
		return err
	}
	for _, month := range months {
		standing.MonthTotals = append(standing.MonthTotals, &month.Total)
		if month.lastDay.Start.Equal(standing.Day.Start) {
			days = append(days, month.lastDay)
		}
	}
	for _, day := range days {
		standing.DayTotals = append(standing.DayTotals, &day.Total)
	}
	if standing.Holds, err = s.selectHolds(ctx, q, []string{id}, standing.At); err != nil {
		return err
	}
	holds := newLiveHolds(standing.At)
	for _, hold := range standing.Holds {
		holds.add(hold)
	}
	standing.Held, standing.HeldUntil = holds.sums.Totals(), holds.until()
	if standing.Quota.HasRates() {
		rows, err := selectArrivals(ctx, q, []string{id})
		if err != nil {
			return err
		}
		for i := range rows {
			standing.Arrivals = append(standing.Arrivals, rows[i].arrival())
		}
	}
	standing.Alerts, err = selectAlertsBetween(ctx, q, []string{id}, standing.At, sql.NullTime{Time: standing.At, Valid: true})
	return err
}
