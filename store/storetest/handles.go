package storetest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/acf68eca/usage/store"
)

func handlePromises() []promise {
	return []promise{
		{"two handles see each other's commits at once", handlesSeeEachOther},
		{"a calendar that one handle changed is the other's too", handlesShareCalendar},
		{"what was committed is there when the database is opened again", reopened},
		{"a closed handle says so, closes twice, and leaves the others be", closedHandle},
		{"racing handles count each record once", racingHandles},
		{"racing appends of batches in any order neither fail nor lose", racingBatches},
		{"readers beside a writer see whole commits", readersSeeWholeCommits},
	}
}

func handlesSeeEachOther(t *testing.T, l *ledger) {
	handles := []*ledger{l, l.another(), l.another()}
	for i := range 12 {
		id := fmt.Sprintf("%02d", i)
		handles[i%3].add(noon(), call(acme, id, noon(), 1))
		for _, h := range handles {
			equal(t, "record", h.record(acme, id).ID, id)
			s := h.standing(acme, noon())
			equal(t, "spent", spent(&s), store.Money(i+1))
		}
	}
	l.healthy(acme)
}

func handlesShareCalendar(t *testing.T, l *ledger) {
	other := l.another()
	at := instant("2026-03-31T20:00:00Z")
	l.add(noon(), call(acme, "a", at, 1))
	other.add(noon(), call(acme, "b", at, 2))
	l.setTenant(noon(), store.Tenant{ID: acme, Name: "Acme", TimeZone: "Asia/Kolkata", BillingDay: 1})
	other.add(noon(), call(acme, "c", at, 4))
	s := other.standing(acme, at)
	equal(t, "month's start", s.Month.Start, instant("2026-03-31T18:30:00Z"))
	equal(t, "spent", spent(&s), 7)
	other.healthy(acme)
	l.healthy(acme)
}

func reopened(t *testing.T, l *ledger) {
	first := l.another()
	first.prepare()
	first.setQuota(noon(), someQuota(acme), quiet)
	first.must("Suspend", first.Suspend(t.Context(), noon(), acme, "unpaid"))
	want := first.snapshot(noon())
	first.must("Close", first.Close())
	l.must("Close", l.Close())
	equal(t, "the database", l.another().snapshot(noon()), want)
}

func closedHandle(t *testing.T, l *ledger) {
	alertID := l.prepare()
	closed := l.another()
	closed.add(noon(), call(acme, "c", noon(), 1))
	closed.must("Close", closed.Close())
	closed.must("Close again", closed.Close())
	l.unchanged(noon(), func() {
		for _, m := range methods(alertID) {
			if err := m.call(t.Context(), closed.Store); !errors.Is(err, store.ErrClosed) {
				t.Errorf("%s: %v, want ErrClosed", m.name, err)
			}
		}
	})
	for _, m := range methods(alertID) {
		l.must(m.name+" of another handle", m.call(t.Context(), l.Store))
	}
}

// racingHandles has every goroutine send the same records, as retries through several processes would.
func racingHandles(t *testing.T, l *ledger) {
	const goroutines, records = 6, 20
	handles := []*ledger{l, l.another(), l.another()}
	var added, duplicates atomic.Int64
	together(t, goroutines, func(i int) error {
		for j := range records {
			n := (j*7 + i*3) % records
			outcomes, err := handles[i%3].Append(t.Context(), noon(), lend(call(acme, fmt.Sprint(n), noon(), int64(n))), quiet)
			if err != nil || outcomes[0].Err != nil {
				return errors.Join(err, outcomes[0].Err)
			}
			if outcomes[0].Duplicate {
				duplicates.Add(1)
			} else {
				added.Add(1)
			}
		}
		return nil
	})
	equal(t, "added", added.Load(), records)
	equal(t, "duplicates", duplicates.Load(), (goroutines-1)*records)
	s := l.standing(acme, noon())
	equal(t, "spent", spent(&s), records*(records-1)/2)
	l.healthy(acme)
}

// racingBatches has goroutines append to the same tenants in different orders, which deadlocks a store that locks
// them as they come.
func racingBatches(t *testing.T, l *ledger) {
	const goroutines, batches, tenants = 6, 8, 5
	handles := []*ledger{l, l.another()}
	together(t, goroutines, func(i int) error {
		for j := range batches {
			var batch []store.Record
			for k := range tenants {
				tenant := fmt.Sprint("tenant ", (i+j+k*(1+i%4))%tenants)
				batch = append(batch, call(tenant, fmt.Sprint(i, "-", j, "-", k), noon(), int64(k)))
			}
			outcomes, err := handles[i%2].Append(t.Context(), noon(), lend(batch...), quiet)
			for _, o := range outcomes {
				err = errors.Join(err, o.Err)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	total := 0
	for _, tenant := range l.tenants() {
		total += len(l.records(tenant.ID))
		l.healthy(tenant.ID)
	}
	equal(t, "records", total, goroutines*batches*tenants)
}

// readersSeeWholeCommits appends two records of one picodollar at a time: no reader may see an odd sum, nor a month
// that differs from its day.
func readersSeeWholeCommits(t *testing.T, l *ledger) {
	const batches = 20
	handles := []*ledger{l, l.another(), l}
	together(t, len(handles), func(i int) error {
		for j := range batches {
			if i == 0 {
				if _, err := l.Append(t.Context(), noon(), lend(call(acme, fmt.Sprint(j, "a"), noon(), 1), call(acme, fmt.Sprint(j, "b"), noon(), 1)), quiet); err != nil {
					return err
				}
				continue
			}
			s, err := handles[i].Standing(t.Context(), acme, noon())
			if err != nil {
				return err
			}
			var today store.Money
			for _, total := range s.DayTotals {
				today += total.Cost
			}
			if month := spent(&s); month%2 != 0 || month != today {
				return fmt.Errorf("a reader saw %d in the month and %d today", month, today)
			}
		}
		return nil
	})
	l.healthy(acme)
}
