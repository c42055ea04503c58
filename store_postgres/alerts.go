package storepostgres

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/acf68eca/usage/store"
)

type alertRow struct {
	Tenant         string
	ID             string
	Number         int64
	Kind           string
	Provider       string
	Model          string
	Meter          string
	Per            string
	Max            int64
	Percent        int
	PeriodStart    time.Time `db:"period_start"`
	PeriodEnd      time.Time `db:"period_end"`
	Used           int64
	Preexisting    bool
	Reason         string
	Status         string
	RaisedAt       time.Time    `db:"raised_at"`
	SentAt         sql.NullTime `db:"sent_at"`
	AcknowledgedAt sql.NullTime `db:"acknowledged_at"`
	ResolvedAt     sql.NullTime `db:"resolved_at"`
	ClaimedUntil   sql.NullTime `db:"claimed_until"`
}

func (r *alertRow) alert() *store.Alert {
	return &store.Alert{
		TenantID: r.Tenant, ID: r.ID, Number: r.Number,
		AlertKey: store.AlertKey{
			Kind: store.AlertKind(r.Kind), Provider: r.Provider, Model: r.Model, Meter: store.Meter(r.Meter),
			Per: store.Window(r.Per), Max: r.Max, Percent: r.Percent, PeriodStart: r.PeriodStart.UTC(),
		},
		PeriodEnd: r.PeriodEnd.UTC(), Used: r.Used, Preexisting: r.Preexisting, Reason: r.Reason,
		Status: store.AlertStatus(r.Status), RaisedAt: r.RaisedAt.UTC(), SentAt: instant(r.SentAt),
		AcknowledgedAt: instant(r.AcknowledgedAt), ResolvedAt: instant(r.ResolvedAt), ClaimedUntil: instant(r.ClaimedUntil),
	}
}

// instant and timestamp convert between columns and times; the zero time is NULL.
func instant(t sql.NullTime) time.Time {
	if !t.Valid {
		return time.Time{}
	}
	return t.Time.UTC()
}

func timestamp(t time.Time) sql.NullTime { return sql.NullTime{Time: t, Valid: !t.IsZero()} }

// judged is a tenant to be judged after some records were added.
type judged struct {
	tenant *tenant
	added  []*store.Record
}

// judge asks what follows for each tenant, and stores the arrivals and those alerts that are new.
func (t *tx) judge(ctx context.Context, tenants []judged, judge store.Judge) (raised [][]store.Alert, err error) {
	var asked []alertAsked
	for i, j := range tenants {
		judgement := judge(t.standing(j.tenant), j.added)
		t.setArrivals(j.tenant, judgement.Arrivals)
		for _, alert := range judgement.Alerts {
			asked = append(asked, alertAsked{alert.Raise(j.tenant.row.ID, t.now), i})
		}
	}
	return t.raise(ctx, asked, len(tenants))
}

// alertAsked is an alert and what it is of: the number of a tenant or hold.
type alertAsked struct {
	store.Alert
	of int
}

// raise stores the alerts that are new, all in one statement, and returns them by what they are of, below n.
func (t *tx) raise(ctx context.Context, asked []alertAsked, n int) ([][]store.Alert, error) {
	raised := make([][]store.Alert, n)
	if len(asked) == 0 {
		return raised, nil
	}
	seen := make(map[string]bool, len(asked))
	asked = slices.DeleteFunc(asked, func(a alertAsked) bool {
		again := seen[a.ID] // the id is made from the tenant's too
		seen[a.ID] = true
		return again
	})
	numbers, err := t.insertAlerts(ctx, asked)
	for i := range asked {
		alert := &asked[i].Alert
		if number, isNew := numbers[alert.ID]; isNew {
			alert.Number = number
			raised[asked[i].of] = append(raised[asked[i].of], *alert)
			tenant := t.tenants[alert.TenantID]
			tenant.alerts = append(tenant.alerts, alert)
		}
	}
	return raised, err
}

// insertAlerts numbers new alerts after those that the tenant has, in the order given. Its tenant is locked, so nobody
// else does that at the same time.
const insertAlerts = `
INSERT INTO usage_alerts (
	tenant, id, number, kind, provider, model, meter, per, max, percent,
	period_start, period_end, used, preexisting, reason, status, raised_at)
SELECT g.tenant, g.id,
       (SELECT count(*) FROM usage_alerts AS a WHERE a.tenant = g.tenant) + row_number() OVER (PARTITION BY g.tenant ORDER BY g.ord),
       g.kind, g.provider, g.model, g.meter, g.per, g.max, g.percent,
       g.period_start, g.period_end, g.used, g.preexisting, g.reason, 'pending', $15::timestamptz
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::integer[],
            $10::timestamptz[], $11::timestamptz[], $12::bigint[], $13::boolean[], $14::text[])
	WITH ORDINALITY AS g (tenant, id, kind, provider, model, meter, per, max, percent, period_start, period_end, used,
		preexisting, reason, ord)
WHERE NOT EXISTS (SELECT FROM usage_alerts AS a WHERE a.tenant = g.tenant AND a.id = g.id)
RETURNING id, number`

