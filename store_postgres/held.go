package storepostgres

import (
	"container/heap"
	"context"
	"time"

	"github.com/acf68eca/usage/store"
)

// liveHolds are the holds of a tenant that nobody settled or released, as of an instant, with what they add up to: a
// decision then costs the same whether ten are live or ten thousand.
type liveHolds struct {
	known bool
	// from is the last instant that was asked about: what had expired then is gone.
	from  time.Time
	byID  map[string]*liveHold
	queue expiries
	sums  store.Held
}

type liveHold struct {
	store.Hold
	index int // in the queue
}

func newLiveHolds(from time.Time) liveHolds {
	return liveHolds{known: true, from: from, byID: make(map[string]*liveHold)}
}

func (l *liveHolds) add(h *store.Hold) {
	live := &liveHold{Hold: *h}
	l.byID[h.ID] = live
	heap.Push(&l.queue, live)
	l.sums.Add(&live.Hold)
}

// drop takes a hold out, if it is live.
func (l *liveHolds) drop(id string) {
	live := l.byID[id]
	if live == nil {
		return
	}
	delete(l.byID, id)
	heap.Remove(&l.queue, live.index)
	l.sums.Remove(&live.Hold)
}

// until is when the first hold expires; zero when there is none.
func (l *liveHolds) until() time.Time {
	if len(l.queue) == 0 {
		return time.Time{}
	}
	return l.queue[0].ExpiresAt
}

// missingHolds are the tenants whose live holds are not remembered. The cache keeps all that were live when it was filled or
// came later, so an instant before that would miss some: clocks of several hosts differ, and then it is filled again.
func (t *tx) missingHolds(of map[string]*tenant) (tenants []string) {
	for id, n := range of {
		if !n.holds.known || t.now.Before(n.holds.from) {
			n.holds = newLiveHolds(t.now)
			tenants = append(tenants, id)
		}
	}
	return tenants
}

func (t *tx) putHolds(ctx context.Context, r *reading) error {
	holds, err := t.store.holds(ctx, t, r.holdRows)
	for _, h := range holds {
		r.tenants[h.TenantID].holds.add(h)
	}
	return err
}

// liveHolds returns the tenant's holds that are live at an instant that load has read them for.
func (n *tenant) liveHolds(at time.Time) *liveHolds {
	n.holds.from = at
	for len(n.holds.queue) > 0 && !n.holds.queue[0].Live(at) {
		n.holds.drop(n.holds.queue[0].ID)
	}
	return &n.holds
}

// expiries is a heap of holds, the next one to expire first.
type expiries []*liveHold

// Len, Less, Swap, Push and Pop are those of heap.Interface.
func (e expiries) Len() int           { return len(e) }
func (e expiries) Less(i, j int) bool { return e[i].ExpiresAt.Before(e[j].ExpiresAt) }
func (e expiries) Swap(i, j int) {
	e[i], e[j] = e[j], e[i]
	e[i].index, e[j].index = i, j
}

func (e *expiries) Push(h any) {
	live := h.(*liveHold)
	live.index = len(*e)
	*e = append(*e, live)
}

func (e *expiries) Pop() any {
	last := len(*e) - 1
	live := (*e)[last]
	(*e)[last] = nil
	*e = (*e)[:last]
	return live
}
