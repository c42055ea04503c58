package usage

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of what hosts type, in bytes where it is text. They are the same for every store.
const (
	maxID        = 255
	maxEndpoint  = 1024
	maxErrorText = 1024
	maxQuoted    = 64
	maxTags      = 32
	maxTagKey    = 64
	maxTagValue  = 255
	maxCondition = 64
	// maxConditions and maxMeters bound the rows of hosts' own providers.
	maxConditions = 16
	maxMeters     = 32
	// maxQuantity is beyond any real call, and a thousand sums of it still fit an int64.
	maxQuantity = 1_000_000_000_000_000
	// Years outside of these are a clock or a unit gone wrong: Unix seconds taken for milliseconds, a time never set.
	minYear, maxYear = 2000, 2200
)

// faults collects what is wrong with an input, so that all of it is reported at once.
type faults []Fault

// err returns the faults as one *InvalidError, or nil when there are none.
func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return &InvalidError{Faults: f}
}

func (f *faults) add(field, problem string) {
	*f = append(*f, Fault{Field: field, Problem: problem})
}

// sortFrom orders the faults found in a map, from the n-th on: the same input always gives the same error.
func (f faults) sortFrom(n int) {
	slices.SortFunc(f[n:], func(a, b Fault) int { return strings.Compare(a.Field, b.Field) })
}

// text wants valid UTF-8 without control characters, at most limit bytes of it.
func (f *faults) text(field, s string, limit int) bool {
	if s == "" { // most texts are; this much is inlined
		return true
	}
	return f.clean(field, s, limit)
}

func (f *faults) clean(field, s string, limit int) bool {
	if len(s) <= limit && isClean(s) {
		return true
	}
	f.add(field, textProblem(s, limit))
	return false
}

// textProblem returns what is wrong with a text that is too long or not clean.
func textProblem(s string, limit int) string {
	switch {
	case len(s) > limit:
		return "is longer than " + strconv.Itoa(limit) + " bytes"
	case !utf8.ValidString(s):
		return "is not valid utf-8"
	}
	return "has a control character"
}

// required is text that may not be empty.
func (f *faults) required(field, s string, limit int) {
	if s == "" {
		f.add(field, "is missing")
		return
	}
	f.clean(field, s, limit)
}

// id wants an identity: text of 1 to 255 bytes.
func (f *faults) id(field, s string) { f.required(field, s, maxID) }

// provider wants a provider's name, which stands in keys, limits and prices: "OpenAI" or "my provider" would be others.
func (f *faults) provider(field, s string) {
	switch {
	case s == "":
		f.add(field, "is missing")
	case !isName(s, "-_."):
		f.add(field, "is not 1 to 64 lower-case letters, digits, '-', '_' or '.'")
	}
}

func (f *faults) model(field, s string) {
	if f.text(field, s, maxID) && strings.TrimSpace(s) != s {
		f.add(field, "begins or ends with a space")
	}
}

// meterName wants the name of a meter or of a sum of meters.
func (f *faults) meterName(field string, m Meter) {
	switch {
	case m == "":
		f.add(field, "is missing")
	case !isName(string(m), "_"):
		f.add(field, "is not 1 to 64 lower-case letters, digits or '_'")
	}
}

func (f *faults) quantity(field string, n int64) {
	switch {
	case n < 0:
		f.add(field, "is negative")
	case n > maxQuantity:
		f.add(field, "is more than 1e15")
	}
}

func (f *faults) duration(field string, d time.Duration) {
	if d < 0 {
		f.add(field, "is negative")
	}
}

// part wants a quantity that is contained in another to be no more than that. Of two that are none at all it says nothing.
func (f *faults) part(field string, n int64, whole string, of int64) {
	if n > of && n <= maxQuantity && of >= 0 {
		f.add(field, strconv.FormatInt(n, 10)+" is more than "+whole+", "+strconv.FormatInt(of, 10)+", which it is a part of")
	}
}

// parts wants the disjoint parts of a number to add up to no more than that.
func (f *faults) parts(whole string, of, sum int64) {
	if sum > of {
		f.add(whole, strconv.FormatInt(of, 10)+" is less than its parts together, "+strconv.FormatInt(sum, 10))
	}
}

// time returns at as the ledger keeps it: in UTC, cut to microseconds. The zero time stays zero.
func (f *faults) time(field string, at time.Time) time.Time {
	if at.IsZero() {
		return time.Time{}
	}
	at = at.UTC().Truncate(time.Microsecond)
	if at.Year() < minYear || at.Year() > maxYear {
		f.add(field, "is not in the years 2000 to 2200")
	}
	return at
}

func (f *faults) status(field string, status int) {
	if status != 0 && (status < 100 || status > 599) {
		f.add(field, "is not an http status from 100 to 599")
	}
}

