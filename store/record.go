package store

import (
	"maps"
	"slices"
	"time"
)

// Meter names what is counted, always in whole units of one kind: tokens, characters, credits, milliseconds,
// images, requests.
type Meter string

// Record is the row of one call. Its identity is (TenantID, ID), for the life of the row.
type Record struct {
	TenantID, ID    string
	Provider, Model string
	// At is when the call happened: it decides the price and the periods that the call counts in.
	At time.Time
	// AtGiven says that the caller named At. A time filled in by the tracker is not part of the call's content: the
	// same call sent again a moment later is the same call.
	AtGiven bool
	// RecordedAt is the tracker's clock when it took the call in.
	RecordedAt time.Time
	// Lines are the meters of the call, each once. Those that are not Unbilled are disjoint and add up to the cost.
	Lines []Line
	// Cost is the sum of the lines' costs. It is 0, and means nothing, when Unpriced says why there is none.
	Cost     Money
	Unpriced string
	// PriceVersion is the version of the price book that was asked.
	PriceVersion string
	// Conditions are what besides model and time decided the price, such as "batch=true;service_tier=flex". A store
	// keeps the text and does not look into it.
	Conditions string

	Endpoint string
	Status   int
	Latency  time.Duration
	Error    string
	User, IP string
	Tags     map[string]string
	HoldID   string

	// Settlement is what became of the hold that HoldID names, and Overage by how much the cost passed the hold's.
	// A store sets both in Append.
	Settlement Settlement
	Overage    Money
}

// Line is one meter of a call.
type Line struct {
	Meter    Meter
	Quantity int64
	// Rate is the price that applied, zero when there was none.
	Rate Rate
	// Cost is quantity × rate: exact, or rounded half to even at 12 fraction digits. See MulDiv.
	Cost Money
	// Unbilled lines are counted but not charged: they are a part of another line (reasoning tokens are inside the
	// output) or the provider does not charge for them.
	Unbilled bool
}

// Rate is a price: Amount in US dollars for every Per units, of the quantity rounded up to a multiple of RoundUpTo.
// RoundUpTo 0 is no rounding. The zero Rate is no price; a price of nothing has a Per.
type Rate struct {
	Amount         Money
	Per, RoundUpTo int64
}

// Settlement is what became of a hold when a record named it.
type Settlement string

// The settlements of a record. The empty one is that of a record that names no hold.
const (
	// Settled: the hold was live, and the record took its place.
	Settled Settlement = "settled"
	// HoldExpired: the hold had run out before, so the record counted without one.
	HoldExpired Settlement = "expired"
	// HoldUnknown: the tenant has no such hold, so the record counted without one.
	HoldUnknown Settlement = "unknown"
)

// IsError reports whether the call failed: an HTTP status of 400 and above, or an error text.
func (r *Record) IsError() bool { return r.Status >= 400 || r.Error != "" }

// Differs compares what the callers of two records with one id said, and returns the name of the first field that
// differs, or "" when they are the same call. What the tracker added (price, cost, its own clock) is not compared:
// a price that changed between two tries does not make them different calls.
func (r *Record) Differs(other *Record) (field string) {
	switch {
	case r.Provider != other.Provider:
		return "Provider"
	case r.Model != other.Model:
		return "Model"
	case !slices.EqualFunc(r.Lines, other.Lines, sameQuantity):
		return "Lines"
	case len(r.Lines) == 0 && r.Unpriced != other.Unpriced: // without lines only the caller can have said so
		return "UsageUnknown"
	case r.Conditions != other.Conditions:
		return "Conditions"
	case r.AtGiven && other.AtGiven && !r.At.Equal(other.At):
		return "At"
	case r.Endpoint != other.Endpoint:
		return "Endpoint"
	case r.Status != other.Status:
		return "Status"
	case r.Latency != other.Latency:
		return "Latency"
	case r.Error != other.Error:
		return "Error"
	case r.User != other.User:
		return "User"
	case r.IP != other.IP:
		return "IP"
	case !maps.Equal(r.Tags, other.Tags):
		return "Tags"
	case r.HoldID != other.HoldID:
		return "ReservationID"
	}
	return ""
}

func sameQuantity(a, b Line) bool {
	return a.Meter == b.Meter && a.Quantity == b.Quantity && a.Unbilled == b.Unbilled
}

// Outcome is what became of one record of an Append.
type Outcome struct {
	// Record is the stored row: the one just added, or the one that was there before, of a duplicate and of a conflict. Of a
	// record that was refused for another reason it is the one given.
	Record *Record
	// Duplicate says that the record was there before with the same content, and nothing changed.
	Duplicate bool
	// Alerts are those that this record's tenant got in the same commit. They are given once, with the tenant's last
	// added record of the batch.
	Alerts []Alert
	// Err says why this record, and it alone, was not added: a *ConflictError, a *HoldError, a
	// *PrunedError or ErrOverflow.
	Err error
}

// RecordQuery selects records of one tenant. Empty fields select everything.
type RecordQuery struct {
	TenantID string
	// From and To bound At: [From, To). A zero time is no bound.
	From, To              time.Time
	Provider, Model, User string
	Status                int
	Unpriced              bool // only records without a price
	NewestFirst           bool // by (At, ID) downwards
	After                 *Position
	Limit                 int // at least 1
}

// Position is a record's place in a listing. A page starts after it.
type Position struct {
	At time.Time
	ID string
}
