package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

func holdPromises() []promise {
	return []promise{
		{"a hold is settled, released or expires, whatever comes first", holdTable},
		{"a hold is stored as it was given and seen by every handle", holdAsGiven},
		{"a hold of a tenant that does not exist creates it", holdCreatesTenant},
		{"a refused hold is not taken, and the refusal is its own", refusedHold},
		{"decide sees the holds taken before in the same batch", decideSeesBatch},
		{"decide sees what is settled and only what is still held", decideSeesStanding},
		{"a hold's id is taken for good", holdIDTaken},
		{"a hold ends at its expiry, to the microsecond", holdEnds},
		{"a hold settled before its expiry stays settled after it", settledThenExpired},
		{"a hold released before its expiry stays released after it", releasedThenExpired},
		{"a hold past its expiry leaves the record without a hold", expiredThenSettled},
		{"a hold settles one record of a batch", holdSettlesOnce},
		{"cost above the hold is overage, below it is freed", overage},
		{"releasing twice is no error", releaseTwice},
		{"a hold of another tenant is never touched", holdOfAnotherTenant},
		{"racing holds fill a limit exactly and never pass it", racingHolds},
		{"racing settlements settle a hold once", racingSettlements},
	}
}

// holdTable is a day in the life of six holds: settled 15, held 54, and a second later the third has expired.
func holdTable(t *testing.T, l *ledger) {
	const long, short = 1000 * time.Second, 50 * time.Second
	l.add(noon(), call(acme, "start", noon(), 15))
	l.take(noon(), hold(acme, "A", noon(), long, 15), hold(acme, "B", noon(), short, 15), hold(acme, "C", noon(), time.Second, 15),
		hold(acme, "D", noon(), short, 7), hold(acme, "E", noon(), long, 1), hold(acme, "F", noon(), long, 1))
	l.stands(noon(), 15, 54)
	now := noon().Add(time.Second)
	l.stands(now, 15, 39)

	l.settles(now, "A", 13, store.Settled, 0)
	l.stands(now, 28, 24)
	l.duplicate(now, settling("A", call(acme, "by A", now, 13)), l.record(acme, "by A"))
	l.conflict(settling("A", call(acme, "by A", now, 14)), "Lines")
	l.must("Release B", l.Release(t.Context(), now, acme, "B", keep))
	l.refuses(l.tryOne(now, settling("A", call(acme, "A again", now, 1))).Err, store.HoldError{TenantID: acme, HoldID: "A", RecordID: "by A"})
	l.refuses(l.tryOne(now, settling("B", call(acme, "by B", now, 1))).Err, store.HoldError{TenantID: acme, HoldID: "B"})
	l.settles(now, "C", 15, store.HoldExpired, 0)
	l.settles(now, "D", 8, store.Settled, 1)
	l.settles(now, "E", 1, store.Settled, 0)
	l.settles(now, "F", 0, store.Settled, 0)
	l.stands(now, 15+13+15+8+1, 0)
	l.another().stands(now, 15+13+15+8+1, 0)
	l.healthy(acme)
}

// stands checks what acme has settled and what it holds.
func (l *ledger) stands(at time.Time, settled, held store.Money) {
	l.t.Helper()
	s := l.standing(acme, at)
	equal(l.t, "settled", spent(&s), settled)
	equal(l.t, "held", heldCost(&s), held)
}

// settles appends a record that names a hold of acme and checks what became of both.
func (l *ledger) settles(now time.Time, id string, cost int64, want store.Settlement, over store.Money) {
	l.t.Helper()
	given := settling(id, call(acme, "by "+id, now, cost))
	wanted := given
	wanted.Settlement, wanted.Overage = want, over
	equal(l.t, "outcome of "+id, l.add(now, given)[0], wanted)
	equal(l.t, "record of "+id, l.record(acme, "by "+id), wanted)
}

