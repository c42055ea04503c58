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
func (e Estimate) hold() (store.Hold, PriceQuery, error) {
	lines, conditions, err := e.check(new(fieldLines), false, false)
	if err != nil {
		return store.Hold{}, PriceQuery{}, err
	}
	return store.Hold{TenantID: e.TenantID, ID: e.ID, Provider: e.Provider, Model: e.Model, Lines: lines, Owner: e.Owner},
		PriceQuery{Provider: e.Provider, Model: e.Model, Conditions: conditions, PromptTokens: promptTokens(lines)}, nil
}

// fieldLines has room for the lines of the fields that an estimate has.
type fieldLines [5]store.Line

// put makes the n-th line, of a quantity that is not zero, and returns the number of the next.
func (l *fieldLines) put(n int, m Meter, quantity int64) int {
	if quantity == 0 {
		return n
	}
	l[n] = store.Line{Meter: m, Quantity: quantity}
	return n + 1
}

// check returns what the estimate asks for and what else its price depends on. The lines are in a buffer, so that it makes
// no allocation when nothing is wrong and there are no Quantities. The names of the tenant, and of provider and model, are
// not looked at when they are known to be well-formed.
func (e *Estimate) check(buffer *fieldLines, tenantKnown, modelKnown bool) (lines []store.Line, conditions Conditions, err error) {
	var f faults
	if !tenantKnown {
		f.id("TenantID", e.TenantID)
	}
	f.text("ID", e.ID, maxID)
	if !modelKnown {
		f.provider("Provider", e.Provider)
		f.model("Model", e.Model)
	}
	f.duration("ExpiresIn", e.ExpiresIn)
	if e.ExpiresIn > maxExpiry {
		f.add("ExpiresIn", "is longer than 366 days")
	}
	f.text("Owner", e.Owner, maxID)
	lines, conditions = e.lines(&f, buffer), e.conditions(&f)
	return lines, conditions, f.err()
}

func (e *Estimate) lines(f *faults, buffer *fieldLines) []store.Line {
	f.quantity("InputTokens", e.InputTokens)
	f.quantity("OutputTokens", e.OutputTokens)
	f.quantity("Characters", e.Characters)
	f.duration("Audio", e.Audio)
	f.duration("CallTime", e.CallTime)
	n := buffer.put(0, InputTokens, e.InputTokens)
	n = buffer.put(n, OutputTokens, e.OutputTokens)
	n = buffer.put(n, Characters, e.Characters)
	n = buffer.put(n, AudioTime, milliseconds(e.Audio))
	n = buffer.put(n, CallTime, milliseconds(e.CallTime))
	switch {
	case len(e.Quantities) > 0:
		return e.addQuantities(f, slices.Clone(buffer[:n]))
	case n == 0:
		return nil
	}
	return buffer[:n]
}

func (e *Estimate) addQuantities(f *faults, l lineList) []store.Line {
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
	if e.ServiceTier == "" && !e.Batch && len(e.Conditions) == 0 {
		return nil
	}
	f.condition("ServiceTier", e.ServiceTier)
	conditions := copyConditions(f, "Conditions", e.Conditions)
	setCondition(&conditions, ServiceTier, strings.ToLower(strings.TrimSpace(e.ServiceTier)))
	setCondition(&conditions, Batch, yes(e.Batch))
	return conditions
}
