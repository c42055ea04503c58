package storesqlite

import (
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acf68eca/usage/store"
)

func TestLinesAndSumsComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	const most = math.MaxInt64
	lines := []packedLine{
		{}, {meter: 1, quantity: 2, rate: 3, cost: 4, unbilled: true}, {unbilled: true},
		{meter: most, quantity: most, rate: most / 2, cost: most},
		{meter: most, quantity: most, rate: most / 2, cost: most, unbilled: true},
	}
	var b []byte
	for _, l := range lines {
		b = appendLine(b, l)
	}
	got, err := unpackLines(b)
	if diff := cmp.Diff(lines, got, cmp.AllowUnexported(packedLine{})); diff != "" || err != nil {
		t.Errorf("lines, %v (-want +got):\n%s", err, diff)
	}
	for _, sums := range []packedSums{
		{}, {calls: 1, errors: 2, unpriced: 3, cost: 4}, {calls: most, errors: most, unpriced: most, cost: most},
		{calls: 1, meters: []packedMeter{{}, {meter: 1, quantity: 2, cost: 3}, {meter: most, quantity: most, cost: most}}},
	} {
		got, err := unpackSums(appendSums(nil, sums))
		if diff := cmp.Diff(sums, got, cmp.AllowUnexported(packedSums{}, packedMeter{})); diff != "" || err != nil {
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
		if got, err := parseRate(rateText(rate)); got != rate || err != nil {
			t.Errorf("%+v comes back as %+v, %v", rate, got, err)
		}
	}
}

func TestDamagedTextsOfRatesAreCorrupt(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"1", "1/2", "1/2/", "a/b/c", "1/2/99999999999999999999", "/", " "} {
		if rate, err := parseRate(text); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%q is read as %+v, %v", text, rate, err)
		}
	}
}

// FuzzLines unpacks any bytes: they are corrupt, or lines that come back as they were.
func FuzzLines(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(appendLine(nil, packedLine{meter: 1, quantity: 300, rate: 2, cost: 1 << 40, unbilled: true}))
	f.Fuzz(func(t *testing.T, b []byte) {
		lines, err := unpackLines(b)
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) || lines != nil {
				t.Fatalf("%v, %v", lines, err)
			}
			return
		}
		var packed []byte
		for _, l := range lines {
			packed = appendLine(packed, l)
		}
		again, err := unpackLines(packed)
		if diff := cmp.Diff(lines, again, cmp.AllowUnexported(packedLine{})); diff != "" || err != nil {
			t.Errorf("%x, %v (-want +got):\n%s", b, err, diff)
		}
	})
}

// FuzzSums unpacks any bytes, as FuzzLines does.
func FuzzSums(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(appendSums(nil, packedSums{calls: 1, cost: 1 << 40, meters: []packedMeter{{meter: 1, quantity: 300, cost: 1 << 40}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		sums, err := unpackSums(b)
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) {
				t.Fatalf("%v, %v", sums, err)
			}
			return
		}
		again, err := unpackSums(appendSums(nil, sums))
		if diff := cmp.Diff(sums, again, cmp.AllowUnexported(packedSums{}, packedMeter{})); diff != "" || err != nil {
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
		rate, err := parseRate(text)
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if again, err := parseRate(rateText(rate)); again != rate || err != nil {
			t.Errorf("%q: %+v comes back as %+v, %v", text, rate, again, err)
		}
	})
}
