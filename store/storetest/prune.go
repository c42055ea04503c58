package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

func prunePromises() []promise {
	return []promise{
		{"pruning drops the oldest records before the horizon with their ids, at most as many as asked for", pruneDrops},
		{"of records of one instant pruning drops that of the lowest id first", pruneInOrder},
		{"totals are kept, and verified and rebuilt, in the middle of pruning and after it", pruneKeepsTotals},
		{"a call before the horizon is refused alone, and one at the horizon is not", pruneRefuses},
		{"a horizon only moves forward, is every handle's, and outlives all else that is set", pruneHorizon},
		{"pruning a tenant touches no other, and creates none", pruneApart},
		{"a day that was pruned counts by its middle when the calendar changes", pruneThenCalendar},
		{"records are listed and numbered alerts raised after pruning as before", pruneThenGoOn},
		{"pruning beside writers counts each call once", pruneBesideWriters},
		{"holds that expired before the horizon are dropped, whatever became of them, and no others", pruneHolds},
		{"of holds no more are looked at than asked for, in the order of their ids", pruneHoldsInPages},
		{"pruning beside those who reserve drops no hold that is live, nor its settlement", pruneHoldsBesideWriters},
	}
}

// prune drops records until none is left before the horizon, and says how many it dropped.
func (l *ledger) prune(tenant string, before time.Time, limit int) (dropped int) {
	l.t.Helper()
	for n := limit; n == limit; dropped += n {
		var err error
		n, err = l.Prune(l.t.Context(), tenant, before, limit)
		l.must("Prune", err)
		if n > limit {
			l.t.Fatalf("dropped %d with a limit of %d", n, limit)
		}
	}
	return dropped
}

// inMiddle are records as they count when they are dropped: in the middle of their day.
func inMiddle(c store.Calendar, records ...store.Record) (gone []store.Record) {
	for _, r := range records {
		day := c.Day(r.At)
		r.At = day.Start.Add(day.End.Sub(day.Start) / 2).Truncate(time.Microsecond)
		gone = append(gone, r)
	}
	return gone
}

// hours are records an hour apart, from some hours before noon on.
func hours(tenant string, from, n int) (records []store.Record) {
	for i := range n {
		r := call(tenant, fmt.Sprintf("%03d", from+i), noon().Add(time.Duration(from+i)*time.Hour), int64(i+1))
		if i%5 == 0 {
			r = with(r, func(r *store.Record) { r.Model, r.Status = "gpt-5", 500 })
		}
		if i%7 == 0 {
			r = unpriced(tenant, r.ID, r.At, 3)
		}
		records = append(records, r)
	}
	return records
}

func pruneDrops(t *testing.T, l *ledger) {
	records := hours(acme, -10, 10)
	l.add(noon(), records...)
	before := noon().Add(-3 * time.Hour) // the time of the eighth
	for _, want := range []int{4, 3, 0} {
		n, err := l.another().Prune(t.Context(), acme, before, 4)
		l.must("Prune", err)
		equal(t, "dropped", n, want)
		if want == 4 {
			equal(t, "records after the first batch", recordIDs(l.records(acme)), recordIDs(records[4:]))
		}
	}
	equal(t, "records", recordIDs(l.records(acme)), recordIDs(records[7:]))
	for _, r := range records[:7] {
		if _, err := l.Record(t.Context(), acme, r.ID); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("record %s: %v, want ErrNotFound", r.ID, err)
		}
	}
	now := with(call(acme, records[0].ID, noon(), 1), func(r *store.Record) { r.Model = "new" })
	l.add(noon(), now) // its id is free
	equal(t, "horizon", l.tenant(acme).Horizon, before)
}

func pruneInOrder(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "b", noon(), 1), call(acme, "ä", noon(), 1), call(acme, "a", noon(), 1), call(acme, "B", noon(), 1))
	for _, left := range [][]string{{"a", "b", "ä"}, {"b", "ä"}, {"ä"}, nil} {
		_, err := l.Prune(t.Context(), acme, noon().Add(time.Microsecond), 1)
		l.must("Prune", err)
		equal(t, "records", recordIDs(l.records(acme)), left)
	}
}

