package usage

import (
	"math"
	"time"

	"github.com/acf68eca/usage/store"
)

// stand is where a tenant stands with its limits at one instant: all that the rule of limits looks at.
type stand struct {
	tenantID, suspended string
	at                  time.Time
	month, day          Period
	// heldUntil is when the first live hold expires; zero when there is none.
	heldUntil time.Time
	limits    []limitStand
	// from and until bound the time at which CheckQuota may answer by it, in microseconds since 1970. See freshUntil.
	from, until int64
}

type limitStand struct {
	store.Limit
	// used and held are those of the period that contains at; a rate has its rule and an arrival instead.
	used, held int64
	rate       rate
	arrival    store.Arrival
}

func (l *limitStand) isRate() bool { return l.rate.window != 0 }

func standOf(s *store.Standing) *stand {
	stand := &stand{
		tenantID: s.Tenant.ID, suspended: s.Tenant.Suspended, at: s.At, month: s.Month, day: s.Day, heldUntil: s.HeldUntil,
		limits: make([]limitStand, len(s.Quota.Limits)),
	}
	for i := range stand.limits {
		l := &stand.limits[i]
		l.Limit = s.Quota.Limits[i]
		if l.Per.IsRate() {
			l.rate, l.arrival = rateOf(&l.Limit), arrivalOf(s.Arrivals, l.Key())
			continue
		}
		l.used, l.held = used(s, &l.Limit), addUpTotals(s.Held, &l.Limit)
	}
	return stand
}

// arrivalOf returns the arrival of a key, a new one when there is none.
func arrivalOf(arrivals []store.Arrival, key store.RateKey) store.Arrival {
	for i := range arrivals {
		if arrivals[i].RateKey == key {
			return arrivals[i]
		}
	}
	return store.Arrival{RateKey: key}
}

// period is the one that a limit counts in; that of a rate lasts until all of it has come back.
func (s *stand) period(l *limitStand, now time.Time) Period {
	switch {
	case l.isRate():
		return Period{Start: now, End: later(now, l.rate.take(l.arrival, now, 0).reset)}
	case l.Per == Day:
		return s.day
	}
	return s.month
}

func later(at time.Time, d time.Duration) time.Time {
	if d == math.MaxInt64 {
		return time.Time{}
	}
	return at.Add(d)
}

// refusal is the rule of limits. A suspended tenant gets nothing. A hard limit refuses when used + held + asked is more
// than its maximum or used + held has reached it, and a hard rate when it has not so much room now. Of the limits of
// periods the first one is named, and after them, of the rates, the one that takes longest. What has no price, for the
// reason given, is refused by the first hard limit on cost.
func (s *stand) refusal(now time.Time, d *demand, unpriced error) error {
	if s.suspended != "" {
		return &SuspendedError{TenantID: s.tenantID, Reason: s.suspended}
	}
	tooFast := false
	for i := range s.limits {
		l := &s.limits[i]
		if l.Soft || !applies(&l.Limit, d.provider, d.model) {
			continue
		}
		asked := d.of(l.Meter)
		if l.isRate() {
			tooFast = tooFast || !l.rate.fits(&l.arrival, now, asked)
			continue
		}
		if l.Meter == Cost && unpriced != nil {
			return unpriced
		}
		if taken := addUp(l.used, l.held); taken >= l.Max || addUp(taken, asked) > l.Max {
			return s.exceeded(l, now, asked, taken)
		}
	}
	if tooFast {
		return s.tooFast(now, d)
	}
	return nil
}

func (s *stand) exceeded(l *limitStand, now time.Time, asked, taken int64) error {
	period := s.period(l, now)
	return &QuotaError{
		TenantID: s.tenantID, Limit: limitOf(l.Limit), Used: unitsOf(l.Meter, l.used), Held: unitsOf(l.Meter, l.held),
		Asked: unitsOf(l.Meter, asked), Remaining: unitsOf(l.Meter, max(0, l.Max-taken)),
		Period: period, ResetsAt: period.End, RetryAfter: period.End.Sub(now),
	}
}

