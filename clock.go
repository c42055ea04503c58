package usage

import (
	"sync/atomic"
	"time"
)

// clock tells the time at the price of one of the machine's clocks instead of two. It looks at the wall clock once a
// millisecond, and adds what the monotonic clock says has passed since. So a wall clock that is set is followed within a
// millisecond. It is safe for concurrent use.
type clock struct {
	// look reads both clocks at one moment.
	look func() (wall, monotonic time.Time)
	last atomic.Pointer[anchor] // nil before the first look
}

// lookAtBoth is clock.look of the machine: a time of time.Now has both.
func lookAtBoth() (wall, monotonic time.Time) {
	now := time.Now()
	return now, now
}

// anchor is one look at the clocks: Unix nanoseconds of the one, and a reading of the other.
type anchor struct {
	wall      int64
	monotonic time.Time
}

const maxAnchor = time.Millisecond

// now is the time as stores keep it.
func (c *clock) now() time.Time {
	if a := c.last.Load(); a != nil {
		if passed := time.Since(a.monotonic); passed >= 0 && passed < maxAnchor {
			return time.UnixMicro((a.wall + int64(passed)) / int64(time.Microsecond)).UTC()
		}
	}
	wall, monotonic := c.look()
	c.last.Store(&anchor{wall.UnixNano(), monotonic})
	return inMicros(wall)
}

// inMicros is a time as stores keep it: in UTC, cut to microseconds.
func inMicros(at time.Time) time.Time { return time.UnixMicro(at.UnixMicro()).UTC() }
