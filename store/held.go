package store

import (
	"math"
	"math/bits"
	"slices"
)

// Held adds up the holds of one tenant by provider and model, as Standing.Held has them. Holds may be taken out again. The
// zero Held is empty. It is not safe for concurrent use.
type Held struct {
	models map[heldModel]*heldSums
	totals []*Total
}

type heldModel struct{ provider, model string }

// heldSums are wider than the total that shows them: an int64 that stays at its largest could not be subtracted from.
type heldSums struct {
	total  *Total
	cost   wide
	meters map[Meter]*wideMeter
}

type wideMeter struct {
	lines          int64
	quantity, cost wide
}

// wide is a number of 128 bits that is not negative.
type wide struct{ high, low uint64 }

func (w *wide) add(n int64) {
	var carry uint64
	w.low, carry = bits.Add64(w.low, uint64(n), 0)
	w.high += carry
}

func (w *wide) sub(n int64) {
	var borrow uint64
	w.low, borrow = bits.Sub64(w.low, uint64(n), 0)
	w.high -= borrow
}

func (w *wide) int64() int64 {
	if w.high > 0 || w.low > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(w.low)
}

// Add counts a hold.
func (s *Held) Add(h *Hold) { s.change(h, 1, (*wide).add) }

// Remove takes a hold out that was added before.
func (s *Held) Remove(h *Hold) { s.change(h, -1, (*wide).sub) }

func (s *Held) change(h *Hold, calls int64, by func(*wide, int64)) {
	sums := s.sums(h)
	sums.total.Calls += calls
	by(&sums.cost, int64(h.Cost))
	sums.total.Cost = Money(sums.cost.int64())
	for i := range h.Lines {
		sums.change(&h.Lines[i], calls, by)
	}
	if sums.total.Calls == 0 {
		delete(s.models, heldModel{h.Provider, h.Model})
		s.totals = slices.DeleteFunc(s.totals, func(t *Total) bool { return t == sums.total })
	}
}

func (s *Held) sums(h *Hold) *heldSums {
	key := heldModel{h.Provider, h.Model}
	if sums := s.models[key]; sums != nil {
		return sums
	}
	if s.models == nil {
		s.models = make(map[heldModel]*heldSums)
	}
	sums := &heldSums{
		total:  &Total{TenantID: h.TenantID, Provider: h.Provider, Model: h.Model},
		meters: make(map[Meter]*wideMeter),
	}
	s.models[key] = sums
	s.totals = append(s.totals, sums.total)
	return sums
}

func (s *heldSums) change(line *Line, lines int64, by func(*wide, int64)) {
	m := s.meters[line.Meter]
	if m == nil {
		m = new(wideMeter)
		s.meters[line.Meter] = m
	}
	m.lines += lines
	by(&m.quantity, line.Quantity)
	by(&m.cost, int64(line.Cost))
	if m.lines == 0 {
		delete(s.meters, line.Meter)
		s.total.Meters = slices.DeleteFunc(s.total.Meters, func(t MeterTotal) bool { return t.Meter == line.Meter })
		return
	}
	*s.total.meter(line.Meter) = MeterTotal{Meter: line.Meter, Quantity: m.quantity.int64(), Cost: Money(m.cost.int64())}
}

// Totals returns the sums, in no particular order. They change with the next Add or Remove.
func (s *Held) Totals() []*Total { return s.totals }
