package usage

import (
	"context"
	"errors"
	"time"
)

// CheckQuota reports whether a call may be made now: nil, a *QuotaError for a hard limit in the way, or a *SuspendedError.
// It takes nothing, of no rate either, so calls that are checked at the same time can pass a limit together: it is advice,
// and Reserve is what binds.
//
// It is answered from memory: from where the tenant stood when this process last read or wrote something of it. What
// this process has written is in it when the writing method returns; what other processes have written, and changes made
// to the database by other means, after Config.QuotaMaxAge at the latest. The store is asked when the memory is older than
// that, when a day has begun or a reservation has run out since, or when the tenant is not among the some ten thousand
// that are kept in memory; only then does ctx matter.
//
// An estimate that cannot be priced, for want of a model for example, asks for no cost; the limits on cost are then only
// looked at for any room at all.
//
// A hard limit refuses when what is used and held leaves no room for what the estimate asks, and when it leaves no
// room at all, whatever is asked; what just fits is let through. A rate lets through what asks nothing of it. Soft limits
// refuse nothing.
//
// Other errors are a *InvalidError for an estimate that breaks a rule, a *QuotaError that is ErrExceedsBurst for more than a
// rate ever gives at once, and those of the store where it is asked.
func (t *Tracker) CheckQuota(ctx context.Context, estimate Estimate) error {
	var buffer fieldLines
	var own namedModel
	m, book := t.standings.find(estimate.TenantID), t.prices.Load().of(estimate.TenantID)
	model := book.named(estimate.Provider, estimate.Model, &own)
	lines, conditions, err := estimate.check(&buffer, m != nil, model.known)
	if err != nil {
		return err
	}
	now := t.now()
	s := m.fresh(now)
	if s == nil {
		if s, err = t.stand(ctx, estimate.TenantID); err != nil {
			return err
		}
	}
	asked := demand{provider: estimate.Provider, model: estimate.Model, lines: lines}
	if s.limitsCost(&asked) {
		query := PriceQuery{Provider: estimate.Provider, Model: estimate.Model, Conditions: conditions, At: now}
		asked.cost, err = model.price(&query, lines)
		if err != nil && !errors.Is(err, ErrUnpriced) {
			return err
		}
	}
	return s.refusal(now, &asked, nil)
}

// limitsCost reports whether a hard limit on cost applies to what is asked.
func (s *stand) limitsCost(d *demand) bool {
	for i := range s.limits {
		l := &s.limits[i]
		if l.Meter == Cost && !l.Soft && applies(&l.Limit, d.provider, d.model) {
			return true
		}
	}
	return false
}

// stand reads where a tenant stands, and remembers it. One caller reads for all who ask at the same time.
func (t *Tracker) stand(ctx context.Context, tenantID string) (*stand, error) {
	m := t.standings.of(tenantID)
	select {
	case m.reading <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-m.reading }()
	now := t.now()
	if s := m.current.Load(); s.isFresh(now) {
		return s, nil // somebody else has just read it
	}
	version := m.version()
	standing, err := t.store.Standing(ctx, tenantID, now)
	if err != nil {
		return nil, err
	}
	s := standOf(&standing)
	s.freshUntil(t.cfg.QuotaMaxAge)
	m.offer(version, s)
	return s, nil
}

// freshUntil sets until when the stand is an answer: it gets too old, a period ends or a hold expires.
func (s *stand) freshUntil(maxAge time.Duration) {
	until := s.at.Add(maxAge + time.Microsecond) // it may be as old as that
	for _, end := range []time.Time{s.day.End, s.month.End, s.heldUntil} {
		if !end.IsZero() && end.Before(until) {
			until = end
		}
	}
	s.from, s.until = s.at.UnixMicro(), until.UnixMicro()
}

// isFresh reports whether the stand is an answer at an instant. One of nobody is none.
func (s *stand) isFresh(now time.Time) bool {
	if s == nil {
		return false
	}
	micros := now.UnixMicro()
	return micros >= s.from && micros < s.until
}
