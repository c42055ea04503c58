package meter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acf68eca/usage"
)

// ErrMalformed is wrapped by what the parsers return for a payload that is not what it should be.
var ErrMalformed = errors.New("malformed")

// SmartfloEvent is one webhook of Smartflo, or one call record of a page: fields by name, as Smartflo sent them. Which
// fields a webhook has, and under which names, its user chose; an unset variable arrives as its own name ("$billsec").
type SmartfloEvent struct {
	fields map[string]string
	record bool // of a page, which is written when the call has ended
}

// Field returns a field by its name, without spaces around either. It is empty where the field is missing, null, or the
// name of an unset variable.
func (e SmartfloEvent) Field(name string) string {
	if value := e.fields[name]; !isVariable(value) {
		return value
	}
	return ""
}

// isVariable reports whether a value is a template's variable that nobody has set.
func isVariable(value string) bool {
	return len(value) > 1 && value[0] == '$' && strings.Trim(value[1:], "abcdefghijklmnopqrstuvwxyz_0123456789") == ""
}

// first returns the first of several fields that has a value, and whether one of the others stands for a variable that
// was not set.
func (e SmartfloEvent) first(names ...string) (value string, unresolved bool) {
	for _, name := range names {
		if value := e.Field(name); value != "" {
			return value, false
		}
		unresolved = unresolved || isVariable(e.fields[name])
	}
	return "", unresolved
}

// CallID is what makes the call the same in all webhooks and records about it: call_id, else uuid.
func (e SmartfloEvent) CallID() string {
	id, _ := e.first("call_id", "uuid")
	return id
}

// CustomIdentifier is what the host gave when it placed the call: the place for its tenant's id.
func (e SmartfloEvent) CustomIdentifier() string { return e.Field("custom_identifier") }

// IsHangup reports whether the event is one that ends a call: only those say how long it was, and are charged. The
// others ("answered by agent", "received on server" and so on) carry the same call_id.
func (e SmartfloEvent) IsHangup() bool {
	for _, name := range []string{"end_stamp", "hangup_cause", "hangup_cause_code", "hangup_cause_key", "hangup_cause_description"} {
		if e.Field(name) != "" {
			return true
		}
	}
	return e.record
}

// isMissed reports whether the event says that nobody answered: such a call has no billable time, whether it says so or
// leaves it out.
func (e SmartfloEvent) isMissed() bool {
	status, _ := e.first("call_status", "status")
	return strings.EqualFold(status, "missed") && e.Field("answer_stamp") == ""
}

// Call returns the telephone call that a hang-up or a record is about: id, billable time, direction and when it began.
// The host adds the tenant. The error wraps ErrMalformed and says which field is missing or unreadable.
//
// The billable time is billsec (webhooks) or answered_seconds (records): what rings is not charged. It is none where a call
// that was missed does not name it. Stamps without an offset are Indian wall clock. Smartflo's own charges and minutes are
// not used: nobody documents their unit.
func (e SmartfloEvent) Call() (usage.SmartfloCall, error) {
	var call usage.SmartfloCall
	id, unresolved := e.first("call_id", "uuid")
	if call.ID = cleaned(id, maxName); call.ID == "" {
		return call, e.fault("call_id", unresolved)
	}
	length, unresolved := e.first("billsec", "answered_seconds", "answered_sec")
	switch {
	case length == "" && e.isMissed():
		length = "0"
	case length == "":
		return call, e.fault("billsec", unresolved)
	}
	duration, err := clockLength(length)
	if err != nil {
		return call, fmt.Errorf("%w: billsec %w", ErrMalformed, err)
	}
	call.Duration = duration
	if call.At, err = e.startedAt(); err != nil {
		return call, err
	}
	call.Direction = smartfloDirection(e.Field("direction"))
	return call, nil
}

func (e SmartfloEvent) fault(field string, unresolved bool) error {
	if unresolved {
		return fmt.Errorf("%w: unresolved template variable in %s", ErrMalformed, field)
	}
	return fmt.Errorf("%w: %s is missing", ErrMalformed, field)
}

// smartfloDirection is the direction as prices know it, so that a webhook and a record of one call are the same call.
func smartfloDirection(reported string) string {
	switch direction := strings.ToLower(condition(reported)); direction {
	case "clicktocall", "click_to_call", "click-to-call", "outgoing":
		return "outbound"
	case "incoming":
		return "inbound"
	default:
		return direction
	}
}

// startedAt is when the call began. A record has a date and a time of day.
func (e SmartfloEvent) startedAt() (time.Time, error) {
	stamp, unresolved := e.first("start_stamp")
	if stamp == "" && e.Field("date") != "" && e.Field("time") != "" {
		stamp = e.Field("date") + " " + e.Field("time")
	}
	if stamp == "" {
		return time.Time{}, e.fault("start_stamp", unresolved)
	}
	at, err := smartfloStamp(stamp)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: start_stamp %w", ErrMalformed, err)
	}
	return at, nil
}

// india has no summer time and has not changed its offset since 1945.
var india = time.FixedZone("IST", 5*60*60+30*60)

