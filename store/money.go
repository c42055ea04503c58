package store

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/shopspring/decimal"
)

// Money is an exact amount in picodollars: 1 USD is 1e12. It holds any amount up to
// 9,223,372.036854775807 USD of either sign; whatever adds amounts up says what happens past that.
//
// Twelve fraction digits are what a line's cost is rounded to, so nothing is ever lost between the
// price table, a store and the caller, and sums are integer sums.
type Money int64

// moneyDigits is the number of fraction digits that a Money keeps.
const moneyDigits = 12

// MoneyOf returns d as Money. ok is false when d has more than 12 fraction digits or does not fit;
// d is never rounded.
func MoneyOf(d decimal.Decimal) (m Money, ok bool) {
	n, ok := ScaledInt(d, moneyDigits)
	return Money(n), ok
}

// Decimal returns the amount in dollars.
func (m Money) Decimal() decimal.Decimal {
	if m == 0 {
		return decimal.Decimal{}
	}
	return decimal.New(int64(m), -moneyDigits)
}

// String returns the amount in dollars without an exponent or trailing zeros.
func (m Money) String() string { return m.Decimal().String() }

// MarshalText writes the amount as String does: amounts cross JSON as strings, which keep every digit.
func (m Money) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads an amount in dollars. It fails with ErrInvalid when the text is no amount or one that a Money does
// not hold.
func (m *Money) UnmarshalText(text []byte) error {
	d, err := decimal.NewFromString(string(text))
	if err != nil {
		return fmt.Errorf("amount %.64q: %w", text, ErrInvalid)
	}
	amount, ok := MoneyOf(d)
	if !ok {
		return fmt.Errorf("amount %.64q has more than %d fraction digits or is too large: %w", text, moneyDigits, ErrInvalid)
	}
	*m = amount
	return nil
}

// ScaledInt returns d × 10^digits when that is a whole number that fits an int64.
// It looks at the size of the exponent before it computes anything, so that a hostile decimal such as
// 1e50000000 costs nothing.
func ScaledInt(d decimal.Decimal, digits int32) (n int64, ok bool) {
	const maxBits, maxExponent = 256, 64 // 64 digits are far past what an int64 can scale back from
	exp := int64(d.Exponent()) + int64(digits)
	coefficient := d.Coefficient()
	if coefficient.Sign() == 0 {
		return 0, true
	}
	if coefficient.BitLen() > maxBits || exp > maxExponent || exp < -maxExponent {
		return 0, false
	}
	scaled := d.Shift(digits)
	if !scaled.IsInteger() || !scaled.BigInt().IsInt64() {
		return 0, false
	}
	return scaled.IntPart(), true
}

// Add returns a+b; ok is false when the sum passes an int64.
func Add(a, b int64) (sum int64, ok bool) {
	sum = a + b
	return sum, (a^sum)&(b^sum) >= 0
}

// MulDiv returns a×b÷c rounded half to even, for a, b ≥ 0 and c > 0. ok is false when the result passes an int64.
// The product is kept in 128 bits, so nothing is lost before the one division.
//
// This is the only place where the project rounds an amount: a line's cost is quantity × amount ÷ per,
// exact up to 12 fraction digits, and half-even there if it is longer.
func MulDiv(a, b, c int64) (q int64, ok bool) {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi >= uint64(c) {
		return 0, false
	}
	quo, rem := lo/uint64(c), lo%uint64(c) // most products are small, and 64 bits are divided much faster
	if hi != 0 {
		quo, rem = bits.Div64(hi, lo, uint64(c))
	}
	if half := uint64(c) - rem; rem > half || rem == half && quo&1 == 1 {
		quo++
	}
	if quo > math.MaxInt64 {
		return 0, false
	}
	return int64(quo), true
}
