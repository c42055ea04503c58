package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// Alert says that something was reached. There is at most one with the same AlertKey for a tenant.
type Alert struct {
	TenantID, ID string
	// Number counts the tenant's alerts from 1 in the order in which they were raised.
	Number int64
	AlertKey
	// PeriodEnd is the end of the period in which it was reached.
	PeriodEnd time.Time
	// Used is what had been used when it was raised, in the limit's unit.
	Used int64
	// Preexisting says that the usage was already there when the quota was set.
	Preexisting bool
	// Reason says in words what an unpriced alert is about.
	Reason string
	Status AlertStatus
	// RaisedAt and the times of the later states; zero for a state that was not reached.
	RaisedAt, SentAt, AcknowledgedAt, ResolvedAt time.Time
	// ClaimedUntil is the end of a deliverer's lease on a pending alert.
	ClaimedUntil time.Time
}

// AlertKey is what makes an alert of a tenant the same alert.
type AlertKey struct {
	Kind            AlertKind
	Provider, Model string
	Meter           Meter
	Per             Window
	// Max is the limit's maximum: a new maximum starts afresh.
	Max     int64
	Percent int
	// PeriodStart is the start of the period in which it was reached.
	PeriodStart time.Time
}

// AlertID returns the id of a tenant's alert. It is made from the key, so that a key has one id wherever and by whomever
// it is raised.
func (k AlertKey) AlertID(tenantID string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %q %d %d %d", tenantID, k.Kind, k.Provider, k.Model, k.Meter,
		k.Per, k.Max, k.Percent, k.PeriodStart.UnixMicro()))
	return hex.EncodeToString(sum[:16])
}

// Raise completes an alert that a judge returned: identity, first status and time.
func (a Alert) Raise(tenantID string, now time.Time) Alert {
	return Alert{
		TenantID: tenantID, ID: a.AlertID(tenantID), AlertKey: a.AlertKey, PeriodEnd: a.PeriodEnd, Used: a.Used,
		Preexisting: a.Preexisting, Reason: a.Reason, Status: AlertPending, RaisedAt: now,
	}
}

// Mark returns the alert moved to a status, with the time of that status set.
func (a Alert) Mark(status AlertStatus, now time.Time) Alert {
	a.Status = status
	switch status {
	case AlertSent:
		a.SentAt = now
	case AlertAcknowledged:
		a.AcknowledgedAt = now
	case AlertResolved:
		a.ResolvedAt = now
	}
	return a
}

// SortAlerts orders alerts by (RaisedAt, TenantID, Number), which is the order stores return them in.
func SortAlerts(alerts []Alert) {
	slices.SortFunc(alerts, func(a, b Alert) int {
		return cmp.Or(a.RaisedAt.Compare(b.RaisedAt), cmp.Compare(a.TenantID, b.TenantID), cmp.Compare(a.Number, b.Number))
	})
}

// AlertKind tells alerts apart.
type AlertKind string

// The kinds of alerts.
const (
	// QuotaWarning: a threshold below 100 % of a limit on anything but cost.
	QuotaWarning AlertKind = "quota_warning"
	// QuotaExceeded: 100 % of a limit, or a threshold above.
	QuotaExceeded AlertKind = "quota_exceeded"
	// CostWarning: a threshold below 100 % of a limit on cost.
	CostWarning AlertKind = "cost_warning"
	// RateLimit: a rate limit refused a call.
	RateLimit AlertKind = "rate_limit"
	// Unpriced: a call has no price. Once for each provider, model and month.
	Unpriced AlertKind = "unpriced"
)

// AlertStatus is how far an alert has come. It only moves forward.
type AlertStatus string

// The states of an alert, in order.
const (
	AlertPending      AlertStatus = "pending"
	AlertSent         AlertStatus = "sent"
	AlertAcknowledged AlertStatus = "acknowledged"
	AlertResolved     AlertStatus = "resolved"
)

// Before reports whether s comes before other.
func (s AlertStatus) Before(other AlertStatus) bool { return s.rank() < other.rank() }

func (s AlertStatus) rank() int {
	switch s {
	case AlertPending:
		return 0
	case AlertSent:
		return 1
	case AlertAcknowledged:
		return 2
	}
	return 3
}

// AlertQuery selects alerts, oldest first. Empty fields select everything; an empty TenantID selects all tenants'.
type AlertQuery struct {
	TenantID string
	Kind     AlertKind
	Status   AlertStatus
	Provider string
	From, To time.Time // bounds of RaisedAt: [From, To)
	// After is the last alert of the page before.
	After *AlertPosition
	Limit int // at least 1
}

// AlertPosition is an alert's place in a listing by (RaisedAt, TenantID, Number).
type AlertPosition struct {
	RaisedAt time.Time
	TenantID string
	Number   int64
}
