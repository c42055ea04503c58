package store

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// sorted are the totals in the order of their models.
func sorted(totals []*Total) []*Total {
	totals = slices.Clone(totals)
	slices.SortFunc(totals, func(a, b *Total) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Model, b.Model))
	})
	return totals
}

// What is left after some holds were taken out is what the others add up to by themselves.
func TestHeldComesDownAsItWentUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		amount := rapid.SampledFrom([]int64{0, 1, 7, 1_000, math.MaxInt64 - 1, math.MaxInt64})
		var all, left Held
		var holds []*Hold
		for i := range rapid.IntRange(0, 12).Draw(t, "holds") {
			h := &Hold{
				TenantID: "acme", ID: fmt.Sprint(i), Provider: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "provider"),
				Model: rapid.SampledFrom([]string{"m", "n"}).Draw(t, "model"), Cost: Money(amount.Draw(t, "cost")),
			}
			for _, meter := range []Meter{"x", "y"}[:rapid.IntRange(0, 2).Draw(t, "meters")] {
				h.Lines = append(h.Lines, Line{Meter: meter, Quantity: amount.Draw(t, "quantity"), Cost: Money(amount.Draw(t, "line"))})
			}
			holds = append(holds, h)
			all.Add(h)
		}
		for _, h := range holds {
			if rapid.Bool().Draw(t, "gone") {
				all.Remove(h)
			} else {
				left.Add(h)
			}
		}
		if diff := gocmp.Diff(sorted(left.Totals()), sorted(all.Totals()), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("sums (-added alone +after removal):\n%s", diff)
		}
	})
}

func TestMiddleOfAPeriodLiesInIt(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"UTC", "America/Havana", "Pacific/Chatham"} {
		calendar, err := NewCalendar(zone, 31)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		for range 400 {
			day := calendar.Day(at)
			middle := day.Middle()
			if !day.Contains(middle) || calendar.Day(middle) != day || !calendar.Month(day.Start).Contains(middle) {
				t.Fatalf("%s: the middle of %v is %v", zone, day, middle)
			}
			at = day.End
		}
	}
}
