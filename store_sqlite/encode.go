package storesqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/acf68eca/usage/store"
)

// Lines and sums are packed, for they make up most of a row. All numbers are unsigned varints; meters and rates are
// numbers of usage_texts, a rate's text being "amount/per/roundUpTo" in picodollars.
//
//	lines: (meter, quantity, rate<<1 | unbilled, cost)…
//	sums:  calls, errors, unpriced, cost, (meter, quantity, cost)…

// rateText is how a rate is kept among the texts; the zero rate is the empty text.
func rateText(r store.Rate) string {
	if r == (store.Rate{}) {
		return ""
	}
	return fmt.Sprintf("%d/%d/%d", int64(r.Amount), r.Per, r.RoundUpTo)
}

func parseRate(text string) (r store.Rate, err error) {
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

// packedLine and packedMeter stand between the row types and the bytes.
type packedLine struct {
	meter, quantity, rate, cost int64
	unbilled                    bool
}

func appendLine(b []byte, l packedLine) []byte {
	b = binary.AppendUvarint(b, uint64(l.meter))
	b = binary.AppendUvarint(b, uint64(l.quantity))
	flagged := uint64(l.rate) << 1
	if l.unbilled {
		flagged |= 1
	}
	b = binary.AppendUvarint(b, flagged)
	return binary.AppendUvarint(b, uint64(l.cost))
}

func unpackLines(b []byte) (lines []packedLine, err error) {
	for r := (unpacker{b: b}); len(r.b) > 0; {
		l := packedLine{meter: r.next(), quantity: r.next(), rate: r.next(), cost: r.next()}
		l.rate, l.unbilled = l.rate>>1, l.rate&1 == 1
		if r.short {
			return nil, fmt.Errorf("lines of a record: %w", store.ErrCorrupt)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

type packedSums struct {
	calls, errors, unpriced, cost int64
	meters                        []packedMeter
}

type packedMeter struct {
	meter, quantity, cost int64
}

func appendSums(b []byte, s packedSums) []byte {
	for _, n := range [...]int64{s.calls, s.errors, s.unpriced, s.cost} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	for _, m := range s.meters {
		b = appendMeter(b, m)
	}
	return b
}

func appendMeter(b []byte, m packedMeter) []byte {
	b = binary.AppendUvarint(b, uint64(m.meter))
	b = binary.AppendUvarint(b, uint64(m.quantity))
	return binary.AppendUvarint(b, uint64(m.cost))
}

func unpackSums(b []byte) (packedSums, error) {
	r := unpacker{b: b}
	s := packedSums{calls: r.next(), errors: r.next(), unpriced: r.next(), cost: r.next()}
	for len(r.b) > 0 {
		s.meters = append(s.meters, packedMeter{meter: r.next(), quantity: r.next(), cost: r.next()})
	}
	if r.short {
		return packedSums{}, fmt.Errorf("sums of a total: %w", store.ErrCorrupt)
	}
	return s, nil
}

// unpacker reads varints until there are none left.
type unpacker struct {
	b     []byte
	short bool
}

func (u *unpacker) next() int64 {
	v, n := binary.Uvarint(u.b)
	if n <= 0 {
		u.b, u.short = nil, true
		return 0
	}
	u.b = u.b[n:]
	return int64(v)
}
