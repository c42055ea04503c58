package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

func duplicatePromises() []promise {
	return []promise{
		{"a duplicate is counted once", duplicateCountedOnce},
		{"a duplicate in one batch is counted once", duplicateInBatch},
		{"a duplicate may have another default time, even past the month's end", duplicateDefaultTime},
		{"a duplicate keeps the first price", duplicateOtherPrice},
		{"a duplicate settles nothing again and raises nothing again", duplicateSettlesNothing},
		{"other content under one id is a conflict that names the field", conflictNamesField},
		{"a conflict changes nothing", conflictChangesNothing},
		{"one id under two tenants is two records", idPerTenant},
	}
}

// duplicate appends a record that is there and checks that the outcome is the first result.
func (l *ledger) duplicate(now time.Time, again, first store.Record) {
	l.t.Helper()
	o := l.tryOne(now, again)
	l.must("duplicate", o.Err)
	if !o.Duplicate {
		l.t.Errorf("record %q again is not a duplicate", again.ID)
	}
	equal(l.t, "alerts of a duplicate", o.Alerts, nil)
	equal(l.t, "the first result", *o.Record, first)
}

func duplicateCountedOnce(t *testing.T, l *ledger) {
	first := l.add(noon(), fullRecord("a"))[0]
	again := fullRecord("a")
	again.Settlement = ""
	l.unchanged(noon(), func() {
		l.duplicate(noon().Add(time.Hour), again, first)
		l.another().duplicate(noon().Add(time.Hour), again, first)
	})
	l.healthy(acme)
}

func duplicateInBatch(t *testing.T, l *ledger) {
	a, b := call(acme, "a", noon(), 3), call(acme, "b", noon(), 4)
	var duplicates []bool
	for _, o := range l.try(noon(), a, b, a, a, b) {
		l.must("outcome", o.Err)
		duplicates = append(duplicates, o.Duplicate)
	}
	equal(t, "duplicates", duplicates, []bool{false, false, true, true, true})
	equal(t, "records", l.records(acme), []store.Record{a, b})
	l.healthy(acme)
}

func duplicateDefaultTime(t *testing.T, l *ledger) {
	lastMoment, named := instant("2026-03-31T23:59:59.999999Z"), call(acme, "named", noon(), 5)
	named.AtGiven = true
	l.add(lastMoment, call(acme, "default", lastMoment, 3), named)
	first, firstNamed := l.record(acme, "default"), l.record(acme, "named")
	l.unchanged(lastMoment, func() {
		l.duplicate(april(), call(acme, "default", april(), 3), first)
		l.duplicate(april(), call(acme, "named", april(), 5), firstNamed)
		l.duplicate(april(), with(call(acme, "default", april().Add(time.Hour), 3), func(r *store.Record) { r.AtGiven = true }), first)
	})
	l.healthy(acme)
}

func duplicateOtherPrice(t *testing.T, l *ledger) {
	first := l.add(noon(), call(acme, "a", noon(), 3), unpriced(acme, "u", noon(), 7))
	dearer := with(call(acme, "a", noon(), 3), func(r *store.Record) {
		r.Lines[0].Rate, r.Lines[0].Cost, r.Cost = store.Rate{Amount: 2, Per: 1}, 6, 6
		r.PriceVersion, r.RecordedAt = "2026-02", noon().Add(time.Hour)
	})
	l.unchanged(noon(), func() {
		l.duplicate(noon(), dearer, first[0])
		l.duplicate(noon(), priced(first[1]), first[1])
	})
}

func duplicateSettlesNothing(t *testing.T, l *ledger) {
	l.take(noon(), hold(acme, "h", noon(), time.Hour, 10))
	r := settling("h", call(acme, "a", noon(), 13))
	first := *l.judged(noon(), raise(reached(80, 100)), r)[0].Record
	l.unchanged(noon(), func() {
		l.duplicate(noon(), r, first)
		l.duplicate(noon().Add(2*time.Hour), r, first)
		equal(t, "alerts", l.judged(noon(), raise(reached(80, 100), reached(100, 100)), r)[0].Alerts, nil)
	})
	expired := l.add(noon(), settling("unknown", call(acme, "b", noon(), 1)))[0]
	l.take(noon(), hold(acme, "unknown", noon(), time.Hour, 10))
	l.unchanged(noon(), func() { l.duplicate(noon(), settling("unknown", call(acme, "b", noon(), 1)), expired) })
}

