package storesqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/acf68eca/usage/internal/held"
	"github.com/acf68eca/usage/store"
)

type tenantRow struct {
	Tenant     int64
	ID         string
	Name       string
	TimeZone   string `db:"time_zone"`
	BillingDay int    `db:"billing_day"`
	Contacts   string
	Suspended  string
	Quota      string
	Horizon    int64
	CreatedAt  int64 `db:"created_at"`
}

// tenant unpacks a row.
func (r *tenantRow) tenant() (*tenant, error) {
	n := &tenant{number: r.Tenant, months: make(map[int64]*period), row: store.Tenant{
		ID: r.ID, Name: r.Name, TimeZone: r.TimeZone, BillingDay: r.BillingDay,
		Suspended: r.Suspended, Horizon: instant(r.Horizon), CreatedAt: instant(r.CreatedAt),
	}}
	if err := json.Unmarshal([]byte(r.Contacts), &n.row.Contacts); err != nil {
		return nil, fmt.Errorf("contacts of tenant %q: %w: %w", r.ID, store.ErrCorrupt, err)
	}
	if r.Quota != "" {
		if err := json.Unmarshal([]byte(r.Quota), &n.quota); err != nil {
			return nil, fmt.Errorf("quota of tenant %q: %w: %w", r.ID, store.ErrCorrupt, err)
		}
	}
	n.quota.TenantID = r.ID
	calendar, err := n.row.Calendar()
	if err != nil { // nor is it the fault of a call where only this machine does not know the zone
		return nil, fmt.Errorf("calendar of tenant %q: %w: %v", r.ID, store.ErrCorrupt, err) //nolint:errorlint // err is ErrInvalid
	}
	n.calendar = calendar
	return n, nil
}

// newTenant is what the store takes an unknown tenant for.
func newTenant(id string) store.Tenant {
	return store.Tenant{ID: id, Name: id, TimeZone: "UTC", BillingDay: 1}
}

const selectTenant = `
SELECT tenant, id, name, time_zone, billing_day, contacts, suspended, quota, horizon, created_at
FROM usage_tenants
WHERE id = ?`