// tooFast returns the refusal of the hard rate that takes longest to have room, of those that have none.
func (s *stand) tooFast(now time.Time, d *demand) error {
	var slowest *limitStand
	var longest pace
	for i := range s.limits {
		l := &s.limits[i]
		if l.Soft || !l.isRate() || !applies(&l.Limit, d.provider, d.model) {
			continue
		}
		p := l.rate.take(l.arrival, now, d.of(l.Meter))
		if p.denied && !longest.never && (slowest == nil || p.never || p.retry > longest.retry) {
			slowest, longest = l, p
		}
	}
	refusal := &QuotaError{
		TenantID: s.tenantID, Limit: limitOf(slowest.Limit), Asked: unitsOf(slowest.Meter, d.of(slowest.Meter)),
		Used:      unitsOf(slowest.Meter, slowest.rate.burst-longest.remaining),
		Remaining: unitsOf(slowest.Meter, longest.remaining), Period: Period{Start: now, End: later(now, longest.reset)},
	}
	if !longest.never {
		refusal.RetryAfter, refusal.ResetsAt = longest.retry, later(now, longest.retry)
	}
	return refusal
}

// take counts a hold that is not refused, and returns the arrivals that it sets.
func (s *stand) take(now time.Time, h *store.Hold) (arrivals []store.Arrival) {
	for i := range s.limits {
		l := &s.limits[i]
		if !applies(&l.Limit, h.Provider, h.Model) {
			continue
		}
		asked := demandOf(h).of(l.Meter)
		switch {
		case !l.isRate():
			l.held = addUp(l.held, asked)
		case asked > 0:
			l.arrival, _ = l.rate.add(l.arrival, now, now, asked)
			arrivals = append(arrivals, l.arrival)
		}
	}
	if s.heldUntil.IsZero() || h.ExpiresAt.Before(s.heldUntil) {
		s.heldUntil = h.ExpiresAt
	}
	return arrivals
}

// passed returns the alerts of the rates, soft ones too, that have no room for what is asked. What no rate ever gives at once is
// a mistake of the caller and not a rate that was reached.
func (s *stand) passed(now time.Time, d *demand) (alerts []store.Alert) {
	for i := range s.limits {
		l := &s.limits[i]
		if !l.isRate() || !applies(&l.Limit, d.provider, d.model) {
			continue
		}
		p := l.rate.take(l.arrival, now, d.of(l.Meter))
		if p.denied && (!p.never || l.Soft) {
			alerts = append(alerts, s.rateAlert(l, l.rate.burst-p.remaining))
		}
	}
	return alerts
}

// rateAlert is the alert that a rate was passed: one for each of the tenant's days.
func (s *stand) rateAlert(l *limitStand, used int64) store.Alert {
	return store.Alert{
		AlertKey: store.AlertKey{
			Kind: AlertRateLimit, Provider: l.Provider, Model: l.Model, Meter: l.Meter, Per: l.Per, Max: l.Max, Percent: 100,
			PeriodStart: s.day.Start,
		},
		PeriodEnd: s.day.End, Used: used,
	}
}

// count counts records that were logged for the rates, and returns the arrivals and alerts that this makes. A record that
// had a reservation has been counted with it.
func (s *stand) count(now time.Time, added []*store.Record) (arrivals []store.Arrival, alerts []store.Alert) {
	for i := range s.limits {
		l := &s.limits[i]
		if !l.isRate() {
			continue
		}
		before, passed := l.arrival, false
		for _, r := range added {
			if r.Settlement == Settled || r.Settlement == ReservationExpired || !applies(&l.Limit, r.Provider, r.Model) {
				continue
			}
			var over bool
			l.arrival, over = l.rate.add(l.arrival, r.At, now, (&demand{lines: r.Lines}).of(l.Meter))
			passed = passed || over
		}
		if l.arrival != before {
			arrivals = append(arrivals, l.arrival)
		}
		if passed {
			alerts = append(alerts, s.rateAlert(l, l.rate.burst))
		}
	}
	return arrivals, alerts
}

// refund returns the arrivals that releasing a hold sets: what the rates gave for a call that is not made is given back,
// as far as it has not come back by itself.
func refund(s *store.Standing, h *store.Hold) (arrivals []store.Arrival) {
	for i := range s.Quota.Limits {
		l := &s.Quota.Limits[i]
		if !l.Per.IsRate() || !applies(l, h.Provider, h.Model) {
			continue
		}
		before, then := arrivalOf(s.Arrivals, l.Key()), arrivalOf(h.Arrivals, l.Key())
		if then.At.IsZero() {
			continue // the limit is newer than the hold
		}
		if after := rateOf(l).refund(before, then, s.At, demandOf(h).of(l.Meter)); after != before {
			arrivals = append(arrivals, after)
		}
	}
	return arrivals
}