var errStamp = errors.New("is not a time")

// smartfloStamp reads a time: Indian wall clock, ISO 8601 or seconds or milliseconds since 1970, as the account is set.
// Fractions of a second are cut off: not every way in which a call is told of has them, and it has to be the same call.
func smartfloStamp(stamp string) (time.Time, error) {
	whole, fraction, hasFraction := strings.Cut(stamp, ".")
	if isDigits(whole) && len(whole) <= 13 && (!hasFraction || isDigits(fraction)) {
		return epoch(whole)
	}
	if len(stamp) < len(time.DateTime) {
		return time.Time{}, errStamp
	}
	clock, zone := stamp[:len(time.DateTime)], stamp[len(time.DateTime):]
	if fraction, ok := strings.CutPrefix(zone, "."); ok {
		zone = strings.TrimLeft(fraction, "0123456789")
	}
	if zone = strings.TrimLeft(zone, " "); isDigits(zone[:min(len(zone), 1)]) {
		zone = "+" + zone // which an unescaped form makes a space of
	}
	for _, layout := range []string{"", "Z07:00", "Z0700", "Z07"} {
		if at, err := time.ParseInLocation(time.DateTime+layout, strings.Replace(clock, "T", " ", 1)+zone, india); err == nil {
			return at.UTC(), nil
		}
	}
	return time.Time{}, errStamp
}

// epoch reads seconds or milliseconds since 1970: those of this age have 9 to 11 digits, and three more.
func epoch(digits string) (time.Time, error) {
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case err != nil, len(digits) < 9:
		return time.Time{}, errStamp
	case len(digits) > 11:
		n /= 1000
	}
	return time.Unix(n, 0).UTC(), nil
}

// clockLength reads a length in seconds, or as H:MM:SS or MM:SS.
func clockLength(text string) (time.Duration, error) {
	if !strings.Contains(text, ":") {
		return parseSeconds([]byte(text))
	}
	parts := strings.Split(text, ":")
	if len(parts) > 3 {
		return 0, errDuration
	}
	var total int64
	for i, part := range parts {
		n, ok := shortCount([]byte(part))
		if !ok || n > maxSeconds/3600 || i > 0 && n > 59 {
			return 0, errDuration
		}
		total = total*60 + n
	}
	return time.Duration(total) * time.Second, nil
}

// maxFields bounds what a webhook may have.
const maxFields = 500

// errContentType is wrapped, besides ErrMalformed, for a webhook that is neither JSON nor a form.
var errContentType = errors.New("neither JSON nor a form")

// ParseSmartfloWebhook reads a webhook's body, JSON or a form by its content type; without one it is JSON. The error wraps
// ErrMalformed.
func ParseSmartfloWebhook(contentType string, body []byte) (SmartfloEvent, error) {
	switch media := mediaOf(contentType); {
	case media == "application/x-www-form-urlencoded":
		values, err := url.ParseQuery(string(body))
		if err != nil {
			return SmartfloEvent{}, fmt.Errorf("%w: not a form", ErrMalformed)
		}
		return smartfloForm(values)
	case strings.TrimSpace(contentType) != "" && !isJSON(media):
		return SmartfloEvent{}, fmt.Errorf("%w: %w", ErrMalformed, errContentType)
	}
	var members map[string]any
	if err := decodeExactly(body, &members); err != nil {
		return SmartfloEvent{}, err
	}
	return smartfloMembers(members)
}

func smartfloForm(values url.Values) (SmartfloEvent, error) {
	e := SmartfloEvent{fields: make(map[string]string, len(values))}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if value := values[name]; len(value) > 0 {
			e.put(name, value[0])
		}
	}
	return e, e.check()
}

func smartfloMembers(members map[string]any) (SmartfloEvent, error) {
	e := SmartfloEvent{fields: make(map[string]string, len(members))}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		switch value := members[name].(type) {
		case string:
			e.put(name, value)
		case json.Number:
			e.put(name, value.String())
		case bool:
			e.put(name, strconv.FormatBool(value))
		}
	}
	return e, e.check()
}

// put sets a field, in the order of the names, so that it is the same each time. Names come with spaces at their ends; one
// without them stands above its like, but not where it has no value.
func (e SmartfloEvent) put(name, value string) {
	trimmed, value := strings.TrimSpace(name), strings.TrimSpace(value)
	isValue := value != "" && !isVariable(value)
	if _, there := e.fields[trimmed]; !there || isValue && (trimmed == name || e.Field(trimmed) == "") {
		e.fields[trimmed] = value
	}
}

func (e SmartfloEvent) check() error {
	if len(e.fields) == 0 || len(e.fields) > maxFields {
		return fmt.Errorf("%w: %d fields", ErrMalformed, len(e.fields))
	}
	return nil
}

// decodeExactly decodes JSON with its numbers as they are written.
func decodeExactly(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: not the JSON that was expected", ErrMalformed) // the error may quote the payload
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows the JSON", ErrMalformed)
	}
	return nil
}
