package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// instant parses "2006-01-02", with "T15", "T15:04" or "T15:04:05" behind it where that matters, in UTC.
func instant(t *testing.T, s string) time.Time {
	t.Helper()
	for _, layout := range []string{time.DateOnly, "2006-01-02T15", "2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at
		}
	}
	t.Fatalf("%q is no instant", s)
	return time.Time{}
}

func calendarOf(t *testing.T, zone string, day int) Calendar {
	t.Helper()
	c, err := NewCalendar(zone, day)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// anchored is the calendar of an anchor in UTC: its day of the month at its time of day.
func anchored(t *testing.T, anchor string) Calendar {
	t.Helper()
	at := instant(t, anchor)
	midnight := time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC)
	return Calendar{zone: time.FixedZone("anchor", -int(at.Sub(midnight).Seconds())), day: at.Day()}
}

func wantPeriod(t *testing.T, got Period, start, end string) {
	t.Helper()
	if diff := cmp.Diff(Period{instant(t, start), instant(t, end)}, got); diff != "" {
		t.Errorf("period (-want +got):\n%s", diff)
	}
	if got.Start.Location() != time.UTC || got.End.Location() != time.UTC {
		t.Errorf("%v is not in UTC", got)
	}
}

func TestMonthsByTheirAnchor(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ anchor, at, start, end string }{
		{"2025-01-31T15", "2025-08-13T20", "2025-07-31T15", "2025-08-31T15"},
		{"2025-01-31T15", "2025-09-30T15", "2025-09-30T15", "2025-10-31T15"},
		{"2025-01-31T15", "2025-09-30T14:59:59", "2025-08-31T15", "2025-09-30T15"},
		{"2025-01-30T15", "2025-02-13", "2025-01-30T15", "2025-02-28T15"},
		{"2025-01-30", "2025-02-13", "2025-01-30", "2025-02-28"},
		{"2024-01-31", "2024-02-29", "2024-02-29", "2024-03-31"},
		{"2024-01-31", "2025-02-28", "2025-02-28", "2025-03-31"},
		{"2025-01-05", "2025-03-04T23:59:59", "2025-02-05", "2025-03-05"},
		{"2025-01-05", "2025-02-05", "2025-02-05", "2025-03-05"},
		{"2025-01-05", "2025-01-01", "2024-12-05", "2025-01-05"}, // before the anchor itself
	} {
		t.Run(test.anchor+" at "+test.at, func(t *testing.T) {
			t.Parallel()
			wantPeriod(t, anchored(t, test.anchor).Month(instant(t, test.at)), test.start, test.end)
		})
	}
}

func TestThe31stComesBackAfterFebruary(t *testing.T) {
	t.Parallel()
	c := calendarOf(t, "", 31)
	at := instant(t, "2025-01-31")
	for _, want := range []string{
		"2025-01-31", "2025-02-28", "2025-03-31", "2025-04-30", "2025-05-31", "2025-06-30", "2025-07-31", "2025-08-31",
		"2025-09-30", "2025-10-31", "2025-11-30", "2025-12-31", "2026-01-31", "2026-02-28", "2026-03-31",
	} {
		period := c.Month(at)
		if !period.Start.Equal(instant(t, want)) {
			t.Errorf("the month of %v starts on %v, want %s", at, period.Start, want)
		}
		if !at.Equal(period.Start) {
			t.Errorf("%v is not the start of %v", at, period)
		}
		at = period.End
	}
}

