package store

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Tally adds up the records of one tenant by the periods of a calendar, from nothing: what its totals must be.
// Stores verify and rebuild with it. It is not safe for concurrent use.
type Tally struct {
	calendar Calendar
	day      Period
	month    Period
	totals   map[tallyKey]*Total
}

type tallyKey struct {
	window          Window
	start           int64
	provider, model string
}

// NewTally returns an empty tally.
func NewTally(c Calendar) *Tally {
	return &Tally{calendar: c, totals: make(map[tallyKey]*Total)}
}

// Add counts a record, or returns ErrOverflow when a sum would pass an int64.
func (t *Tally) Add(r *Record) error {
	if !t.day.Contains(r.At) {
		t.day = t.calendar.Day(r.At)
	}
	if !t.month.Contains(r.At) {
		t.month = t.calendar.Month(r.At)
	}
	if !t.total(Day, t.day.Start, r).Add(r) || !t.total(Month, t.month.Start, r).Add(r) {
		return ErrOverflow
	}
	return nil
}

// AddTotal counts what records that were dropped added up to, at the instant that stands for them, or returns ErrOverflow
// when a sum would pass an int64.
func (t *Tally) AddTotal(at time.Time, sums *Total) error {
	r := Record{TenantID: sums.TenantID, Provider: sums.Provider, Model: sums.Model}
	if !t.total(Day, t.calendar.Day(at).Start, &r).Merge(sums) || !t.total(Month, t.calendar.Month(at).Start, &r).Merge(sums) {
		return ErrOverflow
	}
	return nil
}

func (t *Tally) total(w Window, start time.Time, r *Record) *Total {
	key := tallyKey{w, start.UnixMicro(), r.Provider, r.Model}
	total := t.totals[key]
	if total == nil {
		total = &Total{TenantID: r.TenantID, Window: w, Start: start, Provider: r.Provider, Model: r.Model}
		t.totals[key] = total
	}
	return total
}

// Totals returns the sums, ordered by window, start, provider and model.
func (t *Tally) Totals() []Total {
	totals := make([]Total, 0, len(t.totals))
	for _, total := range t.totals {
		totals = append(totals, *total)
	}
	SortTotals(totals)
	return totals
}

// Drift compares the tally with the totals that a store has.
func (t *Tally) Drift(stored []Total) []Drift {
	left := maps.Clone(t.totals)
	var drift []Drift
	for i := range stored {
		key := tallyKey{stored[i].Window, stored[i].Start.UnixMicro(), stored[i].Provider, stored[i].Model}
		ledger := left[key]
		if ledger == nil {
			ledger = &Total{}
		}
		drift = append(drift, compare(ledger, &stored[i])...)
		delete(left, key)
	}
	for _, missing := range left {
		drift = append(drift, compare(missing, &Total{
			Window: missing.Window, Start: missing.Start, Provider: missing.Provider, Model: missing.Model,
		})...)
	}
	slices.SortFunc(drift, func(a, b Drift) int {
		return cmp.Or(cmp.Compare(a.Window, b.Window), a.Start.Compare(b.Start), cmp.Compare(a.Provider, b.Provider),
			cmp.Compare(a.Model, b.Model), cmp.Compare(a.Meter, b.Meter), cmp.Compare(a.What, b.What))
	})
	return drift
}

// compare lists the differences of two totals under one key, which is stored's.
func compare(ledger, stored *Total) (drift []Drift) {
	note := func(meter Meter, what string, ledgerSum, storedSum int64) {
		if ledgerSum != storedSum {
			drift = append(drift, Drift{
				Window: stored.Window, Start: stored.Start, Provider: stored.Provider, Model: stored.Model,
				Meter: meter, What: what, Ledger: ledgerSum, Stored: storedSum,
			})
		}
	}
	note("", "calls", ledger.Calls, stored.Calls)
	note("", "errors", ledger.Errors, stored.Errors)
	note("", "unpriced", ledger.Unpriced, stored.Unpriced)
	note("", "cost", int64(ledger.Cost), int64(stored.Cost))
	meters := make(map[Meter][2]MeterTotal)
	for _, m := range ledger.Meters {
		meters[m.Meter] = [2]MeterTotal{m, {}}
	}
	for _, m := range stored.Meters {
		meters[m.Meter] = [2]MeterTotal{meters[m.Meter][0], m}
	}
	for meter, pair := range meters {
		note(meter, "quantity", pair[0].Quantity, pair[1].Quantity)
		note(meter, "cost", int64(pair[0].Cost), int64(pair[1].Cost))
	}
	return drift
}

// CostDrift returns the drift of a record whose cost is not the sum of its lines' costs.
func (r *Record) CostDrift() (d Drift, found bool) {
	var sum Money
	for i := range r.Lines {
		sum += r.Lines[i].Cost
	}
	if sum == r.Cost {
		return Drift{}, false
	}
	return Drift{
		RecordID: r.ID, Provider: r.Provider, Model: r.Model, What: "cost", Ledger: int64(sum), Stored: int64(r.Cost),
	}, true
}
