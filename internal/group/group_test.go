package group

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// bench is a group of numbers whose commits double them. Every commit waits until it is let through. It is for use in a
// synctest bubble.
type bench struct {
	Group[int, int]
	batches [][]int // all that were taken, in order
	through chan struct{}
	panics  any // what the next commit panics with
}

func newBench(maxItems, maxSize int) *bench {
	b := &bench{through: make(chan struct{})}
	b.Group = Group[int, int]{Commit: b.commit, Size: func(n int) int { return n }, MaxItems: maxItems, MaxSize: maxSize}
	return b
}

func (b *bench) commit(batch []int) []Result[int] {
	b.batches = append(b.batches, slices.Clone(batch))
	<-b.through
	if cause := b.panics; cause != nil {
		b.panics = nil
		panic(cause)
	}
	return doubled(batch)
}

func doubled(batch []int) []Result[int] {
	results := make([]Result[int], len(batch))
	for i, n := range batch {
		results[i] = Result[int]{Out: 2 * n}
		if n < 0 {
			results[i] = Result[int]{Err: fmt.Errorf("%d is negative", n)}
		}
	}
	return results
}

// call is a caller of Do, and what it got.
type call struct {
	cancel context.CancelFunc
	done   bool
	out    int
	err    error
	cause  any // of its panic
}

// do starts a caller and returns when it can go no further.
func (b *bench) do(t *testing.T, item int) *call {
	ctx, cancel := context.WithCancel(t.Context())
	c := &call{cancel: cancel}
	go func() {
		defer func() { c.cause, c.done = recover(), true }()
		c.out, c.err = b.Do(ctx, item)
	}()
	synctest.Wait()
	return c
}

// let lets one commit through, and returns when nothing can go further.
func (b *bench) let() {
	b.through <- struct{}{}
	synctest.Wait()
}

func (b *bench) wantBatches(t *testing.T, want ...[]int) {
	t.Helper()
	if diff := cmp.Diff(want, b.batches); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
}

func (c *call) want(t *testing.T, out int) {
	t.Helper()
	if !c.done || c.err != nil || c.out != out || c.cause != nil {
		t.Errorf("got %+v, want %d", *c, out)
	}
}

func (c *call) wantErr(t *testing.T, want error) {
	t.Helper()
	if !c.done || !errors.Is(c.err, want) {
		t.Errorf("got %+v, want the error %v", *c, want)
	}
}

// It does not run beside other tests: it counts goroutines.
func TestALoneCallerCommitsAtOnceAndStartsNoGoroutine(t *testing.T) {
	before, during := runtime.NumGoroutine(), 0
	g := Group[int, int]{
		Commit: func(batch []int) []Result[int] {
			during = runtime.NumGoroutine()
			return doubled(batch)
		},
		Size: func(int) int { return 1 }, MaxItems: 10, MaxSize: 10,
	}
	for n := range 100 {
		if out, err := g.Do(t.Context(), n); out != 2*n || err != nil {
			t.Fatalf("Do(%d) = %d, %v", n, out, err)
		}
		if during > before {
			t.Fatalf("%d goroutines while committing, %d before", during, before)
		}
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines afterwards, %d before", after, before)
	}
	if g.leading > 0 || len(g.queue)+len(g.busy)+g.taken > 0 {
		t.Errorf("the group is left with %d leading, a queue of %d and %d keys and %d items taken", g.leading, len(g.queue),
			len(g.busy), g.taken)
	}
}

func TestConcurrentCallersShareACommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(100, 1000)
		first := b.do(t, 1)
		var others []*call
		for n := 2; n <= 9; n++ {
			others = append(others, b.do(t, n))
		}
		b.let()
		first.want(t, 2)
		for _, c := range others {
			if c.done {
				t.Error("a caller returned before its commit")
			}
		}
		b.let()
		b.wantBatches(t, []int{1}, []int{2, 3, 4, 5, 6, 7, 8, 9})
		for i, c := range others {
			c.want(t, 2*(i+2))
		}
	})
}