func pruneKeepsTotals(t *testing.T, l *ledger) {
	records := hours(acme, -60*24, 40) // two months ago
	records = append(records, hours(acme, -30, 30)...)
	l.setTenant(noon(), store.Tenant{ID: acme, Name: acme, TimeZone: "Asia/Kolkata", BillingDay: 10})
	l.add(noon(), records...)
	months, days := l.totals(acme, store.Month), l.totals(acme, store.Day)
	same := func(when string) {
		t.Helper()
		for _, handle := range []*ledger{l, l.another()} {
			equal(t, "months "+when, handle.totals(acme, store.Month), months)
			equal(t, "days "+when, handle.totals(acme, store.Day), days)
			handle.verified(acme)
		}
		l.must("Rebuild", l.Rebuild(t.Context(), acme))
		equal(t, "months rebuilt "+when, l.totals(acme, store.Month), months)
		equal(t, "days rebuilt "+when, l.totals(acme, store.Day), days)
		l.verified(acme)
	}
	for range 3 { // in the middle of days and months
		_, err := l.Prune(t.Context(), acme, noon().Add(-20*time.Hour), 15)
		l.must("Prune", err)
		same("while it is pruned")
	}
	l.prune(acme, noon().Add(-20*time.Hour), 15)
	same("after it was pruned")
	l.prune(acme, noon(), 100)
	same("after more was pruned")
	equal(t, "records", l.records(acme), nil)
	more := call(acme, "more", noon(), 100)
	l.add(noon(), more)
	l.verified(acme)
}

func pruneRefuses(t *testing.T, l *ledger) {
	l.add(noon(), hours(acme, -10, 10)...)
	horizon := noon().Add(-5 * time.Hour)
	_, err := l.Prune(t.Context(), acme, horizon, 1)
	l.must("Prune", err)
	late := call(acme, "late", horizon.Add(-time.Microsecond), 1)
	l.unchanged(noon(), func() {
		for _, r := range []store.Record{late, hours(acme, -10, 10)[0], hours(acme, -10, 10)[4]} {
			o := l.tryOne(noon(), r)
			var pruned *store.PrunedError
			if !errors.As(o.Err, &pruned) || !errors.Is(o.Err, store.ErrPruned) {
				t.Fatalf("record %s: %v, want a *PrunedError", r.ID, o.Err)
			}
			equal(t, "error", *pruned, store.PrunedError{TenantID: acme, ID: r.ID, At: r.At, Horizon: horizon})
		}
	})
	outcomes := l.try(noon(), call(acme, "at", horizon, 1), late, call(globex, "late", late.At, 1), call(acme, "after", noon(), 1))
	for i, want := range []bool{true, false, true, true} {
		if got := outcomes[i].Err == nil; got != want {
			t.Errorf("outcome %d: %v", i, outcomes[i].Err)
		}
	}
	l.prune(acme, horizon, 10)
	l.verified(acme)
}

func pruneHorizon(t *testing.T, l *ledger) {
	l.add(noon(), hours(acme, -10, 10)...)
	first, second := noon().Add(-5*time.Hour), noon().Add(-2*time.Hour)
	equal(t, "horizon before", l.tenant(acme).Horizon, time.Time{})
	l.prune(acme, second, 3)
	equal(t, "dropped before an earlier horizon", l.prune(acme, first, 3), 0)
	l.setTenant(noon(), store.Tenant{ID: acme, Name: "Acme", TimeZone: "America/Havana", BillingDay: 31})
	l.must("Suspend", l.Suspend(t.Context(), noon(), acme, "unpaid"))
	l.setQuota(noon(), someQuota(acme), quiet)
	l.must("Rebuild", l.Rebuild(t.Context(), acme))
	for _, handle := range []*ledger{l, l.another()} {
		equal(t, "horizon", handle.standing(acme, noon()).Tenant.Horizon, second)
		if o := handle.tryOne(noon(), call(acme, "x", second.Add(-1000), 1)); !errors.Is(o.Err, store.ErrPruned) {
			t.Errorf("a call before the horizon: %v", o.Err)
		}
	}
	l.verified(acme)
}

func pruneApart(t *testing.T, l *ledger) {
	l.add(noon(), append(hours(acme, -10, 10), hours(globex, -10, 10)...)...)
	equal(t, "dropped", l.prune(acme, noon(), 3), 10)
	equal(t, "dropped of nobody", l.prune("nobody", noon(), 3), 0)
	equal(t, "records of another tenant", recordIDs(l.records(globex)), recordIDs(hours(globex, -10, 10)))
	equal(t, "horizon of another tenant", l.tenant(globex).Horizon, time.Time{})
	equal(t, "tenants", len(l.tenants()), 2)
	l.add(noon(), call(globex, "late", noon().Add(-9*time.Hour), 1))
	l.healthy(globex)
}