// contentChanges change one field each of what a caller said.
func contentChanges() map[string]func(*store.Record) {
	return map[string]func(*store.Record){
		"Provider":      func(r *store.Record) { r.Provider = "other" },
		"Model":         func(r *store.Record) { r.Model = "GPT-4-0613" },
		"Lines":         func(r *store.Record) { r.Lines[0].Quantity++ },
		"Conditions":    func(r *store.Record) { r.Conditions = "" },
		"At":            func(r *store.Record) { r.At = r.At.Add(time.Microsecond) },
		"Endpoint":      func(r *store.Record) { r.Endpoint += "/" },
		"Status":        func(r *store.Record) { r.Status = 200 },
		"Latency":       func(r *store.Record) { r.Latency += time.Microsecond },
		"Error":         func(r *store.Record) { r.Error = "" },
		"User":          func(r *store.Record) { r.User = "User-7" },
		"IP":            func(r *store.Record) { r.IP = "" },
		"Tags":          func(r *store.Record) { r.Tags = map[string]string{"team": "research"} },
		"ReservationID": func(r *store.Record) { r.HoldID = "" },
	}
}

func conflictNamesField(t *testing.T, l *ledger) {
	l.add(noon(), with(fullRecord("a"), func(r *store.Record) { r.Settlement = "" }))
	l.unchanged(noon(), func() {
		for field, change := range contentChanges() {
			t.Run(field, func(t *testing.T) {
				l.in(t).conflict(with(fullRecord("a"), change), field)
			})
		}
		l.conflict(with(fullRecord("a"), func(r *store.Record) { r.Lines = r.Lines[:1] }), "Lines")
		l.conflict(with(fullRecord("a"), func(r *store.Record) { r.Lines[0], r.Lines[1] = r.Lines[1], r.Lines[0] }), "Lines")
		l.conflict(with(fullRecord("a"), func(r *store.Record) { r.Lines[1].Meter = "ms" }), "Lines")
	})
}

// conflict appends a record whose id is taken and checks the error.
func (l *ledger) conflict(r store.Record, field string) {
	l.t.Helper()
	o := l.tryOne(noon(), r)
	var conflict *store.ConflictError
	if !errors.As(o.Err, &conflict) || o.Duplicate {
		l.t.Fatalf("duplicate %v, error %v, want a *ConflictError", o.Duplicate, o.Err)
	}
	equal(l.t, "conflict", *conflict, store.ConflictError{TenantID: r.TenantID, ID: r.ID, Field: field})
	if !errors.Is(o.Err, store.ErrConflict) {
		l.t.Errorf("%v is not ErrConflict", o.Err)
	}
}

func conflictChangesNothing(t *testing.T, l *ledger) {
	l.take(noon(), hold(acme, "h", noon(), time.Hour, 10))
	l.add(noon(), call(acme, "a", noon(), 3))
	l.unchanged(noon(), func() {
		l.conflict(call(acme, "a", noon(), 4), "Lines")
		l.another().conflict(settling("h", call(acme, "a", noon(), 3)), "ReservationID")
		equal(t, "alerts", l.judged(noon(), raise(reached(80, 100)), call(acme, "a", noon(), 4))[0].Alerts, nil)
	})
	outcomes := l.try(noon(), call(acme, "b", noon(), 1), call(acme, "b", noon(), 2), call(acme, "b", noon(), 1))
	if outcomes[0].Err != nil || !errors.Is(outcomes[1].Err, store.ErrConflict) || !outcomes[2].Duplicate {
		t.Errorf("a conflict inside one batch: %v, %v, duplicate %v", outcomes[0].Err, outcomes[1].Err, outcomes[2].Duplicate)
	}
	l.healthy(acme)
}

func idPerTenant(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "a", noon(), 3), call(globex, "a", noon(), 4))
	equal(t, "acme's", l.records(acme), []store.Record{call(acme, "a", noon(), 3)})
	equal(t, "globex's", l.records(globex), []store.Record{call(globex, "a", noon(), 4)})
	l.healthy(acme)
	l.healthy(globex)
}
