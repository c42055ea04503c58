package store

import (
	"slices"
	"time"
)

// The windows of rates. They are no periods of a calendar: a limit with one of them is kept by an Arrival, and there are no
// totals of it.
const (
	Minute Window = "minute"
	Second Window = "second"
)

// IsRate reports whether the window is one of rates.
func (w Window) IsRate() bool { return w == Minute || w == Second }

// HasRates reports whether one of the limits is a rate.
func (q *Quota) HasRates() bool {
	return slices.ContainsFunc(q.Limits, func(l Limit) bool { return l.Per.IsRate() })
}

// RateKey is what a tenant's rate limit counts. It has no maximum: a limit that changes goes on from the same arrival.
type RateKey struct {
	Provider, Model string
	Meter           Meter
	Per             Window
}

// Key returns the key of the arrival that a rate limit is kept by.
func (l *Limit) Key() RateKey { return RateKey{l.Provider, l.Model, l.Meter, l.Per} }

// Arrival is all that a store keeps of a tenant's rate limit: the theoretical arrival time of the generic cell rate algorithm.
// A tenant has one for each RateKey at the most, and a key without one has never been taken from. A store keeps the numbers
// and does not look into them.
type Arrival struct {
	RateKey
	// At is when all that was taken will have passed, at the limit's rate, in microseconds; Rest is the part of a
	// microsecond more, in units of the rule's own, and not negative.
	At   time.Time
	Rest int64
	// Taken counts all units ever taken. It may pass the largest int64 and go on from the smallest.
	Taken int64
}