func pruneThenCalendar(t *testing.T, l *ledger) {
	records := hours(acme, -24*12, 24*12) // over the month's first
	l.add(noon(), records...)
	before := noon().Add(-24*9*time.Hour - time.Minute)
	n := l.prune(acme, before, 50)
	gone := inMiddle(store.Calendar{}, records[:n]...)
	l.setTenant(noon(), store.Tenant{ID: acme, Name: acme, TimeZone: "Pacific/Chatham", BillingDay: 28})
	calendar, err := store.NewCalendar("Pacific/Chatham", 28)
	l.must("calendar", err)
	for _, w := range []store.Window{store.Month, store.Day} {
		equal(t, string(w)+" totals", l.totals(acme, w), totalled(calendar, w, append(gone, records[n:]...)))
	}
	l.verified(acme)
}

func pruneThenGoOn(t *testing.T, l *ledger) {
	for i := range 6 {
		l.add(noon(), call(acme, fmt.Sprint("a", i), noon().Add(time.Duration(i)*time.Minute), 1))
		l.judged(noon(), raise(reached(80+i, 100)), call(globex, fmt.Sprint("b", i), noon(), 1))
		l.prune(acme, noon().Add(time.Duration(i-2)*time.Minute), 1)
		l.prune(globex, noon().Add(time.Microsecond), 5) // the last record of all, often
	}
	equal(t, "records", recordIDs(l.paged(store.RecordQuery{TenantID: acme, Limit: 1}, func() {})), []string{"a3", "a4", "a5"})
	equal(t, "records of another", l.records(globex), nil)
	l.verified(acme)
	l.verified(globex)
	equal(t, "alerts", len(l.alerts(globex)), 1)
}

// pruneBesideWriters has goroutines log the same late calls over and over while they are pruned.
func pruneBesideWriters(t *testing.T, l *ledger) {
	const calls = 30
	records := hours(acme, -calls, calls)
	l.add(noon(), records...)
	want := l.totals(acme, store.Month)
	handles := []*ledger{l, l.another(), l.another()}
	together(t, 4, func(i int) error {
		for n := range calls {
			if i == 0 {
				if _, err := l.Prune(t.Context(), acme, noon().Add(time.Duration(n-calls+1)*time.Hour), 2); err != nil {
					return err
				}
				continue
			}
			outcomes, err := handles[i%3].Append(t.Context(), noon(), lend(records[n]), quiet)
			if err != nil {
				return err
			}
			if o := outcomes[0]; !o.Duplicate && !errors.Is(o.Err, store.ErrPruned) {
				return fmt.Errorf("record %s: duplicate %v, %w", records[n].ID, o.Duplicate, o.Err)
			}
		}
		return nil
	})
	equal(t, "totals", l.another().totals(acme, store.Month), want)
	l.verified(acme)
}

func pruneHolds(t *testing.T, l *ledger) {
	horizon := noon().Add(time.Minute)
	old := []string{"expired", "released", "settled"}
	for _, id := range old {
		l.take(noon(), hold(acme, id, noon(), time.Minute-time.Microsecond, 1))
	}
	l.take(noon(), hold(acme, "at the horizon", noon(), time.Minute, 1), hold(acme, "live", noon(), time.Hour, 1),
		hold(globex, "expired", noon(), time.Second, 1))
	l.must("Release", l.Release(t.Context(), noon(), acme, "released", keep))
	l.add(noon(), settling("settled", call(acme, "a", horizon, 1)))
	now := noon().Add(2 * time.Minute)
	pruned := func() {
		t.Helper()
		for _, tenant := range []string{acme, globex, "nobody"} {
			if last, err := l.another().PruneHolds(t.Context(), tenant, "", 10); err != nil || tenant == "nobody" && last != "" {
				t.Errorf("holds of %s: %q, %v", tenant, last, err)
			}
		}
	}
	l.unchanged(now, pruned) // without a horizon there is nothing to drop
	for _, id := range old {
		l.taken(l.ask(now, admit, hold(acme, id, now, time.Hour, 2))[0], id)
	}
	l.prune(acme, horizon, 10)
	pruned()
	for _, id := range old {
		if err := l.Release(t.Context(), now, acme, id, keep); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("hold %q: %v, want ErrNotFound", id, err)
		}
	}
	for _, id := range []string{"at the horizon", "live"} {
		l.taken(l.ask(now, admit, hold(acme, id, now, time.Hour, 2))[0], id)
	}
	l.must("Release", l.Release(t.Context(), now, globex, "expired", keep))
	l.stands(now, 1, 1)
	r, err := l.Record(t.Context(), acme, "a")
	l.must("Record", err)
	equal(t, "settlement of a record whose hold is gone", r.Settlement, store.Settled)
	l.settles(now, "settled", 1, store.HoldUnknown, 0)
	l.must("an id that is free again", l.ask(now, admit, hold(acme, "released", now, time.Hour, 4))[0])
	l.stands(now, 2, 5)
	l.verified(acme)
	if o := l.tryOne(now, settling("settled", call(acme, "a", horizon, 1))); o.Err != nil || !o.Duplicate {
		t.Errorf("the call that settled a hold which is gone, again: %+v", o)
	}
}

