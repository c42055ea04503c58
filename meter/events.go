package meter

import "bytes"

// eventScanner finds in a stream of server-sent events those that say what the call used, without reading the others:
// it searches each piece for the name "usage", for the end mark and for an error, and decodes only the events that have
// one. The first events are decoded too, for the call's id and model.
//
// It keeps the part of an event that a piece breaks off, up to maxHeld bytes. An event that is longer is decoded as it
// comes, so that none has to fit into memory.
//
// Lines end with \n or \r\n. Source: the WHATWG's specification of server-sent events, and the documents of the providers.
type eventScanner struct {
	held    []byte
	decoder eventDecoder
	open    bool // an event is being decoded as it comes
	mark    int  // how much of a byte order mark the stream has begun with; len(byteOrderMark) when it is read on
	// first is how many more events are decoded whatever is in them, while the model is not known.
	first int
	// typed says that events have types. One with "usage":null is worth decoding then: it may be the end of the stream.
	typed  bool
	events int64
	done   bool // the end mark was there, or an event that ends its stream
}

// maxHeld is how long an event may be to be searched before it is decoded.
const maxHeld = 4 << 10

// firstEvents is how many events may come before the one that names the model: Azure's first one does not.
const firstEvents = 16

func newEventScanner(r *openAIReading, typed bool) *eventScanner {
	return &eventScanner{decoder: newEventDecoder(r), first: firstEvents, typed: typed}
}

func (s *eventScanner) write(p []byte) {
	if s.mark < len(byteOrderMark) {
		p = s.skipMark(p)
	}
	if s.open || len(s.held) > 0 {
		p = p[s.complete(p):]
	}
	end := s.lastBoundary(p)
	s.search(p[:end])
	s.hold(p[end:])
}

// byteOrderMark may stand before the first event, and means nothing.
const byteOrderMark = "\uFEFF"

// skipMark passes over a byte order mark, which may come in pieces, and returns what follows. What only begins as one is
// the beginning of a line that nobody knows.
func (s *eventScanner) skipMark(p []byte) []byte {
	for len(p) > 0 && s.mark < len(byteOrderMark) {
		if p[0] != byteOrderMark[s.mark] {
			s.held = append(s.held, byteOrderMark[:s.mark]...)
			s.mark = len(byteOrderMark)
			break
		}
		p = p[1:]
		s.mark++
	}
	return p
}

// complete gives the event that was broken off its rest, and returns how much of p that was.
func (s *eventScanner) complete(p []byte) int {
	if s.open {
		n, ended := s.decoder.write(p)
		if ended {
			s.endEvent()
			s.open = false
		}
		return n
	}
	n := restOfEvent(s.held, p)
	ended := n > 0
	if !ended {
		n = len(p)
	}
	s.hold(p[:n])
	if !ended {
		return n
	}
	if s.open { // it has become too long: the decoder has seen its end
		s.endEvent()
		s.open = false
		return n
	}
	s.events++
	s.search(s.held)
	s.held = s.held[:0]
	return n
}

// hold keeps a part of an event, or decodes what has become too long to be kept.
func (s *eventScanner) hold(p []byte) {
	for !s.open && len(s.held) == 0 && newline(p) > 0 { // a blank line begins no event
		p = p[newline(p):]
	}
	switch {
	case len(p) == 0:
	case s.open:
		s.decoder.write(p)
	case len(s.held)+len(p) <= maxHeld:
		s.held = append(s.held, p...)
	default:
		s.open = true
		s.decoder.reading.followed()
		s.decoder.begin()
		s.decoder.write(s.held)
		s.decoder.write(p)
		s.held = s.held[:0]
	}
}

// restOfEvent returns how much of p belongs to the event that held is the beginning of, its blank line included; 0 when
// it does not end in p.
func restOfEvent(held, p []byte) int {
	if n := restOfLine(held, p); n > 0 {
		return n
	}
	for i := 0; ; {
		j := bytes.IndexByte(p[i:], '\n')
		if j < 0 {
			return 0
		}
		i += j + 1
		if n := newline(p[i:]); n > 0 {
			return i + n
		}
	}
}

