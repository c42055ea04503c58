package storesqlite

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/acf68eca/usage/internal/pack"
	"github.com/acf68eca/usage/store"
)

// again is a kind of call: how it is the first time, and what is different when it is sent again and is still the same call.
type again struct {
	first, then func(*store.Record)
}

func as(*store.Record) {} // it is

func kindsOfCalls() map[string]again {
	noLines := func(r *store.Record) { r.Lines, r.Cost = nil, 0 }
	unpriced := func(r *store.Record) {
		r.Unpriced, r.Cost = "unknown model", 0
		r.Lines[0].Rate, r.Lines[0].Cost = store.Rate{}, 0
	}
	return map[string]again{
		"plain": {as, as},
		"dearer": {as, func(r *store.Record) {
			r.Lines[0].Rate.Amount, r.Lines[0].Cost, r.Cost, r.PriceVersion = 9, 9, 9, "2026-02"
		}},
		"recorded later": {as, func(r *store.Record) { r.RecordedAt, r.AtGiven = r.RecordedAt.Add(1000), false }},
		"without lines":  {noLines, noLines},
		"with none":      {noLines, func(r *store.Record) { r.Lines, r.Cost = []store.Line{}, 0 }},
		"priced now":     {unpriced, as},
		"unpriced now":   {as, unpriced},
		"unpriced":       {unpriced, unpriced},
		"of many lines": {func(r *store.Record) {
			r.Lines, r.Cost = nil, 0
			for i := range 2 * usualLines {
				r.Lines = append(r.Lines, store.Line{Meter: store.Meter(fmt.Sprint("meter_", i)), Quantity: 1, Unbilled: i%2 == 0})
			}
		}, as},
		"failed":       {func(r *store.Record) { r.Error = "timeout" }, as},
		"of a user":    {func(r *store.Record) { r.User = "ann" }, as},
		"from an IP":   {func(r *store.Record) { r.IP = "192.0.2.1" }, as},
		"with tags":    {func(r *store.Record) { r.Tags = map[string]string{"team": "blue"} }, as},
		"of a hold":    {func(r *store.Record) { r.HoldID = "unknown" }, as},
		"other tenant": {func(r *store.Record) { r.TenantID = "globex" }, as},
	}
}

// Calls that are sent again in batches of any size, beside new ones, come back as Record returns them.
func TestCallsThatAreSentAgainComeBackWhole(t *testing.T) {
	t.Parallel()
	for _, kind := range append(slices.Sorted(maps.Keys(kindsOfCalls())), "mixed") {
		for _, size := range []int{1, 3, wantedAtOnce + 6} {
			t.Run(fmt.Sprint(kind, " calls, ", size, " at once"), func(t *testing.T) {
				t.Parallel()
				h := open(t, newFile(t))
				first, then := sentTwice(kind, wantedAtOnce+10)
				h.add(slices.Concat(first[:len(first)/2], calls(acme, "other-", 3))...)
				h.add(first[len(first)/2:]...)
				before := h.state()
				for batch := range slices.Chunk(then, size) {
					h.comeBack(batch)
				}
				equal(t, "the ledger", h.state(), before)
				for i := range 6 { // new ones among them
					h.comeBack(slices.Concat(then[i:i+i%3], calls(acme, fmt.Sprint("new-", i, "-"), 1+i%2), then[7:9]))
				}
				h.healthy()
			})
		}
	}
}

// sentTwice are n calls of a kind, or of all, and what they are when they are sent again.
func sentTwice(kind string, n int) (first, then []store.Record) {
	kinds := kindsOfCalls()
	for i := range n {
		for name, k := range kinds {
			if kind != name && (kind != "mixed" || i%len(kinds) != len(name)) {
				continue // mixed are a few of each, in no fixed order
			}
			r := call(acme, fmt.Sprint(name, " ", i), noon(), 3)
			k.first(&r)
			s := r
			s.Lines = slices.Clone(r.Lines)
			if r.Unpriced != "" {
				s = call(acme, r.ID, noon(), 3)
			}
			k.then(&s)
			first, then = append(first, r), append(then, s)
		}
	}
	return first, then
}

