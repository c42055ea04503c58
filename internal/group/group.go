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
// The fields are set before the first Do. A Group is safe for concurrent use.
type Group[In, Out any] struct {
	// Commit commits a batch and returns one result for each item.
	Commit func(batch []In) []Result[Out]
	// Size is an item's share of MaxSize. A batch has at least one item, at most MaxItems, and of more than one item at
	// most MaxSize in all.
	Size     func(In) int
	MaxItems int
	MaxSize  int

	mu      sync.Mutex
	queue   []*waiter[In, Out]
	leading bool
}

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
	lead := !g.leading
	g.leading = true
	w.lead = lead
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
		g.leadBatch()
	}
	return w.Out, w.Err
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

// leadBatch commits the head of the queue, in which the leader is the first.
func (g *Group[In, Out]) leadBatch() {
	g.gather()
	batch := g.take()
	defer func() { // also when Commit panics: nobody may be left waiting
		g.handOver()
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
	const yields, enough = 8, 128
	for before, i := -1, 0; i < yields; i++ {
		g.mu.Lock()
		queued := len(g.queue)
		g.mu.Unlock()
		if queued == before || queued >= enough {
			return
		}
		before = queued
		runtime.Gosched()
	}
}

func (g *Group[In, Out]) take() []*waiter[In, Out] {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, size := 0, 0
	for n < len(g.queue) && n < g.MaxItems {
		size += g.Size(g.queue[n].item)
		if n > 0 && size > g.MaxSize {
			break
		}
		n++
	}
	batch := g.queue[:n:n]
	g.queue = g.queue[n:]
	return batch
}

func (g *Group[In, Out]) handOver() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 {
		g.leading, g.queue = false, nil
		return
	}
	g.queue[0].lead = true
	g.queue[0].wake <- struct{}{}
}
