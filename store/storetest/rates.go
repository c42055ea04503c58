package storetest

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

func ratePromises() []promise {
	return []promise{
		{"arrivals that a hold sets are there for the next decision and for every handle", arrivalsSet},
		{"a hold that is refused or whose id is taken sets no arrivals", arrivalsOfRefused},
		{"an arrival replaces that of its key, and no other and no other tenant's", arrivalsReplaced},
		{"a standing has arrivals when its quota has a rate", arrivalsOfRates},
		{"releasing a hold asks refund once, with the hold as it was taken, and stores what it returns", refundAsked},
		{"a hold that is settled, released, expired or unknown asks no refund", refundNotAsked},
		{"arrivals that judge returns are stored with the records, or not at all", arrivalsJudged},
		{"alerts of a verdict are raised once, whether the hold is taken or not", verdictAlerts},
		{"racing holds of several handles take from an arrival one after the other", racingRates},
		{"what holds add up to follows each hold, settlement, release and expiry", heldFollows},
		{"a clock that is behind sees the holds that have expired by another's", heldByClocks},
		{"a sum of holds past an int64 stays at the largest and comes down again", heldSaturates},
	}
}

// rated gives a tenant a quota with a rate.
func (l *ledger) rated(tenant string) {
	l.t.Helper()
	l.setQuota(noon(), store.Quota{TenantID: tenant, Limits: []store.Limit{{Meter: "calls", Per: store.Minute, Max: 60, Burst: 5}}}, quiet)
}

// arrival is one of a key that is told by its model.
func arrival(model string, at time.Time, taken int64) store.Arrival {
	return store.Arrival{RateKey: store.RateKey{Provider: "openai", Model: model, Meter: "calls", Per: store.Minute}, At: at, Rest: taken % 7, Taken: taken}
}

// setting is a Decide that takes each hold and sets arrivals.
func setting(arrivals ...store.Arrival) store.Decide {
	return func(*store.Standing, *store.Hold) store.Verdict { return store.Verdict{Arrivals: arrivals} }
}

func arrivalsSet(t *testing.T, l *ledger) {
	l.rated(acme)
	a, b := arrival("", noon().Add(time.Minute+time.Microsecond), math.MaxInt64), arrival("größe", noon(), math.MinInt64)
	b.Per, b.Rest = store.Second, math.MaxInt64
	var seen [][]store.Arrival
	outcomes := l.decided(noon(), func(s *store.Standing, h *store.Hold) store.Verdict {
		seen = append(seen, append([]store.Arrival(nil), s.Arrivals...))
		return setting(map[string]store.Arrival{"1": a, "2": b}[h.ID])(s, h)
	}, hold(acme, "1", noon(), time.Hour, 1), hold(acme, "2", noon(), time.Hour, 1))
	equal(t, "outcomes", outcomes, make([]store.HoldOutcome, 2))
	equal(t, "seen", seen, [][]store.Arrival{nil, {a}})
	for _, handle := range []*ledger{l, l.another()} {
		equal(t, "arrivals", handle.standing(acme, noon()).Arrivals, []store.Arrival{a, b})
		handle.decided(noon(), func(s *store.Standing, _ *store.Hold) store.Verdict {
			equal(t, "arrivals as decide sees them", ordered(*s).Arrivals, []store.Arrival{a, b})
			return store.Verdict{Refusal: errRefused}
		}, hold(acme, "3", noon(), time.Hour, 1))
	}
}

func arrivalsOfRefused(t *testing.T, l *ledger) {
	l.rated(acme)
	l.decided(noon(), setting(arrival("", noon(), 1)), hold(acme, "h", noon(), time.Hour, 1))
	l.unchanged(noon(), func() {
		refusal := func(*store.Standing, *store.Hold) store.Verdict {
			return store.Verdict{Refusal: errRefused, Arrivals: []store.Arrival{arrival("", noon(), 2)}}
		}
		l.ask(noon(), refusal, hold(acme, "i", noon(), time.Hour, 1))
		l.taken(l.ask(noon(), setting(arrival("", noon(), 3), arrival("other", noon(), 3)), hold(acme, "h", noon(), time.Hour, 1))[0], "h")
	})
}