func TestMonthsInTheirZone(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ zone, at, start, end string }{
		{"America/New_York", "2024-03-15", "2024-03-01T05", "2024-04-01T04"},
		{"Asia/Kolkata", "2024-03-31T12", "2024-02-29T18:30", "2024-03-31T18:30"},
		{"Asia/Kolkata", "2024-03-31T18:29:59", "2024-02-29T18:30", "2024-03-31T18:30"},
		{"Asia/Kolkata", "2024-03-31T18:30", "2024-03-31T18:30", "2024-04-30T18:30"},
		{"Asia/Kathmandu", "2024-03-31T18:14:59", "2024-02-29T18:15", "2024-03-31T18:15"},
		{"Asia/Kathmandu", "2024-03-31T18:15", "2024-03-31T18:15", "2024-04-30T18:15"},
		{"Pacific/Chatham", "2024-04-15", "2024-03-31T10:15", "2024-04-30T11:15"},
		{"America/Havana", "2024-03-10", "2024-03-01T05", "2024-04-01T04"},
		{"", "2024-12-31T23:59:59", "2024-12-01", "2025-01-01"},
	} {
		t.Run(test.zone+" at "+test.at, func(t *testing.T) {
			t.Parallel()
			wantPeriod(t, calendarOf(t, test.zone, 1).Month(instant(t, test.at)), test.start, test.end)
		})
	}
}

func TestDaysWhoseMidnightIsOdd(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, zone, at, start, end string }{
		{"23 hours", "America/New_York", "2024-03-10T12", "2024-03-10T05", "2024-03-11T04"},
		{"25 hours", "America/New_York", "2024-11-03T12", "2024-11-03T04", "2024-11-04T05"},
		{"clocks skip midnight", "America/Havana", "2024-03-10T12", "2024-03-10T05", "2024-03-11T04"},
		{"midnight comes twice", "America/Havana", "2024-11-03T12", "2024-11-03T04", "2024-11-04T05"},
		{"the second midnight", "America/Havana", "2024-11-03T05", "2024-11-03T04", "2024-11-04T05"},
		{"clocks go back over midnight", "America/St_Johns", "1992-10-25T12", "1992-10-25T02:30", "1992-10-26T03:30"},
		{"yesterday's date again", "America/St_Johns", "1992-10-25T03", "1992-10-25T02:30", "1992-10-26T03:30"},
		{"a date that there was not", "Pacific/Apia", "2011-12-30T09:59:59", "2011-12-29T10", "2011-12-30T10"},
		{"the one after it", "Pacific/Apia", "2011-12-30T10", "2011-12-30T10", "2011-12-31T10"},
		{"half an hour", "Australia/Lord_Howe", "2024-04-07", "2024-04-06T13", "2024-04-07T13:30"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			wantPeriod(t, calendarOf(t, test.zone, 1).Day(instant(t, test.at)), test.start, test.end)
		})
	}
}

func TestABillingDayThatWasSkippedStartsAtTheNextInstant(t *testing.T) {
	t.Parallel()
	c := calendarOf(t, "Pacific/Apia", 30)
	wantPeriod(t, c.Month(instant(t, "2011-12-30T10")), "2011-12-30T10", "2012-01-29T10")
	wantPeriod(t, c.Month(instant(t, "2011-12-30T09:59:59")), "2011-11-30T10", "2011-12-30T10")
}

// date is a local date, in the order of time.
type date int

func dateOf(at time.Time) date {
	year, month, day := at.Date()
	return date(year*10_000 + int(month)*100 + day)
}

type dayStart struct {
	date  date
	start time.Time
}

// daysOf finds the days of a zone without any arithmetic on dates: a day begins when a date comes for the first time.
// Every clock so far changes by quarters of an hour, or where no date begins.
func daysOf(zone *time.Location, from, to time.Time) (days []dayStart) {
	var latest date
	for at := from; at.Before(to); at = at.Add(15 * time.Minute) {
		if local := dateOf(at.In(zone)); local > latest {
			latest = local
			days = append(days, dayStart{local, at.UTC()})
		}
	}
	return days[1:]
}

// monthsOf are the periods' boundaries: the first days on or after the billing day, or the last of a shorter month.
func monthsOf(days []dayStart, billingDay int) (starts []time.Time) {
	last := date(0)
	for i, day := range days {
		year, month := int(day.date)/10_000, int(day.date)/100%100
		anchor := min(billingDay, time.Date(year, time.Month(month+1), 0, 0, 0, 0, 0, time.UTC).Day())
		if key := day.date / 100; int(day.date)%100 >= anchor && key > last {
			if i > 0 {
				starts = append(starts, day.start)
			}
			last = key
		}
	}
	return starts[1:] // the first may be the middle of a period
}

