package usage

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheClockGoesOnBetweenItsLooksAtTheWall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		c := &clock{look: func() (wall, monotonic time.Time) { looks++; return lookAtBoth() }}
		for range 3_000 {
			if got, want := c.now(), inMicros(time.Now()); !got.Equal(want) || got.Location() != time.UTC {
				t.Fatalf("got %v, want %v", got, want)
			}
			<-time.After(700 * time.Nanosecond)
		}
		if looks != 3 { // in 2.1 ms
			t.Errorf("the wall clock was looked at %d times", looks)
		}
	})
}

func TestTheClockFollowsAWallClockThatIsSet(t *testing.T) {
	t.Parallel()
	for _, step := range []time.Duration{-400 * 24 * time.Hour, -time.Second, time.Second, 400 * 24 * time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var set time.Duration
				c := &clock{look: func() (wall, monotonic time.Time) { return time.Now().Add(set), time.Now() }}
				c.now()
				<-time.After(maxAnchor / 2)
				set = step
				if got := c.now(); !got.Equal(time.Now()) {
					t.Errorf("half a millisecond after a look it says %v at %v", got, time.Now())
				}
				<-time.After(maxAnchor / 2)
				for range 2 {
					if got, want := c.now(), time.Now().Add(step); !got.Equal(want) {
						t.Errorf("after a millisecond it says %v, want %v", got, want)
					}
				}
			})
		})
	}
}

func TestTheClockOfTheMachine(t *testing.T) {
	t.Parallel()
	c := &clock{look: lookAtBoth}
	var looks atomic.Int64
	counted := &clock{look: func() (wall, monotonic time.Time) { looks.Add(1); return lookAtBoth() }}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20_000 {
				// Between the two, give or take what the machine does between two looks of one caller.
				before, got, after := time.Now(), c.now(), time.Now()
				if early, late := before.Sub(got), got.Sub(after); early > time.Second || late > time.Second {
					t.Errorf("%v is not between %v and %v", got, before, after)
				}
				counted.now()
			}
		})
	}
	wg.Wait()
	if n := looks.Load(); n < 1 || n > 40_000 {
		t.Errorf("the wall clock was looked at %d times", n)
	}
}