// refuses checks a *HoldError and the sentinel that it unwraps to.
func (l *ledger) refuses(err error, want store.HoldError) {
	l.t.Helper()
	var refused *store.HoldError
	if !errors.As(err, &refused) {
		l.t.Fatalf("error %v, want a *HoldError", err)
	}
	equal(l.t, "hold error", *refused, want)
	if !errors.Is(err, want.Unwrap()) {
		l.t.Errorf("%v is not %v", err, want.Unwrap())
	}
}

func holdAsGiven(t *testing.T, l *ledger) {
	full := hold(acme, "größe 1", noon(), time.Hour, 7)
	full.Owner, full.Model = "host 1, pid 7", "模型"
	full.Lines = append(full.Lines, store.Line{Meter: "call_ms", Quantity: 60_000, Rate: store.Rate{Amount: 2e10, Per: 60_000, RoundUpTo: 60_000}, Unbilled: true})
	bare := store.Hold{TenantID: acme, ID: "bare", Provider: "p", CreatedAt: noon(), ExpiresAt: noon().Add(time.Microsecond)}
	l.take(noon(), full, bare)
	for _, handle := range []*ledger{l, l.another()} {
		equal(t, "holds", handle.standing(acme, noon()).Holds, []*store.Hold{&bare, &full})
	}
}

func holdCreatesTenant(t *testing.T, l *ledger) {
	l.take(noon(), hold(acme, "h", noon(), time.Hour, 1))
	equal(t, "tenants", l.tenants(), []store.Tenant{defaults(acme, noon())})
}

func refusedHold(t *testing.T, l *ledger) {
	l.take(noon(), hold(acme, "first", noon(), time.Hour, 1))
	odd := refusing(func(_ *store.Standing, h *store.Hold) error {
		if h.Cost%2 == 1 {
			return errRefused
		}
		return nil
	})
	results := l.ask(noon(), odd, hold(acme, "1", noon(), time.Hour, 1), hold(acme, "2", noon(), time.Hour, 2), hold(acme, "3", noon(), time.Hour, 3), hold(acme, "4", noon(), time.Hour, 4))
	for i, err := range results {
		if want := i%2 == 0; errors.Is(err, errRefused) != want || err != nil != want {
			t.Errorf("hold %d: %v", i+1, err)
		}
	}
	equal(t, "holds", heldIDs(l.another().standing(acme, noon())), []string{"2", "4", "first"})
	if err := l.Release(t.Context(), noon(), acme, "1", keep); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("releasing a refused hold: %v, want ErrNotFound", err)
	}
	l.take(noon(), hold(acme, "1", noon(), time.Hour, 1))
}

func decideSeesBatch(t *testing.T, l *ledger) {
	var seen []store.Money
	look := refusing(func(s *store.Standing, h *store.Hold) error {
		if s.Tenant.ID != h.TenantID {
			t.Errorf("decide got the standing of %q for a hold of %q", s.Tenant.ID, h.TenantID)
		}
		seen = append(seen, heldCost(s))
		if h.ID == "b" {
			return errRefused
		}
		return nil
	})
	l.take(noon(), hold(acme, "0", noon(), time.Hour, 1))
	l.ask(noon(), look, hold(acme, "a", noon(), time.Hour, 1), hold(acme, "b", noon(), time.Hour, 1), hold(globex, "a", noon(), time.Hour, 1), hold(acme, "c", noon(), time.Hour, 1))
	equal(t, "held, as seen", seen, []store.Money{1, 2, 0, 2})

	results := l.ask(noon(), capped(5), hold(acme, "d", noon(), time.Hour, 1), hold(acme, "e", noon(), time.Hour, 2), hold(acme, "f", noon(), time.Hour, 1))
	if results[0] != nil || !errors.Is(results[1], errRefused) || results[2] != nil {
		t.Errorf("results %v, want only the second refused", results)
	}
}

