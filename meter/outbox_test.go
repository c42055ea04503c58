package meter

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The bubble ends only when all of its goroutines have: those that write are used again, and then go away.
func TestTheGoroutinesThatWriteGoAway(t *testing.T) {
	t.Parallel()
	for _, pause := range []time.Duration{0, idleTime / 2, idleTime, 2 * idleTime} {
		synctest.Test(t, func(t *testing.T) {
			var written atomic.Int64
			o := newOutbox(func(context.Context, entry) {
				<-time.After(time.Millisecond) // a commit takes its time
				written.Add(1)
			})
			for round := range 10 {
				var wg sync.WaitGroup
				for range round + 1 {
					wg.Go(func() { o.run(o.add(entry{})) })
				}
				wg.Wait()
				<-time.After(pause)
			}
			if err := o.flush(t.Context()); err != nil || written.Load() != 55 {
				t.Errorf("%d written, %v", written.Load(), err)
			}
		})
	}
}
