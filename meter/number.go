package meter

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// What providers send as numbers is read exactly: a JSON number, or one in a string, never through a float. Sizes are
// looked at before anything is computed, so that 1e50000000 costs nothing.
const (
	maxNumber   = 64 // bytes
	maxExponent = 40
	// maxCount is the largest quantity that the ledger takes.
	maxCount = 1_000_000_000_000_000
)

var (
	errNumber   = errors.New("is not a number")
	errCount    = errors.New("is not a whole number from 0 to 1e15")
	errDuration = errors.New("is not a length of time")
)

// parseNumber reads the text of a JSON value that is a number or a number in a string. present is false for null and
// for the empty text.
func parseNumber(text string) (d decimal.Decimal, present bool, err error) {
	text = strings.TrimSpace(text)
	if text == "" || text == "null" {
		return decimal.Decimal{}, false, nil
	}
	if !isNumber(text) {
		return decimal.Decimal{}, false, errNumber
	}
	d, err = decimal.NewFromString(text)
	if err != nil {
		return decimal.Decimal{}, false, errNumber
	}
	return d, true, nil
}

// isNumber reports whether text is a decimal of a bearable size: digits, perhaps with a sign, a point and an exponent.
func isNumber(text string) bool {
	if len(text) > maxNumber {
		return false
	}
	mantissa, exponent, hasExponent := text, "", false
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa, exponent, hasExponent = text[:i], text[i+1:], true
	}
	if hasExponent {
		n, err := strconv.ParseInt(exponent, 10, 16)
		if err != nil || n > maxExponent || n < -maxExponent {
			return false
		}
	}
	whole, fraction, point := strings.Cut(strings.TrimPrefix(mantissa, "-"), ".")
	return isDigits(whole) && (!point || isDigits(fraction))
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// parseCount reads a quantity. An absent one is zero; "12", 12 and 12.0 are the same.
func parseCount(text []byte) (int64, error) {
	if n, ok := shortCount(text); ok {
		return n, nil
	}
	d, present, err := parseNumber(string(text))
	switch {
	case err != nil:
		return 0, err
	case !present:
		return 0, nil
	case d.IsNegative(), !d.IsInteger(), d.GreaterThan(decimal.New(maxCount, 0)):
		return 0, errCount
	}
	return d.IntPart(), nil
}

// shortCount is parseCount for what nearly all of them are.
func shortCount(text []byte) (n int64, ok bool) {
	if len(text) == 0 || len(text) > 15 {
		return 0, false
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// maxSeconds is 30 years: more is a unit gone wrong.
const maxSeconds = 1_000_000_000

// parseSeconds reads a length in seconds, with a started millisecond counted whole.
func parseSeconds(text []byte) (time.Duration, error) { return parseTime(text, 3) }

// parseMilliseconds reads a length in milliseconds, with a started one counted whole.
func parseMilliseconds(text []byte) (time.Duration, error) { return parseTime(text, 0) }

// parseTime reads a length in a unit of 10^digits milliseconds.
func parseTime(text []byte, digits int32) (time.Duration, error) {
	d, present, err := parseNumber(string(text))
	switch {
	case err != nil:
		return 0, err
	case !present:
		return 0, nil
	}
	ms := d.Shift(digits).Ceil()
	if d.IsNegative() || ms.GreaterThan(decimal.New(maxSeconds, 3)) {
		return 0, errDuration
	}
	return time.Duration(ms.IntPart()) * time.Millisecond, nil
}