// It does not run beside other tests: it leaves the program one processor.
func TestTheNextCommitBeginsBeforeACrowdIsWoken(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, func(t *testing.T) {
		const crowds = 6
		b := newBench(crowd, crowd)
		var returned, atLet, atCommit atomic.Int64
		b.Size = func(int) int { return 1 }
		b.Commit = func(batch []int) []Result[int] {
			atCommit.Store(returned.Load())
			return b.commit(batch)
		}
		first := b.do(t, 0)
		for n := range crowds * crowd {
			go func() {
				if out, err := b.Do(t.Context(), n); out != 2*n || err != nil {
					t.Errorf("Do(%d) = %d, %v", n, out, err)
				}
				returned.Add(1)
			}()
		}
		synctest.Wait()
		b.let()
		first.want(t, 0)
		punctual := 0
		for range crowds - 1 {
			if b.let(); atCommit.Load() == atLet.Swap(returned.Load()) {
				punctual++
			}
		}
		if punctual == 0 { // once in a while the scheduler chooses otherwise
			t.Errorf("of %d commits all began after the crowd of the last one was woken", crowds-1)
		}
		b.let()
		if n := returned.Load(); n != crowds*crowd || len(b.batches) != 1+crowds {
			t.Errorf("%d callers returned after %d commits", n, len(b.batches))
		}
	})
}

func TestEachCallerGetsItsOwnResult(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(100, 1000)
		first, good, bad, last := b.do(t, 1), b.do(t, 2), b.do(t, -3), b.do(t, 4)
		b.let()
		b.let()
		first.want(t, 2)
		good.want(t, 4)
		last.want(t, 8)
		if bad.err == nil || bad.err.Error() != "-3 is negative" {
			t.Errorf("the bad item got %v", bad.err)
		}
	})
}

func TestBatchesStayWithinTheirBounds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name              string
		maxItems, maxSize int
		items             []int // after a first caller, who is alone
		want              [][]int
	}{
		{"of items", 2, 1000, []int{1, 2, 3, 4, 5}, [][]int{{1, 2}, {3, 4}, {5}}},
		{"of size, exactly full", 100, 6, []int{1, 2, 3, 4, 2}, [][]int{{1, 2, 3}, {4, 2}}},
		{"an item above the size goes alone", 100, 6, []int{1, 50, 7, 2, 4}, [][]int{{1}, {50}, {7}, {2, 4}}},
		{"one by one", 1, 1000, []int{1, 2, 3}, [][]int{{1}, {2}, {3}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(test.maxItems, test.maxSize)
				calls := []*call{b.do(t, 0)}
				for _, item := range test.items {
					calls = append(calls, b.do(t, item))
				}
				for range len(test.want) + 1 {
					b.let()
				}
				b.wantBatches(t, append([][]int{{0}}, test.want...)...)
				for i, item := range append([]int{0}, test.items...) {
					calls[i].want(t, 2*item)
				}
			})
		})
	}
}

func TestACallerWhoLeavesTheQueueIsNeverCommitted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(100, 1000)
		first, stays, leaves, last := b.do(t, 1), b.do(t, 2), b.do(t, 3), b.do(t, 4)
		leaves.cancel()
		synctest.Wait()
		leaves.wantErr(t, ErrWithdrawn)
		leaves.wantErr(t, context.Canceled)
		b.let()
		b.let()
		b.wantBatches(t, []int{1}, []int{2, 4})
		first.want(t, 2)
		stays.want(t, 4)
		last.want(t, 8)
	})
}

func TestACallerWhoLeavesDuringTheCommitIsCommitted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(100, 1000)
		first, leads, leaves := b.do(t, 1), b.do(t, 2), b.do(t, 3)
		b.let() // 2 leads now, with 3
		leaves.cancel()
		synctest.Wait()
		leaves.wantErr(t, ErrTaken)
		leaves.wantErr(t, context.Canceled)
		b.let()
		b.wantBatches(t, []int{1}, []int{2, 3})
		first.want(t, 2)
		leads.want(t, 4)
		b.through = make(chan struct{}, 1)
		b.through <- struct{}{}
		b.do(t, 5).want(t, 10)
	})
}

