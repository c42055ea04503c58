package store

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/shopspring/decimal"
)

// mulDiv is MulDiv by its definition.
func mulDiv(a, b, c int64) (q int64, ok bool) {
	product := new(big.Int).Mul(big.NewInt(a), big.NewInt(b))
	quo, rem := new(big.Int).QuoRem(product, big.NewInt(c), new(big.Int))
	switch rem.Lsh(rem, 1).Cmp(big.NewInt(c)) {
	case 1:
		quo.Add(quo, big.NewInt(1))
	case 0:
		if quo.Bit(0) == 1 {
			quo.Add(quo, big.NewInt(1))
		}
	}
	if !quo.IsInt64() {
		return 0, false
	}
	return quo.Int64(), true
}

func TestMulDivRoundsHalfToEven(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ a, b, c, want int64 }{
		{0, 5, 7, 0},
		{1, 1, 2, 0}, // 0.5
		{3, 1, 2, 2}, // 1.5
		{5, 1, 2, 2}, // 2.5
		{7, 1, 2, 4}, // 3.5
		{1, 1, 3, 0},
		{2, 1, 3, 1},
		{5, 1, 10, 0},
		{15, 1, 10, 2},
		{25, 1, 10, 2},
		{25_000_000_000_000_001, 1, 10_000_000_000_000_000, 3},
		{24_999_999_999_999_999, 1, 10_000_000_000_000_000, 2},
		{math.MaxInt64, 1, 1, math.MaxInt64},
		{math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64},
		{math.MaxInt64, 1, 2, 1 << 62},                       // an odd half below it
		{185_000, 20_000_000_000, 60_000, 61_666_666_667},    // 185 s at $0.02 a minute
		{1_000_000_000_000_000, 30_000_000, 1_000_000, 3e16}, // a product past 64 bits
	} {
		if got, ok := MulDiv(test.a, test.b, test.c); got != test.want || !ok {
			t.Errorf("MulDiv(%d, %d, %d) = %d, %v; want %d", test.a, test.b, test.c, got, ok, test.want)
		}
	}
}

func TestMulDivSaysWhenTheResultDoesNotFit(t *testing.T) {
	t.Parallel()
	for _, test := range [][3]int64{
		{math.MaxInt64, 2, 1},
		{math.MaxInt64, math.MaxInt64, 1},
		{math.MaxInt64, math.MaxInt64, math.MaxInt64 - 1},
		{1 << 62, 2, 1},
	} {
		if got, ok := MulDiv(test[0], test[1], test[2]); ok || got != 0 {
			t.Errorf("MulDiv%v = %d, %v; want that it does not fit", test, got, ok)
		}
	}
}

func FuzzMulDiv(f *testing.F) {
	for _, seed := range [][3]int64{
		{0, 0, 1}, {1, 1, 2}, {3, 1, 2}, {math.MaxInt64, math.MaxInt64, math.MaxInt64}, {math.MaxInt64, 3, 2},
		{math.MaxInt64, 2, 2}, {1 << 62, 2, 1}, {185_000, 20_000_000_000, 60_000}, {math.MaxInt64, 1, math.MaxInt64 - 1},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, a, b, c int64) {
		a, b, c = a&math.MaxInt64, b&math.MaxInt64, max(c&math.MaxInt64, 1)
		got, ok := MulDiv(a, b, c)
		want, fits := mulDiv(a, b, c)
		if got != want || ok != fits {
			t.Errorf("MulDiv(%d, %d, %d) = %d, %v; want %d, %v", a, b, c, got, ok, want, fits)
		}
	})
}

func TestScaledInt(t *testing.T) {
	t.Parallel()
	parse := decimal.RequireFromString
	for _, test := range []struct {
		d      decimal.Decimal
		digits int32
		want   int64
		ok     bool
	}{
		{parse("0"), 12, 0, true},
		{decimal.New(0, math.MaxInt32), 12, 0, true},
		{decimal.New(0, math.MinInt32), 12, 0, true},
		{parse("1"), 12, 1e12, true},
		{parse("-1"), 12, -1e12, true},
		{parse("1.50"), 1, 15, true},
		{parse("1.5"), 0, 0, false},
		{parse("0.000000000001"), 12, 1, true},
		{parse("0.0000000000010"), 12, 1, true},
		{parse("0.0000000000001"), 12, 0, false},
		{parse("9223372.036854775807"), 12, math.MaxInt64, true},
		{parse("9223372.036854775808"), 12, 0, false},
		{parse("-9223372.036854775808"), 12, math.MinInt64, true},
		{parse("-9223372.036854775809"), 12, 0, false},
		{parse("1e6"), 12, 1e18, true},
		{parse("1e7"), 12, 0, false},
		{parse("100e-2"), 0, 1, true},
		{parse("1e64"), 0, 0, false},
		{parse("1e-64"), 0, 0, false},
	} {
		if got, ok := ScaledInt(test.d, test.digits); got != test.want || ok != test.ok {
			t.Errorf("ScaledInt(%s, %d) = %d, %v; want %d, %v", test.d, test.digits, got, ok, test.want, test.ok)
		}
	}
}

