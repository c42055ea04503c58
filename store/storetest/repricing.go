package storetest

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

func repricePromises() []promise {
	return []promise{
		{"an unpriced record gets its price, and its totals the cost, once", repricedOnce},
		{"repricing replaces the price and nothing else", repriceReplaces},
		{"a record that has a price is left as it is", repriceLeavesPriced},
		{"a record that does not exist is not found", repriceNotFound},
		{"a total that would pass an int64 leaves the record unpriced", repriceOverflow},
		{"repricing asks judge, and raises alerts once", repriceJudged},
	}
}

// reprice reprices the records, whatever their outcomes.
func (l *ledger) reprice(judge store.Judge, records ...store.Record) []store.Outcome {
	l.t.Helper()
	outcomes, err := l.Reprice(l.t.Context(), noon(), lend(records...), judge)
	l.must("Reprice", err)
	if len(outcomes) != len(records) {
		l.t.Fatalf("Reprice of %d records has %d outcomes", len(records), len(outcomes))
	}
	return outcomes
}

// repriced reprices records that must all be unpriced.
func (l *ledger) repriced(records ...store.Record) {
	l.t.Helper()
	for i, o := range l.reprice(quiet, records...) {
		if o.Err != nil || o.Duplicate {
			l.t.Fatalf("record %q: duplicate %v, error %v, want it repriced", records[i].ID, o.Duplicate, o.Err)
		}
		equal(l.t, "repriced record", *o.Record, records[i])
	}
}

func repricedOnce(t *testing.T, l *ledger) {
	u := unpriced(acme, "u", noon(), 7)
	late := unpriced(acme, "late", noon().AddDate(0, -1, 0), 5)
	l.add(noon(), u, late, unpriced(acme, "v", noon(), 3), call(acme, "a", noon(), 2))
	l.repriced(priced(u), priced(late))
	s := l.another().standing(acme, noon())
	equal(t, "spent", spent(&s), 9)
	equal(t, "month's total of the model", s.MonthTotals[1], &store.Total{
		TenantID: acme, Window: store.Month, Start: march(), Provider: "openai", Model: "unheard-of", Calls: 2, Unpriced: 1, Cost: 7,
		Meters: []store.MeterTotal{{Meter: "input_tokens", Quantity: 10, Cost: 7}},
	})
	l.healthy(acme)
	l.unchanged(noon(), func() {
		for _, o := range l.reprice(quiet, priced(u), priced(late), priced(u)) {
			if o.Err != nil || !o.Duplicate {
				t.Errorf("again: duplicate %v, error %v, want a duplicate", o.Duplicate, o.Err)
			}
		}
	})
	outcomes := l.reprice(quiet, priced(unpriced(acme, "v", noon(), 3)), priced(unpriced(acme, "v", noon(), 3)))
	if outcomes[0].Duplicate || !outcomes[1].Duplicate {
		t.Errorf("twice in one batch: duplicates %v and %v", outcomes[0].Duplicate, outcomes[1].Duplicate)
	}
	l.healthy(acme)
}

func repriceReplaces(t *testing.T, l *ledger) {
	u := with(fullRecord("u"), func(r *store.Record) {
		r.Unpriced, r.Cost, r.Settlement = "model has no price", 0, ""
		r.Lines = []store.Line{{Meter: "input_tokens", Quantity: 7}, {Meter: "reasoning_tokens", Quantity: 2, Unbilled: true}}
	})
	l.add(noon(), u)
	want := with(u, func(r *store.Record) {
		r.Settlement, r.Unpriced, r.Cost, r.PriceVersion = store.HoldUnknown, "", 14, "2026-02"
		r.Lines[0].Rate, r.Lines[0].Cost = store.Rate{Amount: 2, Per: 1, RoundUpTo: 1}, 14
	})
	l.repriced(want)
	equal(t, "record", l.record(acme, "u"), want)
	equal(t, "listed", l.records(acme), []store.Record{want})
	unpricedOnly, err := l.Records(t.Context(), store.RecordQuery{TenantID: acme, Unpriced: true, Limit: 1})
	l.must("Records", err)
	equal(t, "unpriced records", unpricedOnly, nil)
	l.duplicate(noon(), u, want)
	l.healthy(acme)
}

