package storepostgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/acf68eca/usage/internal/held"
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
	if err != nil { // nor is it the fault of a call where only this machine does not know the zone
		return nil, fmt.Errorf("calendar of tenant %q: %w: %v", r.Tenant, store.ErrCorrupt, err) //nolint:errorlint // err is ErrInvalid
	}
	n.calendar = calendar
	return n, nil
}

// newTenant is what the store takes an unknown tenant for.
func newTenant(id string) store.Tenant {
	return store.Tenant{ID: id, Name: id, TimeZone: "UTC", BillingDay: 1}
}

// lockTenants locks rows in the order of their ids, made first where they do not exist and $4 says so, and gives them a
// new version. $5 says for which of them holds will be traced.
const lockTenants = `
INSERT INTO usage_tenants AS t (
	tenant, name, time_zone, billing_day, suspended, created_at, version, previous, settings, revision, untraced)
SELECT g.tenant, g.tenant, 'UTC', 1, '', $2::timestamptz, $3::bigint, 0, $3, 1, CASE WHEN g.traced THEN 0 ELSE 1 END
FROM unnest($1::text[], $5::boolean[]) AS g (tenant, traced)
WHERE $4::boolean
   OR (SELECT k.version FROM usage_tenants AS k WHERE k.tenant = g.tenant) IS NOT NULL
ORDER BY g.tenant COLLATE "C"
ON CONFLICT (tenant) DO UPDATE
SET version = excluded.version,
    previous = t.version,
    revision = t.revision + 1,
    untraced = CASE excluded.untraced WHEN 0 THEN t.untraced ELSE t.revision + 1 END
RETURNING tenant, previous, settings, revision, untraced, pg_current_xact_id()::text::bigint AS number,
	(SELECT ` + serverName + `) AS server`

// selectLocked reads the rows of tenants that the same transaction has locked: those whose settings are not remembered, or
// others than that.
const selectLocked = `
SELECT t.tenant, t.name, t.time_zone, t.billing_day, COALESCE(t.contacts::text, 'null') AS contacts, t.suspended,
       COALESCE(t.quota::text, '{}') AS quota, t.horizon, t.created_at
FROM unnest($1::text[], $2::bigint[]) AS g (tenant, settings)
JOIN usage_tenants AS t ON t.tenant = g.tenant AND t.settings <> g.settings`

type lockedRow struct {
	Tenant                                         string
	Previous, Settings, Revision, Untraced, Number int64
	Server                                         string
}

// lock locks the tenants of a change and remembers them in t.tenants; those that do not exist are made if the change says
// so, and left out if not.
func (t *tx) lock(ctx context.Context, c *change) error {
	if t.quick {
		t.tenants = t.claimed
		if len(t.claimed) < len(c.tenants) {
			return errAsk
		}
		return nil
	}
	t.tenants = make(map[string]*tenant, len(c.tenants))
	t.queue(nil, "BEGIN ISOLATION LEVEL READ COMMITTED")
	t.queue(nil, selectSettings)
	if len(c.tenants) == 0 {
		return t.send(ctx)
	}
	var locked []lockedRow
	var rows []tenantRow
	version := newVersion()
	t.queue(&locked, lockTenants, c.tenants, t.now, version, c.create, t.traced(c.tenants))
	t.queue(&rows, selectLocked, c.tenants, t.remembered(c.tenants, func(n *tenant) int64 { return n.settings }))
	ahead := t.ask(c)
	if err := t.send(ctx); err != nil {
		return err
	}
	if err := t.remember(version, locked, rows, ahead != nil); err != nil || ahead == nil {
		return err
	}
	return t.put(ctx, ahead)
}

// ask asks for what the change does, and where what is remembered has mostly been changed by others, for that too.
func (t *tx) ask(c *change) *reading {
	if c.ask == nil {
		return nil
	}
	c.ask(t)
	if t.store.alone.Load() {
		return nil
	}
	for _, n := range t.claimed {
		n.outdate()
	}
	return t.queueMissing(t.claimed, c.instants)
}

// traced says of which tenants the holds that are written will say under which revision.
func (t *tx) traced(ids []string) []bool {
	traced := make([]bool, len(ids))
	for i, id := range ids {
		n := t.claimed[id]
		traced[i] = n != nil && n.hasManyHolds() || t.many[id]
	}
	return traced
}

