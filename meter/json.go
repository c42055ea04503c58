package meter

import "strconv"

// A node is a place in a JSON document that somebody wants to know about: a member of an object by its name, or the
// elements of an array.
type node struct {
	name  string
	field field
	// counted makes the code points of a string be counted instead of kept, however long it is.
	counted bool
	kids    []*node
	elem    *node
}

// kid returns the member of a name, nil when nobody wants it.
func (n *node) kid(name []byte) *node {
	for _, kid := range n.kids {
		if kid.name == string(name) {
			return kid
		}
	}
	return nil
}

// kind is what sort of value stands at a node.
type kind uint8

const (
	text    kind = iota // a string; its text is unescaped
	literal             // a number, true, false or null, as it is written
	object              // an object begins
	array               // an array begins
	element             // another element of an array begins
	counted             // a string that is counted; its text is the number of code points
	empty               // the object that began has no members
	tooLong             // a string or literal that is longer than anything of interest
)

// sink is told of the values at nodes, in the order in which they stand, and of where a document is complete. The text is
// only lent.
type sink interface {
	found(f field, k kind, text []byte)
	end()
}

// What a document may be for its wanted parts to be found. Everything else in it may be of any size and depth: it is
// passed over and not kept.
const (
	maxPath   = 8   // levels of wanted objects and arrays
	maxScalar = 512 // bytes of a name or of a value
)

// jsonScanner reads JSON documents that follow each other, in pieces of any size, and tells a sink of the values at the
// nodes of a tree. It keeps at most one name or value at a time. On the way to wanted values it wants proper JSON and
// gives up at the first fault; what is passed over is only looked at for where it ends.
type jsonScanner struct {
	root *node
	sink sink
	// single ends the reading with the first document.
	single bool

	state state
	bad   bool // a fault was found: everything up to reset is ignored
	docs  int  // documents that are complete

	levels [maxPath]level
	depth  int // of levels
	skip   int // containers that are open and passed over

	at      *node // what the next value is for, nil for nobody
	key     bool  // the string being read is a name
	keep    bool  // it is kept in buf
	over    bool  // it was longer than buf may be
	escaped bool  // the last byte was a backslash
	buf     []byte
	short   [64]byte // what buf is at first: most names and values fit
	runes   runeCounter

	// consumed is how much came before this piece, at the caller's care, and at how far this one is read.
	consumed, position int64
	// media finds what is data and not words; nil when nobody wants to know.
	media *mediaCounter
}

// offset returns where the value that is being told of begins, after its first byte.
func (s *jsonScanner) offset() int64 { return s.consumed + s.position + 1 }

// level is an object or array on the way to wanted values.
type level struct {
	node  *node
	array bool
}

type state uint8

const (
	wantValue state = iota
	wantElement
	wantKeyOrEnd
	wantKey
	wantColon
	afterValue
	inString
	inLiteral
	inSkipped
)

// reset forgets what was read, for a document that begins anew.
func (s *jsonScanner) reset() {
	s.state, s.bad, s.depth, s.skip, s.at = wantValue, false, 0, 0, nil
	s.key, s.keep, s.over, s.escaped, s.buf = false, false, false, false, s.buf[:0]
}

// between reports whether no document has begun that is not complete.
func (s *jsonScanner) between() bool {
	return !s.bad && s.depth == 0 && s.state == wantValue
}

func (s *jsonScanner) write(p []byte) {
	if s.buf == nil {
		s.buf = s.short[:0]
	}
	for i := 0; i < len(p) && !s.bad && (!s.single || s.docs == 0); {
		s.position = int64(i)
		switch s.state {
		case inString:
			n := s.inString(p[i:])
			if s.media != nil {
				s.media.write(p[i : i+n])
			}
			i += n
		case inLiteral:
			i += s.inLiteral(p[i:])
		case inSkipped:
			i += s.inSkipped(p[i:])
		default:
			s.structure(p[i])
			i++
		}
	}
}

// structure takes a byte that stands between values.
func (s *jsonScanner) structure(c byte) {
	switch {
	case c == ' ' || c == '\n' || c == '\r' || c == '\t':
	case s.state == wantColon:
		s.expect(c == ':', wantValue)
		s.media.colon()
	case s.state == afterValue:
		s.after(c)
	case c == '"' && s.state == wantKeyOrEnd || c == '"' && s.state == wantKey:
		s.startString(true)
	case c == '}' && s.state == wantKeyOrEnd:
		s.tell(s.levels[s.depth-1].node, empty, nil)
		s.pop()
	case c == ']' && s.state == wantElement:
		s.pop()
	case s.state == wantKeyOrEnd || s.state == wantKey:
		s.bad = true
	default:
		s.startValue(c)
	}
}

func (s *jsonScanner) expect(ok bool, next state) {
	s.bad = s.bad || !ok
	s.state = next
}

// after takes what follows a value in its object or array.
func (s *jsonScanner) after(c byte) {
	top := s.levels[s.depth-1]
	switch {
	case c == ',' && top.array:
		s.state = wantValue
		s.at = top.node.elem
	case c == ',':
		s.state = wantKey
	case c == ']' && top.array, c == '}' && !top.array:
		s.pop()
	default:
		s.bad = true
	}
}

