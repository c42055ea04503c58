package storetest

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// everything is a limit that no listing of the suite reaches.
const everything = 10_000

// ledger is a handle whose helpers end the test at an unexpected error. The store's own methods are there for the
// expected ones, and for goroutines, which must not end a test.
type ledger struct {
	store.Store
	t    testing.TB
	open Open
}

func newLedger(t testing.TB, open Open) *ledger {
	t.Helper()
	st := open(t)
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &ledger{Store: st, t: t, open: open}
}

// another is another handle on the same database.
func (l *ledger) another() *ledger { return newLedger(l.t, l.open) }

// in is the same handle for a subtest.
func (l *ledger) in(t testing.TB) *ledger { return &ledger{Store: l.Store, t: t, open: l.open} }

func (l *ledger) must(what string, err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatalf("%s: %v", what, err)
	}
}

// lend returns records as Append and Reprice borrow them: copies, for the store sets some of their fields.
func lend(records ...store.Record) []*store.Record {
	lent := make([]*store.Record, len(records))
	for i, r := range records {
		lent[i] = &r
	}
	return lent
}

// judged appends the records, whatever their outcomes.
func (l *ledger) judged(now time.Time, judge store.Judge, records ...store.Record) []store.Outcome {
	l.t.Helper()
	outcomes, err := l.Append(l.t.Context(), now, lend(records...), judge)
	l.must("Append", err)
	if len(outcomes) != len(records) {
		l.t.Fatalf("Append of %d records has %d outcomes", len(records), len(outcomes))
	}
	return outcomes
}

// try appends the records with nobody to raise alerts.
func (l *ledger) try(now time.Time, records ...store.Record) []store.Outcome {
	l.t.Helper()
	return l.judged(now, quiet, records...)
}

// tryOne appends one record and returns its outcome.
func (l *ledger) tryOne(now time.Time, record store.Record) store.Outcome {
	l.t.Helper()
	return l.try(now, record)[0]
}

// add appends records that must all be new, and returns them as they were stored.
func (l *ledger) add(now time.Time, records ...store.Record) []store.Record {
	l.t.Helper()
	stored := make([]store.Record, 0, len(records))
	for i, o := range l.try(now, records...) {
		if o.Err != nil || o.Duplicate {
			l.t.Fatalf("record %q: duplicate %v, error %v, want it added", records[i].ID, o.Duplicate, o.Err)
		}
		stored = append(stored, *o.Record)
	}
	return stored
}

// take takes holds that must all be admitted.
func (l *ledger) take(now time.Time, holds ...store.Hold) {
	l.t.Helper()
	for i, err := range l.ask(now, admit, holds...) {
		l.must("Hold "+holds[i].ID, err)
	}
}

// ask asks for holds and returns what became of each.
func (l *ledger) ask(now time.Time, decide store.Decide, holds ...store.Hold) []error {
	l.t.Helper()
	outcomes := l.decided(now, decide, holds...)
	results := make([]error, len(outcomes))
	for i := range outcomes {
		results[i] = outcomes[i].Err
	}
	return results
}

// decided asks for holds and returns their outcomes.
func (l *ledger) decided(now time.Time, decide store.Decide, holds ...store.Hold) []store.HoldOutcome {
	l.t.Helper()
	outcomes, err := l.Hold(l.t.Context(), now, holds, decide)
	l.must("Hold", err)
	if len(outcomes) != len(holds) {
		l.t.Fatalf("Hold of %d has %d outcomes", len(holds), len(outcomes))
	}
	return outcomes
}

func (l *ledger) setTenant(now time.Time, t store.Tenant) {
	l.t.Helper()
	l.must("SetTenant", l.SetTenant(l.t.Context(), now, t))
}

func (l *ledger) setQuota(now time.Time, q store.Quota, judge store.Judge) []store.Alert {
	l.t.Helper()
	alerts, err := l.SetQuota(l.t.Context(), now, q, judge)
	l.must("SetQuota", err)
	return alerts
}

// standing is a tenant's standing with its lists in a fixed order, as the contract leaves it open.
func (l *ledger) standing(tenant string, at time.Time) store.Standing {
	l.t.Helper()
	s, err := l.Standing(l.t.Context(), tenant, at)
	l.must("Standing", err)
	return ordered(s)
}

func (l *ledger) record(tenant, id string) store.Record {
	l.t.Helper()
	r, err := l.Record(l.t.Context(), tenant, id)
	l.must("Record "+id, err)
	return r
}

func (l *ledger) records(tenant string) []store.Record {
	l.t.Helper()
	records, err := l.Records(l.t.Context(), store.RecordQuery{TenantID: tenant, Limit: everything})
	l.must("Records", err)
	return records
}

