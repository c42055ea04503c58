// Package pack keeps the lines of a record and the sums of a total in few bytes: they make up most of a row, and the
// stores keep them alike, as they do the texts of rates and arrivals. All numbers are unsigned varints; a meter and a rate are
// numbers of a store's dictionary of texts.
//
//	lines:  (meter, quantity, rate<<1 | unbilled, cost)…
//	meters: (meter, quantity, cost)…
//	sums:   calls, errors, unpriced, cost, meters
//
// What cannot be read is store.ErrCorrupt.
package pack

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/acf68eca/usage/store"
)

// Line is a line of a record. Its numbers are not negative, and Rate is below 2⁶².
type Line struct {
	Meter, Quantity, Rate, Cost int64
	Unbilled                    bool
}

// AppendLine appends a line to lines.
func AppendLine(b []byte, l Line) []byte {
	b = binary.AppendUvarint(b, uint64(l.Meter))
	b = binary.AppendUvarint(b, uint64(l.Quantity))
	flagged := uint64(l.Rate) << 1
	if l.Unbilled {
		flagged |= 1
	}
	b = binary.AppendUvarint(b, flagged)
	return binary.AppendUvarint(b, uint64(l.Cost))
}

// ParseLines reads lines and appends them to others.
func ParseLines(lines []Line, b []byte) ([]Line, error) {
	for r := (reader{b: b}); len(r.b) > 0; {
		l := Line{Meter: r.next(), Quantity: r.next(), Rate: r.next(), Cost: r.next()}
		l.Rate, l.Unbilled = l.Rate>>1, l.Rate&1 == 1
		if r.short {
			return nil, fmt.Errorf("lines of a record: %w", store.ErrCorrupt)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// Meter is what a total has of one meter.
type Meter struct{ Meter, Quantity, Cost int64 }

// AppendMeter appends a meter to meters, or to sums.
func AppendMeter(b []byte, m Meter) []byte {
	b = binary.AppendUvarint(b, uint64(m.Meter))
	b = binary.AppendUvarint(b, uint64(m.Quantity))
	return binary.AppendUvarint(b, uint64(m.Cost))
}

// ParseMeters reads meters.
func ParseMeters(b []byte) ([]Meter, error) {
	r := reader{b: b}
	return r.meters()
}

// Sums are a total.
type Sums struct {
	Calls, Errors, Unpriced, Cost int64
	Meters                        []Meter
}

// AppendSums appends sums.
func AppendSums(b []byte, s Sums) []byte {
	for _, n := range [...]int64{s.Calls, s.Errors, s.Unpriced, s.Cost} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	for _, m := range s.Meters {
		b = AppendMeter(b, m)
	}
	return b
}

// ParseSums reads sums.
func ParseSums(b []byte) (s Sums, err error) {
	r := reader{b: b}
	s = Sums{Calls: r.next(), Errors: r.next(), Unpriced: r.next(), Cost: r.next()}
	if s.Meters, err = r.meters(); err != nil {
		return Sums{}, err
	}
	return s, nil
}

// RateText is how a rate is kept among the texts, "amount/per/roundUpTo" in picodollars. The zero rate is the empty text.
func RateText(r store.Rate) string {
	if r == (store.Rate{}) {
		return ""
	}
	return fmt.Sprintf("%d/%d/%d", int64(r.Amount), r.Per, r.RoundUpTo)
}

// ParseRate reads the text of a rate.
func ParseRate(text string) (r store.Rate, err error) {
	if text == "" {
		return r, nil
	}
	amount, rest, _ := strings.Cut(text, "/")
	per, roundUpTo, _ := strings.Cut(rest, "/")
	n, errAmount := strconv.ParseInt(amount, 10, 64)
	r.Amount = store.Money(n)
	var errPer, errRoundUpTo error
	r.Per, errPer = strconv.ParseInt(per, 10, 64)
	r.RoundUpTo, errRoundUpTo = strconv.ParseInt(roundUpTo, 10, 64)
	if err := errors.Join(errAmount, errPer, errRoundUpTo); err != nil {
		return store.Rate{}, fmt.Errorf("rate %q: %w: %w", text, store.ErrCorrupt, err)
	}
	return r, nil
}

// ArrivalsText is what a hold's arrivals are in its row; empty when it has none.
func ArrivalsText(arrivals []store.Arrival) (string, error) {
	if len(arrivals) == 0 {
		return "", nil
	}
	text, err := json.Marshal(arrivals)
	return string(text), err
}

// ParseArrivals reads the text of a hold's arrivals.
func ParseArrivals(text string) (arrivals []store.Arrival, err error) {
	if text == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &arrivals); err != nil {
		return nil, fmt.Errorf("arrivals of a hold: %w: %w", store.ErrCorrupt, err)
	}
	return arrivals, nil
}

// reader reads varints until there are none left.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) next() int64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.b, r.short = nil, true
		return 0
	}
	r.b = r.b[n:]
	return int64(v)
}

func (r *reader) meters() (meters []Meter, err error) {
	for len(r.b) > 0 {
		meters = append(meters, Meter{Meter: r.next(), Quantity: r.next(), Cost: r.next()})
	}
	if r.short {
		return nil, fmt.Errorf("meters of a total: %w", store.ErrCorrupt)
	}
	return meters, nil
}
