package usage

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acf68eca/usage/store"
)

// Quantities says how much of each meter was used, in whole units of the meter: milliseconds for meters of time. A zero
// is the same as no entry.
type Quantities map[Meter]int64

// Call is a call to a provider that has no type of its own here. It is charged by the prices that the host gave for its
// provider; a meter without one leaves it unpriced.
type Call struct {
	// TenantID is the host's name for the tenant, 1 to 255 bytes. Required. A tenant that does not exist is created.
	TenantID string
	// ID is what makes the call the same call when it is sent again, for this tenant: at most 255 bytes, best the
	// provider's own id. Empty makes a new one, so that sending the call again counts it again.
	ID string
	// Provider is the host's name for the provider: 1 to 64 lower-case letters, digits, '-', '_' and '.'. Required.
	Provider string
	// Model is the model, product or plan that the price depends on, at most 255 bytes. Empty is a model like any other.
	Model string
	// Quantities are charged. They are disjoint: nothing is in two of them. At most 32 meters; a sum such as Tokens is not
	// a meter.
	Quantities Quantities
	// Unbilled are counted and not charged, such as reasoning tokens that are inside the output. A meter is in one of the
	// two, not in both.
	Unbilled Quantities
	// Conditions are what else the price depends on. At most 16: names of 1 to 64 bytes and values of at most 64, neither
	// with ';' or '='. An empty value is the same as no entry.
	Conditions Conditions

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

func (c Call) draft() (*draft, error) {
	var f faults
	d := newDraft(&f, common{
		TenantID: c.TenantID, ID: c.ID, Provider: c.Provider, Model: c.Model, At: c.At, ReservationID: c.ReservationID,
		Endpoint: c.Endpoint, Status: c.Status, Latency: c.Latency, Error: c.Error, User: c.User, IP: c.IP,
		Tags: c.Tags, UsageUnknown: c.UsageUnknown,
	})
	return d.used(&f, c.lines(&f), copyConditions(&f, "Conditions", c.Conditions))
}

func (c Call) lines(f *faults) []store.Line {
	var lines lineList
	for _, meter := range c.Quantities.meters(f, "Quantities") {
		lines.bill(meter, c.Quantities[meter])
	}
	for _, meter := range c.Unbilled.meters(f, "Unbilled") {
		if _, both := c.Quantities[meter]; both {
			f.add(keyed("Unbilled", string(meter)), "is in Quantities too")
		}
		if isTokens(meter) {
			f.add(keyed("Unbilled", string(meter)), "would count in the sum of tokens; reasoning_tokens does not")
		}
		lines.count(meter, c.Unbilled[meter])
	}
	return lines
}

// meters returns the meters by name, and finds fault with what cannot be a line.
func (q Quantities) meters(f *faults, field string) []Meter {
	if len(q) == 0 {
		return nil
	}
	if len(q) > maxMeters {
		f.add(field, "has more than "+strconv.Itoa(maxMeters)+" entries")
		return nil
	}
	meters := slices.Sorted(maps.Keys(q))
	for _, meter := range meters {
		if n := q[meter]; n < 0 || n > maxQuantity || isSum(meter) || !isName(string(meter), "_") {
			f.lineMeter(keyed(field, string(meter)), meter)
			f.quantity(keyed(field, string(meter)), n)
		}
	}
	return meters
}

// lineMeter wants the name of a meter that can be a line. A sum cannot: a limit on it would count it twice.
func (f *faults) lineMeter(field string, m Meter) {
	if isSum(m) {
		f.add(field, "is a sum of meters, not a meter")
		return
	}
	f.meterName(field, m)
}

func isSum(m Meter) bool { return m == Tokens || m == Minutes || m == Calls || m == Cost }

// draft is a validated call before it is priced. The tracker fills in what the caller left open: the record's ID and At,
// and the query's At. It shares no memory with the call that it was made of.
type draft struct {
	record store.Record
	query  PriceQuery
}

// common is what every call says besides what it used.
type common struct {
	TenantID, ID, Provider, Model string
	At                            time.Time
	ReservationID, Endpoint       string
	Status                        int
	Latency                       time.Duration
	Error, User, IP               string
	Tags                          map[string]string
	UsageUnknown                  string
}

func newDraft(f *faults, c common) *draft {
	f.id("TenantID", c.TenantID)
	f.text("ID", c.ID, maxID)
	f.provider("Provider", c.Provider)
	f.model("Model", c.Model)
	at := f.time("At", c.At)
	f.text("ReservationID", c.ReservationID, maxID)
	endpoint := f.endpoint("Endpoint", c.Endpoint)
	f.status("Status", c.Status)
	f.duration("Latency", c.Latency)
	f.text("User", c.User, maxID)
	return &draft{
		record: store.Record{
			TenantID: c.TenantID, ID: c.ID, Provider: c.Provider, Model: c.Model, At: at, AtGiven: !at.IsZero(),
			Unpriced: freeText(c.UsageUnknown, maxID), Endpoint: endpoint, Status: c.Status,
			Latency: c.Latency.Truncate(time.Microsecond), Error: freeText(c.Error, maxErrorText), User: c.User,
			IP: f.ip("IP", c.IP), Tags: f.tags("Tags", c.Tags), HoldID: c.ReservationID,
		},
		query: PriceQuery{Provider: c.Provider, Model: c.Model, At: at},
	}
}

// used completes the draft with what the call used, and reports everything that was wrong with it.
func (d *draft) used(f *faults, lines []store.Line, conditions Conditions) (*draft, error) {
	if d.record.Unpriced != "" && len(lines) > 0 {
		f.add("UsageUnknown", "is given though there are quantities")
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	d.record.Lines, d.record.Conditions = lines, conditionText(conditions)
	d.query.Conditions, d.query.PromptTokens = conditions, promptTokens(lines)
	return d, nil
}

// lineList builds a call's lines. A quantity of zero makes none.
type lineList []store.Line

func (l *lineList) bill(m Meter, quantity int64) { l.add(m, quantity, false) }

func (l *lineList) count(m Meter, quantity int64) { l.add(m, quantity, true) }

func (l *lineList) add(m Meter, quantity int64, unbilled bool) {
	if quantity == 0 {
		return
	}
	if *l == nil {
		*l = make(lineList, 0, 4) // what most calls need
	}
	*l = append(*l, store.Line{Meter: m, Quantity: quantity, Unbilled: unbilled})
}

// promptTokens returns the size of the whole prompt, by which context tiers are chosen: uncached, cached and cache
// writes, of every kind. Lines are disjoint, so that is the sum of all that are input. It needs only what is stored, so that
// a record can be priced again.
func promptTokens(lines []store.Line) (sum int64) {
	for i := range lines {
		if l := &lines[i]; !l.Unbilled && strings.HasPrefix(string(l.Meter), "input_") && countsTokens(l.Meter) {
			sum, _ = store.Add(sum, max(l.Quantity, 0))
		}
	}
	return sum
}

// setCondition sets a condition that has a value, and makes the map for the first one.
func setCondition(c *Conditions, key, value string) {
	if value == "" {
		return
	}
	if *c == nil {
		*c = make(Conditions, 1)
	}
	(*c)[key] = value
}

// yes is the value of a condition that is on or absent.
func yes(on bool) string {
	if on {
		return "true"
	}
	return ""
}

// copyConditions returns the host's conditions without the empty ones, and nil when there are none.
func copyConditions(f *faults, field string, conditions Conditions) Conditions {
	if len(conditions) > maxConditions {
		f.add(field, "has more than "+strconv.Itoa(maxConditions)+" entries")
		return nil
	}
	var kept Conditions
	n := len(*f)
	for key, value := range conditions {
		if key == "" {
			f.add(keyed(field, key), "has no name")
		}
		f.condition(keyed(field, key), key)
		f.condition(keyed(field, key), value)
		setCondition(&kept, key, value)
	}
	f.sortFrom(n)
	return kept
}

// conditionText is Conditions.String without its sorting where there is nothing to sort: that is most calls.
func conditionText(conditions Conditions) string {
	if len(conditions) < 2 {
		for key, value := range conditions {
			return key + "=" + value
		}
		return ""
	}
	return conditions.String()
}

// parseConditions is the inverse of conditionText. What is not a condition is left out.
func parseConditions(text string) Conditions {
	var conditions Conditions
	for pair := range strings.SplitSeq(text, ";") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			setCondition(&conditions, key, value)
		}
	}
	return conditions
}
