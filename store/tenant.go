package store

import "time"

// Tenant is a customer of the host.
type Tenant struct {
	// ID is the host's name for the tenant: 1 to 255 bytes.
	ID string
	// Name is for people. Defaults to the id.
	Name string
	// TimeZone is the IANA zone in which the tenant's days and months begin. Defaults to "UTC".
	TimeZone string
	// BillingDay is the day of the month, 1 to 31, on which the tenant's month begins; a shorter month begins on its
	// last day. Defaults to 1.
	BillingDay int
	// Contacts are where alerts about the tenant may be sent, e-mail addresses for example. Optional.
	Contacts []string
	// Suspended is why the tenant may not reserve; empty when it may. Only Store.Suspend writes it.
	Suspended string
	// Horizon is the instant before which the tenant's records were dropped; zero when none were. Only Store.Prune writes it.
	Horizon time.Time
	// CreatedAt is when the store first saw the tenant.
	CreatedAt time.Time
}

// Calendar returns the calendar of the tenant's zone and billing day.
func (t Tenant) Calendar() (Calendar, error) { return NewCalendar(t.TimeZone, t.BillingDay) }

// Quota is the set of a tenant's limits. Setting it replaces the one before.
type Quota struct {
	TenantID string
	// Limits all apply. No limits is unlimited.
	Limits []Limit
	// AlertPercents are the shares of each limit at which an alert is raised, in percent.
	AlertPercents []int
}

// Limit bounds one metric of a tenant over a window. What it counts is the tracker's rule; a store only keeps it.
type Limit struct {
	// Provider and Model narrow the limit; empty means all.
	Provider, Model string
	// Meter is the metric: a meter, or a sum of several that the tracker knows by name, such as "tokens" or "cost".
	Meter Meter
	// Per is the window. Defaults to Month.
	Per Window
	// Max is the most that may be used, in the metric's own whole unit (picodollars for cost). Of a rate it is how much
	// each window gives.
	Max int64
	// Burst is the most that a rate gives at once; 0 is Max.
	Burst int64
	// Soft limits raise alerts and refuse nothing.
	Soft bool
}
