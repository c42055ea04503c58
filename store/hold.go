package store

import "time"

// Hold is a reservation: what a call may cost, set aside until the call's record settles it, it is released, or it
// expires. Its identity is (TenantID, ID).
type Hold struct {
	TenantID, ID    string
	Provider, Model string
	// Lines are what the call may use at the worst, and Cost what that costs.
	Lines []Line
	Cost  Money
	// Owner says who took the hold, for people to read. Optional.
	Owner     string
	CreatedAt time.Time
	// ExpiresAt ends the hold by comparison: at that instant and after it, it holds nothing.
	ExpiresAt time.Time
	// Arrivals are those that taking the hold set, for Refund. The store sets them, from the Verdict.
	Arrivals []Arrival
}

// Live reports whether the hold holds anything at an instant, if nobody settled or released it.
func (h *Hold) Live(at time.Time) bool { return at.Before(h.ExpiresAt) }

// Decide says whether a hold may be taken, given its tenant's standing. It must be a pure function: a store calls it inside
// its transaction, and may call it again when it has to try again. The standing and the hold are the store's: Decide neither
// changes nor keeps them.
type Decide func(*Standing, *Hold) Verdict

// Verdict is what Decide says of one hold.
type Verdict struct {
	// Refusal is why the hold may not be taken; nil takes it.
	Refusal error
	// Arrivals are what taking the hold sets, besides the hold: the tenant's arrivals of the same RateKey are replaced, and
	// the hold keeps them for Refund. A hold that is not taken, for a Refusal or because its id is taken, sets none.
	Arrivals []Arrival
	// Alerts are raised whether the hold is taken or not, as a Judge's are.
	Alerts []Alert
}

// HoldOutcome is what became of one hold of a Store.Hold.
type HoldOutcome struct {
	// Err is nil when the hold was taken, the Refusal when it was not, and a *ConflictError when its id is taken.
	Err error
	// Alerts are those that were raised for it in the same commit.
	Alerts []Alert
}

// Judge says what follows from a change, given the tenant's standing after added were counted. It must be a pure function,
// as Decide must.
type Judge func(s *Standing, added []*Record) Judgement

// Judgement is what a Judge says.
type Judgement struct {
	// Alerts are raised, but for those whose AlertKey the tenant has already. TenantID, ID, Number, Status and the times are
	// filled in by the store.
	Alerts []Alert
	// Arrivals replace the tenant's of the same RateKey.
	Arrivals []Arrival
}

// Refund says what releasing a hold gives back: the arrivals that replace the tenant's of the same RateKey. The hold is as
// it was taken, with its Arrivals. It must be a pure function, as Decide must.
type Refund func(*Standing, *Hold) []Arrival

// Standing is what rules are decided by: a tenant as it stands at one instant, read under the tenant's lock.
type Standing struct {
	// Tenant is the row, or one with the defaults and a zero CreatedAt when the store has none.
	Tenant Tenant
	Quota  Quota
	At     time.Time
	// Month and Day are the periods that contain At.
	Month, Day Period
	// Totals of those two periods, one for each model used.
	MonthTotals, DayTotals []*Total
	// Held is what the holds that are live at At add up to, one total for each provider and model that has any: Calls counts
	// them, Cost and Meters are the sums of theirs, Window and Start are empty, and Errors and Unpriced zero. A sum past an
	// int64 stays at the largest. The type Held of this package adds them up so.
	Held []*Total
	// HeldUntil is when the first of those holds expires; zero when there are none.
	HeldUntil time.Time
	// Holds are the holds themselves. Only Store.Standing lists them; rules go by Held, so that the cost of a decision does
	// not grow with the number of holds.
	Holds []*Hold
	// Arrivals are the tenant's, when the quota has a limit whose window is a rate; a store need not read them otherwise, and
	// leaves them empty.
	Arrivals []Arrival
	// Alerts are those of the periods that contain At, whatever their status.
	Alerts []*Alert
}