// restOfLine returns the length of the line end that p begins with if that makes the last line of held a blank one.
func restOfLine(held, p []byte) int {
	before := bytes.TrimSuffix(held, []byte{'\r'})
	switch {
	case len(before) > 0 && before[len(before)-1] != '\n':
		return 0
	case len(before) == len(held):
		return newline(p)
	case len(p) > 0 && p[0] == '\n':
		return 1
	}
	return 0
}

// newline returns the length of the line end that p begins with, 0 for none.
func newline(p []byte) int {
	switch {
	case len(p) > 0 && p[0] == '\n':
		return 1
	case len(p) > 1 && p[0] == '\r' && p[1] == '\n':
		return 2
	}
	return 0
}

// lastBoundary returns where the last event that p completes ends, and counts the events. p begins with an event.
func (s *eventScanner) lastBoundary(p []byte) (end int) {
	for i := 0; ; {
		j := bytes.IndexByte(p[i:], '\n')
		if j < 0 {
			return end
		}
		i += j + 1
		if n := newline(p[i:]); n > 0 {
			i += n
			end = i
			s.events++
		}
	}
}

// search decodes the events of b that are worth it. b consists of whole events.
func (s *eventScanner) search(b []byte) {
	for s.first > 0 && len(b) > 0 {
		n := restOfEvent(nil, b)
		if n == 0 {
			n = len(b)
		}
		s.decode(b[:n])
		b = b[n:]
		s.countFirst()
	}
	mark, fault := indexFrom(b, 0, endMark), s.nextError(b, 0)
	for at := 0; ; {
		found := s.nextUsage(b, at)
		for _, other := range []int{mark, fault} {
			if other >= 0 && (found < 0 || other < found) {
				found = other
			}
		}
		if found < 0 {
			s.passOver(b[at:])
			return
		}
		start, end := eventAround(b, at, found)
		s.passOver(b[at:start])
		s.decode(b[start:end])
		if at = end; mark >= 0 && mark < at {
			mark = indexFrom(b, at, endMark)
		}
		if fault >= 0 && fault < at {
			fault = s.nextError(b, at)
		}
	}
}

// passOver takes events that are not decoded. All that matters of them is that they are there; what may become the end
// mark, where a stream is cut, is none of them.
func (s *eventScanner) passOver(b []byte) {
	r := s.decoder.reading
	if !r.final {
		return
	}
	b = bytes.Trim(b, "\r\n")
	if !bytes.HasPrefix([]byte(dataField+doneMark), b) && !bytes.HasPrefix([]byte(dataField+" "+doneMark), b) {
		r.followed()
	}
}

func (s *eventScanner) countFirst() {
	if s.first--; s.decoder.reading.model != "" {
		s.first = 0
	}
}

func (s *eventScanner) decode(event []byte) {
	s.passOver(event)
	for len(event) > 0 { // once, but for blank lines before it
		s.decoder.begin()
		n, _ := s.decoder.write(event)
		s.endDecoded()
		event = event[n:]
	}
}

// endEvent is the end of an event that was decoded as it came.
func (s *eventScanner) endEvent() {
	s.events++
	s.endDecoded()
	if s.first > 0 {
		s.countFirst()
	}
}

func (s *eventScanner) endDecoded() {
	s.decoder.end()
	s.done = s.done || s.decoder.done || s.decoder.reading.terminal()
}

// finish takes what is held as the last event: a stream may end without a blank line.
func (s *eventScanner) finish() {
	switch {
	case s.open:
		s.decoder.endLine()
		s.endEvent()
		s.open = false
	case len(s.held) > 0:
		s.search(append(s.held, '\n', '\n'))
		s.held = s.held[:0]
	}
}