// remembered are the versions that what is remembered of tenants is of.
func (t *tx) remembered(ids []string, version func(*tenant) int64) []int64 {
	versions := make([]int64, len(ids))
	for i, id := range ids {
		versions[i] = -1 // of no row
		if n := t.claimed[id]; n != nil {
			versions[i] = version(n)
		}
	}
	return versions
}

// remember takes what is remembered of locked tenants: all of it where nobody has written for them since, what is to be read
// again where somebody has, and in place of both their rows where those have changed. What is being read stays.
func (t *tx) remember(version int64, locked []lockedRow, rows []tenantRow, reading bool) error {
	changed := make(map[string]*tenant, len(rows))
	for i := range rows {
		n, err := rows[i].tenant()
		if err != nil {
			return err
		}
		changed[n.row.ID] = n
	}
	alone := !t.refused // after that, nothing is remembered that could show it
	for _, row := range locked {
		if t.number = row.Number; !t.store.sameServer(t, row.Server) {
			return errAgain
		}
		n, known := t.claimed[row.Tenant]
		if known && n.version != row.Previous {
			if !reading {
				n.outdate()
			}
			alone = false
		}
		if now := changed[row.Tenant]; now != nil {
			n = now
		}
		if n == nil {
			return fmt.Errorf("tenant %q has no row: %w", row.Tenant, store.ErrCorrupt)
		}
		n.version, n.server, n.settings, n.revision, n.untraced = version, t.server, row.Settings, row.Revision, row.Untraced
		t.tenants[row.Tenant], t.witness = n, witness{kind: versionWitness, tenantID: row.Tenant}
	}
	t.store.alone.Store(alone)
	return nil
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
    contacts = $5::text::jsonb,
    settings = version
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
	apply := func(t *tx) error {
		n := t.tenants[row.ID]
		n.stale = true
		_, err := t.ExecContext(ctx, updateTenant, row.ID, row.Name, row.TimeZone, row.BillingDay, string(contacts))
		if err != nil || row.TimeZone == n.row.TimeZone && row.BillingDay == n.row.BillingDay {
			return err
		}
		n.calendar = calendar
		return t.rebuild(ctx, n)
	}
	return s.write(ctx, change{op: "set tenant", now: now, tenants: []string{row.ID}, create: true, once: true, apply: apply})
}

const updateSuspended = `
UPDATE usage_tenants
SET suspended = $2,
    settings = version
WHERE tenant = $1`

// Suspend implements store.Store.
func (s *Store) Suspend(ctx context.Context, now time.Time, tenantID, reason string) error {
	apply := func(t *tx) error {
		n := t.tenants[tenantID]
		n.row.Suspended, n.settings = reason, n.version
		_, err := t.ExecContext(ctx, updateSuspended, tenantID, reason)
		return err
	}
	return s.write(ctx, change{op: "suspend", now: now, tenants: []string{tenantID}, create: true, once: true, apply: apply})
}

const updateQuota = `
UPDATE usage_tenants
SET quota = $2::text::jsonb,
    settings = version
WHERE tenant = $1`

// SetQuota implements store.Store.
func (s *Store) SetQuota(ctx context.Context, now time.Time, quota store.Quota, judge store.Judge) (alerts []store.Alert, err error) {
	packed, err := json.Marshal(quota)
	if err != nil {
		return nil, wrap("set quota", err)
	}
	apply := func(t *tx) error {
		n := t.tenants[quota.TenantID]
		if _, err := t.ExecContext(ctx, updateQuota, quota.TenantID, string(packed)); err != nil {
			return err
		}
		n.quota, n.settings = quota, n.version
		n.quota.Limits, n.quota.AlertPercents = slices.Clone(quota.Limits), slices.Clone(quota.AlertPercents)
		if err := t.load(ctx, nil); err != nil {
			return err
		}
		raised, err := t.judge(ctx, []judged{{tenant: n}}, judge)
		if err == nil {
			alerts = raised[0]
		}
		return err
	}
	err = s.write(ctx, change{op: "set quota", now: now, tenants: []string{quota.TenantID}, create: true, once: true, apply: apply})
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
	var holds held.Holds
	holds.Reset(standing.At)
	for _, hold := range standing.Holds {
		holds.Add(hold)
	}
	standing.Held, standing.HeldUntil = holds.Totals(), holds.Until()
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