func (s *jsonScanner) startValue(c byte) {
	if s.depth == 0 {
		s.at = s.root
	} else if top := s.levels[s.depth-1]; top.array {
		s.tell(top.node, element, nil)
	}
	if c != '"' {
		s.media.other()
	}
	switch {
	case c == '"':
		s.startString(false)
	case c == '{' || c == '[':
		s.open(c == '[')
	case c == '-' || c >= '0' && c <= '9' || c == 't' || c == 'f' || c == 'n':
		s.state, s.keep, s.over, s.buf = inLiteral, true, false, s.buf[:0]
		s.collect(c)
	default:
		s.bad = true
	}
}

// open enters an object or array when something in it is wanted, and passes over it when not.
func (s *jsonScanner) open(isArray bool) {
	n := s.at
	if n != nil && isArray {
		s.tell(n, array, nil)
	} else if n != nil {
		s.tell(n, object, nil)
	}
	wanted := n != nil && (isArray && n.elem != nil || !isArray && len(n.kids) > 0)
	switch {
	case !wanted:
		s.state, s.skip = inSkipped, 1
	case s.depth == maxPath:
		s.bad = true
	default:
		s.levels[s.depth] = level{n, isArray}
		s.depth++
		if s.state = wantKeyOrEnd; isArray {
			s.state, s.at = wantElement, n.elem
		}
	}
}

func (s *jsonScanner) pop() {
	s.depth--
	s.closed()
}

// closed is where a value has ended.
func (s *jsonScanner) closed() {
	s.at = nil
	if s.state = afterValue; s.depth == 0 {
		s.state = wantValue
		s.docs++
		s.sink.end()
	}
}

func (s *jsonScanner) tell(n *node, k kind, text []byte) {
	if n.field != 0 {
		s.sink.found(n.field, k, text)
	}
}

func (s *jsonScanner) startString(key bool) {
	s.state, s.key, s.escaped, s.over, s.buf = inString, key, false, false, s.buf[:0]
	s.keep = key || s.at != nil && s.at.field != 0 && !s.at.counted
	s.runes = runeCounter{}
	s.media.begin()
}

func (s *jsonScanner) inString(p []byte) int {
	if len(s.buf) == 0 && !s.escaped { // nearly all strings are whole in one piece, and have no escapes
		if n := plain(p); n < len(p) && p[n] == '"' {
			s.wholeString(p[:n])
			return n + 1
		}
	}
	for i := 0; i < len(p); {
		if s.escaped {
			s.escaped = false
			s.stringBytes(p[i : i+1])
			i++
			continue
		}
		n := plain(p[i:])
		s.stringBytes(p[i : i+n])
		if i += n; i == len(p) {
			break
		}
		switch p[i] {
		case '"':
			s.buf = unescape(s.buf)
			s.endString(s.buf)
			return i + 1
		case '\\':
			s.escaped = true
			s.stringBytes(p[i : i+1])
			i++
		}
	}
	return len(p)
}

// wholeString takes the rest of a string, of which nothing is kept yet.
func (s *jsonScanner) wholeString(p []byte) {
	if s.keep {
		s.over = s.over || len(p) > maxScalar
	} else {
		s.stringBytes(p)
	}
	s.endString(p)
}

func (s *jsonScanner) stringBytes(p []byte) {
	switch {
	case s.keep:
		if s.over = s.over || len(s.buf)+len(p) > maxScalar; !s.over {
			s.buf = append(s.buf, p...)
		}
	case !s.key && s.at != nil && s.at.counted && s.skip == 0:
		s.runes.write(p)
	}
}

// endString is where a string ends. Its text is only lent.
func (s *jsonScanner) endString(value []byte) {
	switch {
	case s.key:
		s.state, s.at = wantColon, nil
		if top := s.levels[s.depth-1]; !s.over {
			s.at = top.node.kid(value)
		}
	case s.skip > 0:
		s.state = inSkipped
	case s.at != nil && s.at.counted:
		s.tell(s.at, counted, strconv.AppendInt(s.buf[:0], s.runes.n, 10))
		s.closed()
	default:
		s.endValue(text, value)
	}
}

func (s *jsonScanner) endValue(k kind, value []byte) {
	if s.at != nil {
		if s.over {
			k = tooLong
		}
		s.tell(s.at, k, value)
	}
	s.closed()
}

func (s *jsonScanner) inLiteral(p []byte) int {
	for i, c := range p {
		if c == '-' || c == '+' || c == '.' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c == 'E' {
			s.collect(c)
			continue
		}
		s.endLiteral()
		return i
	}
	return len(p)
}

// endLiteral looks at words only: what a number is, is looked at where it is read.
func (s *jsonScanner) endLiteral() {
	if c := s.buf[0]; c >= 'a' && string(s.buf) != "true" && string(s.buf) != "false" && string(s.buf) != "null" {
		s.bad = true
		return
	}
	s.endValue(literal, s.buf)
}

func (s *jsonScanner) collect(c byte) {
	if s.keep {
		if s.over = s.over || len(s.buf) == maxScalar; !s.over {
			s.buf = append(s.buf, c)
		}
	}
}

// inSkipped passes over an object or array that nobody wants anything of.
func (s *jsonScanner) inSkipped(p []byte) int {
	for i, c := range p {
		switch c {
		case '"':
			s.at = nil
			s.startString(false)
			return i + 1
		case ' ', '\n', '\r', '\t':
			continue
		case ':':
			s.media.colon()
			continue
		}
		s.media.other()
		switch c {
		case '{', '[':
			s.skip++
		case '}', ']':
			if s.skip--; s.skip == 0 {
				s.closed()
				return i + 1
			}
		}
	}
	return len(p)
}
