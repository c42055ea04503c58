package store

import (
	"fmt"
	"time"
)

// Window is the length of the periods that usage is totalled and limited by, or of a rate (Minute, Second).
type Window string

// The windows of totals and limits. Both follow the tenant's time zone; a month starts on its billing day.
const (
	Month Window = "month"
	Day   Window = "day"
)

// Period is a half-open stretch of time [Start, End), both in UTC: End belongs to the next period.
type Period struct {
	Start, End time.Time
}

// Contains reports whether at is in the period.
func (p Period) Contains(at time.Time) bool {
	return !at.Before(p.Start) && at.Before(p.End)
}

// Middle returns the instant half-way through the period, cut to microseconds.
func (p Period) Middle() time.Time {
	return p.Start.Add(p.End.Sub(p.Start) / 2).Truncate(time.Microsecond)
}

// Calendar tells in which month and on which day of a tenant an instant lies. Both are pure functions of the
// instant, the tenant's time zone and its billing day: nothing is ever reset, and no period is derived from another,
// so that the 31st comes back after February. A Calendar is immutable and safe for concurrent use; its zero value
// is that of UTC and the first of the month.
type Calendar struct {
	zone *time.Location
	day  int
}

// NewCalendar returns the calendar of an IANA time zone and a billing day from 1 to 31. An empty zone is UTC and
// the day 0 is the first. In a month that has no such day the period starts on the month's last.
// It fails when the zone is unknown or the day out of range.
func NewCalendar(zone string, billingDay int) (Calendar, error) {
	if billingDay < 0 || billingDay > 31 {
		return Calendar{}, fmt.Errorf("billing day %d is not from 1 to 31: %w", billingDay, ErrInvalid)
	}
	// "Local" would make the period depend on the machine that asks.
	if zone == "Local" {
		return Calendar{}, fmt.Errorf("time zone %q depends on the machine: %w", zone, ErrInvalid)
	}
	location, err := time.LoadLocation(zone)
	if err != nil {
		return Calendar{}, fmt.Errorf("time zone %q is unknown: %w", zone, ErrInvalid)
	}
	return Calendar{zone: location, day: billingDay}, nil
}

// Period returns the period of the window that contains at.
func (c Calendar) Period(w Window, at time.Time) Period {
	if w == Day {
		return c.Day(at)
	}
	return c.Month(at)
}

// Month returns the billing month that contains at: from the first instant of the billing day in the tenant's zone
// to that of the next month.
func (c Calendar) Month(at time.Time) Period {
	year, month, _ := at.In(c.location()).Date()
	return around(at, func(i int) time.Time { return c.monthStart(year, month+time.Month(i)) })
}

// Day returns the day in the tenant's zone that contains at. It has 23 or 25 hours when the clocks change.
func (c Calendar) Day(at time.Time) Period {
	year, month, day := at.In(c.location()).Date()
	return around(at, func(i int) time.Time { return firstInstant(year, month, day+i, c.location()) })
}

// Before returns the period of the window just before p, which must be one of this calendar's.
func (c Calendar) Before(w Window, p Period) Period {
	return c.Period(w, p.Start.Add(-time.Microsecond))
}

func (c Calendar) location() *time.Location {
	if c.zone == nil {
		return time.UTC
	}
	return c.zone
}

func (c Calendar) monthStart(year int, month time.Month) time.Time {
	day := max(c.day, 1)
	if last := time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day(); day > last {
		day = last
	}
	return firstInstant(year, month, day, c.location())
}

// around finds the period of at among boundaries numbered from the one nearest to at's local date. Going by the
// boundaries and not by the local date gives each instant exactly one period even where clocks go back over
// midnight and one date comes twice.
func around(at time.Time, boundary func(int) time.Time) Period {
	i := 0
	for boundary(i).After(at) {
		i--
	}
	for !boundary(i + 1).After(at) {
		i++
	}
	return Period{Start: boundary(i), End: boundary(i + 1)}
}

// firstInstant returns the first instant of a local date: midnight, the earlier one where midnight comes twice, and
// the moment of the change where clocks skip it. (time.Date leaves open which it returns in both cases.)
func firstInstant(year int, month time.Month, day int, zone *time.Location) time.Time {
	midnight := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	_, before := midnight.Add(-36 * time.Hour).In(zone).Zone()
	_, after := midnight.Add(36 * time.Hour).In(zone).Zone()
	first := midnight.Add(-time.Duration(max(before, after)) * time.Second)
	second := midnight.Add(-time.Duration(min(before, after)) * time.Second)
	for _, instant := range []time.Time{first, second} {
		if local := instant.In(zone); local.Day() == midnight.Day() && local.Format(time.TimeOnly) == "00:00:00" {
			return instant
		}
	}
	if _, change := first.In(zone).ZoneBounds(); !change.IsZero() {
		return change.UTC()
	}
	return second
}
