package storesqlite

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/acf68eca/usage/store"
)

type alertRow struct {
	TenantID       string `db:"tenant_id"`
	ID             string
	Number         int64
	Kind           string
	Provider       string
	Model          string
	Meter          string
	Per            string
	Max            int64
	Percent        int
	PeriodStart    int64 `db:"period_start"`
	PeriodEnd      int64 `db:"period_end"`
	Used           int64
	Preexisting    bool
	Reason         string
	Status         string
	RaisedAt       int64 `db:"raised_at"`
	SentAt         int64 `db:"sent_at"`
	AcknowledgedAt int64 `db:"acknowledged_at"`
	ResolvedAt     int64 `db:"resolved_at"`
	ClaimedUntil   int64 `db:"claimed_until"`
}

func (r *alertRow) alert() *store.Alert {
	return &store.Alert{
		TenantID: r.TenantID, ID: r.ID, Number: r.Number,
		AlertKey: store.AlertKey{
			Kind: store.AlertKind(r.Kind), Provider: r.Provider, Model: r.Model, Meter: store.Meter(r.Meter),
			Per: store.Window(r.Per), Max: r.Max, Percent: r.Percent, PeriodStart: instant(r.PeriodStart),
		},
		PeriodEnd: instant(r.PeriodEnd), Used: r.Used, Preexisting: r.Preexisting, Reason: r.Reason,
		Status: store.AlertStatus(r.Status), RaisedAt: instant(r.RaisedAt), SentAt: instant(r.SentAt),
		AcknowledgedAt: instant(r.AcknowledgedAt), ResolvedAt: instant(r.ResolvedAt), ClaimedUntil: instant(r.ClaimedUntil),
	}
}

// judge asks what follows for a tenant from what was added, and stores it.
func (t *tx) judge(ctx context.Context, n *tenant, added []*store.Record, judge store.Judge) ([]store.Alert, error) {
	standing, err := t.standing(ctx, n, t.now)
	if err != nil {
		return nil, err
	}
	judgement := judge(standing, added)
	if err := t.setArrivals(n, judgement.Arrivals); err != nil {
		return nil, err
	}
	return t.raise(ctx, n, judgement.Alerts)
}

// raise stores the alerts that are new and returns them.
func (t *tx) raise(ctx context.Context, n *tenant, alerts []store.Alert) (raised []store.Alert, err error) {
	for _, alert := range alerts {
		alert = alert.Raise(n.row.ID, t.now)
		isNew, err := t.insertAlert(ctx, n, &alert)
		if err != nil {
			return nil, err
		}
		if isNew {
			raised = append(raised, alert)
			n.alerts = append(n.alerts, &alert)
		}
	}
	return raised, nil
}

const insertAlert = `
INSERT INTO usage_alerts (
	tenant, id, number, kind, provider, model, meter, per, max, percent,
	period_start, period_end, used, preexisting, reason, status, raised_at)
VALUES (
	?1, ?2, 1 + (SELECT count(*) FROM usage_alerts WHERE tenant = ?1),
	?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
ON CONFLICT DO NOTHING
RETURNING number`