// endpoint returns s without its query and fragment: they are of no use in a ledger, and some providers take keys there.
func (f *faults) endpoint(field, s string) string {
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		s = s[:i]
	}
	if scheme, rest, ok := strings.Cut(s, "//"); ok {
		host, path, _ := strings.Cut(rest, "/")
		if at := strings.LastIndexByte(host, '@'); at >= 0 { // a user and password
			s = strings.TrimSuffix(scheme+"//"+host[at+1:]+"/"+path, "/")
		}
	}
	f.text(field, s, maxEndpoint)
	return s
}

// ip returns the address in its one canonical form: lower case, compressed, IPv4 as IPv4, without a zone.
func (f *faults) ip(field, s string) string {
	if s == "" {
		return ""
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		f.add(field, "is not an ip address")
		return ""
	}
	var buf [48]byte
	canonical := addr.Unmap().WithZone("").AppendTo(buf[:0])
	if string(canonical) == s {
		return s
	}
	return string(canonical)
}

// tags returns a copy, so that the host may go on with its map; nil when there are none.
func (f *faults) tags(field string, tags map[string]string) map[string]string {
	if len(tags) == 0 {
		return nil
	}
	if len(tags) > maxTags {
		f.add(field, "has more than "+strconv.Itoa(maxTags)+" entries")
		return nil
	}
	n := len(*f)
	kept := make(map[string]string, len(tags))
	for key, value := range tags {
		if key == "" || len(key) > maxTagKey || !isClean(key) || len(value) > maxTagValue || !isClean(value) {
			f.required(keyed(field, key), key, maxTagKey)
			f.text(keyed(field, key), value, maxTagValue)
		}
		kept[key] = value
	}
	f.sortFrom(n)
	return kept
}

// condition wants the name or the value of a condition: text that can stand in the record's list of them.
func (f *faults) condition(field, value string) {
	if f.text(field, value, maxCondition) && strings.ContainsAny(value, ";=") {
		f.add(field, "has a ';' or '='")
	}
}

// freeText returns what can be kept of a text that is never refused, because the call that it is about has been made:
// control characters become spaces, invalid bytes U+FFFD, and what passes limit bytes is cut between two characters.
func freeText(s string, limit int) string {
	s = withoutKeys(s)
	if len(s) <= limit && isClean(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsControl(r) {
			r = ' '
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// withoutKeys masks what looks like a key: providers quote them in their error texts.
func withoutKeys(s string) string {
	for _, mark := range [...]string{"sk-", "sk_", "Bearer "} {
		if !strings.Contains(s, mark) {
			continue
		}
		parts := strings.Split(s, mark)
		for i := 1; i < len(parts); i++ {
			key := len(parts[i])
			if end := strings.IndexFunc(parts[i], isNoKey); end >= 0 {
				key = end
			}
			if key > 0 {
				parts[i] = "***" + parts[i][key:]
			}
		}
		s = strings.Join(parts, mark)
	}
	return s
}

func isNoKey(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' && r != '_' && r != '.' && r != '*'
}

// isClean reports whether s is valid UTF-8 without control characters.
func isClean(s string) bool {
	for len(s) >= 8 && isPlain(s) {
		s = s[8:]
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= utf8.RuneSelf:
			return utf8.ValidString(s[i:]) && !strings.ContainsFunc(s[i:], unicode.IsControl)
		case c < ' ' || c == 0x7f:
			return false
		}
	}
	return true
}

// isPlain reports whether the first eight bytes of s are from ' ' to '~', which nearly all are. It looks at them at once:
// in each byte the top bit is set by the first term below ' ', by the second at DEL, and by the third outside of ASCII. The
// lowest such byte gets no borrow from those under it, and one is enough.
func isPlain(s string) bool {
	const each, top = 0x0101010101010101, 0x8080808080808080
	_ = s[7]
	w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	return ((w-each*' ')|((w^each*0x7f)-each)|w)&top == 0
}

// isName reports whether s has 1 to maxName lower-case letters, digits and characters of the given punctuation.
func isName(s, punctuation string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte(punctuation, c) < 0 {
			return false
		}
	}
	return true
}

// milliseconds returns d in whole milliseconds; a started one counts.
func milliseconds(d time.Duration) int64 {
	ms := int64(d / time.Millisecond)
	if d%time.Millisecond > 0 {
		ms++
	}
	return ms
}

// quote returns at most 64 bytes of s, cut between two characters, as a Go string.
func quote(s string) string {
	if len(s) <= maxQuoted {
		return strconv.Quote(s)
	}
	end := maxQuoted
	for end > maxQuoted-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return strconv.Quote(s[:end]) + "…"
}

func indexed(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }

func keyed(field, key string) string { return field + "[" + quote(key) + "]" }
