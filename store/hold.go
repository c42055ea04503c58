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
}

// Live reports whether the hold holds anything at an instant, if nobody settled or released it.
func (h *Hold) Live(at time.Time) bool { return at.Before(h.ExpiresAt) }

// Decide says whether a hold may be taken, given its tenant's standing: nil, or the error that refuses it. It must be a
// pure function: a store calls it inside its transaction, and may call it again when it has to try again.
// The standing and the hold are the store's: Decide neither changes nor keeps them.
type Decide func(*Standing, *Hold) error

// Judge says which alerts a tenant gets, given its standing after added were counted. Those that the standing lists
// already are not raised again. It must be a pure function, as Decide must. TenantID, ID, Number, Status and the times of
// the alerts it returns are filled in by the store.
type Judge func(s *Standing, added []*Record) []Alert

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
	// Holds are those that are live at At.
	Holds []*Hold
	// Alerts are those of the periods that contain At, whatever their status.
	Alerts []*Alert
}