func arrivalsReplaced(t *testing.T, l *ledger) {
	l.rated(acme)
	l.rated(globex)
	a, b, other := arrival("a", noon(), 1), arrival("b", noon(), 2), arrival("a", noon(), 9)
	l.decided(noon(), setting(a, b), hold(acme, "1", noon(), time.Hour, 1))
	l.decided(noon(), setting(other), hold(globex, "1", noon(), time.Hour, 1))
	again := arrival("a", noon().Add(-time.Hour), 3)
	l.another().decided(noon(), setting(again), hold(acme, "2", noon(), time.Hour, 1))
	equal(t, "arrivals", l.standing(acme, noon()).Arrivals, []store.Arrival{again, b})
	equal(t, "another tenant's", l.standing(globex, noon()).Arrivals, []store.Arrival{other})
}

func arrivalsOfRates(t *testing.T, l *ledger) {
	l.rated(acme)
	a := arrival("", noon(), 1)
	l.decided(noon(), setting(a), hold(acme, "1", noon(), time.Hour, 1))
	l.setQuota(noon(), store.Quota{TenantID: acme, Limits: []store.Limit{{Meter: "calls", Per: store.Day, Max: 1}}}, quiet)
	equal(t, "arrivals without a rate", l.standing(acme, noon()).Arrivals, nil)
	l.rated(acme)
	equal(t, "arrivals with a rate again", l.another().standing(acme, noon()).Arrivals, []store.Arrival{a})
}

// refunds is a Refund that notes the holds it is asked about.
type refunds struct {
	asked    []store.Hold
	standing store.Standing
	arrivals []store.Arrival
}

func (r *refunds) ask(s *store.Standing, h *store.Hold) []store.Arrival {
	r.standing, r.asked = *s, append(r.asked, *h)
	r.standing.Arrivals = append([]store.Arrival(nil), s.Arrivals...)
	return r.arrivals
}

func refundAsked(t *testing.T, l *ledger) {
	l.rated(acme)
	set, later, back := arrival("", noon(), 1), arrival("", noon(), 2), arrival("", noon(), 3)
	given := hold(acme, "h", noon(), time.Hour, 7)
	l.decided(noon(), setting(set), given)
	l.decided(noon(), setting(later), hold(acme, "i", noon(), time.Hour, 1))
	r := &refunds{arrivals: []store.Arrival{back}}
	now := noon().Add(time.Minute)
	l.must("Release", l.another().Release(t.Context(), now, acme, "h", r.ask))
	given.Arrivals = []store.Arrival{set}
	equal(t, "holds asked about", r.asked, []store.Hold{given})
	equal(t, "arrivals before", r.standing.Arrivals, []store.Arrival{later})
	equal(t, "the standing's time", r.standing.At, now)
	equal(t, "arrivals", l.standing(acme, now).Arrivals, []store.Arrival{back})
}

func refundNotAsked(t *testing.T, l *ledger) {
	l.rated(acme)
	l.take(noon(), hold(acme, "settled", noon(), time.Hour, 1), hold(acme, "released", noon(), time.Hour, 1), hold(acme, "expired", noon(), time.Minute, 1))
	l.add(noon(), settling("settled", call(acme, "a", noon(), 1)))
	l.must("Release", l.Release(t.Context(), noon(), acme, "released", keep))
	r := &refunds{arrivals: []store.Arrival{arrival("", noon(), 1)}}
	now := noon().Add(time.Minute)
	l.unchanged(now, func() {
		l.must("Release again", l.Release(t.Context(), now, acme, "released", r.ask))
		l.must("Release of one that has expired", l.Release(t.Context(), now, acme, "expired", r.ask))
		l.refuses(l.Release(t.Context(), now, acme, "settled", r.ask), store.HoldError{TenantID: acme, HoldID: "settled", RecordID: "a"})
		if err := l.Release(t.Context(), now, acme, "unknown", r.ask); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("releasing an unknown hold: %v, want ErrNotFound", err)
		}
	})
	equal(t, "holds asked about", r.asked, nil)
}

