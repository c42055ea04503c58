package storesqlite

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/acf68eca/usage/internal/pack"
	"github.com/acf68eca/usage/store"
)

// damage is something that somebody wrote by other means than the store's, and what Verify says of it.
type damage struct {
	name      string
	statement string
	args      []any
	want      []store.Drift
	// left is what Rebuild, which makes totals from records, cannot repair.
	left []store.Drift
}

// inDay and inMonth are drifts of the one model's totals around noon; a day's come first.
func inDay(what string, meter store.Meter, ledger, stored int64) store.Drift {
	return store.Drift{
		Window: store.Day, Start: noon().Truncate(day), Provider: "openai", Model: "gpt-4",
		What: what, Meter: meter, Ledger: ledger, Stored: stored,
	}
}

func inMonth(what string, meter store.Meter, ledger, stored int64) store.Drift {
	d := inDay(what, meter, ledger, stored)
	d.Window, d.Start = store.Month, noon().AddDate(0, 0, -9).Truncate(day)
	return d
}

const day = 24 * time.Hour

func damages() []damage {
	const meter, lastDay = "input_tokens", "(SELECT day FROM usage_months WHERE tenant = 1)"
	// The ledger has "a" of 5, "b" of 7 and "c" of 11 tokens, at a picodollar each, and "z" of 2 on the day before the day
	// before; meter and rate are texts 1 and 2.
	lines := func(quantity, cost int64) []byte {
		return pack.AppendLine(nil, pack.Line{Meter: 1, Quantity: quantity, Rate: 2, Cost: cost})
	}
	sums := func(calls, errors, unpriced, cost, quantity, ofMeter int64) []byte {
		return pack.AppendSums(nil, pack.Sums{
			Calls: calls, Errors: errors, Unpriced: unpriced, Cost: cost,
			Meters: []pack.Meter{{Meter: 1, Quantity: quantity, Cost: ofMeter}},
		})
	}
	ofRecord := store.Drift{RecordID: "b", Provider: "openai", Model: "gpt-4", What: "cost", Ledger: 7, Stored: 8}
	return []damage{
		{
			name:      "a day's cost",
			statement: "UPDATE usage_days SET sums = ? WHERE start = " + lastDay,
			args:      []any{sums(3, 0, 0, 24, 23, 23)},
			want:      []store.Drift{inDay("cost", "", 23, 24), inMonth("cost", "", 25, 26)},
		},
		{
			name:      "a month's calls, errors and unpriced",
			statement: "UPDATE usage_months SET earlier = ? WHERE TRUE",
			args:      []any{sums(2, 1, 2, 2, 2, 2)},
			want: []store.Drift{
				inMonth("calls", "", 4, 5), inMonth("errors", "", 0, 1), inMonth("unpriced", "", 0, 2),
			},
		},
		{
			name:      "a meter of a total",
			statement: "UPDATE usage_days SET sums = ? WHERE start = " + lastDay,
			args:      []any{sums(3, 0, 0, 23, 22, 23)},
			want:      []store.Drift{inDay("quantity", meter, 23, 22), inMonth("quantity", meter, 25, 24)},
		},
		{
			name:      "a month that is gone",
			statement: "DELETE FROM usage_months WHERE TRUE",
			want: []store.Drift{
				inMonth("calls", "", 4, 0), inMonth("cost", "", 25, 0),
				inMonth("cost", meter, 25, 0), inMonth("quantity", meter, 25, 0),
			},
		},
		{
			name: "a day of nothing",
			statement: "INSERT INTO usage_days (tenant, start, model, sums)" +
				" SELECT tenant, start - 86400000000, model, sums FROM usage_days WHERE start = " + lastDay,
			want: []store.Drift{
				earlier(inDay("calls", "", 0, 3)), earlier(inDay("cost", "", 0, 23)),
				earlier(inDay("cost", meter, 0, 23)), earlier(inDay("quantity", meter, 0, 23)),
			},
		},
		{
			name:      "a day before the last",
			statement: "UPDATE usage_days SET sums = ? WHERE start < " + lastDay,
			args:      []any{sums(1, 0, 0, 3, 2, 2)},
			want:      []store.Drift{earlier(earlier(inDay("cost", "", 2, 3)))},
		},
		{
			name:      "a day before the last that is gone",
			statement: "DELETE FROM usage_days WHERE start < " + lastDay,
			want: []store.Drift{
				earlier(earlier(inDay("calls", "", 1, 0))), earlier(earlier(inDay("cost", "", 2, 0))),
				earlier(earlier(inDay("cost", meter, 2, 0))), earlier(earlier(inDay("quantity", meter, 2, 0))),
			},
		},
		{
			name:      "a record's cost",
			statement: "UPDATE usage_records SET cost = 8 WHERE id = 'b'",
			want:      []store.Drift{ofRecord, inDay("cost", "", 24, 23), inMonth("cost", "", 26, 25)},
			left:      []store.Drift{ofRecord},
		},
		{
			name:      "a record's lines",
			statement: "UPDATE usage_records SET lines = ? WHERE id = 'b'",
			args:      []any{lines(9, 7)},
			want:      []store.Drift{inDay("quantity", meter, 25, 23), inMonth("quantity", meter, 27, 25)},
		},
		{
			name:      "a record that is gone",
			statement: "DELETE FROM usage_records WHERE id = 'b'",
			want: []store.Drift{
				inDay("calls", "", 2, 3), inDay("cost", "", 16, 23),
				inDay("cost", meter, 16, 23), inDay("quantity", meter, 16, 23),
				inMonth("calls", "", 3, 4), inMonth("cost", "", 18, 25),
				inMonth("cost", meter, 18, 25), inMonth("quantity", meter, 18, 25),
			},
		},
		{
			name:      "a record's time",
			statement: "UPDATE usage_records SET at = at - 86400000000 WHERE id = 'c'",
			want: []store.Drift{
				earlier(inDay("calls", "", 1, 0)), earlier(inDay("cost", "", 11, 0)),
				earlier(inDay("cost", meter, 11, 0)), earlier(inDay("quantity", meter, 11, 0)),
				inDay("calls", "", 2, 3), inDay("cost", "", 12, 23),
				inDay("cost", meter, 12, 23), inDay("quantity", meter, 12, 23),
			},
		},
	}
}

