package meter

import (
	"bytes"
	"mime"
	"net/textproto"
	"strings"
)

// formScanner reads the short fields of a multipart form in pieces, and passes over its files.
// Source: RFC 7578, and RFC 2046 for the boundaries.
type formScanner struct {
	delimiter []byte // line end, dashes and boundary
	value     func(name, value string)

	held  []byte // what may be the beginning of a delimiter, or a part's headers, or its value
	state formState
	name  string // of the field that is being read, "" for one that is passed over
	over  bool
	done  bool
}

type formState uint8

const (
	beforePart formState = iota // up to a delimiter, whose line is to be read
	inPartHead
	inPart
	afterForm
)

// maxPartHead is how long the headers of a part may be.
const maxPartHead = 2 << 10

func newFormScanner(boundary string, value func(name, value string)) *formScanner {
	// The first delimiter has no line end before it: one is added.
	return &formScanner{delimiter: []byte("\r\n--" + boundary), value: value, held: []byte("\r\n"), state: inPart}
}

func (s *formScanner) write(p []byte) {
	for len(p) > 0 && s.state != afterForm {
		// Files are passed over in place; what is held is at most a window.
		const window = 4 << 10
		n := min(len(p), window)
		s.held = append(s.held, p[:n]...)
		p = p[n:]
		for s.step() {
		}
	}
}

// step takes one thing from what is held, and reports whether there may be another.
func (s *formScanner) step() bool {
	switch s.state {
	case inPart:
		return s.content()
	case beforePart:
		return s.delimiterLine()
	case inPartHead:
		return s.head()
	}
	s.held = nil
	return false
}

// content reads up to the delimiter that ends a part.
func (s *formScanner) content() bool {
	i := bytes.Index(s.held, s.delimiter)
	if i >= 0 {
		if s.name != "" && !s.over && i <= maxScalar {
			s.value(s.name, string(s.held[:i]))
		}
		s.drop(i + len(s.delimiter))
		s.state, s.name, s.over = beforePart, "", false
		return true
	}
	if s.name == "" || len(s.held) > maxScalar+len(s.delimiter) {
		s.over = true
		s.drop(max(0, len(s.held)-len(s.delimiter)+1))
	}
	return false
}

// delimiterLine reads the rest of a delimiter's line: two dashes are the form's end.
func (s *formScanner) delimiterLine() bool {
	if len(s.held) < 2 {
		return false
	}
	if s.held[0] == '-' && s.held[1] == '-' {
		s.state, s.done = afterForm, true
		return true
	}
	i := bytes.IndexByte(s.held, '\n')
	if i < 0 {
		return s.giveUp(len(s.held) > maxPartHead)
	}
	s.drop(i + 1)
	s.state = inPartHead
	return true
}

func (s *formScanner) head() bool {
	if bytes.HasPrefix(s.held, []byte("\r\n")) { // a part without headers
		s.state = inPart
		return true
	}
	i := bytes.Index(s.held, []byte("\r\n\r\n"))
	if i < 0 {
		return s.giveUp(len(s.held) > maxPartHead)
	}
	s.name = partName(string(s.held[:i]))
	s.drop(i + 4)
	s.state = inPart
	return true
}

func (s *formScanner) giveUp(is bool) bool {
	if is {
		s.state = afterForm
	}
	return is
}

func (s *formScanner) drop(n int) { s.held = s.held[:copy(s.held, s.held[n:])] }

// partName returns the name of a field that is no file.
func partName(head string) string {
	for line := range strings.SplitSeq(head, "\r\n") {
		key, value, _ := strings.Cut(line, ":")
		if textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(key)) != "Content-Disposition" {
			continue
		}
		_, params, err := mime.ParseMediaType(value)
		if err != nil || params["filename"] != "" {
			return ""
		}
		return params["name"]
	}
	return ""
}