// comeBack appends records and wants those that are there to come back, and the others to be added.
func (h *handle) comeBack(records []store.Record) {
	h.t.Helper()
	want, there := make([]store.Record, len(records)), make([]bool, len(records))
	for i, r := range records {
		stored, err := h.Record(h.t.Context(), r.TenantID, r.ID)
		want[i], there[i] = stored, err == nil
		if errors.Is(err, store.ErrNotFound) {
			want[i], err = r, nil
		}
		h.must("Record", err)
	}
	outcomes, err := h.Append(h.t.Context(), noon(), lend(records...), quiet)
	h.must("Append", err)
	for i, o := range outcomes {
		h.must("outcome", o.Err)
		equal(h.t, "the record of "+records[i].ID, *o.Record, want[i])
		equal(h.t, "duplicate "+records[i].ID, o.Duplicate, there[i])
	}
}

// withChangedRow is a ledger of six calls, which come back when they are sent again, before the row of the fourth is changed.
func withChangedRow(t *testing.T, change string, args ...any) (*handle, []store.Record) {
	t.Helper()
	path := newFile(t)
	h := open(t, path)
	records := calls(acme, "a", 6)
	h.add(records...)
	h.comeBack(records)
	run(t, foreign(t, path), "UPDATE usage_records SET "+change+" WHERE id = 'a00003'", args...)
	return h, records
}

// What is not as the writer wrote it is found all the same.
func TestCallsThatAreSentAgainAreComparedWithTheirRows(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, change, field string }{
		{"lines packed otherwise", "lines = CAST(x'8100' || substr(lines, 2) AS BLOB)", ""},
		{"another quantity", "lines = CAST(substr(lines, 1, 1) || x'05' || substr(lines, 3) AS BLOB)", "Lines"},
		{"no lines", "lines = x''", "Lines"},
		{"a user", "user = 'ann'", "User"},
		{"an error", "error = 'timeout'", "Error"},
		{"another status", "status = 500", "Status"},
		{"a settlement and an overage", "settlement = 'settled', overage = 7", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, records := withChangedRow(t, tt.change)
			outcomes, err := h.Append(t.Context(), noon(), lend(records...), quiet)
			h.must("Append", err)
			for i, o := range outcomes {
				stored, err := h.Record(t.Context(), acme, records[i].ID)
				h.must("Record", err)
				equal(t, "the record", *o.Record, stored)
				var conflict *store.ConflictError
				if field := tt.field; field != "" && i == 3 {
					if !errors.As(o.Err, &conflict) || conflict.Field != field {
						t.Errorf("%v, want a conflict of %s", o.Err, field)
					}
				} else if o.Err != nil || !o.Duplicate {
					t.Errorf("record %d: duplicate %v, %v", i, o.Duplicate, o.Err)
				}
			}
		})
	}
}

func TestADamagedRowOfACallThatIsSentAgainIsCorrupt(t *testing.T) {
	t.Parallel()
	line := func(meter, rate int64) []byte {
		return pack.AppendLine(nil, pack.Line{Meter: meter, Quantity: 1, Rate: rate, Cost: 1})
	}
	for _, tt := range []struct {
		name, change string
		args         []any
	}{
		{"half a line", "lines = x'0101'", nil},
		{"a meter that is not there", "lines = ?", []any{line(99, 2)}},
		{"a rate that is not there", "lines = ?", []any{line(1, 99)}},
		{"a rate that is none", "lines = ?", []any{line(1, 1)}},
		{"a model that is not there", "model = 99", nil},
		{"a version that is not there", "prices = 99", nil},
		{"conditions that are not there", "conditions = 99", nil},
		{"an endpoint that is not there", "endpoint = 99", nil},
		{"tags that are none", "tags = '{'", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, records := withChangedRow(t, tt.change, tt.args...)
			is(t, "the batch", h.try(records...), store.ErrCorrupt)
			is(t, "the call alone", h.try(records[3]), store.ErrCorrupt)
			h.comeBack(slices.Delete(records, 3, 4))
		})
	}
}