func (l *ledger) totals(tenant string, w store.Window) []store.Total {
	l.t.Helper()
	totals, err := l.Totals(l.t.Context(), store.TotalQuery{
		TenantID: tenant, Window: w, From: instant("1990-01-01T00:00:00Z"), To: instant("2100-01-01T00:00:00Z"),
	})
	l.must("Totals", err)
	return totals
}

// alerts are those of a tenant, or of all for an empty one.
func (l *ledger) alerts(tenant string) []store.Alert {
	l.t.Helper()
	alerts, err := l.Alerts(l.t.Context(), store.AlertQuery{TenantID: tenant, Limit: everything})
	l.must("Alerts", err)
	return alerts
}

func (l *ledger) tenants() []store.Tenant {
	l.t.Helper()
	tenants, err := l.Tenants(l.t.Context(), "", everything)
	l.must("Tenants", err)
	return tenants
}

func (l *ledger) tenant(id string) store.Tenant {
	l.t.Helper()
	for _, t := range l.tenants() {
		if t.ID == id {
			return t
		}
	}
	l.t.Fatalf("tenant %q is not listed", id)
	return store.Tenant{}
}

// healthy checks that a tenant's totals are the sum of its records, by the suite's own arithmetic and by Verify.
func (l *ledger) healthy(tenant string) {
	l.t.Helper()
	l.healthyWith(tenant, nil)
}

// healthyWith is healthy of a tenant of which records are gone that still count.
func (l *ledger) healthyWith(tenant string, gone []store.Record) {
	l.t.Helper()
	calendar, err := l.standing(tenant, noon()).Tenant.Calendar()
	l.must("calendar of "+tenant, err)
	records := append(l.records(tenant), gone...)
	for _, w := range []store.Window{store.Month, store.Day} {
		equal(l.t, string(w)+" totals of "+tenant, l.totals(tenant, w), totalled(calendar, w, records))
	}
	l.verified(tenant)
}

func (l *ledger) verified(tenant string) {
	l.t.Helper()
	drift, err := l.Verify(l.t.Context(), tenant)
	l.must("Verify", err)
	equal(l.t, "drift of "+tenant, drift, nil)
}

// snapshot is all that a database shows, for telling whether anything changed. Holds and quotas are seen at an instant.
type snapshot struct {
	Tenants   []store.Tenant
	Records   []store.Record
	Totals    []store.Total
	Alerts    []store.Alert
	Standings []store.Standing
}

func (l *ledger) snapshot(at time.Time) snapshot {
	l.t.Helper()
	s := snapshot{Tenants: l.tenants(), Alerts: l.alerts("")}
	for _, t := range s.Tenants {
		s.Records = append(s.Records, l.records(t.ID)...)
		s.Totals = append(s.Totals, l.totals(t.ID, store.Month)...)
		s.Totals = append(s.Totals, l.totals(t.ID, store.Day)...)
		s.Standings = append(s.Standings, l.standing(t.ID, at))
	}
	return s
}

// unchanged checks that do leaves the database as it was, seen at an instant.
func (l *ledger) unchanged(at time.Time, do func()) {
	l.t.Helper()
	before := l.snapshot(at)
	do()
	equal(l.t, "the database afterwards", l.snapshot(at), before)
}

// equal compares what a store returned with what it should have. An empty list is as good as none.
func equal[T any](t testing.TB, what string, got, want T, options ...gocmp.Option) {
	t.Helper()
	if diff := gocmp.Diff(want, got, append(options, cmpopts.EquateEmpty())...); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// ordered puts a standing's lists in order. The quota of a tenant that was never given one has no tenant either.
func ordered(s store.Standing) store.Standing {
	s.MonthTotals, s.DayTotals, s.Held = slices.Clone(s.MonthTotals), slices.Clone(s.DayTotals), slices.Clone(s.Held)
	s.Holds, s.Arrivals, s.Alerts = slices.Clone(s.Holds), slices.Clone(s.Arrivals), slices.Clone(s.Alerts) // they may be the store's
	slices.SortFunc(s.MonthTotals, func(a, b *store.Total) int { return byModel(*a, *b) })
	slices.SortFunc(s.DayTotals, func(a, b *store.Total) int { return byModel(*a, *b) })
	slices.SortFunc(s.Held, func(a, b *store.Total) int { return byModel(*a, *b) })
	slices.SortFunc(s.Holds, func(a, b *store.Hold) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(s.Arrivals, func(a, b store.Arrival) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Model, b.Model), cmp.Compare(a.Meter, b.Meter), cmp.Compare(a.Per, b.Per))
	})
	slices.SortFunc(s.Alerts, func(a, b *store.Alert) int { return cmp.Compare(a.Number, b.Number) })
	if len(s.Quota.Limits) == 0 && len(s.Quota.AlertPercents) == 0 {
		s.Quota.TenantID = ""
	}
	return s
}

func byModel(a, b store.Total) int {
	return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Model, b.Model))
}
