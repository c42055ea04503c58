package usage

import (
	"strings"
	"time"

	"github.com/acf68eca/usage/store"
	"github.com/shopspring/decimal"
)

// ElevenLabsCall is a call to ElevenLabs. One of its quantities is charged, the first of these that applies; the others
// are counted:
//
//  0. ReportedCost: what ElevenLabs itself says it charged, which it does for conversations with agents.
//  1. Credits, when Plan is given: a subscription is charged what the character-cost header says, voice multipliers
//     included.
//  2. Generations: sound effects are sold by the piece.
//  3. CallTime: a minute with an agent includes its speech.
//  4. Characters: speech is sold by the character, so its length is only counted.
//  5. Audio: transcription, music, dubbing, voice changing and isolation are sold by the minute.
//  6. Credits alone: all that is known.
//
// Source: elevenlabs.io/pricing/api and the help centre's page on usage-based billing, as of October 2026.
type ElevenLabsCall struct {
	// TenantID is the host's name for the tenant, 1 to 255 bytes. Required. A tenant that does not exist is created.
	TenantID string
	// ID is what makes the call the same call when it is sent again, for this tenant: at most 255 bytes, best the
	// provider's own id (the request-id header, the transcription_id or the conversation_id). Empty makes a new one, so
	// that sending the call again counts it again.
	ID string
	// Model is the model that was asked for ("eleven_multilingual_v2", "scribe_v2"), at most 255 bytes. ElevenLabs names
	// none in its responses.
	Model string
	// Characters is the length of the text to speak, as Unicode code points.
	Characters int64
	// Credits is what the character-cost header says was charged.
	Credits int64
	// Audio is the length of the audio that was made or read, with a started millisecond counted whole.
	Audio time.Duration
	// CallTime is the length of an agent's conversation without its wait in the queue (call_duration_secs), with a started
	// millisecond counted whole.
	CallTime time.Duration
	// Generations is the number of sound effects made.
	Generations int64
	// ReportedCost is the cost in dollars that ElevenLabs reports (cost_fiat of a conversation). It is charged as it is,
	// by the meter ReportedCost, which counts picodollars; digits past the twelfth are rounded half to even. Valid false is
	// no report; a valid zero is free, whatever else the call used.
	ReportedCost decimal.NullDecimal
	// Plan is the subscription that pays: "creator", "pro", "scale". Kept in lower case, at most 64 bytes. Empty pays as
	// it goes.
	Plan string
	// Watermark says that a dubbed video carries ElevenLabs' watermark, which makes it cheaper.
	Watermark bool

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

func (c ElevenLabsCall) draft() (*draft, error) {
	var f faults
	d := newDraft(&f, common{
		TenantID: c.TenantID, ID: c.ID, Provider: ElevenLabs, Model: c.Model, At: c.At, ReservationID: c.ReservationID,
		Endpoint: c.Endpoint, Status: c.Status, Latency: c.Latency, Error: c.Error, User: c.User, IP: c.IP,
		Tags: c.Tags, UsageUnknown: c.UsageUnknown,
	})
	return d.used(&f, c.lines(&f), c.conditions(&f))
}

func (c *ElevenLabsCall) lines(f *faults) []store.Line {
	f.quantity("Characters", c.Characters)
	f.quantity("Credits", c.Credits)
	f.duration("Audio", c.Audio)
	f.duration("CallTime", c.CallTime)
	f.quantity("Generations", c.Generations)
	charged := c.charged()
	var l lineList
	l.bill(ReportedCost, picodollars(f, "ReportedCost", c.ReportedCost))
	l.add(Generations, c.Generations, charged != Generations)
	l.add(CallTime, milliseconds(c.CallTime), charged != CallTime)
	l.add(Characters, c.Characters, charged != Characters)
	l.add(AudioTime, milliseconds(c.Audio), charged != AudioTime)
	l.add(Credits, c.Credits, charged != Credits)
	return l
}

// charged returns the one meter that is charged, as ElevenLabsCall says.
func (c *ElevenLabsCall) charged() Meter {
	switch {
	case c.ReportedCost.Valid:
		return ReportedCost
	case c.Plan != "" && c.Credits > 0:
		return Credits
	case c.Generations > 0:
		return Generations
	case c.CallTime > 0:
		return CallTime
	case c.Characters > 0:
		return Characters
	case c.Audio > 0:
		return AudioTime
	}
	return Credits
}

// picodollars returns a reported cost as a quantity. What a provider computed in floating point may have more digits
// than money keeps.
func picodollars(f *faults, field string, cost decimal.NullDecimal) int64 {
	if !cost.Valid {
		return 0
	}
	if d := cost.Decimal; d.Exponent() < -maxReportedDigits || d.Exponent() > maxReportedDigits || d.Coefficient().BitLen() > 128 {
		f.add(field, "has too many digits")
		return 0
	}
	n, ok := store.ScaledInt(cost.Decimal.RoundBank(moneyDigits), moneyDigits)
	if !ok {
		f.add(field, "is more than a record can hold")
		return 0
	}
	f.quantity(field, n)
	return n
}

// maxReportedDigits is how many digits a reported cost may have before or after its point: a float's 17 and some zeros.
const maxReportedDigits = 40

func (c *ElevenLabsCall) conditions(f *faults) Conditions {
	f.condition("Plan", c.Plan)
	var conditions Conditions
	setCondition(&conditions, Plan, strings.ToLower(c.Plan))
	setCondition(&conditions, Watermark, yes(c.Watermark))
	return conditions
}
