package usage

import (
	"math"
	"time"

	"github.com/acf68eca/usage/store"
)

// The windows of rates: limits that are kept by the generic cell rate algorithm (GCRA), and not by the calendar.
const (
	Minute = store.Minute
	Second = store.Second
)

// rate is the rule of a limit per minute or second: so many units in each window, evenly spread, and at most burst of them
// at once. It is the leaky bucket that GCRA describes by one time, the theoretical arrival time: the instant at which all
// that was taken will have leaked out.
//
// All arithmetic is whole and exact: a unit is cut into as many parts as the window has microseconds, of which max leak out
// in each microsecond. With the bounds of maxRate a full bucket has 6e17 parts, so that two of them fit an int64.
type rate struct {
	max, burst int64
	window     int64 // microseconds
}

const (
	maxRate  = 10_000_000_000
	maxDrain = 366 * 24 * time.Hour // of a full bucket
)

func rateOf(l *store.Limit) rate {
	r := rate{max: l.Max, burst: l.Burst, window: time.Second.Microseconds()}
	if l.Per == Minute {
		r.window = time.Minute.Microseconds()
	}
	if r.burst == 0 || r.max == 0 { // what never comes back is not there either
		r.burst = r.max
	}
	return r
}

// pace is what a rate says of one call.
type pace struct {
	// arrival is what is to be kept: as it was when the call is denied or asks nothing.
	arrival store.Arrival
	// remaining is how many units are left at once, and reset how long until all are.
	remaining int64
	reset     time.Duration
	// denied says that the call does not fit now, and retry after how long it will; never that it is more than the burst.
	denied, never bool
	retry         time.Duration
}

// take asks for n units at an instant. All of them are taken or none.
func (r rate) take(a store.Arrival, now time.Time, n int64) pace {
	level, full := r.level(&a, now), r.burst*r.window
	p := pace{arrival: a}
	switch {
	case n > r.burst:
		p.denied, p.never = true, true
	case n*r.window > full-level:
		p.denied, p.retry = true, r.leak(n*r.window-(full-level))
	case n > 0:
		level += n * r.window
		p.arrival = r.at(a, now, level, n)
	}
	p.remaining, p.reset = (full-level)/r.window, r.leak(level)
	return p
}

// fits reports whether take would give n units, without what take says besides.
func (r rate) fits(a *store.Arrival, now time.Time, n int64) bool {
	return n <= r.burst && (n == 0 || n*r.window <= r.burst*r.window-r.level(a, now))
}

// add counts n units that were used at an instant whether there was room or not; over says that there was none. A bucket
// is never more than full. What was used so long ago that a full bucket has leaked out since does not count: who logs calls
// late must not keep the tenant from calls now.
func (r rate) add(a store.Arrival, at, now time.Time, n int64) (arrival store.Arrival, over bool) {
	full := r.burst * r.window
	if r.max == 0 || n == 0 {
		return a, n > 0
	}
	from := r.caughtUp(&a, now)
	if since := now.Sub(at).Microseconds(); since > full/r.max {
		return a, false
	} else if since > 0 && a.At.Before(now) {
		from = at
		if from.Before(a.At) {
			from = a.At
		}
	}
	level := r.level(&a, from)
	over = n > r.burst || n*r.window > full-level
	return r.at(a, from, min(full, level+min(n, r.burst)*r.window), n), over
}

// refund gives back n units that were taken when the arrival was then, as far as they have not leaked out yet. What was
// taken later leaks later: so much of the level is not theirs. Of that, what was given back since cannot be told from
// here; it is taken to be there still, so that a refund never gives more than was taken.
func (r rate) refund(a, then store.Arrival, now time.Time, n int64) store.Arrival {
	later := a.Taken - then.Taken
	if r.max == 0 || later < 0 || later > r.burst {
		return a
	}
	now = r.caughtUp(&a, now)
	level := r.level(&a, now)
	back := min(level-later*r.window, min(n, r.burst)*r.window)
	if back <= 0 {
		return a
	}
	return r.at(a, now, level-back, 0)
}

// maxLag is how far a clock may be behind that of a call that was decided before: calls of several processes wait for each
// other after they have looked at their clocks, and the clocks differ. One that is behind by more has been set back.
const maxLag = time.Minute

// caughtUp is now, or of a clock that lags, the first microsecond at which the bucket is no more than full. At the clock's
// own time it would be cut to a full one, and something that was taken by those who came before would be forgotten.
func (r rate) caughtUp(a *store.Arrival, now time.Time) time.Time {
	if r.max == 0 {
		return now
	}
	full, ahead := r.burst*r.window, a.At.UnixMicro()-now.UnixMicro()
	lag := ahead - full/r.max
	if lag < 0 || lag > maxLag.Microseconds() || lag == 0 && ahead*r.max+min(a.Rest, r.max-1) <= full {
		return now
	}
	return now.Add(time.Duration(lag+1) * time.Microsecond)
}

// level is how many parts are in the bucket: at most a full one, whatever the limit or the clock was when the arrival was
// set. The arrival is thereby clamped to now and the time that a full bucket takes.
func (r rate) level(a *store.Arrival, now time.Time) int64 {
	full := r.burst * r.window
	if r.max == 0 || a.At.IsZero() {
		return 0
	}
	ahead := a.At.UnixMicro() - now.UnixMicro()
	switch {
	case ahead < 0:
		return 0
	case ahead > full/r.max:
		return full
	}
	return min(full, ahead*r.max+min(a.Rest, r.max-1))
}

// at is the arrival of a bucket with so many parts, when n units more were taken.
func (r rate) at(a store.Arrival, now time.Time, level, n int64) store.Arrival {
	a.At = time.UnixMicro(now.UnixMicro() + level/r.max).UTC()
	a.Rest = level % r.max
	a.Taken += n
	return a
}

// leak is how long so many parts take to leak out, with a started microsecond whole; the longest duration when it is more.
func (r rate) leak(parts int64) time.Duration {
	if parts == 0 {
		return 0
	}
	const longest = math.MaxInt64 / int64(time.Microsecond)
	if r.max == 0 || parts/r.max >= longest {
		return math.MaxInt64
	}
	micros := parts / r.max
	if parts%r.max > 0 {
		micros++
	}
	return time.Duration(micros) * time.Microsecond
}
