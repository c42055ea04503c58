package usage

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage/store"
)

// Alert says that a tenant reached a threshold of a limit, or made a call that has no price. It is raised once: for each
// limit with its maximum, threshold and period, for each rate limit and day, or for each model and month.
type Alert struct {
	TenantID, ID string
	Kind         AlertKind
	// Provider, Model, Meter and Per are those of the limit; Meter is empty for AlertUnpriced.
	Provider, Model string
	Meter           Meter
	Per             Window
	// Max is the limit's maximum, and Used what had been used when the alert was raised, both in the unit of Limit.Max. Of
	// AlertRateLimit, Used is what of the burst was taken. Both are zero for AlertUnpriced.
	Max, Used decimal.Decimal
	// Percent is the threshold: 100 for AlertRateLimit, 0 for AlertUnpriced.
	Percent int
	// Period is the one that it was reached in: the tenant's day for AlertRateLimit, its month for AlertUnpriced.
	Period Period
	// Preexisting says that the usage was already there when the quota was set.
	Preexisting bool
	// Reason says why a call has no price, as its Record.Unpriced does.
	Reason string
	Status AlertStatus
	// RaisedAt and the times of the states that were reached; zero for those that were not.
	RaisedAt, SentAt, AcknowledgedAt, ResolvedAt time.Time

	number int64
}

// AlertKind tells alerts apart.
type AlertKind = store.AlertKind

// The kinds of alerts.
const (
	// AlertQuotaWarning: a threshold below 100 % of a limit on anything but cost.
	AlertQuotaWarning = store.QuotaWarning
	// AlertQuotaExceeded: a threshold of 100 % of a limit or above.
	AlertQuotaExceeded = store.QuotaExceeded
	// AlertCostWarning: a threshold below 100 % of a limit on cost.
	AlertCostWarning = store.CostWarning
	// AlertRateLimit: a limit per minute or second refused a reservation, or was passed by calls that were logged without
	// one. Once for each limit and day of the tenant; CheckQuota raises none.
	AlertRateLimit = store.RateLimit
	// AlertUnpriced: a call has no price, as Alert.Reason says: its model has none, or nobody knows what it used. Once for each
	// provider, model and month, whatever the reasons of further calls are.
	AlertUnpriced = store.Unpriced
)

// AlertStatus is how far an alert has come. It only moves forward.
type AlertStatus = store.AlertStatus

// The states of an alert, in order.
const (
	AlertPending      = store.AlertPending
	AlertSent         = store.AlertSent
	AlertAcknowledged = store.AlertAcknowledged
	AlertResolved     = store.AlertResolved
)

func alertKinds() []AlertKind {
	return []AlertKind{AlertQuotaWarning, AlertQuotaExceeded, AlertCostWarning, AlertRateLimit, AlertUnpriced}
}

func alertStatuses() []AlertStatus {
	return []AlertStatus{AlertPending, AlertSent, AlertAcknowledged, AlertResolved}
}

// AlertFilter selects alerts, of all tenants unless it names one. Empty fields select everything.
type AlertFilter struct {
	TenantID string
	Kind     AlertKind
	Status   AlertStatus
	Provider string
	// From and To bound RaisedAt: [From, To). A zero time is no bound.
	From, To time.Time
	// After is the Cursor of the last alert of an earlier page; empty starts at the oldest. It is for paging, not for
	// waiting for new alerts: those of a process whose clock is behind come before it. ClaimAlerts misses none.
	After string
	// Limit is the most to return. Defaults to 1,000, which is also the most it can be.
	Limit int
}

// Alerts lists alerts in the order in which they were raised.
func (t *Tracker) Alerts(ctx context.Context, filter AlertFilter) ([]Alert, error) {
	var f faults
	f.text("TenantID", filter.TenantID, maxID)
	f.text("Provider", filter.Provider, maxID)
	from, to := f.time("From", filter.From), f.time("To", filter.To)
	if filter.Kind != "" && !slices.Contains(alertKinds(), filter.Kind) {
		f.add("Kind", quote(string(filter.Kind))+" is no kind of alert")
	}
	if filter.Status != "" && !slices.Contains(alertStatuses(), filter.Status) {
		f.add("Status", quote(string(filter.Status))+" is no status of an alert")
	}
	after, ok := parseAlertCursor(filter.After)
	if !ok {
		f.add("After", "is none that an alert gave")
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	limit := filter.Limit
	if limit <= 0 || limit > maxPage {
		limit = maxPage
	}
	rows, err := t.store.Alerts(ctx, store.AlertQuery{
		TenantID: filter.TenantID, Kind: filter.Kind, Status: filter.Status, Provider: filter.Provider,
		From: from, To: to, After: after, Limit: limit,
	})
	return alertsOf(rows), err
}

// Cursor is the alert's place in a listing, for AlertFilter.After.
func (a *Alert) Cursor() string {
	return alertCursor(&store.AlertPosition{RaisedAt: a.RaisedAt, TenantID: a.TenantID, Number: a.number})
}

func alertCursor(p *store.AlertPosition) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %d %s", p.RaisedAt.UnixMicro(), p.Number, p.TenantID))
}