func arrivalsJudged(t *testing.T, l *ledger) {
	l.rated(acme)
	a, b := arrival("", noon(), 1), arrival("", noon(), 2)
	judge := func(*store.Standing, []*store.Record) store.Judgement {
		return store.Judgement{Arrivals: []store.Arrival{a}}
	}
	l.judged(noon(), judge, call(acme, "a", noon(), 1), call(acme, "b", noon(), 1))
	equal(t, "arrivals", l.another().standing(acme, noon()).Arrivals, []store.Arrival{a})
	l.unchanged(noon(), func() {
		l.judged(noon(), func(*store.Standing, []*store.Record) store.Judgement {
			return store.Judgement{Arrivals: []store.Arrival{b}}
		}, call(acme, "a", noon(), 1)) // a duplicate: judge is not asked
		expectPanic(t, func() error {
			_, err := l.Append(t.Context(), noon(), lend(call(acme, "c", noon(), 1), call(globex, "c", noon(), 1)),
				func(s *store.Standing, _ []*store.Record) store.Judgement {
					if s.Tenant.ID == globex {
						panic("judge")
					}
					return store.Judgement{Arrivals: []store.Arrival{b}}
				})
			return err
		})
	})
}

func verdictAlerts(t *testing.T, l *ledger) {
	refused, taken := reached(80, 100), reached(100, 100)
	outcomes := l.decided(noon(), func(_ *store.Standing, h *store.Hold) store.Verdict {
		if h.ID == "no" {
			return store.Verdict{Refusal: errRefused, Alerts: []store.Alert{refused}}
		}
		return store.Verdict{Alerts: []store.Alert{refused, taken}}
	}, hold(acme, "no", noon(), time.Hour, 1), hold(acme, "yes", noon(), time.Hour, 1), hold(acme, "again", noon(), time.Hour, 1))
	first, second := raised(refused, acme, noon(), 1), raised(taken, acme, noon(), 2)
	if !errors.Is(outcomes[0].Err, errRefused) {
		t.Errorf("the refused hold: %v", outcomes[0].Err)
	}
	equal(t, "alerts of the refused", outcomes[0].Alerts, []store.Alert{first})
	equal(t, "alerts of the first taken", outcomes[1].Alerts, []store.Alert{second})
	equal(t, "alerts of the second taken", outcomes[2].Alerts, nil)
	equal(t, "alerts", l.another().alerts(acme), []store.Alert{first, second})
}

// racingRates has goroutines count up one arrival to a limit: what one of them does not see of another is lost.
func racingRates(t *testing.T, l *ledger) {
	const goroutines, each, most = 12, 6, 40
	l.rated(acme)
	handles := []*ledger{l, l.another(), l.another()}
	var admitted atomic.Int64
	decide := yielding(func(s *store.Standing, _ *store.Hold) store.Verdict {
		var last int64
		if len(s.Arrivals) > 0 {
			last = s.Arrivals[0].Taken
		}
		if last >= most {
			return store.Verdict{Refusal: errRefused}
		}
		return store.Verdict{Arrivals: []store.Arrival{arrival("", noon(), last+1)}}
	})
	together(t, goroutines, func(i int) error {
		for j := range each {
			outcomes, err := handles[i%3].Hold(t.Context(), noon(), []store.Hold{hold(acme, fmt.Sprint(i, "-", j), noon(), time.Hour, 1)}, decide)
			if err != nil {
				return err
			}
			switch err := outcomes[0].Err; {
			case err == nil:
				admitted.Add(1)
			case !errors.Is(err, errRefused):
				return err
			}
		}
		return nil
	})
	equal(t, "admitted", admitted.Load(), most)
	equal(t, "arrivals", l.another().standing(acme, noon()).Arrivals, []store.Arrival{arrival("", noon(), most)})
}

