package usage

import (
	"sync/atomic"
	"time"
)

// clock tells the time at the price of one of the machine's clocks instead of two. It looks at the wall clock once a
// millisecond, and adds what the monotonic clock says has passed since. So a wall clock that is set is followed within a
// millisecond. It is safe for concurrent use.
type clock struct {
	wall func() time.Time
	last atomic.Pointer[anchor] // nil before the first look
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
	wall := c.wall()
	c.last.Store(&anchor{wall.UnixNano(), time.Now()})
	return inMicros(wall)
}

// inMicros is a time as stores keep it: in UTC, cut to microseconds.
func inMicros(at time.Time) time.Time { return time.UnixMicro(at.UnixMicro()).UTC() }
