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
	sum := *t
	sum.Meters = slices.Clone(t.Meters)
	sum.Calls++
	if r.IsError() {
		sum.Errors++
	}
	if r.Unpriced != "" {
		sum.Unpriced++
	}
	for i := range r.Lines {
		if !sum.addLine(r.Lines[i].Meter, r.Lines[i].Quantity, r.Lines[i].Cost) {
			return false
		}
	}
	if !sum.addCost(r.Cost) {
		return false
	}
	*t = sum
	return true
}

// Price moves a record that had no price to priced: the calls and quantities are in the total already.
// It leaves the total as it was and returns false when a sum would pass an int64.
func (t *Total) Price(r *Record) bool {
	sum := *t
	sum.Meters = slices.Clone(t.Meters)
	sum.Unpriced--
	for i := range r.Lines {
		if !sum.addLine(r.Lines[i].Meter, 0, r.Lines[i].Cost) {
			return false
		}
	}
	if !sum.addCost(r.Cost) {
		return false
	}
	*t = sum
	return true
}

// Merge adds another total's sums to t, or leaves it as it was and returns false when a sum would pass an int64.
func (t *Total) Merge(other *Total) bool {
	sum := *t
	sum.Meters = slices.Clone(t.Meters)
	sum.Calls += other.Calls
	sum.Errors += other.Errors
	sum.Unpriced += other.Unpriced
	for _, m := range other.Meters {
		if !sum.addLine(m.Meter, m.Quantity, m.Cost) {
			return false
		}
	}
	if !sum.addCost(other.Cost) {
		return false
	}
	*t = sum
	return true
}

func (t *Total) addCost(m Money) bool {
	sum, ok := Add(int64(t.Cost), int64(m))
	t.Cost = Money(sum)
	return ok
}

func (t *Total) addLine(m Meter, quantity int64, cost Money) bool {
	i, found := slices.BinarySearchFunc(t.Meters, m, func(e MeterTotal, m Meter) int {
		switch {
		case e.Meter < m:
			return -1
		case e.Meter > m:
			return 1
		}
		return 0
	})
	if !found {
		t.Meters = slices.Insert(t.Meters, i, MeterTotal{Meter: m})
	}
	e := &t.Meters[i]
	q, okQuantity := Add(e.Quantity, quantity)
	c, okCost := Add(int64(e.Cost), int64(cost))
	e.Quantity, e.Cost = q, Money(c)
	return okQuantity && okCost
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
