package usage

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage/internal/group"
	"github.com/acf68eca/usage/store"
)

// SetQuota replaces a tenant's limits and thresholds. An unknown tenant is created. A threshold that this period's usage
// has passed already raises its alert at once, marked Preexisting. The error is an *InvalidError or the store's.
func (t *Tracker) SetQuota(ctx context.Context, quota Quota) error {
	row, err := quota.row()
	if err != nil {
		return err
	}
	raised, err := t.store.SetQuota(ctx, t.now(), row, judgeQuota)
	t.alerts.add(raised)
	return err
}

// Quota returns a tenant's quota: one without limits when none was set.
func (t *Tracker) Quota(ctx context.Context, tenantID string) (Quota, error) {
	if err := checkTenant(tenantID); err != nil {
		return Quota{}, err
	}
	standing, err := t.store.Standing(ctx, tenantID, t.now())
	if err != nil {
		return Quota{}, err
	}
	quota := Quota{TenantID: tenantID, AlertPercents: standing.Quota.AlertPercents}
	for _, limit := range standing.Quota.Limits {
		quota.Limits = append(quota.Limits, limitOf(limit))
	}
	return quota, nil
}

// CheckQuota reports whether a call may be made now: nil, a *QuotaError for the first hard limit in the way, or a
// *SuspendedError. It takes nothing, so calls that are checked at the same time can pass a limit together: Reserve is
// what binds.
//
// An estimate that cannot be priced, for want of a model for example, asks for no cost; the limits on cost are then only
// looked at for any room at all.
//
// A hard limit refuses when what is used and held leaves no room for what the estimate asks, and when it leaves no
// room at all, whatever is asked; what just fits is let through. Soft limits refuse nothing.
func (t *Tracker) CheckQuota(ctx context.Context, estimate Estimate) error {
	asked, err := t.pendingHold(estimate)
	if err != nil {
		return err
	}
	standing, err := t.store.Standing(ctx, asked.TenantID, t.now())
	if err != nil {
		return err
	}
	return t.decide(&standing, &asked.Hold, nil)
}

// Reservation is room in a tenant's limits that one call may use. The call's Log… settles it when it names ID.
type Reservation struct {
	TenantID, ID string
	// Cost is what it holds, in dollars.
	Cost decimal.Decimal
	// ExpiresAt is when it holds nothing any more, whoever forgot it.
	ExpiresAt time.Time

	tracker *Tracker
}

// Reserve takes what a call may use at the worst from the tenant's limits, before the call is made. Used and held
// together never pass a hard limit, however many goroutines and processes reserve at once. The errors are those of
// CheckQuota; a *UnpricedError when the estimate cannot be priced and a hard limit on cost applies, unless
// Config.AllowUnpriced; a *ConflictError when the tenant has had a reservation of the estimate's ID; and a
// *UnknownOutcomeError when ctx ends while the reservation is being committed: Release the ID in it, or let it expire.
func (t *Tracker) Reserve(ctx context.Context, estimate Estimate) (*Reservation, error) {
	asked, err := t.pendingHold(estimate)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("usage: reserve: %w", err)
	}
	reservation := &Reservation{
		TenantID: asked.TenantID, ID: asked.ID, Cost: asked.Cost.Decimal(), ExpiresAt: asked.ExpiresAt, tracker: t,
	}
	switch _, err := t.holds.Do(ctx, asked); {
	case err == nil:
		return reservation, nil
	case errors.Is(err, group.ErrTaken), errors.Is(err, ErrUnknownOutcome):
		// It may have been taken. Nobody will use it, and it would hold its room until it expires.
		return nil, &UnknownOutcomeError{TenantID: asked.TenantID, ID: asked.ID, Err: err}
	case errors.Is(err, group.ErrWithdrawn):
		return nil, fmt.Errorf("usage: reserve: not taken: %w", err)
	default:
		return nil, err
	}
}

// Release frees the reservation, for a call that was not made. Releasing again, or after it expired, does nothing;
// after a call has settled it, it is a *ReservationError.
func (r *Reservation) Release(ctx context.Context) error {
	return r.tracker.Release(ctx, r.TenantID, r.ID)
}

