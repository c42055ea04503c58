package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

func commitPromises() []promise {
	return []promise{
		{"record, totals, settlement and alert are committed together", committedTogether},
		{"a judge that panics leaves nothing behind", judgePanics},
		{"a decide that panics leaves nothing behind", decidePanics},
		{"a context that ends while the judge thinks leaves all or nothing", contextEndsInJudge},
		{"judge gets the added records of its tenant, once, and a standing with them", judgeSeesAdded},
		{"judge is not asked about a tenant that got no record", judgeNotAsked},
		{"judge sees late records and settled holds", judgeSeesState},
	}
}

func committedTogether(t *testing.T, l *ledger) {
	other := l.another()
	l.take(noon(), hold(acme, "h", noon(), time.Hour, 10))
	outcome := l.judged(noon(), raise(reached(80, 100)), settling("h", call(acme, "a", noon(), 13)))[0]
	want := settling("h", call(acme, "a", noon(), 13))
	want.Settlement, want.Overage = store.Settled, 3
	equal(t, "outcome", *outcome.Record, want)
	equal(t, "record", other.record(acme, "a"), want)
	equal(t, "alerts", other.alerts(acme), outcome.Alerts)
	s := other.standing(acme, noon())
	equal(t, "holds", heldIDs(s), nil)
	equal(t, "spent", spent(&s), 13)
	if len(s.Alerts) != 1 {
		t.Errorf("standing has %d alerts, want 1", len(s.Alerts))
	}
	other.healthy(acme)
}

func judgePanics(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "before", noon(), 1))
	l.take(noon(), hold(acme, "h", noon(), time.Hour, 10))
	panics := func(*store.Standing, []*store.Record) store.Judgement { panic("judge") }
	l.unchanged(noon(), func() {
		expectPanic(t, func() error {
			_, err := l.Append(t.Context(), noon(), lend(settling("h", call(acme, "a", noon(), 1)), call(globex, "a", noon(), 1)), panics)
			return err
		})
	})
	l.unchanged(noon(), func() {
		expectPanic(t, func() error {
			_, err := l.SetQuota(t.Context(), noon(), store.Quota{TenantID: acme, Limits: []store.Limit{{Meter: "cost", Per: store.Month, Max: 1}}}, panics)
			return err
		})
	})
	l.add(noon(), settling("h", call(acme, "a", noon(), 1)))
	l.another().add(noon(), call(acme, "b", noon(), 1))
	l.healthy(acme)
}

func decidePanics(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "before", noon(), 1))
	l.unchanged(noon(), func() {
		expectPanic(t, func() error {
			_, err := l.Hold(t.Context(), noon(), []store.Hold{hold(acme, "h", noon(), time.Hour, 1), hold(globex, "h", noon(), time.Hour, 1)},
				func(s *store.Standing, _ *store.Hold) store.Verdict {
					if s.Tenant.ID == globex {
						panic("decide")
					}
					return store.Verdict{}
				})
			return err
		})
	})
	l.take(noon(), hold(acme, "h", noon(), time.Hour, 1))
	l.another().take(noon(), hold(acme, "i", noon(), time.Hour, 1))
}

// expectPanic lets a store pass a panic on or turn it into an error. Saying that all went well is wrong.
func expectPanic(t *testing.T, do func() error) {
	t.Helper()
	defer func() { _ = recover() }()
	if err := do(); err == nil {
		t.Error("no panic and no error")
	}
}

func contextEndsInJudge(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "before", noon(), 1))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := l.Append(ctx, noon(), lend(call(acme, "a", noon(), 1)), func(*store.Standing, []*store.Record) store.Judgement {
		cancel()
		return store.Judgement{}
	})
	_, readErr := l.Record(t.Context(), acme, "a")
	switch {
	case errors.Is(err, store.ErrUnknownOutcome):
	case err == nil && readErr != nil:
		t.Errorf("append succeeded, and its record: %v", readErr)
	case err != nil && !errors.Is(err, context.Canceled):
		t.Errorf("append: %v, want context.Canceled", err)
	case err != nil && !errors.Is(readErr, store.ErrNotFound):
		t.Errorf("append: %v; and its record: %v, want ErrNotFound", err, readErr)
	}
	l.add(noon(), call(acme, "after", noon(), 1))
	l.healthy(acme)
}

// heard is what a judge was told: the ids that were added, and what the standing had.
type heard struct {
	Added        []string
	Spent        store.Money
	Calls, Today int64
	Held         store.Money
	At           time.Time
}

// listen is a judge that notes what it is told about each tenant.
func listen(to map[string][]heard) store.Judge {
	return func(s *store.Standing, added []*store.Record) store.Judgement {
		h := heard{Spent: spent(s), Held: heldCost(s), At: s.At}
		for _, r := range added {
			if r.TenantID != s.Tenant.ID {
				h.Added = append(h.Added, r.TenantID)
			}
			h.Added = append(h.Added, r.ID)
		}
		for _, total := range s.MonthTotals {
			h.Calls += total.Calls
		}
		for _, total := range s.DayTotals {
			h.Today += total.Calls
		}
		to[s.Tenant.ID] = append(to[s.Tenant.ID], h)
		return store.Judgement{}
	}
}

func judgeSeesAdded(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "old", noon(), 1))
	got := map[string][]heard{}
	l.judged(noon().Add(time.Second), listen(got),
		call(globex, "a", noon(), 4), call(acme, "a", noon(), 2), call(acme, "old", noon(), 1),
		call(acme, "old", noon(), 9), call(globex, "b", noon(), 8), call(acme, "a", noon(), 2), call(acme, "b", noon(), 3),
	)
	equal(t, "what judge heard", got, map[string][]heard{
		acme:   {{Added: []string{"a", "b"}, Spent: 6, Calls: 3, Today: 3, At: noon().Add(time.Second)}},
		globex: {{Added: []string{"a", "b"}, Spent: 12, Calls: 2, Today: 2, At: noon().Add(time.Second)}},
	})
}

func judgeNotAsked(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "a", noon(), 1))
	got := map[string][]heard{}
	l.judged(noon(), listen(got), call(acme, "a", noon(), 1), call(acme, "a", noon(), 2), call(globex, "a", noon(), 1))
	equal(t, "what judge heard", got, map[string][]heard{
		globex: {{Added: []string{"a"}, Spent: 1, Calls: 1, Today: 1, At: noon()}},
	})
}

func judgeSeesState(t *testing.T, l *ledger) {
	l.take(noon(), hold(acme, "h1", noon(), time.Hour, 10), hold(acme, "h2", noon(), time.Hour, 10), hold(acme, "h3", noon(), time.Minute, 10))
	late, yesterday := call(acme, "late", instant("2026-02-10T12:00:00Z"), 5), call(acme, "yesterday", noon().Add(-24*time.Hour), 2)
	got := map[string][]heard{}
	now := noon().Add(time.Minute)
	l.judged(now, listen(got), late, settling("h1", call(acme, "a", noon(), 3)), yesterday)
	equal(t, "what judge heard", got, map[string][]heard{
		acme: {{Added: []string{"late", "a", "yesterday"}, Spent: 5, Calls: 2, Today: 1, Held: 10, At: now}},
	})
}
