package storetest

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

func refusalPromises() []promise {
	return []promise{
		{"one refused record among good ones is refused alone", refusedAlone},
		{"a total that would pass an int64 refuses the record and keeps none of it", overflowKeepsNothing},
		{"a quantity that would pass an int64 refuses the record", quantityOverflow},
		{"a total may reach the largest int64", largestTotal},
		{"a refused record leaves its id and its hold free", refusedLeavesFree},
	}
}

// refusals are batches in which the third of five records is refused.
func refusals() map[string]struct {
	poison store.Record
	err    error
} {
	huge := call(acme, "poison", noon(), math.MaxInt64)
	return map[string]struct {
		poison store.Record
		err    error
	}{
		"a conflict":      {call(acme, "old", noon(), 9), store.ErrConflict},
		"a settled hold":  {settling("settled", call(acme, "poison", noon(), 9)), store.ErrHoldSettled},
		"a released hold": {settling("released", call(acme, "poison", noon(), 9)), store.ErrHoldReleased},
		"an overflow":     {huge, store.ErrOverflow},
	}
}

func refusedAlone(t *testing.T, l *ledger) {
	l.take(noon(), hold(acme, "settled", noon(), time.Hour, 1), hold(acme, "released", noon(), time.Hour, 1))
	l.add(noon(), call(acme, "old", noon(), 1), settling("settled", call(acme, "settler", noon(), 1)))
	l.must("Release", l.Release(t.Context(), noon(), acme, "released", keep))
	for name, refusal := range refusals() {
		t.Run(name, func(t *testing.T) {
			l := l.in(t)
			before := len(l.records(acme))
			outcomes := l.try(noon(), call(acme, name+" 1", noon(), 1), call(globex, name+" 2", noon(), 2), refusal.poison,
				call(acme, name+" 3", noon(), 3), call(globex, name+" 4", noon(), 4))
			for i, o := range outcomes {
				if i != 2 && (o.Err != nil || o.Duplicate) {
					t.Errorf("record %d: duplicate %v, error %v, want it added", i, o.Duplicate, o.Err)
				}
			}
			if !errors.Is(outcomes[2].Err, refusal.err) {
				t.Errorf("the refused record: %v, want %v", outcomes[2].Err, refusal.err)
			}
			other := l.another()
			equal(t, "acme's records more", len(other.records(acme))-before, 2)
			other.healthy(acme)
			other.healthy(globex)
		})
	}
}

// overflowKeepsNothing has a record whose day has room and whose month has none, so that the day must be put back.
func overflowKeepsNothing(t *testing.T, l *ledger) {
	l.take(noon(), hold(acme, "h", noon(), time.Hour, 1))
	l.add(noon(), call(acme, "huge", noon(), math.MaxInt64-5), call(acme, "small", noon().Add(24*time.Hour), 1))
	l.unchanged(noon(), func() {
		o := l.judged(noon(), raise(reached(80, 100)), settling("h", call(acme, "poison", noon().Add(24*time.Hour), 5)))[0]
		if !errors.Is(o.Err, store.ErrOverflow) {
			t.Errorf("error %v, want ErrOverflow", o.Err)
		}
		if o.Record.Settlement != "" || o.Record.Overage != 0 {
			t.Errorf("the refused record says that its hold was %s, with an overage of %d", o.Record.Settlement, o.Record.Overage)
		}
		equal(t, "alerts", o.Alerts, nil)
	})
	other := with(call(acme, "other", noon(), 5), func(r *store.Record) { r.Model = "gpt-5" })
	l.add(noon(), other, call(acme, "next month", april(), 5), call(globex, "poison", noon(), 5))
	l.healthy(acme)
}

func quantityOverflow(t *testing.T, l *ledger) {
	seconds := func(id string, quantity int64) store.Record {
		return with(call(acme, id, noon(), 1), func(r *store.Record) {
			r.Lines = append(r.Lines, store.Line{Meter: "ms", Quantity: quantity, Unbilled: true})
		})
	}
	l.add(noon(), seconds("huge", math.MaxInt64))
	l.unchanged(noon(), func() {
		if o := l.tryOne(noon(), seconds("poison", 1)); !errors.Is(o.Err, store.ErrOverflow) {
			t.Errorf("error %v, want ErrOverflow", o.Err)
		}
	})
	l.add(noon(), seconds("nothing", 0))
	l.healthy(acme)
}

func largestTotal(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "a", noon(), math.MaxInt64-7), call(acme, "b", noon(), 7))
	s := l.standing(acme, noon())
	equal(t, "spent", spent(&s), math.MaxInt64)
	l.healthy(acme)
}

func refusedLeavesFree(t *testing.T, l *ledger) {
	l.take(noon(), hold(acme, "h", noon(), time.Hour, 1))
	l.add(noon(), call(acme, "huge", noon(), math.MaxInt64-5))
	outcomes := l.try(noon(), settling("h", call(acme, "a", noon(), 6)), settling("h", call(acme, "a", noon(), 5)))
	if !errors.Is(outcomes[0].Err, store.ErrOverflow) || outcomes[1].Err != nil || outcomes[1].Duplicate {
		t.Errorf("errors %v and %v, want ErrOverflow and none", outcomes[0].Err, outcomes[1].Err)
	}
	equal(t, "settlement", l.record(acme, "a").Settlement, store.Settled)
	l.healthy(acme)
}