func TestALeaderWhoseContextEndsCommitsAllTheSame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(100, 1000)
		first, second := b.do(t, 1), b.do(t, 2)
		first.cancel()
		synctest.Wait()
		if first.done {
			t.Fatal("the leader left its commit")
		}
		b.let()
		first.want(t, 2)
		second.cancel() // leads by now
		synctest.Wait()
		b.let()
		second.want(t, 4)
	})
}

func TestTheOneWhoWouldLeadLeavesAndNobodyIsLeftWaiting(t *testing.T) {
	t.Parallel()
	t.Run("before the lead is handed over", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b := newBench(100, 1000)
			first, leaves, next := b.do(t, 1), b.do(t, 2), b.do(t, 3)
			leaves.cancel()
			synctest.Wait()
			b.let()
			b.let()
			leaves.wantErr(t, ErrWithdrawn)
			b.wantBatches(t, []int{1}, []int{3})
			first.want(t, 2)
			next.want(t, 6)
		})
	})
	t.Run("while it is handed over", func(t *testing.T) {
		t.Parallel()
		for range 200 { // whichever of the two comes first
			synctest.Test(t, func(t *testing.T) {
				b := newBench(100, 1000)
				first, heir, next := b.do(t, 1), b.do(t, 2), b.do(t, 3)
				go heir.cancel()
				b.let()
				b.let()
				first.want(t, 2)
				next.want(t, 6)
				if committed := slices.Contains(slices.Concat(b.batches...), 2); committed != (heir.err == nil) {
					t.Errorf("committed: %v, and the caller got %v", committed, heir.err)
				}
			})
		}
	})
	t.Run("the only one who waits", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b := newBench(100, 1000)
			first, leaves := b.do(t, 1), b.do(t, 2)
			leaves.cancel()
			synctest.Wait()
			b.let()
			next := b.do(t, 3)
			b.let()
			first.want(t, 2)
			next.want(t, 6)
		})
	})
}

func TestAPanicReachesTheLeaderAndTheGroupGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(2, 1000)
		first, leads, shares, next := b.do(t, 1), b.do(t, 2), b.do(t, 3), b.do(t, 4)
		b.let()
		b.panics = "disk on fire"
		b.let()
		first.want(t, 2)
		if leads.cause != "disk on fire" {
			t.Errorf("the leader recovered %v", leads.cause)
		}
		shares.wantErr(t, errPanicked)
		b.let()
		next.want(t, 8)
		b.wantBatches(t, []int{1}, []int{2, 3}, []int{4})
	})
}

func TestACommitThatForgetsAResultIsNoSuccess(t *testing.T) {
	t.Parallel()
	g := Group[int, int]{
		Commit: func([]int) []Result[int] { return nil }, Size: func(int) int { return 1 }, MaxItems: 1, MaxSize: 1,
	}
	if _, err := g.Do(t.Context(), 1); err == nil {
		t.Error("a caller without a result got no error")
	}
}

// divided is a bench whose items have the key of their tens, with two leaders.
func divided() *bench {
	b := newBench(1000, 1_000_000)
	b.Leaders, b.Key = func() int { return 2 }, func(n int) string { return fmt.Sprint(n / 10) }
	return b
}

func TestACrowdIsDividedAmongLeadersByKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := divided()
		b.do(t, 0)
		var items []int
		for n := range 40 {
			items = append(items, 10+10*n)
			b.do(t, items[n]) // the sixteenth makes a crowd, and leads with those before it
		}
		b.wantBatches(t, []int{0}, append([]int{160}, items[:15]...))
		b.let() // of the first one, and then half of all that are there are taken
		b.wantBatches(t, []int{0}, append([]int{160}, items[:15]...), items[16:36])
		b.let()
		b.let()
		b.wantBatches(t, []int{0}, append([]int{160}, items[:15]...), items[16:36], items[36:])
		b.let()
	})
}