// Release frees a reservation by its id, as Reservation.Release does. It returns ErrNotFound when the tenant has none of
// that id.
func (t *Tracker) Release(ctx context.Context, tenantID, reservationID string) error {
	var f faults
	f.id("tenantID", tenantID)
	f.id("reservationID", reservationID)
	if err := f.err(); err != nil {
		return err
	}
	return t.store.Release(ctx, t.now(), tenantID, reservationID)
}

// pendingHold is a hold on its way to the store.
type pendingHold struct {
	store.Hold
	// unpriced is why the hold has no cost; nil when it has.
	unpriced error
}

// defaultHold is how long a reservation holds when the estimate does not say.
const defaultHold = 15 * time.Minute

// pendingHold checks an estimate, prices it as of now and completes it.
func (t *Tracker) pendingHold(estimate Estimate) (pendingHold, error) {
	hold, query, err := estimate.hold()
	if err != nil {
		return pendingHold{}, err
	}
	query.At = t.now()
	hold.CreatedAt, hold.ExpiresAt = query.At, query.At.Add(defaultHold)
	if estimate.ExpiresIn > 0 {
		hold.ExpiresAt = query.At.Add(max(estimate.ExpiresIn.Truncate(time.Microsecond), time.Microsecond))
	}
	if hold.ID == "" {
		if hold.ID, err = newID(); err != nil {
			return pendingHold{}, err
		}
	}
	hold.Cost, err = t.prices.Load().of(hold.TenantID).price(&query, hold.Lines)
	if errors.Is(err, ErrUnpriced) {
		return pendingHold{Hold: hold, unpriced: err}, nil
	}
	return pendingHold{Hold: hold}, err
}

// commitHolds takes a batch of holds in one transaction, and one by one when it fails for one hold's sake.
func (t *Tracker) commitHolds(batch []pendingHold) []group.Result[struct{}] {
	results := make([]group.Result[struct{}], len(batch))
	refusals, err := t.takeHolds(batch)
	if err != nil && len(batch) > 1 && concernsOne(err) {
		for i := range batch {
			results[i] = t.commitHolds(batch[i : i+1])[0]
		}
		return results
	}
	for i := range results {
		if results[i].Err = err; err == nil {
			results[i].Err = refusals[i]
		}
	}
	return results
}

func (t *Tracker) takeHolds(batch []pendingHold) (refusals []error, err error) {
	holds := make([]store.Hold, len(batch))
	unpriced := make(map[holdKey]error) // not by address: the store may hand decide a copy
	for i := range batch {
		holds[i] = batch[i].Hold
		if batch[i].unpriced != nil {
			unpriced[keyOf(&holds[i])] = batch[i].unpriced
		}
	}
	err = t.commit(func(ctx context.Context) (err error) {
		refusals, err = t.store.Hold(ctx, t.now(), holds, func(s *store.Standing, h *store.Hold) error {
			return t.decide(s, h, unpriced[keyOf(h)])
		})
		return err
	})
	return refusals, err
}

// holdKey is what tells the holds of a batch apart for their price.
type holdKey struct{ tenantID, id, provider, model string }

func keyOf(h *store.Hold) holdKey { return holdKey{h.TenantID, h.ID, h.Provider, h.Model} }

// decide is the rule of limits: a suspended tenant gets nothing, and a hard limit refuses when used + held + asked is
// more than its maximum or used + held has reached it.
func (t *Tracker) decide(s *store.Standing, h *store.Hold, unpriced error) error {
	if s.Tenant.Suspended != "" {
		return &SuspendedError{TenantID: h.TenantID, Reason: s.Tenant.Suspended}
	}
	for i := range s.Quota.Limits {
		limit := &s.Quota.Limits[i]
		if limit.Soft || !applies(limit, h.Provider, h.Model) {
			continue
		}
		if limit.Meter == Cost && unpriced != nil && !t.cfg.AllowUnpriced {
			return unpriced
		}
		used, held, asked := used(s, limit), held(s, limit), heldOf(limit.Meter, h)
		taken := addUp(used, held)
		if taken < limit.Max && addUp(taken, asked) <= limit.Max {
			continue
		}
		period := periodOf(s, limit.Per)
		return &QuotaError{
			TenantID: h.TenantID, Limit: limitOf(*limit), Used: unitsOf(limit.Meter, used),
			Held: unitsOf(limit.Meter, held), Asked: unitsOf(limit.Meter, asked), Period: period, ResetsAt: period.End,
		}
	}
	return nil
}