// insertAlerts returns the numbers of those that are new, by id; what is there already is left alone.
func (t *tx) insertAlerts(ctx context.Context, asked []alertAsked) (map[string]int64, error) {
	n := len(asked)
	var texts [8][]string // tenant, id, kind, provider, model, meter, per, reason
	maxima, used, percents, preexisting := make([]int64, n), make([]int64, n), make([]int32, n), make([]bool, n)
	starts, ends := make([]time.Time, n), make([]time.Time, n)
	for i := range asked {
		a := &asked[i].Alert
		for j, text := range [len(texts)]string{
			a.TenantID, a.ID, string(a.Kind), a.Provider, a.Model, string(a.Meter), string(a.Per), a.Reason,
		} {
			texts[j] = append(texts[j], text)
		}
		maxima[i], used[i], percents[i], preexisting[i] = a.Max, a.Used, int32(a.Percent), a.Preexisting
		starts[i], ends[i] = a.PeriodStart, a.PeriodEnd
	}
	var rows []struct {
		ID     string
		Number int64
	}
	err := t.SelectContext(ctx, &rows, insertAlerts, texts[0], texts[1], texts[2], texts[3], texts[4], texts[5], texts[6],
		maxima, percents, starts, ends, used, preexisting, texts[7], t.now)
	numbers := make(map[string]int64, len(rows))
	for _, row := range rows {
		numbers[row.ID] = row.Number
	}
	return numbers, err
}

const selectTenantAlerts = `
SELECT a.tenant, a.id, a.number, a.kind, a.provider, a.model, a.meter, a.per, a.max, a.percent, a.period_start, a.period_end,
       a.used, a.preexisting, a.reason, a.status, a.raised_at, a.sent_at, a.acknowledged_at, a.resolved_at, a.claimed_until
FROM unnest($1::text[]) AS g (tenant)
CROSS JOIN LATERAL (
	SELECT tenant, id, number, kind, provider, model, meter, per, max, percent, period_start, period_end, used, preexisting,
	       reason, status, raised_at, sent_at, acknowledged_at, resolved_at, claimed_until
	FROM usage_alerts
	WHERE tenant = g.tenant
	  AND period_end > $2
	  AND ($3::timestamptz IS NULL OR period_start <= $3)
	OFFSET 0) AS a
ORDER BY a.tenant, a.raised_at, a.number`

// selectAlertsBetween reads the alerts of tenants whose period ends after an instant and starts at another or before, if
// there is another.
func selectAlertsBetween(ctx context.Context, q queryer, tenants []string, end time.Time, start sql.NullTime) ([]*store.Alert, error) {
	var rows []alertRow
	if err := q.SelectContext(ctx, &rows, selectTenantAlerts, tenants, end, start); err != nil {
		return nil, err
	}
	alerts := make([]*store.Alert, len(rows))
	for i := range rows {
		alerts[i] = rows[i].alert()
	}
	return alerts, nil
}

const selectAlerts = `
SELECT tenant, id, number, kind, provider, model, meter, per, max, percent, period_start, period_end, used, preexisting,
       reason, status, raised_at, sent_at, acknowledged_at, resolved_at, claimed_until
FROM usage_alerts
WHERE ($1::text = '' OR tenant = $1)
  AND ($2::text = '' OR kind = $2)
  AND ($3::text = '' OR status = $3)
  AND ($4::text = '' OR provider = $4)
  AND raised_at >= COALESCE($5::timestamptz, '-infinity')
  AND raised_at < COALESCE($6::timestamptz, 'infinity')
  AND ($7::timestamptz IS NULL OR (raised_at, tenant, number) > ($7, $8::text, $9::bigint))
ORDER BY raised_at, tenant, number
LIMIT $10`