func heldFollows(t *testing.T, l *ledger) {
	other := hold(acme, "other", noon(), time.Hour, 4)
	other.Model = "gpt-5"
	two := hold(acme, "two", noon(), 2*time.Hour, 2)
	two.Lines = append(two.Lines, store.Line{Meter: "output_tokens", Quantity: 50, Cost: 0})
	l.take(noon(), hold(acme, "one", noon(), time.Minute, 1), two, other, hold(acme, "eight", noon(), 3*time.Hour, 8), hold(globex, "g", noon(), time.Second, 16))
	decides := func(now time.Time, want ...*store.Hold) {
		t.Helper()
		totals, until := heldUp(want)
		for _, handle := range []*ledger{l, l.another()} {
			handle.decided(now, func(s *store.Standing, _ *store.Hold) store.Verdict {
				equal(t, "held", ordered(*s).Held, totals)
				equal(t, "held until", s.HeldUntil, until)
				return store.Verdict{Refusal: errRefused}
			}, hold(acme, "never", now, time.Hour, 1))
			s := handle.standing(acme, now)
			equal(t, "held, as read", s.Held, totals)
			equal(t, "held until, as read", s.HeldUntil, until)
		}
	}
	one, eight := hold(acme, "one", noon(), time.Minute, 1), hold(acme, "eight", noon(), 3*time.Hour, 8)
	decides(noon(), &one, &two, &other, &eight)
	now := noon().Add(time.Minute)
	decides(now, &two, &other, &eight)
	decides(noon(), &one, &two, &other, &eight) // a clock that is behind
	l.add(now, settling("other", call(acme, "a", now, 1)))
	decides(now, &two, &eight)
	l.must("Release", l.Release(t.Context(), now, acme, "two", keep))
	decides(now, &eight)
	decides(noon().Add(3 * time.Hour))
}

// heldByClocks asks one handle, which remembers what it has seen, by clocks that differ.
func heldByClocks(t *testing.T, l *ledger) {
	one, two := hold(acme, "one", noon(), time.Minute, 1), hold(acme, "two", noon(), time.Hour, 2)
	l.take(noon(), one, two)
	later := noon().Add(time.Minute)
	for i, want := range [][]*store.Hold{{&two}, {&one, &two}, {&two}} {
		now, never := []time.Time{later, noon(), later}[i], hold(acme, "never", noon(), time.Hour, 1)
		l.decided(now, func(s *store.Standing, _ *store.Hold) store.Verdict {
			totals, until := heldUp(want)
			equal(t, "held", ordered(*s).Held, totals)
			equal(t, "held until", s.HeldUntil, until)
			return store.Verdict{Refusal: errRefused}
		}, never)
	}
}

func heldSaturates(t *testing.T, l *ledger) {
	l.take(noon(), hold(acme, "a", noon(), time.Hour, math.MaxInt64), hold(acme, "b", noon(), time.Minute, math.MaxInt64), hold(acme, "c", noon(), time.Hour, 5))
	held := func(now time.Time) (cost store.Money) {
		l.ask(now, refusing(func(s *store.Standing, _ *store.Hold) error { cost = heldCost(s); return errRefused }), hold(acme, "d", now, time.Hour, 1))
		return cost
	}
	equal(t, "held", held(noon()), math.MaxInt64)
	now := noon().Add(time.Minute)
	l.must("Release", l.Release(t.Context(), now, acme, "a", keep))
	equal(t, "held when two are gone", held(now), 5)
	s := l.another().standing(acme, noon())
	equal(t, "held before, as read", heldCost(&s), math.MaxInt64)
}