func repriceLeavesPriced(t *testing.T, l *ledger) {
	first := l.add(noon(), call(acme, "a", noon(), 3))[0]
	dearer := with(first, func(r *store.Record) { r.Cost, r.Lines[0].Cost, r.PriceVersion = 9, 9, "2026-02" })
	l.unchanged(noon(), func() {
		o := l.reprice(raise(reached(80, 100)), dearer)[0]
		l.must("Reprice", o.Err)
		equal(t, "duplicate", o.Duplicate, true)
		equal(t, "record", *o.Record, first)
		equal(t, "alerts", o.Alerts, nil)
	})
}

func repriceNotFound(t *testing.T, l *ledger) {
	u := unpriced(acme, "u", noon(), 7)
	l.add(noon(), u)
	before := l.tenants()
	outcomes := l.reprice(quiet, priced(unpriced(acme, "x", noon(), 7)), priced(u), priced(unpriced(globex, "u", noon(), 7)))
	for i, want := range []error{store.ErrNotFound, nil, store.ErrNotFound} {
		if !errors.Is(outcomes[i].Err, want) {
			t.Errorf("outcome %d: %v, want %v", i, outcomes[i].Err, want)
		}
	}
	equal(t, "records", l.records(acme), []store.Record{priced(u)})
	equal(t, "records of globex", l.records(globex), nil)
	equal(t, "tenants", l.tenants(), before)
	l.healthy(acme)
}

func repriceOverflow(t *testing.T, l *ledger) {
	huge := with(call(acme, "huge", noon(), math.MaxInt64-20), func(r *store.Record) { r.Model = "unheard-of" })
	poison := unpriced(acme, "poison", noon().Add(24*time.Hour), 1)
	l.add(noon(), huge, poison, unpriced(acme, "u", noon(), 7))
	dear := with(poison, func(r *store.Record) {
		r.Unpriced, r.Cost, r.Lines[0].Cost, r.Lines[0].Rate = "", 21, 21, store.Rate{Amount: 21, Per: 1}
	})
	outcomes := l.reprice(quiet, dear, priced(unpriced(acme, "u", noon(), 7)))
	if !errors.Is(outcomes[0].Err, store.ErrOverflow) || outcomes[1].Err != nil {
		t.Errorf("errors %v and %v, want ErrOverflow and none", outcomes[0].Err, outcomes[1].Err)
	}
	equal(t, "record", l.record(acme, "poison"), poison)
	l.healthy(acme)
}

func repriceJudged(t *testing.T, l *ledger) {
	u, v := unpriced(acme, "u", noon(), 7), unpriced(acme, "v", noon(), 3)
	l.add(noon(), u, v, unpriced(globex, "u", noon(), 1), call(acme, "a", noon(), 1))
	got := map[string][]heard{}
	outcomes := l.reprice(func(s *store.Standing, added []*store.Record) store.Judgement {
		listen(got)(s, added)
		return store.Judgement{Alerts: []store.Alert{reached(80, 100)}}
	}, priced(u), priced(v), call(acme, "a", noon(), 1), call(globex, "none", noon(), 1))
	equal(t, "what judge heard", got, map[string][]heard{
		acme: {{Added: []string{"u", "v"}, Spent: 11, Calls: 3, Today: 3, At: noon()}},
	})
	equal(t, "alerts", outcomes[1].Alerts, []store.Alert{raised(reached(80, 100), acme, noon(), 1)})
	equal(t, "alerts of the others", len(outcomes[0].Alerts)+len(outcomes[2].Alerts)+len(outcomes[3].Alerts), 0)
	equal(t, "stored alerts", l.alerts(""), outcomes[1].Alerts)
}
