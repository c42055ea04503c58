package store

import (
	"cmp"
	"slices"
	"time"
)

// Total is what a tenant used of one model in one period: the sum of its records there, and written with them.
type Total struct {
	TenantID        string
	Window          Window
	Start           time.Time
	Provider, Model string
	// Calls, Errors and Unpriced count records: all, those for which IsError holds, and those without a price.
	Calls, Errors, Unpriced int64
	// Cost is the sum of the records' costs; the unpriced have none.
	Cost Money
	// Meters are sorted by name.
	Meters []MeterTotal
}

// MeterTotal is the part of a total that one meter makes up. Billed and unbilled lines both count in Quantity.
type MeterTotal struct {
	Meter    Meter
	Quantity int64
	Cost     Money
}

// Add adds a record's counts to the total, or leaves it as it was and returns false when a sum would pass an int64.
func (t *Total) Add(r *Record) bool {
	if !t.fits(r.Cost, r.Lines, false) {
		return false
	}
	t.Calls++
	if r.IsError() {
		t.Errors++
	}
	if r.Unpriced != "" {
		t.Unpriced++
	}
	t.Cost += r.Cost
	for i := range r.Lines {
		m := t.meter(r.Lines[i].Meter)
		m.Quantity += r.Lines[i].Quantity
		m.Cost += r.Lines[i].Cost
	}
	return true
}

// Price moves a record that had no price to priced: the calls and quantities are in the total already.
// It leaves the total as it was and returns false when a sum would pass an int64.
func (t *Total) Price(r *Record) bool {
	if !t.fits(r.Cost, r.Lines, true) {
		return false
	}
	t.Unpriced--
	t.Cost += r.Cost
	for i := range r.Lines {
		t.meter(r.Lines[i].Meter).Cost += r.Lines[i].Cost
	}
	return true
}

// Merge adds another total's sums to t, or leaves it as it was and returns false when a sum would pass an int64.
func (t *Total) Merge(other *Total) bool {
	lines := make([]Line, len(other.Meters))
	for i, m := range other.Meters {
		lines[i] = Line{Meter: m.Meter, Quantity: m.Quantity, Cost: m.Cost}
	}
	if !t.fits(other.Cost, lines, false) {
		return false
	}
	t.Calls += other.Calls
	t.Errors += other.Errors
	t.Unpriced += other.Unpriced
	t.Cost += other.Cost
	for _, m := range other.Meters {
		sum := t.meter(m.Meter)
		sum.Quantity += m.Quantity
		sum.Cost += m.Cost
	}
	return true
}

// fits reports whether the sums stay within an int64; the quantities may be in them already. Each meter comes at most once in
// the lines.
func (t *Total) fits(cost Money, lines []Line, counted bool) bool {
	if _, ok := Add(int64(t.Cost), int64(cost)); !ok {
		return false
	}
	for i := range lines {
		at, found := t.find(lines[i].Meter)
		if !found {
			continue
		}
		_, okQuantity := Add(t.Meters[at].Quantity, lines[i].Quantity)
		_, okCost := Add(int64(t.Meters[at].Cost), int64(lines[i].Cost))
		if !okQuantity && !counted || !okCost {
			return false
		}
	}
	return true
}

// meter returns the sum of a meter, a new one if there is none.
func (t *Total) meter(m Meter) *MeterTotal {
	i, found := t.find(m)
	if !found {
		t.Meters = slices.Insert(t.Meters, i, MeterTotal{Meter: m})
	}
	return &t.Meters[i]
}

func (t *Total) find(m Meter) (i int, found bool) {
	for i = range t.Meters { // there are few
		if t.Meters[i].Meter >= m {
			return i, t.Meters[i].Meter == m
		}
	}
	return len(t.Meters), false
}

// TotalQuery selects totals of one tenant with From ≤ Start < To, ordered by start, provider and model.
type TotalQuery struct {
	TenantID string
	Window   Window
	From, To time.Time
}

// TenantTotals are the totals of a tenant in one period, ordered by provider and model. The list is empty when it
// used nothing.
type TenantTotals struct {
	Tenant Tenant
	Period Period
	Totals []Total
}

// Drift is a place where a tenant's totals are not the sum of its records, or a record's cost not that of its lines.
type Drift struct {
	// RecordID is set, and Window empty, when the fault is in one record.
	RecordID        string
	Window          Window
	Start           time.Time
	Provider, Model string
	// What differs: a meter's quantity, "calls", "errors" or "unpriced"; or a cost, with Meter empty for the whole.
	What  string
	Meter Meter
	// Ledger is what the records add up to, and Stored what the total says, in whole units or picodollars.
	Ledger, Stored int64
}

// SortTotals orders totals by window, start, provider and model, which is the order stores return them in.
func SortTotals(totals []Total) {
	slices.SortFunc(totals, func(a, b Total) int {
		return cmp.Or(cmp.Compare(a.Window, b.Window), a.Start.Compare(b.Start),
			cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Model, b.Model))
	})
}
