package pack

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acf68eca/usage/store"
)

func TestLinesAndSumsComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	const most = math.MaxInt64
	lines := []Line{
		{}, {Meter: 1, Quantity: 2, Rate: 3, Cost: 4, Unbilled: true}, {Unbilled: true},
		{Meter: most, Quantity: most, Rate: most / 2, Cost: most},
		{Meter: most, Quantity: most, Rate: most / 2, Cost: most, Unbilled: true},
	}
	var b []byte
	for _, l := range lines {
		b = AppendLine(b, l)
	}
	got, err := ParseLines(nil, b)
	if diff := cmp.Diff(lines, got); diff != "" || err != nil {
		t.Errorf("lines, %v (-want +got):\n%s", err, diff)
	}
	for _, sums := range []Sums{
		{}, {Calls: 1, Errors: 2, Unpriced: 3, Cost: 4}, {Calls: most, Errors: most, Unpriced: most, Cost: most},
		{Calls: 1, Meters: []Meter{{}, {Meter: 1, Quantity: 2, Cost: 3}, {Meter: most, Quantity: most, Cost: most}}},
	} {
		got, err := ParseSums(AppendSums(nil, sums))
		if diff := cmp.Diff(sums, got); diff != "" || err != nil {
			t.Errorf("sums, %v (-want +got):\n%s", err, diff)
		}
	}
}

func TestRatesComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	for _, rate := range []store.Rate{
		{}, {Per: 1}, {Amount: 2_500_000_000_000, Per: 1_000_000}, {Amount: 1, Per: 60_000, RoundUpTo: 1_000},
		{Amount: math.MaxInt64, Per: math.MaxInt64, RoundUpTo: math.MaxInt64},
	} {
		if got, err := ParseRate(RateText(rate)); got != rate || err != nil {
			t.Errorf("%+v comes back as %+v, %v", rate, got, err)
		}
	}
}

func TestDamagedTextsOfRatesAreCorrupt(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"1", "1/2", "1/2/", "a/b/c", "1/2/99999999999999999999", "/", " "} {
		if rate, err := ParseRate(text); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%q is read as %+v, %v", text, rate, err)
		}
	}
}

func TestArrivalsComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	for _, arrivals := range [][]store.Arrival{
		nil,
		{{RateKey: store.RateKey{Provider: "p", Model: "m\"\\", Meter: "calls", Per: store.Minute},
			At: time.Date(2026, 11, 1, 2, 3, 4, 5_000, time.UTC), Rest: math.MaxInt64, Taken: math.MinInt64}},
		{{}, {Taken: 1}},
	} {
		text, err := ArrivalsText(arrivals)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseArrivals(text)
		if diff := cmp.Diff(arrivals, got); diff != "" || err != nil {
			t.Errorf("%q, %v (-want +got):\n%s", text, err, diff)
		}
	}
	for _, text := range []string{"x", "[", "{}", `[{"Taken": "1"}]`} {
		if arrivals, err := ParseArrivals(text); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%q is read as %+v, %v", text, arrivals, err)
		}
	}
}

// FuzzLines unpacks any bytes: they are corrupt, or lines that come back as they were.
func FuzzLines(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(AppendLine(nil, Line{Meter: 1, Quantity: 300, Rate: 2, Cost: 1 << 40, Unbilled: true}))
	f.Fuzz(func(t *testing.T, b []byte) {
		lines, err := ParseLines(nil, b)
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) || lines != nil {
				t.Fatalf("%v, %v", lines, err)
			}
			return
		}
		var packed []byte
		for _, l := range lines {
			packed = AppendLine(packed, l)
		}
		again, err := ParseLines(nil, packed)
		if diff := cmp.Diff(lines, again); diff != "" || err != nil {
			t.Errorf("%x, %v (-want +got):\n%s", b, err, diff)
		}
	})
}

// FuzzSums unpacks any bytes, as FuzzLines does.
func FuzzSums(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(AppendSums(nil, Sums{Calls: 1, Cost: 1 << 40, Meters: []Meter{{Meter: 1, Quantity: 300, Cost: 1 << 40}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		sums, err := ParseSums(b)
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) {
				t.Fatalf("%v, %v", sums, err)
			}
			return
		}
		again, err := ParseSums(AppendSums(nil, sums))
		if diff := cmp.Diff(sums, again); diff != "" || err != nil {
			t.Errorf("%x, %v (-want +got):\n%s", b, err, diff)
		}
	})
}

// FuzzRate reads any text: it is corrupt, or a rate that comes back as it was.
func FuzzRate(f *testing.F) {
	f.Add("")
	f.Add("2500000000000/1000000/0")
	f.Add("1/60000/1000")
	f.Fuzz(func(t *testing.T, text string) {
		rate, err := ParseRate(text)
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if again, err := ParseRate(RateText(rate)); again != rate || err != nil {
			t.Errorf("%q: %+v comes back as %+v, %v", text, rate, again, err)
		}
	})
}