// The end mark is "[DONE]", alone in an event. Its letters are rarer in a stream than its brackets, and the end of the
// name "usage" is rarer than its beginning.
var (
	endMark   = []byte("DONE]")
	usageTail = []byte(`ge"`)
	usageHead = []byte(`"usa`)
	// "error" is an object, or in typed events their type: what begins either of them is rare in a stream too.
	errorName = []byte(`"error"`)
	typeTail  = []byte(`ype"`)
	typeHead  = []byte(`"t`)
)

// nextError returns where, from at on, an error stands that a stream may have in its middle, and -1 when none does.
func (s *eventScanner) nextError(b []byte, at int) int {
	object := nextErrorObject(b, at)
	if !s.typed {
		return object
	}
	if object >= 0 {
		b = b[:object]
	}
	if event := nextErrorType(b, at); event >= 0 {
		return event
	}
	return object
}

// nextErrorObject looks for an object by the name of "error".
func nextErrorObject(b []byte, at int) int {
	for {
		i := bytes.IndexByte(b[at:], '{')
		if i < 0 {
			return -1
		}
		if at += i + 1; hasErrorName(b[:at-1]) {
			return at - 1
		}
	}
}

// hasErrorName reports whether b ends with the name "error" and its colon.
func hasErrorName(b []byte) bool {
	n := withoutSpace(b)
	if n == 0 || b[n-1] != ':' {
		return false
	}
	n = withoutSpace(b[:n-1])
	return bytes.HasSuffix(b[:n], errorName)
}

// withoutSpace returns the length of b without the spaces at its end.
func withoutSpace(b []byte) int {
	n := len(b)
	for n > 0 && (b[n-1] == ' ' || b[n-1] == '\t') {
		n--
	}
	return n
}

// nextErrorType looks for "error" as a type.
func nextErrorType(b []byte, at int) int {
	for {
		i := indexFrom(b, at, typeTail)
		if i < 0 {
			return -1
		}
		at = i + len(typeTail)
		rest, ok := bytes.CutPrefix(bytes.TrimLeft(b[at:], " \t"), []byte{':'})
		if ok && bytes.HasPrefix(bytes.TrimLeft(rest, " \t"), errorName) && bytes.HasSuffix(b[:i], typeHead) {
			return i
		}
	}
}

func indexFrom(b []byte, at int, what []byte) int {
	i := bytes.Index(b[at:], what)
	if i < 0 {
		return -1
	}
	return at + i
}

// nextUsage returns where, from at on, the name "usage" stands with an object as its value, and -1 when it does not.
// Where the value is a number or a text, whatever it is, it is not a usage.
func (s *eventScanner) nextUsage(b []byte, at int) int {
	for {
		i := bytes.Index(b[at:], usageTail)
		if i < 0 {
			return -1
		}
		tail := at + i
		at = tail + len(usageTail)
		head := tail - len(usageHead)
		if head < 0 || !bytes.Equal(b[head:tail], usageHead) || head > 0 && b[head-1] == '\\' {
			continue
		}
		if s.isUsage(b[at:]) {
			return head
		}
	}
}

// isUsage looks at what follows the name. A value that begins on another line is left to the decoder.
func (s *eventScanner) isUsage(rest []byte) bool {
	colon := false
	for _, c := range rest {
		switch {
		case c == ' ' || c == '\t':
		case c == ':' && !colon:
			colon = true
		case c == '{' && colon, c == '\r', c == '\n':
			return true
		case c == 'n' && colon:
			return s.typed
		default:
			return false
		}
	}
	return true
}

// eventAround returns where the event begins and ends that holds the byte at i. It begins at from or later.
func eventAround(b []byte, from, i int) (start, end int) {
	start = from
	for n := i; n > from; {
		n = from + bytes.LastIndexByte(b[from:n], '\n')
		if n < from {
			break
		}
		if before := bytes.TrimSuffix(b[from:n], []byte{'\r'}); len(before) == 0 || before[len(before)-1] == '\n' {
			start = n + 1
			break
		}
	}
	n := restOfEvent([]byte{'x'}, b[i:])
	if n == 0 {
		return start, len(b)
	}
	return start, i + n
}