func pruneHoldsInPages(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "a", noon(), 1))
	ids := []string{"B", "a", "b", "c", "ä"}
	for i, id := range ids {
		l.take(noon(), hold(acme, id, noon(), []time.Duration{time.Second, time.Hour}[i/3], 1))
	}
	l.prune(acme, noon().Add(time.Minute), 10)
	for _, page := range []struct {
		after, last string
		gone        int
	}{{"", "a", 2}, {"a", "c", 3}, {"c", "ä", 3}, {"ä", "", 3}, {"", "ä", 3}} {
		last, err := l.PruneHolds(t.Context(), acme, page.after, 2)
		l.must("PruneHolds", err)
		equal(t, "last after "+page.after, last, page.last)
		for i, id := range ids {
			err := l.Release(t.Context(), noon().Add(time.Minute), acme, id, keep)
			if gone := errors.Is(err, store.ErrNotFound); gone != (i < page.gone) {
				t.Errorf("hold %q after the page to %q: %v", id, last, err)
			}
		}
	}
}

// pruneAllHolds drops acme's holds that are to go, page by page.
func pruneAllHolds(l *ledger) (err error) {
	for after := ""; ; {
		after, err = l.PruneHolds(l.t.Context(), acme, after, 7)
		if err != nil || after == "" {
			return err
		}
	}
}

// pruneHoldsBesideWriters has goroutines take holds, and settle each second one, among old ones that are dropped meanwhile.
func pruneHoldsBesideWriters(t *testing.T, l *ledger) {
	const writers, holds = 3, 20
	id := func(writer, n int) string { return fmt.Sprintf("%02d-%d", n, writer) }
	for n := range holds {
		l.take(noon(), hold(acme, fmt.Sprintf("%02d-old", n), noon(), time.Second, 1))
	}
	now := noon().Add(time.Hour)
	l.prune(acme, now, 10)
	handles := []*ledger{l, l.another(), l.another()}
	together(t, 1+writers, func(i int) error {
		for n := range holds {
			if i == writers {
				if err := pruneAllHolds(l); err != nil {
					return err
				}
				continue
			}
			outcomes, err := handles[i].Hold(t.Context(), now, []store.Hold{hold(acme, id(i, n), now, time.Hour, 1)}, admit)
			if err != nil || outcomes[0].Err != nil {
				return fmt.Errorf("hold %s: %+v, %w", id(i, n), outcomes, err)
			}
			if n%2 == 1 {
				continue
			}
			settled, err := handles[i].Append(t.Context(), now, lend(settling(id(i, n), call(acme, id(i, n), now, 1))), quiet)
			if err != nil || settled[0].Err != nil || settled[0].Record.Settlement != store.Settled {
				return fmt.Errorf("settling hold %s: %+v, %w", id(i, n), settled, err)
			}
		}
		return nil
	})
	l.must("PruneHolds", pruneAllHolds(l))
	var live []string
	for n := 1; n < holds; n += 2 {
		for writer := range writers {
			live = append(live, id(writer, n))
		}
	}
	equal(t, "live holds", heldIDs(l.another().standing(acme, now)), live)
	for n := range holds {
		if err := l.Release(t.Context(), now, acme, fmt.Sprintf("%02d-old", n), keep); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("old hold %d: %v, want ErrNotFound", n, err)
		}
	}
	l.verified(acme)
}