func TestItemsOfOneKeyAreNotDivided(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := divided()
		first := b.do(t, 0)
		for n := range 60 {
			b.do(t, n%10)
		}
		if len(b.batches) != 1 {
			t.Fatalf("batches %v, want one", b.batches)
		}
		b.let()
		first.want(t, 0)
		if len(b.batches) != 2 || len(b.batches[1]) != 60 {
			t.Errorf("batches %v, want one of all others", b.batches[1:])
		}
		b.let()
	})
}

func TestTheNumberOfLeadersMayChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, leaders := divided(), 2
		b.Leaders = func() int { return leaders }
		b.do(t, 0)
		for n := range 20 {
			b.do(t, 10+10*n) // sixteen of them are a second batch
		}
		leaders = 1
		for n := range 20 {
			b.do(t, 10+10*n)
		}
		b.let()
		if len(b.batches) != 2 {
			t.Fatalf("batches %v, want no third one beside the second", b.batches)
		}
		b.let()
		if len(b.batches) != 3 || len(b.batches[2]) != 24 {
			t.Errorf("batches %v, want all others in one, those of the keys of the batches before too", b.batches[2:])
		}
		b.let()
		if len(b.busy) > 0 {
			t.Errorf("keys %v are still taken", b.busy)
		}
	})
}

func TestAThousandCallersAtRandom(t *testing.T) {
	t.Parallel()
	for leaders := range 4 {
		t.Run(fmt.Sprint(leaders, " leaders"), func(t *testing.T) {
			t.Parallel()
			callAtRandom(t, leaders)
		})
	}
}

func callAtRandom(t *testing.T, leaders int) {
	const callers, each = 1000, 5
	var committed [callers * each]atomic.Int32
	const keys = 20
	key := func(n int) int { return n * n % keys }
	var busy atomic.Int32
	var busyKeys [keys]atomic.Int32
	g := Group[int, int]{
		Leaders: func() int { return leaders }, Key: func(n int) string { return fmt.Sprint(key(n)) },
		Commit: func(batch []int) []Result[int] {
			if at := busy.Add(1); int(at) > max(1, leaders) {
				t.Errorf("%d commits at once", at)
			}
			own := make(map[int]bool)
			for _, n := range batch {
				own[key(n)] = true
			}
			for k := range own {
				if busyKeys[k].Add(1) > 1 {
					t.Errorf("two commits of key %d at once", k)
				}
			}
			if len(batch) > 64 {
				t.Errorf("a batch of %d", len(batch))
			}
			for _, n := range batch {
				committed[n].Add(1)
				if n%7 == 0 {
					runtime.Gosched()
				}
			}
			for k := range own {
				busyKeys[k].Add(-1)
			}
			busy.Add(-1)
			return doubled(batch)
		},
		Size: func(int) int { return 1 }, MaxItems: 64, MaxSize: 1000,
	}
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			for i := range each {
				n := caller*each + i
				ctx, cancel := context.WithCancel(t.Context())
				canceled := rand.IntN(3) == 0
				if canceled {
					all.Go(cancel)
				}
				out, err := g.Do(ctx, n)
				cancel()
				times := committed[n].Load()
				switch {
				case err == nil && (out != 2*n || times != 1):
					t.Errorf("item %d: got %d, committed %d times", n, out, times)
				case err != nil && !canceled:
					t.Errorf("item %d: %v, and nobody canceled it", n, err)
				case errors.Is(err, ErrWithdrawn) && times != 0:
					t.Errorf("item %d is withdrawn and committed", n)
				}
			}
		})
	}
	all.Wait()
	for n := range committed {
		if times := committed[n].Load(); times > 1 {
			t.Errorf("item %d was committed %d times", n, times)
		}
	}
	if g.leading > 0 || len(g.queue)+len(g.busy)+g.taken > 0 {
		t.Errorf("the group is left with %d leading, a queue of %d and %d keys and %d items taken", g.leading, len(g.queue),
			len(g.busy), g.taken)
	}
}