func parseAlertCursor(cursor string) (p *store.AlertPosition, ok bool) {
	if cursor == "" {
		return nil, true
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return nil, false
	}
	var micros int64
	p = new(store.AlertPosition)
	head, tenantID, _ := strings.Cut(string(text), " ")
	number, tenantID, _ := strings.Cut(tenantID, " ")
	if micros, err = strconv.ParseInt(head, 10, 64); err != nil {
		return nil, false
	}
	if p.Number, err = strconv.ParseInt(number, 10, 64); err != nil {
		return nil, false
	}
	var f faults
	p.RaisedAt, p.TenantID = f.time("After", time.UnixMicro(micros)), tenantID
	f.id("After", tenantID)
	return p, len(f) == 0 && alertCursor(p) == cursor // of all that decodes alike, an alert gives one
}

// ClaimAlerts takes up to limit pending alerts for delivery, oldest first, and leases them: until the lease ends no
// other claimer gets them, in no process. Mark each as sent once it is; those that are not come up again. This is how to
// deliver alerts for certain; Config.OnAlert tells sooner but does not survive a crash.
func (t *Tracker) ClaimAlerts(ctx context.Context, limit int, lease time.Duration) ([]Alert, error) {
	var f faults
	if limit < 1 || limit > maxPage {
		f.add("limit", fmt.Sprintf("is not from 1 to %d", maxPage))
	}
	if lease <= 0 {
		f.add("lease", "is not positive")
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	rows, err := t.store.ClaimAlerts(ctx, t.now(), lease, limit)
	return alertsOf(rows), err
}

// MarkAlertSent notes that an alert was delivered. An alert that is sent already, or further, stays as it is. It returns
// the alert, or ErrNotFound.
func (t *Tracker) MarkAlertSent(ctx context.Context, tenantID, id string) (Alert, error) {
	return t.markAlert(ctx, tenantID, id, AlertSent)
}

// AcknowledgeAlert notes that somebody has seen an alert, as MarkAlertSent does.
func (t *Tracker) AcknowledgeAlert(ctx context.Context, tenantID, id string) (Alert, error) {
	return t.markAlert(ctx, tenantID, id, AlertAcknowledged)
}

// ResolveAlert notes that an alert has been dealt with, as MarkAlertSent does.
func (t *Tracker) ResolveAlert(ctx context.Context, tenantID, id string) (Alert, error) {
	return t.markAlert(ctx, tenantID, id, AlertResolved)
}

func (t *Tracker) markAlert(ctx context.Context, tenantID, id string, status AlertStatus) (Alert, error) {
	var f faults
	f.id("tenantID", tenantID)
	f.id("id", id)
	if err := f.err(); err != nil {
		return Alert{}, err
	}
	row, err := t.store.MarkAlert(ctx, t.now(), tenantID, id, status)
	if err != nil {
		return Alert{}, notFound(err, "alert", id, tenantID)
	}
	return alertOf(&row), nil
}

func alertsOf(rows []store.Alert) []Alert {
	alerts := make([]Alert, len(rows))
	for i := range rows {
		alerts[i] = alertOf(&rows[i])
	}
	return alerts
}

func alertOf(a *store.Alert) Alert {
	return Alert{
		TenantID: a.TenantID, ID: a.ID, Kind: a.Kind, Provider: a.Provider, Model: a.Model, Meter: a.Meter, Per: a.Per,
		Max: unitsOf(a.Meter, a.Max), Used: unitsOf(a.Meter, a.Used), Percent: a.Percent,
		Period: Period{Start: a.PeriodStart, End: a.PeriodEnd}, Preexisting: a.Preexisting, Reason: a.Reason,
		Status: a.Status, RaisedAt: a.RaisedAt, SentAt: a.SentAt, AcknowledgedAt: a.AcknowledgedAt, ResolvedAt: a.ResolvedAt,
		number: a.Number,
	}
}

// alertQueue tells the host of alerts, one after the other, off the callers' path. Its goroutine runs only while there
// is something to tell.
type alertQueue struct {
	tell   func(Alert)
	logger *slog.Logger

	mu      sync.Mutex
	waiting []Alert
	telling bool
}

const maxWaitingAlerts = 1024

func (q *alertQueue) add(rows []store.Alert) {
	if q.tell == nil || len(rows) == 0 {
		return
	}
	q.mu.Lock()
	room := min(len(rows), maxWaitingAlerts-len(q.waiting))
	for i := range rows[:room] {
		q.waiting = append(q.waiting, alertOf(&rows[i]))
	}
	if !q.telling && len(q.waiting) > 0 {
		q.telling = true
		go q.run()
	}
	q.mu.Unlock()
	for i := range rows[room:] {
		late := &rows[room+i]
		q.logger.Error("usage: OnAlert is behind: alert stays pending", "tenant", late.TenantID, "alert", late.ID)
	}
}

// run tells of what is waiting. Should OnAlert end its goroutine, another one goes on.
func (q *alertQueue) run() {
	finished := false
	defer func() {
		if !finished {
			go q.run()
		}
	}()
	for {
		next, ok := q.next()
		if !ok {
			finished = true
			return
		}
		q.tellOne(next)
	}
}

// next returns false, and notes that nobody is telling, when nothing is waiting.
func (q *alertQueue) next() (next Alert, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.telling, q.waiting = false, nil
		return next, false
	}
	next, q.waiting = q.waiting[0], q.waiting[1:]
	return next, true
}

func (q *alertQueue) tellOne(a Alert) {
	defer func() {
		if cause := recover(); cause != nil {
			q.logger.Error("usage: OnAlert panicked", "tenant", a.TenantID, "alert", a.ID, "panic", cause)
		}
	}()
	q.tell(a)
}