func TestEveryHourIsInOnePeriod(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		zone        string
		from, years int
	}{
		{"UTC", 2024, 1}, {"Asia/Kolkata", 2024, 1}, {"America/New_York", 2024, 2}, {"Asia/Kathmandu", 1985, 2},
		{"Pacific/Chatham", 2024, 2}, {"America/Havana", 2024, 2}, {"America/St_Johns", 1990, 3}, {"Pacific/Apia", 2011, 2},
		{"Australia/Lord_Howe", 2024, 2},
	} {
		t.Run(fmt.Sprint(test.zone, " ", test.from), func(t *testing.T) {
			t.Parallel()
			zone, err := time.LoadLocation(test.zone)
			if err != nil {
				t.Fatal(err)
			}
			from := time.Date(test.from, 1, 1, 0, 0, 0, 0, time.UTC)
			days := daysOf(zone, from, from.AddDate(test.years, 0, 0))
			starts := make([]time.Time, len(days))
			for i := range days {
				starts[i] = days[i].start
			}
			wantPeriods(t, starts, time.Hour, calendarOf(t, test.zone, 1).Day)
			for _, billingDay := range []int{1, 2, 15, 28, 29, 30, 31} {
				c := calendarOf(t, test.zone, billingDay)
				wantPeriods(t, monthsOf(days, billingDay), 5*time.Hour, c.Month)
			}
		})
	}
}

// wantPeriods wants every instant between the starts to be in the period of the start before it, whether it is asked
// for at its very bounds or in between.
func wantPeriods(t *testing.T, starts []time.Time, step time.Duration, period func(time.Time) Period) {
	t.Helper()
	for i := range len(starts) - 1 {
		want := Period{starts[i], starts[i+1]}
		check := func(at time.Time) bool {
			got := period(at)
			if got != want || !got.Contains(at) {
				t.Errorf("%v is in %v, want %v", at, got, want)
				return false
			}
			return true
		}
		if !check(want.End.Add(-time.Microsecond)) {
			return
		}
		for at := want.Start; at.Before(want.End); at = at.Add(step) {
			if !check(at) {
				return
			}
		}
	}
}

func TestEveryBillingDayAbutsForYears(t *testing.T) {
	t.Parallel()
	for billingDay := 1; billingDay <= 31; billingDay++ {
		c := calendarOf(t, "America/New_York", billingDay)
		at := instant(t, "2019-06-15")
		for range 12 * 9 {
			period := c.Month(at)
			next := c.Month(period.End)
			if !period.Contains(at) || next.Start != period.End || c.Before(Month, next) != period {
				t.Fatalf("billing day %d: %v is followed by %v, which %v is before", billingDay, period, next, c.Before(Month, next))
			}
			local := period.Start.In(c.zone)
			last := time.Date(local.Year(), local.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
			if local.Day() != min(billingDay, last) || local.Format(time.TimeOnly) != "00:00:00" {
				t.Fatalf("billing day %d: a month starts at %v", billingDay, local)
			}
			at = period.End
		}
	}
}

func TestTheZeroCalendarIsUTC(t *testing.T) {
	t.Parallel()
	wantPeriod(t, Calendar{}.Month(instant(t, "2024-02-29")), "2024-02-01", "2024-03-01")
	wantPeriod(t, Calendar{}.Day(instant(t, "2024-02-29")), "2024-02-29", "2024-03-01")
	wantPeriod(t, Calendar{}.Period(Day, instant(t, "2024-02-29")), "2024-02-29", "2024-03-01")
	wantPeriod(t, Calendar{}.Period(Month, instant(t, "2024-02-29")), "2024-02-01", "2024-03-01")
}

func TestCalendarsThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		zone string
		day  int
	}{{"UTC", -1}, {"UTC", 32}, {"Local", 1}, {"Mars/Olympus", 1}, {"../etc/passwd", 1}} {
		if _, err := NewCalendar(test.zone, test.day); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q, %d: got %v, want %v", test.zone, test.day, err, ErrInvalid)
		}
	}
}
