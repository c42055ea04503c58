package meter

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf16"
)

// plain returns how many bytes come before the first quote or backslash. It looks at a window at a time, so that a text
// of nothing but backslashes is not searched from each of them to its end.
func plain(p []byte) int {
	const short, window = 16, 1024
	for i, c := range p[:min(short, len(p))] { // as most names and values are
		if c == '"' || c == '\\' {
			return i
		}
	}
	for n := min(short, len(p)); n < len(p); n += window {
		w := p[n:min(n+window, len(p))]
		end := bytes.IndexByte(w, '"')
		if end >= 0 {
			w = w[:end]
		}
		if i := bytes.IndexByte(w, '\\'); i >= 0 {
			return n + i
		}
		if end >= 0 {
			return n + end
		}
	}
	return len(p)
}

// unescape returns the text of a string, in place where it has no escapes.
func unescape(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	return []byte(unescapeText(string(raw)))
}

// unescapeText undoes JSON's escapes. What is no escape stays as it is.
func unescapeText(raw string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(raw, '\\')
		if i < 0 || i+1 == len(raw) {
			b.WriteString(raw)
			return b.String()
		}
		b.WriteString(raw[:i])
		r, size := escape(raw[i:])
		b.WriteRune(r)
		raw = raw[i+size:]
	}
}

// escape reads the escape that s begins with.
func escape(s string) (r rune, size int) {
	switch s[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		return unicodeEscape(s)
	}
	return rune(s[1]), 2
}

// unicodeEscape reads \uXXXX, or the two of a pair that are one code point.
func unicodeEscape(s string) (r rune, size int) {
	const one = len(`\u0000`)
	r, ok := hex4(s)
	if !ok {
		return rune(s[1]), 2
	}
	if utf16.IsSurrogate(r) && len(s) >= 2*one && s[one] == '\\' && s[one+1] == 'u' {
		if low, ok := hex4(s[one:]); ok {
			if pair := utf16.DecodeRune(r, low); pair != '\uFFFD' {
				return pair, 2 * one
			}
		}
	}
	return r, one
}

func hex4(s string) (rune, bool) {
	if len(s) < len(`\u0000`) {
		return 0, false
	}
	n, err := strconv.ParseUint(s[2:6], 16, 16)
	return rune(n), err == nil
}

// runeCounter counts the code points of a JSON string that comes in pieces, quotes left out: characters as they are,
// and escapes, of which two may be one character.
type runeCounter struct {
	n int64
	// escape is how far an escape has been read: 0 is none, 1 the backslash, from 2 on the digits of \u.
	escape uint8
	unit   uint16
	// high says that the last thing was an escape of the first half of a pair.
	high bool
}

func (c *runeCounter) write(p []byte) {
	for _, b := range p {
		switch {
		case c.escape == 0 && b != '\\':
			if b&0xC0 != 0x80 { // not inside of a character
				c.n++
				c.high = false
			}
		case c.escape == 0:
			c.escape = 1
		case c.escape == 1 && b == 'u':
			c.escape, c.unit = 2, 0
		case c.escape == 1:
			c.escape, c.high = 0, false
			c.n++
		default:
			c.digit(b)
		}
	}
}

func (c *runeCounter) digit(b byte) {
	c.unit = c.unit<<4 | uint16(hexDigit(b))
	if c.escape++; c.escape < 6 {
		return
	}
	c.escape = 0
	isLow := c.unit >= 0xDC00 && c.unit < 0xE000
	if !c.high || !isLow {
		c.n++
	}
	c.high = c.unit >= 0xD800 && c.unit < 0xDC00
}

func hexDigit(b byte) byte {
	switch {
	case b >= '0' && b <= '9':
		return b - '0'
	case b >= 'a' && b <= 'f':
		return b - 'a' + 10
	case b >= 'A' && b <= 'F':
		return b - 'A' + 10
	}
	return 0
}