// getTenant returns nil when there is no such tenant.
func getTenant(ctx context.Context, q queryer, id string) (*tenantRow, error) {
	row := new(tenantRow)
	err := q.GetContext(ctx, row, selectTenant, id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return row, err
}

// readTenant returns a tenant from a snapshot; an unknown one has the defaults and the number 0, which no row has.
func readTenant(ctx context.Context, q queryer, id string) (*tenant, error) {
	row, err := getTenant(ctx, q, id)
	if err != nil {
		return nil, err
	}
	if row == nil {
		return &tenant{row: newTenant(id), quota: store.Quota{TenantID: id}}, nil
	}
	return row.tenant()
}

const insertTenant = `
INSERT INTO usage_tenants (id, name, time_zone, billing_day, contacts, suspended, quota, created_at)
VALUES (?, ?, 'UTC', 1, 'null', '', '', ?)`

func (t *tx) createTenant(ctx context.Context, id string) (*tenantRow, error) {
	if _, err := t.ExecContext(ctx, insertTenant, id, id, micros(t.now)); err != nil {
		return nil, err
	}
	return getTenant(ctx, t, id)
}

const selectTenants = `
SELECT tenant, id, name, time_zone, billing_day, contacts, suspended, quota, horizon, created_at
FROM usage_tenants
WHERE id > ?
ORDER BY id
LIMIT ?`

func listTenants(ctx context.Context, q queryer, after string, limit int) (rows []tenantRow, err error) {
	err = q.SelectContext(ctx, &rows, selectTenants, after, limit)
	return rows, err
}

// Tenants implements store.Store.
func (s *Store) Tenants(ctx context.Context, after string, limit int) (tenants []store.Tenant, err error) {
	err = s.read(ctx, "tenants", func(q queryer) error {
		rows, err := listTenants(ctx, q, after, limit)
		if err != nil {
			return err
		}
		for i := range rows {
			n, err := rows[i].tenant()
			if err != nil {
				return err
			}
			tenants = append(tenants, n.row)
		}
		return nil
	})
	return tenants, err
}

const updateTenant = `
UPDATE usage_tenants
SET name = ?,
    time_zone = ?,
    billing_day = ?,
    contacts = ?
WHERE tenant = ?`

// SetTenant implements store.Store.
func (s *Store) SetTenant(ctx context.Context, now time.Time, row store.Tenant) error {
	contacts, err := json.Marshal(row.Contacts)
	if err != nil {
		return wrap("set tenant", err)
	}
	if _, err := row.Calendar(); err != nil {
		return wrap("set tenant", err)
	}
	return s.write(ctx, "set tenant", now, func(t *tx) error {
		n, err := t.tenant(ctx, row.ID)
		if err != nil {
			return err
		}
		_, err = t.ExecContext(ctx, updateTenant, row.Name, row.TimeZone, row.BillingDay, string(contacts), n.number)
		if err != nil {
			return err
		}
		moved := row.TimeZone != n.row.TimeZone || row.BillingDay != n.row.BillingDay
		if n, err = t.reload(ctx, row.ID); err != nil || !moved {
			return err
		}
		return t.rebuild(ctx, n)
	})
}

// reload forgets what is cached of a tenant.
func (t *tx) reload(ctx context.Context, id string) (*tenant, error) {
	delete(t.store.cache.tenants, id)
	return t.tenant(ctx, id)
}

const updateSuspended = `
UPDATE usage_tenants
SET suspended = ?
WHERE tenant = ?`

// Suspend implements store.Store.
func (s *Store) Suspend(ctx context.Context, now time.Time, tenantID, reason string) error {
	return s.write(ctx, "suspend", now, func(t *tx) error {
		n, err := t.tenant(ctx, tenantID)
		if err != nil {
			return err
		}
		n.row.Suspended = reason
		_, err = t.ExecContext(ctx, updateSuspended, reason, n.number)
		return err
	})
}

const updateQuota = `
UPDATE usage_tenants
SET quota = ?
WHERE tenant = ?`

// SetQuota implements store.Store.
func (s *Store) SetQuota(ctx context.Context, now time.Time, quota store.Quota, judge store.Judge) (alerts []store.Alert, err error) {
	packed, err := json.Marshal(quota)
	if err != nil {
		return nil, wrap("set quota", err)
	}
	err = s.write(ctx, "set quota", now, func(t *tx) error {
		n, err := t.tenant(ctx, quota.TenantID)
		if err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, updateQuota, string(packed), n.number); err != nil {
			return err
		}
		n.quota = quota
		alerts, err = t.judge(ctx, n, nil, judge)
		return err
	})
	return alerts, err
}

// Standing implements store.Store.
func (s *Store) Standing(ctx context.Context, tenantID string, at time.Time) (standing store.Standing, err error) {
	err = s.read(ctx, "standing", func(q queryer) error {
		n, err := readTenant(ctx, q, tenantID)
		if err != nil {
			return err
		}
		standing, err = s.standing(ctx, q, n, at)
		return err
	})
	return standing, err
}

// standing reads what tx.standing has cached.
func (s *Store) standing(ctx context.Context, q queryer, n *tenant, at time.Time) (store.Standing, error) {
	standing := store.Standing{
		Tenant: n.row, Quota: n.quota, At: at, Month: n.calendar.Month(at), Day: n.calendar.Day(at),
	}
	if n.number == 0 {
		return standing, nil
	}
	months, err := s.selectMonths(ctx, q, n, standing.Month.Start.UnixMicro(), standing.Month.End.UnixMicro())
	if err != nil {
		return standing, err
	}
	days, err := s.selectDays(ctx, q, n, standing.Day.Start.UnixMicro(), standing.Day.End.UnixMicro())
	if err != nil {
		return standing, err
	}
	for _, month := range months {
		standing.MonthTotals = append(standing.MonthTotals, &month.Total)
	}
	for _, day := range days {
		standing.DayTotals = append(standing.DayTotals, &day.Total)
	}
	if standing.Holds, err = s.selectHolds(ctx, q, n, at); err != nil {
		return standing, err
	}
	var holds held.Holds
	holds.Reset(at)
	for _, hold := range standing.Holds {
		holds.Add(hold)
	}
	standing.Held, standing.HeldUntil = holds.Totals(), holds.Until()
	if standing.Arrivals, err = selectArrivals(ctx, q, n); err != nil {
		return standing, err
	}
	standing.Alerts, err = selectCurrentAlerts(ctx, q, n, at)
	return standing, err
}