func decideSeesStanding(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "a", noon(), 70), call(acme, "last month", march().Add(-1), 50))
	take := func(now time.Time, id string, cost int64, want error) {
		t.Helper()
		if err := l.ask(now, capped(100), hold(acme, id, now, time.Minute, cost))[0]; !errors.Is(err, want) {
			t.Errorf("hold %s: %v, want %v", id, err, want)
		}
	}
	take(noon(), "h1", 25, nil)
	take(noon(), "h2", 25, errRefused)
	take(noon(), "h3", 5, nil)
	take(noon(), "h4", 1, errRefused)
	l.must("Release", l.Release(t.Context(), noon(), acme, "h3", keep))
	take(noon(), "h5", 6, errRefused)
	take(noon(), "h6", 5, nil)
	take(noon().Add(time.Minute), "h7", 30, nil)
	l.add(noon().Add(time.Minute), settling("h7", call(acme, "b", noon(), 20)))
	take(noon().Add(time.Minute), "h8", 11, errRefused)
	take(noon().Add(time.Minute), "h9", 10, nil)
	take(april(), "h10", 100, nil)
}

func holdIDTaken(t *testing.T, l *ledger) {
	l.take(noon(), hold(acme, "live", noon(), time.Hour, 1), hold(acme, "expired", noon(), time.Second, 1),
		hold(acme, "released", noon(), time.Hour, 1), hold(acme, "settled", noon(), time.Hour, 1))
	l.must("Release", l.Release(t.Context(), noon(), acme, "released", keep))
	l.add(noon(), settling("settled", call(acme, "a", noon(), 1)))
	now := noon().Add(time.Minute)
	l.unchanged(now, func() {
		for _, id := range []string{"live", "expired", "released", "settled"} {
			l.taken(l.ask(now, admit, hold(acme, id, now, time.Hour, 2))[0], id)
		}
	})
	results := l.ask(now, admit, hold(acme, "new", now, time.Hour, 4), hold(acme, "new", now, time.Hour, 8), hold(globex, "live", now, time.Hour, 16))
	l.must("first", results[0])
	l.taken(results[1], "new")
	l.must("of another tenant", results[2])
	l.stands(now, 1, 5)
}

// taken checks that a hold of acme was refused because its id is taken.
func (l *ledger) taken(err error, id string) {
	l.t.Helper()
	var conflict *store.ConflictError
	if !errors.As(err, &conflict) {
		l.t.Fatalf("hold %q again: %v, want a *ConflictError", id, err)
	}
	equal(l.t, "conflict", *conflict, store.ConflictError{TenantID: acme, ID: id, Field: "ID"})
}

func holdEnds(t *testing.T, l *ledger) {
	l.take(noon(), hold(acme, "h", noon(), time.Minute, 1), hold(acme, "i", noon(), time.Hour, 1))
	end := noon().Add(time.Minute)
	for at, want := range map[time.Time][]string{
		noon(): {"h", "i"}, end.Add(-time.Microsecond): {"h", "i"}, end: {"i"}, end.Add(time.Hour): nil,
	} {
		equal(t, "held at "+at.String(), heldIDs(l.standing(acme, at)), want)
	}
}

func settledThenExpired(t *testing.T, l *ledger) {
	l.take(noon(), hold(acme, "h", noon(), time.Minute, 10))
	l.settles(noon().Add(time.Minute-time.Microsecond), "h", 10, store.Settled, 0)
	after := noon().Add(time.Hour)
	want := store.HoldError{TenantID: acme, HoldID: "h", RecordID: "by h"}
	l.refuses(l.tryOne(after, settling("h", call(acme, "b", after, 1))).Err, want)
	l.refuses(l.Release(t.Context(), after, acme, "h", keep), want)
	l.stands(after, 10, 0)
}

func releasedThenExpired(t *testing.T, l *ledger) {
	l.take(noon(), hold(acme, "h", noon(), time.Minute, 10))
	l.must("Release", l.Release(t.Context(), noon(), acme, "h", keep))
	after := noon().Add(time.Hour)
	l.refuses(l.tryOne(after, settling("h", call(acme, "b", after, 1))).Err, store.HoldError{TenantID: acme, HoldID: "h"})
	l.must("Release", l.Release(t.Context(), after, acme, "h", keep))
}

