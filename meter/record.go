package meter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acf68eca/usage"
)

// entry is one call to be recorded, one of both, or a reservation to be given back.
type entry struct {
	openAI     *usage.OpenAICall
	elevenLabs *usage.ElevenLabsCall
	seen       *Unmeasured // for the Estimator; nil when it is not to be asked

	tenant, release string
}

func (e entry) log(ctx context.Context, t *usage.Tracker) error {
	if e.openAI != nil {
		_, err := t.LogOpenAI(ctx, *e.openAI)
		return err
	}
	_, err := t.LogElevenLabs(ctx, *e.elevenLabs)
	return err
}

// deliver writes what is to be written of a call.
func (t *Transport) deliver(ctx context.Context, e entry) {
	if e.release == "" {
		t.record(ctx, e)
		return
	}
	if err := t.tracker.Release(ctx, e.tenant, e.release); err != nil {
		t.cfg.Logger.Warn("meter: a reservation is not released and holds until it expires", "tenant", e.tenant, "error", err)
	}
}

// record writes a call to the ledger. What the ledger refuses of it is taken away rather than the call: a reservation
// that is gone, labels that it cannot keep, a usage that contradicts itself.
func (t *Transport) record(ctx context.Context, e entry) {
	t.guess(e)
	err := e.log(ctx, t.tracker)
	for range 3 {
		if err == nil || !t.mend(e, err) {
			break
		}
		err = e.log(ctx, t.tracker)
	}
	if err == nil {
		return
	}
	t.report(&LogError{OpenAI: e.openAI, ElevenLabs: e.elevenLabs, Err: err})
}

// mend takes from the call what it was refused for, and reports whether there was something.
func (t *Transport) mend(e entry, err error) bool {
	var invalid *usage.InvalidError
	var outcome *usage.UnknownOutcomeError
	var conflict *usage.ConflictError
	switch {
	case errors.As(err, &invalid):
		return t.mendFaults(e, invalid)
	case errors.As(err, new(*usage.ReservationError)) && e.reservation() != nil && *e.reservation() != "":
		*e.reservation() = ""
		return true
	case errors.As(err, &conflict) && e.openAI != nil && e.openAI.Provider != "":
		return t.mendConflict(e, conflict)
	case errors.As(err, &outcome):
		*e.id() = outcome.ID // the same call: it is counted once
		return true
	}
	return false
}

// mendConflict records a call of a server whose ids repeat: some make them of a few digits, some always the same. A call
// that differs in what it used or in when it was made is another one: each attempt has a time of its own.
func (t *Transport) mendConflict(e entry, conflict *usage.ConflictError) bool {
	switch conflict.Field {
	case "Model", "Lines", "UsageUnknown", "Conditions", "At":
	default:
		return false
	}
	t.cfg.Logger.Warn("meter: a server gave the id of an earlier call again", "provider", e.openAI.Provider, "id", e.openAI.ID)
	e.openAI.Tags = withTag(e.openAI.Tags, TagResponseID, e.openAI.ID)
	e.openAI.ID = ""
	return true
}

func (e entry) reservation() *string {
	if e.openAI != nil {
		return &e.openAI.ReservationID
	}
	return &e.elevenLabs.ReservationID
}

func (e entry) at() *time.Time {
	if e.openAI != nil {
		return &e.openAI.At
	}
	return &e.elevenLabs.At
}

func (e entry) id() *string {
	if e.openAI != nil {
		return &e.openAI.ID
	}
	return &e.elevenLabs.ID
}

func (t *Transport) mendFaults(e entry, invalid *usage.InvalidError) bool {
	var labels, quantities []string
	for _, fault := range invalid.Faults {
		switch name, _, _ := strings.Cut(fault.Field, "["); name {
		case "User", "IP", "Tags":
			labels = append(labels, fault.Field)
		case "At": // the host's clock is off: the tracker's counts
			*e.at() = time.Time{}
		case "TenantID", "ID", "Provider", "ReservationID", "Endpoint", "Status", "Latency":
			return false
		default:
			quantities = append(quantities, fault.Field+" "+fault.Problem)
		}
	}
	if len(labels) > 0 {
		t.cfg.Logger.Warn("meter: a call is recorded without its labels: they cannot be kept", "fields", labels)
		e.dropLabels()
	}
	if len(quantities) > 0 {
		e.spoil(UsageInvalid + ": " + quantities[0])
	}
	return true
}

func (e entry) dropLabels() {
	if e.openAI != nil {
		e.openAI.User, e.openAI.IP, e.openAI.Tags = "", "", nil
		return
	}
	e.elevenLabs.User, e.elevenLabs.IP, e.elevenLabs.Tags = "", "", nil
}