// applies reports whether a limit counts a call of a model. A limit on a model counts its dated snapshots too, which is
// the name that providers return for it.
func applies(l *store.Limit, provider, model string) bool {
	if l.Provider != "" && l.Provider != provider {
		return false
	}
	return l.Model == "" || l.Model == model || l.Model == withoutSnapshot(model)
}

func used(s *store.Standing, l *store.Limit) (sum int64) {
	totals := s.MonthTotals
	if l.Per == Day {
		totals = s.DayTotals
	}
	for _, total := range totals {
		if applies(l, total.Provider, total.Model) {
			sum = addUp(sum, usedOf(l.Meter, total))
		}
	}
	return sum
}

func held(s *store.Standing, l *store.Limit) (sum int64) {
	for _, hold := range s.Holds {
		if applies(l, hold.Provider, hold.Model) {
			sum = addUp(sum, heldOf(l.Meter, hold))
		}
	}
	return sum
}

func periodOf(s *store.Standing, w Window) Period {
	if w == Day {
		return s.Day
	}
	return s.Month
}

// judge is the rule of alerts: one for each threshold of a limit that the current period's usage has reached, and one
// for each model that has no price. A late call changes the totals of its own period, which are not the ones looked at
// here; that it has no price can still be mended, and is told in the month in which it came.
func judge(s *store.Standing, added []*store.Record) []store.Alert {
	alerts := reached(s, false)
	for _, record := range added {
		if record.Unpriced == "" {
			continue
		}
		key := store.AlertKey{
			Kind: AlertUnpriced, Provider: record.Provider, Model: record.Model, Per: Month, PeriodStart: s.Month.Start,
		}
		if !raised(s, key) {
			alerts = append(alerts, store.Alert{AlertKey: key, PeriodEnd: s.Month.End, Reason: record.Unpriced})
		}
	}
	return alerts
}

// judgeQuota is judge for a quota that was just set.
func judgeQuota(s *store.Standing, _ []*store.Record) []store.Alert { return reached(s, true) }

func reached(s *store.Standing, preexisting bool) (alerts []store.Alert) {
	if len(s.Quota.AlertPercents) == 0 {
		return nil
	}
	for i := range s.Quota.Limits {
		limit := &s.Quota.Limits[i]
		used, period := used(s, limit), periodOf(s, limit.Per)
		for _, percent := range s.Quota.AlertPercents {
			if !passes(used, limit.Max, percent) {
				break // they are sorted
			}
			key := store.AlertKey{
				Kind: kindOf(limit, percent), Provider: limit.Provider, Model: limit.Model, Meter: limit.Meter,
				Per: limit.Per, Max: limit.Max, Percent: percent, PeriodStart: period.Start,
			}
			if !raised(s, key) {
				alerts = append(alerts, store.Alert{AlertKey: key, PeriodEnd: period.End, Used: used, Preexisting: preexisting})
			}
		}
	}
	return alerts
}

// passes reports whether used is at least percent of limit. Of a limit of nothing, the first use is.
func passes(used, limit int64, percent int) bool {
	usedHigh, usedLow := bits.Mul64(uint64(used), 100)
	limitHigh, limitLow := bits.Mul64(uint64(limit), uint64(percent))
	return used > 0 && (usedHigh > limitHigh || usedHigh == limitHigh && usedLow >= limitLow)
}

func kindOf(l *store.Limit, percent int) AlertKind {
	switch {
	case percent >= 100:
		return AlertQuotaExceeded
	case l.Meter == Cost:
		return AlertCostWarning
	}
	return AlertQuotaWarning
}

func raised(s *store.Standing, key store.AlertKey) bool {
	for _, alert := range s.Alerts {
		if alert.AlertKey == key {
			return true
		}
	}
	return false
}