func earlier(d store.Drift) store.Drift {
	d.Start = d.Start.AddDate(0, 0, -1)
	return d
}

func TestVerifyNamesWhatWasChanged(t *testing.T) {
	t.Parallel()
	for _, tt := range damages() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := newFile(t)
			h := open(t, path)
			h.add(call(acme, "z", noon().AddDate(0, 0, -2), 2))
			h.add(call(acme, "a", noon(), 5), call(acme, "b", noon(), 7), call(acme, "c", noon(), 11))
			h.add(call("globex", "b", noon(), 3))
			db := foreign(t, path)
			meter := number(t, db, "SELECT text FROM usage_texts WHERE value = 'input_tokens'")
			rate := number(t, db, "SELECT text FROM usage_texts WHERE value = '1/1/0'")
			if meter != 1 || rate != 2 {
				t.Fatalf("meter and rate are texts %d and %d, the test takes them for 1 and 2", meter, rate)
			}
			run(t, db, tt.statement+" AND tenant = 1", tt.args...)
			h.verify("the damage's", acme, tt.want)
			h.verify("another tenant's", "globex", nil)
			h.must("Rebuild", h.Rebuild(t.Context(), acme))
			h.verify("the rebuilt tenant's", acme, tt.left)
			h.add(call(acme, "d", noon(), 1))
			h.verify("the next call's", acme, tt.left)
		})
	}
}

// A month that somebody deleted while its days have rows of their own is damage to be told of, not to be added to.
func TestADayWithoutItsMonthIsCorrupt(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	h := open(t, path)
	late := noon().AddDate(0, 0, -2)
	h.add(call(acme, "a", late, 1), call(acme, "b", noon(), 1))
	run(t, foreign(t, path), "DELETE FROM usage_months WHERE tenant = 1")
	is(t, "Append", h.try(call(acme, "c", late, 1)), store.ErrCorrupt)
	h.must("Rebuild", h.Rebuild(t.Context(), acme))
	h.add(call(acme, "c", late, 1))
	h.healthy()
}

// What a month is without its last day is not told to anybody, nor added to; Verify says what is amiss.
func TestAMonthWithoutItsLastDayIsCorrupt(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	h := open(t, path)
	h.add(call(acme, "a", noon().AddDate(0, 0, -2), 1), call(acme, "b", noon(), 1))
	run(t, foreign(t, path), "DELETE FROM usage_days WHERE start = (SELECT day FROM usage_months)")
	is(t, "Append", h.try(call(acme, "c", noon(), 1)), store.ErrCorrupt)
	_, err := h.Totals(t.Context(), store.TotalQuery{TenantID: acme, Window: store.Month, To: noon()})
	is(t, "Totals", err, store.ErrCorrupt)
	_, err = h.Standing(t.Context(), acme, noon())
	is(t, "Standing", err, store.ErrCorrupt)
	const meter = "input_tokens"
	h.verify("the damage's", acme, []store.Drift{
		inDay("calls", "", 1, 0), inDay("cost", "", 1, 0), inDay("cost", meter, 1, 0), inDay("quantity", meter, 1, 0),
		inMonth("calls", "", 2, 1), inMonth("cost", "", 2, 1), inMonth("cost", meter, 2, 1), inMonth("quantity", meter, 2, 1),
	})
	h.must("Rebuild", h.Rebuild(t.Context(), acme))
	h.add(call(acme, "c", noon(), 1))
	h.healthy()
}

// Two sound parts of a month that do not fit together are damage.
func TestAMonthWhosePartsDoNotFitIsCorrupt(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	h := open(t, path)
	h.add(call(acme, "a", noon().AddDate(0, 0, -2), 1), call(acme, "b", noon(), 1))
	run(t, foreign(t, path), "UPDATE usage_months SET earlier = ?", pack.AppendSums(nil, pack.Sums{Calls: 1, Cost: math.MaxInt64}))
	is(t, "Append", h.try(call(acme, "c", noon(), 1)), store.ErrCorrupt)
	_, err := h.Totals(t.Context(), store.TotalQuery{TenantID: acme, Window: store.Month, To: noon()})
	is(t, "Totals", err, store.ErrCorrupt)
	h.must("Rebuild", h.Rebuild(t.Context(), acme))
	h.healthy()
}

func (h *handle) verify(what, tenant string, want []store.Drift) {
	h.t.Helper()
	got, err := h.Verify(h.t.Context(), tenant)
	h.must("Verify", err)
	less := func(a, b store.Drift) bool {
		return a.Window+store.Window(a.Start.String()+a.What)+store.Window(a.Meter) <
			b.Window+store.Window(b.Start.String()+b.What)+store.Window(b.Meter)
	}
	if diff := cmp.Diff(want, got, cmpopts.SortSlices(less), cmpopts.EquateEmpty()); diff != "" {
		h.t.Errorf("%s drift (-want +got):\n%s", what, diff)
	}
}