// spoil makes the call one whose usage is not known.
func (e entry) spoil(reason string) {
	if c := e.openAI; c != nil {
		*c = withoutUsage(*c)
		c.UsageUnknown = reason
		return
	}
	c := e.elevenLabs
	*c = usage.ElevenLabsCall{
		TenantID: c.TenantID, ID: c.ID, Model: cleaned(c.Model, maxName), At: c.At, ReservationID: c.ReservationID,
		Endpoint: c.Endpoint, Status: c.Status, Latency: c.Latency, Error: c.Error, User: c.User, IP: c.IP, Tags: c.Tags,
		UsageUnknown: reason,
	}
}

// report tells of a call that is not recorded.
func (t *Transport) report(e *LogError) {
	t.cfg.Logger.Error("meter: a call is not recorded", "error", e)
	if t.cfg.OnError != nil {
		guarded(t.cfg.Logger, "Config.OnError", func() { t.cfg.OnError(e) })
	}
}

// guarded calls a function of the host's, whose panic must not reach a call or a goroutine that nobody watches. What it
// panicked with is not logged: it may be anything.
func guarded(logger *slog.Logger, name string, call func()) {
	defer func() {
		if v := recover(); v != nil {
			logger.Error("meter: a function of the host panicked", "function", name, "type", fmt.Sprintf("%T", v))
		}
	}()
	call()
}

// labels asks the host who made a request.
func (t *Transport) labels(req *http.Request) (l Labels) {
	if t.cfg.Labels == nil {
		return Labels{}
	}
	guarded(t.cfg.Logger, "Config.Labels", func() { l = t.cfg.Labels(req) })
	if len(l.Tags) <= maxHostTags {
		l.Tags = maps.Clone(l.Tags)
		return l
	}
	kept := make(map[string]string, maxHostTags)
	for _, key := range slices.Sorted(maps.Keys(l.Tags))[:maxHostTags] {
		kept[key] = l.Tags[key]
	}
	l.Tags = kept
	t.cfg.Logger.Warn("meter: a call has more tags than can be kept", "kept", maxHostTags)
	return l
}

// tags are the host's and the meter's own.
func (f *flight) tags(id, unknown string) map[string]string {
	request := f.observed.requestID
	hasRequest := request != "" && request != id
	if len(f.labels.Tags) == 0 && !hasRequest && unknown == "" {
		return nil
	}
	own := make(map[string]string, len(f.labels.Tags)+2)
	maps.Copy(own, f.labels.Tags)
	if hasRequest {
		own[TagRequestID] = request
	}
	if unknown != "" {
		own[TagBytesSeen] = strconv.FormatInt(f.observed.seen, 10)
		if input, output := f.observed.least(); input+output > 0 {
			own[TagTokensSeen] = strconv.FormatInt(input+output, 10)
		}
	}
	return own
}

// guess puts the host's estimate in the place of an unknown usage, and marks it.
func (t *Transport) guess(e entry) {
	if e.seen == nil {
		return
	}
	reason, seen := e.unknown(), *e.seen
	if seen.Reason = reason; e.openAI != nil {
		seen.Model = e.openAI.Model
	} else {
		seen.Model = e.elevenLabs.Model
	}
	var guess Guess
	var ok bool
	guarded(t.cfg.Logger, "Config.Estimator", func() { guess, ok = t.cfg.Estimator(seen) })
	if ok {
		e.use(guess, reason)
	}
}

func (e entry) unknown() string {
	if e.openAI != nil {
		return e.openAI.UsageUnknown
	}
	return e.elevenLabs.UsageUnknown
}

// unmeasured is what an Estimator is told of a call, but for the model and the reason. It is nil when there is none to be
// asked, or when the usage is known.
func (f *flight) unmeasured(unknown string) *Unmeasured {
	if unknown == "" || f.transport.cfg.Estimator == nil {
		return nil
	}
	o := &f.observed
	seen := &Unmeasured{
		TenantID: f.tenant, Provider: o.provider, Endpoint: o.path, RequestBytes: o.request.bytes,
		MediaBytes: o.request.media, Characters: o.request.speech, MaxOutputTokens: o.request.maxOutput, ResponseBytes: o.seen,
	}
	seen.InputTokens, seen.OutputTokens = o.least()
	if o.body.events != nil {
		seen.Events = o.body.events.events
	}
	return seen
}

func (e entry) use(g Guess, reason string) {
	if c := e.openAI; c != nil {
		c.InputTokens, c.OutputTokens, c.Characters, c.Audio, c.UsageUnknown = g.InputTokens, g.OutputTokens, g.Characters, g.Audio, ""
		c.Tags = withTag(c.Tags, TagEstimated, reason)
		return
	}
	c := e.elevenLabs
	c.Characters, c.Credits, c.Audio, c.UsageUnknown = g.Characters, g.Credits, g.Audio, ""
	c.Tags = withTag(c.Tags, TagEstimated, reason)
}

func withTag(tags map[string]string, key, value string) map[string]string {
	if tags == nil {
		tags = make(map[string]string, 1)
	}
	tags[key] = value[:min(len(value), maxName)]
	return tags
}