// Alerts implements store.Store.
func (s *Store) Alerts(ctx context.Context, query store.AlertQuery) (alerts []store.Alert, err error) {
	from, after, at := timestamp(query.From), store.AlertPosition{}, sql.NullTime{}
	if query.After != nil {
		after = *query.After
		if at = (sql.NullTime{Time: after.RaisedAt, Valid: true}); !from.Valid || from.Time.Before(at.Time) {
			from = at
		}
	}
	err = s.read(ctx, "alerts", func(q queryer) error {
		var rows []alertRow
		err := q.SelectContext(ctx, &rows, selectAlerts, query.TenantID, string(query.Kind), string(query.Status), query.Provider,
			from, timestamp(query.To), at, after.TenantID, after.Number, query.Limit)
		alerts = alertsOf(rows)
		return err
	})
	return alerts, err
}

func alertsOf(rows []alertRow) []store.Alert {
	alerts := make([]store.Alert, len(rows))
	for i := range rows {
		alerts[i] = *rows[i].alert()
	}
	return alerts
}

const selectPending = `
SELECT tenant, id
FROM usage_alerts
WHERE status = 'pending'
  AND (claimed_until IS NULL OR claimed_until <= $1)
ORDER BY raised_at, tenant, number
LIMIT $2`

const claimAlerts = `
UPDATE usage_alerts AS a
SET claimed_until = $3
FROM unnest($1::text[], $2::text[]) AS g (tenant, id)
WHERE a.tenant = g.tenant
  AND a.id = g.id
  AND a.status = 'pending'
  AND (a.claimed_until IS NULL OR a.claimed_until <= $4)
RETURNING a.tenant, a.id, a.number, a.kind, a.provider, a.model, a.meter, a.per, a.max, a.percent, a.period_start,
	a.period_end, a.used, a.preexisting, a.reason, a.status, a.raised_at, a.sent_at, a.acknowledged_at, a.resolved_at,
	a.claimed_until`

// ClaimAlerts implements store.Store. It looks for alerts first and then locks their tenants, as every writer does before
// it changes anything; what another has claimed meanwhile is left to that one.
func (s *Store) ClaimAlerts(ctx context.Context, now time.Time, lease time.Duration, limit int) (alerts []store.Alert, err error) {
	for {
		var tenants, ids []string
		err := s.read(ctx, "claim alerts", func(q queryer) (err error) {
			tenants, ids, err = pending(ctx, q, now, limit)
			return err
		})
		if err != nil || len(ids) == 0 {
			return nil, err
		}
		var rows []alertRow
		err = s.write(ctx, change{op: "claim alerts", now: now, tenants: tenants, apply: func(t *tx) error {
			t.forgetAlerts()
			rows = nil
			return t.SelectContext(ctx, &rows, claimAlerts, tenants, ids, now.Add(lease), now)
		}})
		if err != nil {
			return nil, err
		}
		if alerts = alertsOf(rows); len(alerts) > 0 { // else there may be others
			store.SortAlerts(alerts)
			return alerts, nil
		}
	}
}

// pending returns alerts that are to be sent and that nobody has claimed.
func pending(ctx context.Context, q queryer, now time.Time, limit int) (tenants, ids []string, err error) {
	var rows []struct{ Tenant, ID string }
	err = q.SelectContext(ctx, &rows, selectPending, now, limit)
	for _, row := range rows {
		tenants, ids = append(tenants, row.Tenant), append(ids, row.ID)
	}
	return tenants, ids, err
}

// forgetAlerts makes the tenants' alerts be read again: their rows have changed.
func (t *tx) forgetAlerts() {
	for _, n := range t.tenants {
		n.read.alerts = false
	}
}

const selectAlert = `
SELECT tenant, id, number, kind, provider, model, meter, per, max, percent, period_start, period_end, used, preexisting,
       reason, status, raised_at, sent_at, acknowledged_at, resolved_at, claimed_until
FROM usage_alerts
WHERE tenant = $1
  AND id = $2`

const updateAlert = `
UPDATE usage_alerts
SET status = $3,
    sent_at = $4,
    acknowledged_at = $5,
    resolved_at = $6
WHERE tenant = $1
  AND id = $2`

// MarkAlert implements store.Store.
func (s *Store) MarkAlert(
	ctx context.Context, now time.Time, tenantID, id string, status store.AlertStatus,
) (alert store.Alert, err error) {
	apply := func(t *tx) error {
		if len(t.tenants) == 0 {
			return store.ErrNotFound
		}
		t.forgetAlerts()
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
		_, err = t.ExecContext(ctx, updateAlert, tenantID, id, string(alert.Status),
			timestamp(alert.SentAt), timestamp(alert.AcknowledgedAt), timestamp(alert.ResolvedAt))
		return err
	}
	err = s.write(ctx, change{op: "mark alert", now: now, tenants: []string{tenantID}, apply: apply})
	return alert, err
}
