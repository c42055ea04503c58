package held

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/acf68eca/usage/store"
)

// TestHoldsAreThoseOfAList draws holds that come, go and expire, and asks a list of them the same.
func TestHoldsAreThoseOfAList(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		now, next := start, 0
		var holds Holds
		var list []store.Hold
		holds.Reset(now)
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				h := store.Hold{
					ID: fmt.Sprint("h", next), Provider: rapid.SampledFrom([]string{"p", "q"}).Draw(t, "provider"), Model: "m",
					Cost:      store.Money(rapid.Int64Range(0, 9).Draw(t, "cost")),
					ExpiresAt: now.Add(time.Duration(rapid.IntRange(1, 9).Draw(t, "seconds")) * time.Second),
				}
				next++
				list = append(list, h)
				holds.Add(&h)
				h.ID, h.Cost = "changed afterwards", 1000
			},
			"drop": func(t *rapid.T) {
				id := fmt.Sprint("h", rapid.IntRange(0, next).Draw(t, "hold"))
				holds.Drop(id)
				list = slices.DeleteFunc(list, func(h store.Hold) bool { return h.ID == id })
			},
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "seconds")) * time.Second)
				holds.Expire(now)
				list = slices.DeleteFunc(list, func(h store.Hold) bool { return !h.ExpiresAt.After(now) })
			},
			"": func(t *rapid.T) {
				var sums store.Held
				var until time.Time
				for i := range list {
					sums.Add(&list[i])
					if until.IsZero() || list[i].ExpiresAt.Before(until) {
						until = list[i].ExpiresAt
					}
					if got := holds.Get(list[i].ID); got == nil || !cmp.Equal(*got, list[i]) {
						t.Errorf("hold %q is %+v, want %+v", list[i].ID, got, list[i])
					}
				}
				byProvider := func(totals []*store.Total) []*store.Total {
					return slices.SortedFunc(slices.Values(totals), func(a, b *store.Total) int { return strings.Compare(a.Provider, b.Provider) })
				}
				if diff := cmp.Diff(byProvider(sums.Totals()), byProvider(holds.Totals())); diff != "" {
					t.Errorf("totals (-want +got):\n%s", diff)
				}
				if got := holds.Until(); !got.Equal(until) {
					t.Errorf("until %v, want %v", got, until)
				}
				if holds.Get(fmt.Sprint("h", next)) != nil {
					t.Error("a hold that was never added is there")
				}
			},
		})
	})
}

// TestHoldsBeforeTheLastInstantAreNotKnown: what had expired by then is gone, though it was live before.
func TestHoldsBeforeTheLastInstantAreNotKnown(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	var holds Holds
	if holds.Known(at) {
		t.Error("the zero value knows its holds")
	}
	holds.Reset(at)
	holds.Add(&store.Hold{ID: "h", ExpiresAt: at.Add(time.Second)})
	holds.Expire(at.Add(2 * time.Second))
	if holds.Get("h") != nil || !holds.Known(at.Add(2*time.Second)) || holds.Known(at.Add(time.Second)) {
		t.Errorf("after its expiry the hold is %v; known then: %t, a second before: %t",
			holds.Get("h"), holds.Known(at.Add(2*time.Second)), holds.Known(at.Add(time.Second)))
	}
}