func TestScaledIntOfAHostileDecimalCostsNothing(t *testing.T) {
	t.Parallel()
	huge := new(big.Int).Lsh(big.NewInt(1), 1<<20)
	start := time.Now()
	for range 1000 {
		for _, exponent := range []int32{math.MaxInt32, math.MinInt32, 1_000_000_000, -1_000_000_000} {
			if n, ok := ScaledInt(decimal.New(1, exponent), 12); ok {
				t.Fatalf("1e%d became %d", exponent, n)
			}
		}
	}
	for _, exponent := range []int32{0, math.MaxInt32, math.MinInt32} {
		if n, ok := ScaledInt(decimal.NewFromBigInt(huge, exponent), 12); ok {
			t.Fatalf("a million bits became %d", n)
		}
	}
	if took := time.Since(start); took > 5*time.Second { // to scale but one of them takes minutes
		t.Errorf("it took %v", took)
	}
}

func FuzzMoney(f *testing.F) {
	for _, seed := range []int64{0, 1, -1, 1e12, 15e11, math.MaxInt64, math.MinInt64, 61_666_666_667} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, n int64) {
		m := Money(n)
		if back, ok := MoneyOf(m.Decimal()); back != m || !ok {
			t.Errorf("%d came back as %d, %v", m, back, ok)
		}
		parsed, err := decimal.NewFromString(m.String())
		if back, ok := MoneyOf(parsed); err != nil || back != m || !ok {
			t.Errorf("%q came back as %d, %v, %v; want %d", m.String(), back, ok, err, m)
		}
	})
}

func TestMoneyReadsAsDollars(t *testing.T) {
	t.Parallel()
	for m, want := range map[Money]string{
		0: "0", 1: "0.000000000001", -25e8: "-0.0025", 1e12: "1", 12_500e9: "12.5",
		math.MaxInt64: "9223372.036854775807", math.MinInt64: "-9223372.036854775808",
	} {
		if got := m.String(); got != want {
			t.Errorf("%d reads %q, want %q", int64(m), got, want)
		}
	}
}

func FuzzAdd(f *testing.F) {
	for _, a := range []int64{0, 1, -1, math.MaxInt64, math.MinInt64} {
		for _, b := range []int64{0, 1, -1, math.MaxInt64, math.MinInt64} {
			f.Add(a, b)
		}
	}
	f.Fuzz(func(t *testing.T, a, b int64) {
		got, ok := Add(a, b)
		want := new(big.Int).Add(big.NewInt(a), big.NewInt(b))
		if ok != want.IsInt64() || ok && got != want.Int64() {
			t.Errorf("Add(%d, %d) = %d, %v; want %s", a, b, got, ok, want)
		}
	})
}

func TestMoneyCrossesJSONAsAString(t *testing.T) {
	t.Parallel()
	type row struct{ Cost Money }
	for _, tt := range []struct {
		cost Money
		text string
	}{
		{0, `{"Cost":"0"}`},
		{61_666_666_667, `{"Cost":"0.061666666667"}`},
		{-1, `{"Cost":"-0.000000000001"}`},
		{math.MaxInt64, `{"Cost":"9223372.036854775807"}`},
	} {
		text, err := json.Marshal(row{tt.cost})
		if string(text) != tt.text || err != nil {
			t.Errorf("%d is written as %s, %v, want %s", tt.cost, text, err, tt.text)
		}
		var got row
		if err := json.Unmarshal(text, &got); got.Cost != tt.cost || err != nil {
			t.Errorf("%s is read as %d, %v", text, got.Cost, err)
		}
	}
	for _, text := range []string{"", "one", "1e50000000", "0.0000000000001", "9223372.036854775808", "NaN"} {
		m := Money(7)
		if err := m.UnmarshalText([]byte(text)); !errors.Is(err, ErrInvalid) || m != 7 {
			t.Errorf("%q is read as %d, %v, want ErrInvalid and no change", text, m, err)
		}
	}
}
