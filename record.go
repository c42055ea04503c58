package usage

import (
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage/store"
)

// Record is one call as it is in the ledger.
type Record struct {
	TenantID, ID    string
	Provider, Model string
	// At is when the call happened, and RecordedAt when the tracker took it in; both UTC, in microseconds.
	At, RecordedAt time.Time
	// Lines are what is charged, each meter once. They are disjoint: the token lines add up to the provider's total.
	Lines []Line
	// Unbilled are quantities that are counted and not charged on their own: reasoning tokens are inside the output.
	Unbilled Quantities
	// Cost is the sum of the lines' costs, in dollars. When Unpriced says why there is no price, Cost means nothing.
	Cost     decimal.Decimal
	Unpriced string
	// PriceVersion is the version of the book that was asked.
	PriceVersion string
	// Conditions are what besides model and time decided the price.
	Conditions Conditions

	Endpoint string
	Status   int
	Latency  time.Duration
	Error    string
	User, IP string
	Tags     map[string]string

	// ReservationID is the reservation that the call named, and Settlement what became of it.
	ReservationID string
	Settlement    Settlement
	// Overage is by how much the cost passed what the reservation held, in dollars.
	Overage decimal.Decimal
	// Duplicate says that the call was in the ledger before, and nothing changed.
	Duplicate bool
}

// Settlement is what became of the reservation that a call named; it is empty when the call named none.
type Settlement = store.Settlement

// The settlements of a record.
const (
	// Settled: the reservation was live, and the call took its place.
	Settled = store.Settled
	// ReservationExpired: it had run out before, so the call counted without one.
	ReservationExpired = store.HoldExpired
	// ReservationUnknown: the tenant has no such reservation, or no longer, so the call counted without one.
	ReservationUnknown = store.HoldUnknown
)

// recordOf is the row as hosts see it. The conditions are the row's, for whoever has them at hand unpacked.
func recordOf(r *store.Record, conditions Conditions) Record {
	record := Record{
		TenantID: r.TenantID, ID: r.ID, Provider: r.Provider, Model: r.Model, At: r.At, RecordedAt: r.RecordedAt,
		Cost: r.Cost.Decimal(), Unpriced: r.Unpriced, PriceVersion: r.PriceVersion, Conditions: conditions,
		Endpoint: r.Endpoint, Status: r.Status, Latency: r.Latency, Error: r.Error, User: r.User, IP: r.IP, Tags: r.Tags,
		ReservationID: r.HoldID, Settlement: r.Settlement, Overage: r.Overage.Decimal(),
	}
	record.Lines, record.Unbilled = apart(r.Lines)
	return record
}

// apart takes the lines that are charged and those that are not apart. It returns the lines themselves where all are
// charged, which is most calls.
func apart(lines []Line) (charged []Line, unbilled Quantities) {
	if !slices.ContainsFunc(lines, func(l Line) bool { return l.Unbilled }) {
		return lines, nil
	}
	charged, unbilled = make([]Line, 0, len(lines)), make(Quantities)
	for _, line := range lines {
		if line.Unbilled {
			unbilled[line.Meter] = line.Quantity
		} else {
			charged = append(charged, line)
		}
	}
	return charged, unbilled
}