func expiredThenSettled(t *testing.T, l *ledger) {
	l.take(noon(), hold(acme, "h", noon(), time.Minute, 10))
	end := noon().Add(time.Minute)
	l.must("Release", l.Release(t.Context(), end, acme, "h", keep))
	l.settles(end, "h", 13, store.HoldExpired, 0)
	again := l.add(end, settling("h", call(acme, "b", end, 1)))[0]
	equal(t, "settlement", again.Settlement, store.HoldExpired)
	l.settles(end, "unknown", 1, store.HoldUnknown, 0)
	l.must("Release", l.Release(t.Context(), end, acme, "h", keep))
	l.stands(end, 15, 0)
}

func holdSettlesOnce(t *testing.T, l *ledger) {
	l.take(noon(), hold(acme, "h", noon(), time.Hour, 10))
	outcomes := l.try(noon(), call(acme, "a", noon(), 1), settling("h", call(acme, "b", noon(), 2)), settling("h", call(acme, "c", noon(), 4)))
	equal(t, "settlement", outcomes[1].Record.Settlement, store.Settled)
	l.refuses(outcomes[2].Err, store.HoldError{TenantID: acme, HoldID: "h", RecordID: "b"})
	l.stands(noon(), 3, 0)
	l.healthy(acme)
}

func overage(t *testing.T, l *ledger) {
	l.take(noon(), hold(acme, "more", noon(), time.Hour, 10), hold(acme, "less", noon(), time.Hour, 10),
		hold(acme, "same", noon(), time.Hour, 10), hold(acme, "unpriced", noon(), time.Hour, 10))
	l.settles(noon(), "more", 17, store.Settled, 7)
	l.settles(noon(), "less", 3, store.Settled, 0)
	l.settles(noon(), "same", 10, store.Settled, 0)
	r := l.add(noon(), settling("unpriced", unpriced(acme, "u", noon(), 99)))[0]
	equal(t, "overage of an unpriced record", r.Overage, 0)
	l.stands(noon(), 30, 0)
}

func releaseTwice(t *testing.T, l *ledger) {
	l.take(noon(), hold(acme, "h", noon(), time.Hour, 10), hold(acme, "i", noon(), time.Hour, 10))
	l.must("Release", l.Release(t.Context(), noon(), acme, "h", keep))
	l.unchanged(noon(), func() {
		l.must("Release again", l.Release(t.Context(), noon(), acme, "h", keep))
		l.must("Release again", l.another().Release(t.Context(), noon().Add(time.Minute), acme, "h", keep))
		for _, key := range [][2]string{{acme, "x"}, {globex, "h"}, {"nobody", ""}} {
			if err := l.Release(t.Context(), noon(), key[0], key[1], keep); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("releasing %q of %q: %v, want ErrNotFound", key[1], key[0], err)
			}
		}
	})
	l.stands(noon(), 0, 10)
}

func holdOfAnotherTenant(t *testing.T, l *ledger) {
	l.take(noon(), hold(acme, "h", noon(), time.Hour, 10), hold(globex, "g", noon(), time.Hour, 20))
	r := l.add(noon(), settling("h", call(globex, "a", noon(), 1)))[0]
	equal(t, "settlement", r.Settlement, store.HoldUnknown)
	if err := l.Release(t.Context(), noon(), globex, "h", keep); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("releasing another tenant's hold: %v, want ErrNotFound", err)
	}
	equal(t, "acme's holds", heldIDs(l.standing(acme, noon())), []string{"h"})
	equal(t, "globex's holds", heldIDs(l.standing(globex, noon())), []string{"g"})
	l.take(noon(), hold(globex, "h", noon(), time.Hour, 5))
	l.settles(noon(), "h", 1, store.Settled, 0)
	equal(t, "globex's holds", heldIDs(l.standing(globex, noon())), []string{"g", "h"})
}
