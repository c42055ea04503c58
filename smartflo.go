package usage

import (
	"strings"
	"time"

	"github.com/acf68eca/usage/store"
)

// SmartfloCall is a telephone call by Tata Tele Smartflo. Smartflo publishes no price: the host adds its contract's rate
// to the price book, with the pulse that the duration is rounded up to and, where they differ, a rate for each
// direction. Without one the call is unpriced.
type SmartfloCall struct {
	// TenantID is the host's name for the tenant, 1 to 255 bytes. Required. A tenant that does not exist is created.
	TenantID string
	// ID is what makes the call the same call when it is sent again, for this tenant: at most 255 bytes, best the
	// provider's own id (call_id, or uuid where that is missing). Several webhooks carry one call_id; log the one that is
	// sent at hangup. Empty makes a new one, so that sending the call again counts it again.
	ID string
	// Duration is the billable time, without ringing: billsec in a webhook, answered_seconds in a call record. A started
	// millisecond counts whole. A missed call has none, and costs nothing.
	Duration time.Duration
	// Direction is "inbound" or "outbound", as reported, at most 64 bytes. Kept in lower case; "clicktocall" and
	// "click_to_call" are outbound. Empty is unknown: prices for one direction do not apply.
	Direction string

	// At is when the call happened: it decides the price and the month that the call counts in. It is kept in UTC, cut to
	// microseconds, and has to be in the years 2000 to 2200. Zero is now, by the tracker's clock.
	At time.Time
	// ReservationID is the reservation that this call settles. Empty settles none.
	ReservationID string
	// Endpoint is the path or address that was called, at most 1,024 bytes. A query and fragment are cut off: they may
	// carry keys.
	Endpoint string
	// Status is the HTTP status, 100 to 599, or 0 when there was none. From 400 on the call counts as failed.
	Status int
	// Latency is how long the call took, cut to microseconds. Zero is unknown.
	Latency time.Duration
	// Error is the text of a failure; a call that has one counts as failed. It is never refused: control characters are
	// replaced, what looks like a key ("sk-…", "Bearer …") is masked, and what passes 1,024 bytes is cut. It is stored, so
	// keep prompts and keys out of it.
	Error string
	// User is the host's name for who made the call, at most 255 bytes.
	User string
	// IP is the user's address, kept in its canonical form.
	IP string
	// Tags are the host's own, at most 32: keys of 1 to 64 bytes, values of at most 255.
	Tags map[string]string
	// UsageUnknown is why nobody knows what the call used: "the stream was cut". Such a call may have no quantities. It is
	// stored and counted, and has no price with this as the reason, instead of a cost of zero. Cleaned and cut as Error
	// is, at 255 bytes. A failed call that the provider does not charge for is no such case: it has no quantities, and
	// costs nothing.
	UsageUnknown string
}

func (c SmartfloCall) draft() (*draft, error) {
	var f faults
	d := newDraft(&f, common{
		TenantID: c.TenantID, ID: c.ID, Provider: Smartflo, At: c.At, ReservationID: c.ReservationID,
		Endpoint: c.Endpoint, Status: c.Status, Latency: c.Latency, Error: c.Error, User: c.User, IP: c.IP,
		Tags: c.Tags, UsageUnknown: c.UsageUnknown,
	})
	f.duration("Duration", c.Duration)
	f.condition("Direction", c.Direction)
	var conditions Conditions
	setCondition(&conditions, Direction, smartfloDirection(c.Direction))
	return d.used(&f, c.lines(), conditions)
}

func (c *SmartfloCall) lines() []store.Line {
	var l lineList
	l.bill(CallTime, milliseconds(c.Duration))
	return l
}

// smartfloDirection returns the direction that a call is charged by. A click-to-call is reported as a direction of its
// own, in two spellings, and dials out.
func smartfloDirection(reported string) string {
	direction := strings.ToLower(reported)
	if direction == "clicktocall" || direction == "click_to_call" {
		return "outbound"
	}
	return direction
}
