package usage

import (
	"slices"
	"strings"
	"time"

	"github.com/acf68eca/usage/store"
)

// Estimate is what a call may use at the worst, before it is made: for Tracker.CheckQuota and Tracker.Reserve. Numbers
// have the bounds of those of a call. An estimate of nothing asks only whether there is any room left.
type Estimate struct {
	// TenantID is the host's name for the tenant, 1 to 255 bytes. Required.
	TenantID string
	// ID is the reservation's id, at most 255 bytes. Empty makes a new one.
	ID string
	// Provider is OpenAI, ElevenLabs, Smartflo or a name of the host's, as in Call. Required.
	Provider string
	// Model is the model that will be asked for, at most 255 bytes.
	Model string
	// ServiceTier is the tier that will be asked for. Kept in lower case, at most 64 bytes; empty is the default tier.
	ServiceTier string
	// Batch says that the call will go through the Batch API.
	Batch bool
	// InputTokens and OutputTokens are the most that the call can take in and give out, all of it uncached text.
	InputTokens, OutputTokens int64
	// Characters is the length of the text to speak, as Unicode code points.
	Characters int64
	// Audio and CallTime are lengths of audio and of a telephone or agent call; a started millisecond counts whole.
	Audio, CallTime time.Duration
	// Quantities are the other meters. A meter that has a field here is given there and not in Quantities.
	Quantities Quantities
	// Conditions are what else the price depends on, as in Call. ServiceTier and Batch, where set, stand above them.
	Conditions Conditions
	// ExpiresIn is how long a reservation holds if nobody settles or releases it, in microseconds, at most 366 days.
	// Defaults to 15 minutes.
	ExpiresIn time.Duration
	// Owner says who takes the reservation, for people to read, at most 255 bytes. Optional.
	Owner string
}

const maxExpiry = 366 * 24 * time.Hour

// hold returns the estimate as a hold without price, ID, CreatedAt and ExpiresAt, and the query for its price without
// its time: the tracker has the clock and the book.
func (e Estimate) hold() (hold store.Hold, query PriceQuery, err error) {
	err = e.ask(&hold, &query, nil)
	return hold, query, err
}

// ask is hold without an allocation, when the lines have room in the buffer and nothing is wrong.
func (e *Estimate) ask(hold *store.Hold, query *PriceQuery, buffer lineList) error {
	var f faults
	f.id("TenantID", e.TenantID)
	f.text("ID", e.ID, maxID)
	f.provider("Provider", e.Provider)
	f.model("Model", e.Model)
	f.duration("ExpiresIn", e.ExpiresIn)
	if e.ExpiresIn > maxExpiry {
		f.add("ExpiresIn", "is longer than 366 days")
	}
	f.text("Owner", e.Owner, maxID)
	lines, conditions := e.lines(&f, buffer), e.conditions(&f)
	if err := f.err(); err != nil {
		return err
	}
	*hold = store.Hold{TenantID: e.TenantID, ID: e.ID, Provider: e.Provider, Model: e.Model, Lines: lines, Owner: e.Owner}
	*query = PriceQuery{Provider: e.Provider, Model: e.Model, Conditions: conditions, PromptTokens: promptTokens(lines)}
	return nil
}

func (e *Estimate) lines(f *faults, l lineList) []store.Line {
	f.quantity("InputTokens", e.InputTokens)
	f.quantity("OutputTokens", e.OutputTokens)
	f.quantity("Characters", e.Characters)
	f.duration("Audio", e.Audio)
	f.duration("CallTime", e.CallTime)
	l.bill(InputTokens, e.InputTokens)
	l.bill(OutputTokens, e.OutputTokens)
	l.bill(Characters, e.Characters)
	l.bill(AudioTime, milliseconds(e.Audio))
	l.bill(CallTime, milliseconds(e.CallTime))
	if len(e.Quantities) == 0 {
		return l
	}
	fields := l
	for _, meter := range e.Quantities.meters(f, "Quantities") {
		if slices.ContainsFunc(fields, func(line store.Line) bool { return line.Meter == meter }) {
			f.add(keyed("Quantities", string(meter)), "is given by its own field too")
		}
		l.bill(meter, e.Quantities[meter])
	}
	return l
}

func (e *Estimate) conditions(f *faults) Conditions {
	f.condition("ServiceTier", e.ServiceTier)
	conditions := copyConditions(f, "Conditions", e.Conditions)
	setCondition(&conditions, ServiceTier, strings.ToLower(strings.TrimSpace(e.ServiceTier)))
	setCondition(&conditions, Batch, yes(e.Batch))
	return conditions
}
