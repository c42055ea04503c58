// Package group lets concurrent callers share one commit.
package group

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
)

// ErrWithdrawn: the caller's context ended before its item was taken, so nothing became of it.
var ErrWithdrawn = errors.New("withdrawn before it was taken")

// ErrTaken: the caller's context ended while its item was being committed, so its outcome is not known.
var ErrTaken = errors.New("taken, outcome not awaited")

// errPanicked is what the others of a batch get when its commit panics: how far it came nobody knows.
var errPanicked = fmt.Errorf("commit panicked: %w", ErrTaken)

// Group commits items in batches. A caller joins the queue; if nobody is committing it leads: it takes what is queued,
// commits it, hands the lead to the first who queued meanwhile, and gives the others their results. So a lone caller
// pays one commit and no delay, a thousand callers share one, and no goroutine is ever started.
//
// With several Leaders, a crowd of callers is divided: while one batch is being committed, another is taken of those whose
// items have other keys, so that the two do not wait for each other where what is committed is locked by key.
//
// The fields are set before the first Do. A Group is safe for concurrent use.
type Group[In, Out any] struct {
	// Commit commits a batch and returns one result for each item.
	Commit func(batch []In) []Result[Out]
	// Size is an item's share of MaxSize. A batch has at least one item, at most MaxItems, and of more than one item at
	// most MaxSize in all.
	Size     func(In) int
	MaxItems int
	MaxSize  int
	// Leaders is how many batches may be committed at the same time, which may change; nil is one. No two of them have items
	// of the same Key.
	Leaders func() int
	Key     func(In) string

	mu      sync.Mutex
	queue   []*waiter[In, Out]
	leading int
	taken   int                         // items in the batches that are being committed
	busy    map[string]*waiter[In, Out] // their keys, and those of leaders that have yet to take theirs, by leader
}

// crowd is so many that one commit is well shared by them, and that to wake them takes long.
const crowd = 128

// share is the least that is left for another leader: for fewer, a commit of their own is not worth its cost.
const share = 16

// Result is what became of an item.
type Result[Out any] struct {
	Out Out
	Err error
}

type waiter[In, Out any] struct {
	item In
	Result[Out]
	wake chan struct{} // buffered, so that nobody waits to wake
	lead bool          // under mu until woken
}

// Do commits an item together with whatever else is there, and returns its result. When ctx ends first, the error wraps
// its error and is ErrWithdrawn if the item was still in the queue, and ErrTaken if not.
func (g *Group[In, Out]) Do(ctx context.Context, item In) (Out, error) {
	w := &waiter[In, Out]{item: item}
	g.mu.Lock()
	g.queue = append(g.queue, w)
	lead := g.mayLead() && g.appoint(w)
	if !lead {
		w.wake = make(chan struct{}, 1)
	}
	g.mu.Unlock()
	if !lead { // w.lead may change from here on, until w is woken
		select {
		case <-w.wake:
		case <-ctx.Done():
			if err := g.leave(w); err != nil {
				var none Out
				return none, fmt.Errorf("%w: %w", err, context.Cause(ctx))
			}
			<-w.wake // it was given the lead at the same moment, and must not drop it
		}
	}
	if w.lead {
		g.leadBatch(w)
	}
	return w.Out, w.Err
}

// mayLead reports whether there is a batch to be led by somebody more.
func (g *Group[In, Out]) mayLead() bool {
	return g.leading == 0 && len(g.queue) > 0 || len(g.queue) >= share && g.leading < g.leaders()
}

func (g *Group[In, Out]) leaders() int {
	if g.Leaders == nil {
		return 1
	}
	return g.Leaders()
}

// appoint makes a waiter a leader, unless an item with its key is being committed.
func (g *Group[In, Out]) appoint(w *waiter[In, Out]) bool {
	if !g.claim(w, w) {
		return false
	}
	w.lead = true
	g.leading++
	return true
}

// claim reports whether a leader's batch may have an item: no other batch has its key.
func (g *Group[In, Out]) claim(w, leader *waiter[In, Out]) bool {
	if g.Leaders == nil {
		return true
	}
	key := g.Key(w.item)
	if other := g.busy[key]; other != nil && other != leader {
		return false
	}
	if g.busy == nil {
		g.busy = make(map[string]*waiter[In, Out])
	}
	g.busy[key] = leader
	return true
}

// leave takes a waiter out of the queue. It returns nil when the waiter has been given the lead or its result.
func (g *Group[In, Out]) leave(w *waiter[In, Out]) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.lead || len(w.wake) > 0 {
		return nil
	}
	for i := range g.queue {
		if g.queue[i] == w {
			g.queue = append(g.queue[:i:i], g.queue[i+1:]...)
			return ErrWithdrawn
		}
	}
	return ErrTaken
}

// leadBatch commits the leader's item with others of the queue.
func (g *Group[In, Out]) leadBatch(leader *waiter[In, Out]) {
	g.gather()
	batch := g.take(leader)
	defer func() { // also when Commit panics: nobody may be left waiting
		if g.handOver(batch); len(batch) >= crowd {
			runtime.Gosched() // to the next leader, who would else wait until all of these are woken, and then behind them
		}
		for _, w := range batch[1:] {
			w.wake <- struct{}{}
		}
	}()
	items := make([]In, len(batch))
	for i, w := range batch {
		items[i] = w.item
		w.Err = errPanicked
	}
	for i, result := range g.Commit(items) {
		batch[i].Result = result
	}
}

// gather lets the goroutines that can run join the queue before it is taken: those that the last commit has just woken
// are about to come back. It yields while that helps, a few times, and never waits on a clock. In a batch that is large
// already the commit's own cost is small, and it is better to commit while the others prepare.
func (g *Group[In, Out]) gather() {
	const yields = 8
	for before, i := -1, 0; i < yields; i++ {
		g.mu.Lock()
		queued := len(g.queue)
		g.mu.Unlock()
		if queued == before || queued >= crowd {
			return
		}
		before = queued
		runtime.Gosched()
	}
}

// take takes a batch out of the queue: the leader, and then as many as may come with it, in order. It leaves the others
// their share, but for items of keys that it has already, which could not be committed meanwhile.
func (g *Group[In, Out]) take(leader *waiter[In, Out]) []*waiter[In, Out] {
	g.mu.Lock()
	defer g.mu.Unlock()
	fair := g.MaxItems
	if n := g.leaders(); n > 1 {
		fair = max(share, (len(g.queue)+g.taken+n-1)/n)
	}
	batch, left, size := []*waiter[In, Out]{leader}, g.queue[:0], g.Size(leader.item)
	full := false
	for _, w := range g.queue {
		if w == leader {
			continue
		}
		if more := g.Size(w.item); !full && len(batch) < g.MaxItems && size+more <= g.MaxSize {
			if !w.lead && (len(batch) < fair || g.busy[g.Key(w.item)] == leader) && g.claim(w, leader) {
				batch, size = append(batch, w), size+more
				continue
			}
		} else {
			full = true
		}
		left = append(left, w)
	}
	clear(g.queue[len(left):])
	g.queue = left
	g.taken += len(batch)
	return batch
}

// handOver ends a batch, and has the next one led by the first who can.
func (g *Group[In, Out]) handOver(batch []*waiter[In, Out]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leading--
	g.taken -= len(batch)
	if g.Leaders != nil {
		for _, w := range batch {
			delete(g.busy, g.Key(w.item))
		}
	}
	for _, w := range g.queue {
		if !g.mayLead() {
			return
		}
		if !w.lead && g.appoint(w) {
			w.wake <- struct{}{}
		}
	}
}