// insertAlert gives a new alert its number; one that is there already is left alone.
func (t *tx) insertAlert(ctx context.Context, n *tenant, a *store.Alert) (isNew bool, err error) {
	err = t.GetContext(ctx, &a.Number, insertAlert, n.number, a.ID, a.Kind, a.Provider, a.Model, a.Meter, a.Per, a.Max,
		a.Percent, micros(a.PeriodStart), micros(a.PeriodEnd), a.Used, a.Preexisting, a.Reason, a.Status, micros(a.RaisedAt))
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

const selectTenantAlerts = `
SELECT '' AS tenant_id, id, number, kind, provider, model, meter, per, max, percent, period_start, period_end, used, preexisting,
       reason, status, raised_at, sent_at, acknowledged_at, resolved_at, claimed_until
FROM usage_alerts
WHERE tenant = ?
  AND period_end > ?
  AND period_start <= ?
ORDER BY raised_at, number`

// selectCurrentAlerts reads the alerts of the periods that contain an instant.
func selectCurrentAlerts(ctx context.Context, q queryer, n *tenant, at time.Time) ([]*store.Alert, error) {
	return selectAlertsBetween(ctx, q, n, micros(at), micros(at))
}

func selectAlertsBetween(ctx context.Context, q queryer, n *tenant, end, start int64) ([]*store.Alert, error) {
	var rows []alertRow
	if err := q.SelectContext(ctx, &rows, selectTenantAlerts, n.number, end, start); err != nil {
		return nil, err
	}
	alerts := make([]*store.Alert, len(rows))
	for i := range rows {
		rows[i].TenantID = n.row.ID
		alerts[i] = rows[i].alert()
	}
	return alerts, nil
}

// currentAlerts returns the tenant's alerts of the periods that contain an instant from the cache, which keeps all
// whose period ends after the instant it was filled at.
func (t *tx) currentAlerts(ctx context.Context, n *tenant, at time.Time) ([]*store.Alert, error) {
	if !n.read.alerts || at.Before(n.alertsFrom) {
		alerts, err := selectAlertsBetween(ctx, t, n, micros(at), math.MaxInt64)
		if err != nil {
			return nil, err
		}
		n.alerts, n.alertsFrom, n.read.alerts = alerts, at, true
	}
	n.alerts = slices.DeleteFunc(n.alerts, func(a *store.Alert) bool { return !at.Before(a.PeriodEnd) })
	n.alertsFrom = at
	current := make([]*store.Alert, 0, len(n.alerts))
	for _, a := range n.alerts {
		if !at.Before(a.PeriodStart) {
			current = append(current, a)
		}
	}
	return current, nil
}

const selectAlerts = `
SELECT t.id AS tenant_id, a.id, number, kind, provider, model, meter, per, max, percent, period_start, period_end, used,
       preexisting, reason, status, raised_at, sent_at, acknowledged_at, resolved_at, claimed_until
FROM usage_alerts AS a
JOIN usage_tenants AS t ON t.tenant = a.tenant
WHERE (?1 = '' OR a.tenant = (SELECT tenant FROM usage_tenants WHERE id = ?1))
  AND (?2 = '' OR kind = ?2)
  AND (?3 = '' OR status = ?3)
  AND (?4 = '' OR provider = ?4)
  AND raised_at >= ?5
  AND raised_at < ?6
  AND (raised_at > ?7 OR (t.id, number) > (?8, ?9))
ORDER BY raised_at, t.id, number
LIMIT ?10`

// Alerts implements store.Store.
func (s *Store) Alerts(ctx context.Context, query store.AlertQuery) (alerts []store.Alert, err error) {
	after := store.AlertPosition{}
	from := micros(query.From)
	if query.After != nil {
		after = *query.After
		from = max(from, micros(after.RaisedAt))
	}
	afterAt := int64(math.MinInt64) // nothing is at it, so the position does not narrow
	if query.After != nil {
		afterAt = micros(after.RaisedAt)
	}
	err = s.read(ctx, "alerts", func(q queryer) error {
		var rows []alertRow
		err := q.SelectContext(ctx, &rows, selectAlerts, query.TenantID, query.Kind, query.Status, query.Provider,
			from, upTo(query.To), afterAt, after.TenantID, after.Number, query.Limit)
		for i := range rows {
			alerts = append(alerts, *rows[i].alert())
		}
		return err
	})
	return alerts, err
}

// upTo is the bound that a zero time does not set.
func upTo(t time.Time) int64 {
	if t.IsZero() {
		return math.MaxInt64
	}
	return t.UnixMicro()
}

const claimAlerts = `
UPDATE usage_alerts
SET claimed_until = ?2
WHERE (tenant, id) IN (
	SELECT a.tenant, a.id
	FROM usage_alerts AS a
	JOIN usage_tenants AS t ON t.tenant = a.tenant
	WHERE status = 'pending'
	  AND claimed_until <= ?1
	ORDER BY raised_at, t.id, number
	LIMIT ?3)
RETURNING (SELECT t.id FROM usage_tenants AS t WHERE t.tenant = usage_alerts.tenant) AS tenant_id, id, number, kind,
	provider, model, meter, per, max, percent, period_start, period_end, used, preexisting, reason, status, raised_at, sent_at,
	acknowledged_at, resolved_at, claimed_until`

// ClaimAlerts implements store.Store.
func (s *Store) ClaimAlerts(ctx context.Context, now time.Time, lease time.Duration, limit int) (alerts []store.Alert, err error) {
	err = s.write(ctx, "claim alerts", now, func(t *tx) error {
		var rows []alertRow
		err := t.SelectContext(ctx, &rows, claimAlerts, micros(now), micros(now.Add(lease)), limit)
		if err != nil {
			return err
		}
		alerts = nil
		for i := range rows {
			alerts = append(alerts, *rows[i].alert())
		}
		store.SortAlerts(alerts)
		s.cache.forgetAlerts(alerts)
		return nil
	})
	return alerts, err
}

const selectAlert = `
SELECT ?1 AS tenant_id, id, number, kind, provider, model, meter, per, max, percent, period_start, period_end, used, preexisting,
       reason, status, raised_at, sent_at, acknowledged_at, resolved_at, claimed_until
FROM usage_alerts
WHERE tenant = (SELECT tenant FROM usage_tenants WHERE id = ?1)
  AND id = ?2`

const updateAlert = `
UPDATE usage_alerts
SET status = ?3,
    sent_at = ?4,
    acknowledged_at = ?5,
    resolved_at = ?6
WHERE tenant = (SELECT tenant FROM usage_tenants WHERE id = ?1)
  AND id = ?2`

// MarkAlert implements store.Store.
func (s *Store) MarkAlert(
	ctx context.Context, now time.Time, tenantID, id string, status store.AlertStatus,
) (alert store.Alert, err error) {
	err = s.write(ctx, "mark alert", now, func(t *tx) error {
		var row alertRow
		err := t.GetContext(ctx, &row, selectAlert, tenantID, id)
		if errors.Is(err, sql.ErrNoRows) {
			return store.ErrNotFound
		}
		if err != nil {
			return err
		}
		alert = *row.alert()
		if !alert.Status.Before(status) {
			return nil
		}
		alert = alert.Mark(status, now)
		s.cache.forgetAlerts([]store.Alert{alert})
		_, err = t.ExecContext(ctx, updateAlert, tenantID, id, alert.Status,
			micros(alert.SentAt), micros(alert.AcknowledgedAt), micros(alert.ResolvedAt))
		return err
	})
	return alert, err
}

// forgetAlerts makes the tenants' alerts be read again: their rows have changed.
func (c *cache) forgetAlerts(alerts []store.Alert) {
	for i := range alerts {
		if n, ok := c.tenants[alerts[i].TenantID]; ok {
			n.read.alerts = false
		}
	}
}
