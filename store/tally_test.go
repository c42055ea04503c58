package store

import (
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tallied are two calls on one day, and one in the month before.
func tallied(t *testing.T) []Record {
	t.Helper()
	line := func(m Meter, quantity int64, cost Money) Line { return Line{Meter: m, Quantity: quantity, Cost: cost} }
	return []Record{
		{TenantID: "a", ID: "1", Provider: "p", Model: "m", At: instant(t, "2026-05-20T12"), Cost: 7,
			Lines: []Line{line("in", 10, 5), line("out", 1, 2)}},
		{TenantID: "a", ID: "2", Provider: "p", Model: "m", At: instant(t, "2026-05-20T13"), Unpriced: "no price", Status: 500,
			Lines: []Line{line("in", 4, 0)}},
		{TenantID: "a", ID: "3", Provider: "p", Model: "m", At: instant(t, "2026-04-30T23:59:59"), Cost: 1,
			Lines: []Line{line("in", 2, 1)}},
	}
}

func tallyOf(t *testing.T, records []Record) *Tally {
	t.Helper()
	tally := NewTally(Calendar{})
	for i := range records {
		if err := tally.Add(&records[i]); err != nil {
			t.Fatal(err)
		}
	}
	return tally
}

func TestTallyIsTheSumOfItsRecords(t *testing.T) {
	t.Parallel()
	may := Total{
		TenantID: "a", Provider: "p", Model: "m", Calls: 2, Errors: 1, Unpriced: 1, Cost: 7,
		Meters: []MeterTotal{{"in", 14, 5}, {"out", 1, 2}},
	}
	april := Total{TenantID: "a", Provider: "p", Model: "m", Calls: 1, Cost: 1, Meters: []MeterTotal{{"in", 2, 1}}}
	in := func(total Total, w Window, start string) Total {
		total.Window, total.Start = w, instant(t, start)
		return total
	}
	want := []Total{
		in(april, Day, "2026-04-30"), in(may, Day, "2026-05-20"), in(april, Month, "2026-04-01"), in(may, Month, "2026-05-01"),
	}
	if diff := cmp.Diff(want, tallyOf(t, tallied(t)).Totals()); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
}

func TestTallyRefusesASumThatDoesNotFit(t *testing.T) {
	t.Parallel()
	records := tallied(t)
	tally := tallyOf(t, records)
	records[0].Cost = math.MaxInt64
	if err := tally.Add(&records[0]); !errors.Is(err, ErrOverflow) {
		t.Errorf("got %v, want %v", err, ErrOverflow)
	}
}

func TestDriftNamesWhatDiffers(t *testing.T) {
	t.Parallel()
	month := Drift{Window: Month, Start: instant(t, "2026-05-01"), Provider: "p", Model: "m"}
	note := func(meter Meter, what string, ledger, stored int64) Drift {
		d := month
		d.Meter, d.What, d.Ledger, d.Stored = meter, what, ledger, stored
		return d
	}
	for _, test := range []struct {
		name   string
		change func(may *Total)
		want   []Drift
	}{
		{"nothing", func(*Total) {}, nil},
		{"calls", func(may *Total) { may.Calls = 3 }, []Drift{note("", "calls", 2, 3)}},
		{"errors", func(may *Total) { may.Errors = 0 }, []Drift{note("", "errors", 1, 0)}},
		{"unpriced", func(may *Total) { may.Unpriced = 2 }, []Drift{note("", "unpriced", 1, 2)}},
		{"cost", func(may *Total) { may.Cost = 8 }, []Drift{note("", "cost", 7, 8)}},
		{"a quantity", func(may *Total) { may.Meters[0].Quantity = 13 }, []Drift{note("in", "quantity", 14, 13)}},
		{"a meter's cost", func(may *Total) { may.Meters[1].Cost = 0 }, []Drift{note("out", "cost", 2, 0)}},
		{"a meter that is missing", func(may *Total) { may.Meters = may.Meters[:1] },
			[]Drift{note("out", "cost", 2, 0), note("out", "quantity", 1, 0)}},
		{"a meter too many", func(may *Total) { may.Meters = append(may.Meters, MeterTotal{"x", 1, 0}) },
			[]Drift{note("x", "quantity", 0, 1)}},
		{"a meter of zeros", func(may *Total) { may.Meters = append(may.Meters, MeterTotal{"x", 0, 0}) }, nil},
		{"another period", func(may *Total) { may.Start = instant(t, "2026-06-01") }, []Drift{
			note("", "calls", 2, 0), note("", "cost", 7, 0), note("", "errors", 1, 0), note("", "unpriced", 1, 0),
			note("in", "cost", 5, 0), note("in", "quantity", 14, 0), note("out", "cost", 2, 0), note("out", "quantity", 1, 0),
			june(note("", "calls", 0, 2), t), june(note("", "cost", 0, 7), t), june(note("", "errors", 0, 1), t),
			june(note("", "unpriced", 0, 1), t), june(note("in", "cost", 0, 5), t), june(note("in", "quantity", 0, 14), t),
			june(note("out", "cost", 0, 2), t), june(note("out", "quantity", 0, 1), t),
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			tally := tallyOf(t, tallied(t))
			stored := tallyOf(t, tallied(t)).Totals()
			test.change(&stored[3])
			if diff := cmp.Diff(test.want, tally.Drift(stored)); diff != "" {
				t.Errorf("drift (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]Drift(nil), tally.Drift(tallyOf(t, tallied(t)).Totals())); diff != "" {
				t.Errorf("asking changed the tally (-want +got):\n%s", diff)
			}
		})
	}
}

func june(d Drift, t *testing.T) Drift {
	t.Helper()
	d.Start = instant(t, "2026-06-01")
	return d
}

func TestTotalsThatDoNotFitStayAsTheyWere(t *testing.T) {
	t.Parallel()
	full := Total{Cost: 1, Meters: []MeterTotal{{"in", math.MaxInt64, 1}}}
	record := &Record{Cost: 1, Lines: []Line{{Meter: "in", Quantity: 1, Cost: 1}, {Meter: "out", Quantity: 1}}}
	for name, do := range map[string]func(*Total) bool{
		"add": func(total *Total) bool { return total.Add(record) },
		"price": func(total *Total) bool {
			return total.Price(&Record{Cost: 1, Lines: []Line{{Meter: "in", Quantity: 1, Cost: math.MaxInt64}}})
		},
		"merge": func(total *Total) bool {
			return total.Merge(&Total{Calls: 1, Cost: 1, Meters: []MeterTotal{{"in", 1, 1}, {"out", 1, 0}}})
		},
	} {
		total := Total{Cost: full.Cost, Meters: []MeterTotal{full.Meters[0]}}
		if do(&total) {
			t.Errorf("%s: it went through", name)
		}
		if diff := cmp.Diff(full, total); diff != "" {
			t.Errorf("%s changed the total (-want +got):\n%s", name, diff)
		}
	}
}

// What a record counts for is in the total before it gets a price.
func TestAPriceNeedsNoRoomForQuantities(t *testing.T) {
	t.Parallel()
	total := Total{Calls: 1, Unpriced: 1, Meters: []MeterTotal{{Meter: "in", Quantity: math.MaxInt64}}}
	if !total.Price(&Record{Cost: 3, Lines: []Line{{Meter: "in", Quantity: math.MaxInt64, Cost: 3}}}) {
		t.Error("it does not fit")
	}
	if diff := cmp.Diff(Total{Calls: 1, Cost: 3, Meters: []MeterTotal{{"in", math.MaxInt64, 3}}}, total); diff != "" {
		t.Errorf("total (-want +got):\n%s", diff)
	}
}

func TestARecordsCostIsThatOfItsLines(t *testing.T) {
	t.Parallel()
	record := &tallied(t)[0]
	if d, found := record.CostDrift(); found {
		t.Errorf("found %+v in a record that is right", d)
	}
	record.Cost++
	d, found := record.CostDrift()
	want := Drift{RecordID: "1", Provider: "p", Model: "m", What: "cost", Ledger: 7, Stored: 8}
	if diff := cmp.Diff(want, d); diff != "" || !found {
		t.Errorf("drift %v (-want +got):\n%s", found, diff)
	}
}
