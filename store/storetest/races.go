package storetest

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

// together runs n functions at once and reports their errors.
func together(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	var ready, done sync.WaitGroup
	ready.Add(n)
	errs := make([]error, n)
	for i := range n {
		done.Go(func() {
			ready.Done()
			ready.Wait()
			errs[i] = do(i)
		})
	}
	done.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Errorf("running at once: %v", err)
	}
}

// yielding lets the other goroutines run before it decides, so that a store that does not lock is found out.
func yielding(decide store.Decide) store.Decide {
	return func(s *store.Standing, h *store.Hold) store.Verdict {
		for range 10 {
			runtime.Gosched()
		}
		return decide(s, h)
	}
}

func racingHolds(t *testing.T, l *ledger) {
	const goroutines, each, limit = 16, 5, 50
	handles := []*ledger{l, l.another()}
	var taken atomic.Int64
	together(t, goroutines, func(i int) error {
		for j := range each {
			results, err := handles[i%2].Hold(t.Context(), noon(), []store.Hold{hold(acme, fmt.Sprint(i, "-", j), noon(), time.Hour, 1)}, yielding(capped(limit)))
			if err != nil {
				return err
			}
			switch err := results[0].Err; {
			case err == nil:
				taken.Add(1)
			case !errors.Is(err, errRefused):
				return err
			}
		}
		return nil
	})
	equal(t, "holds that were taken", taken.Load(), limit)
	l.stands(noon(), 0, limit)
	l.another().stands(noon(), 0, limit)
}

func racingSettlements(t *testing.T, l *ledger) {
	const goroutines = 8
	l.take(noon(), hold(acme, "h", noon(), time.Hour, 10))
	handles := []*ledger{l, l.another()}
	var settled, refused atomic.Int64
	together(t, goroutines, func(i int) error {
		outcomes, err := handles[i%2].Append(t.Context(), noon(), lend(settling("h", call(acme, fmt.Sprint(i), noon(), 1))), quiet)
		if err != nil {
			return err
		}
		switch {
		case errors.Is(outcomes[0].Err, store.ErrHoldSettled):
			refused.Add(1)
		case outcomes[0].Err == nil && outcomes[0].Record.Settlement == store.Settled:
			settled.Add(1)
		}
		return nil
	})
	equal(t, "settled", settled.Load(), 1)
	equal(t, "refused", refused.Load(), goroutines-1)
	l.stands(noon(), 1, 0)
}
