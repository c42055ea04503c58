// Package held keeps what is held for a tenant: its live holds and what they add up to.
package held

import (
	"container/heap"
	"time"

	"github.com/acf68eca/usage/store"
)

// Holds are the holds of a tenant that nobody settled or released, as of an instant, with what they add up to: a decision
// then costs the same whether ten are live or ten thousand. The zero value knows none; Reset makes it ready for Add. Holds is
// not safe for concurrent use.
type Holds struct {
	known bool
	// from is the last instant that was asked about: what had expired then is gone.
	from  time.Time
	byID  map[string]*hold
	queue expiries
	sums  store.Held
}

type hold struct {
	store.Hold
	index int // in the queue
}

// Known reports whether the holds that are live at an instant are all here. An instant before the last one may miss some:
// the clocks of several hosts differ, and then the holds have to be read again.
func (h *Holds) Known(at time.Time) bool { return h.known && !at.Before(h.from) }

// Reset forgets all holds. Those that are live at an instant are to be added.
func (h *Holds) Reset(at time.Time) {
	*h = Holds{known: true, from: at, byID: make(map[string]*hold)}
}

// Add adds a hold, which is copied.
func (h *Holds) Add(added *store.Hold) {
	live := &hold{Hold: *added}
	h.byID[live.ID] = live
	heap.Push(&h.queue, live)
	h.sums.Add(&live.Hold)
}

// Drop takes a hold out, if it is live.
func (h *Holds) Drop(id string) {
	live := h.byID[id]
	if live == nil {
		return
	}
	delete(h.byID, id)
	heap.Remove(&h.queue, live.index)
	h.sums.Remove(&live.Hold)
}

// Expire takes out what has expired at an instant, for which the holds are Known.
func (h *Holds) Expire(at time.Time) {
	h.from = at
	for len(h.queue) > 0 && !h.queue[0].Live(at) {
		h.Drop(h.queue[0].ID)
	}
}

// Get returns a hold, nil when it is not live.
func (h *Holds) Get(id string) *store.Hold {
	if live := h.byID[id]; live != nil {
		return &live.Hold
	}
	return nil
}

// Until is when the first hold expires; zero when there is none.
func (h *Holds) Until() time.Time {
	if len(h.queue) == 0 {
		return time.Time{}
	}
	return h.queue[0].ExpiresAt
}

// Len is how many holds are here.
func (h *Holds) Len() int { return len(h.queue) }

// Totals are what the holds add up to, until they change.
func (h *Holds) Totals() []*store.Total { return h.sums.Totals() }

// expiries is a heap of holds, the next one to expire first.
type expiries []*hold

// Len, Less, Swap, Push and Pop are those of heap.Interface.
func (e expiries) Len() int           { return len(e) }
func (e expiries) Less(i, j int) bool { return e[i].ExpiresAt.Before(e[j].ExpiresAt) }
func (e expiries) Swap(i, j int) {
	e[i], e[j] = e[j], e[i]
	e[i].index, e[j].index = i, j
}

func (e *expiries) Push(h any) {
	live := h.(*hold)
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
