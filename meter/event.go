package meter

import "bytes"

// eventDecoder reads events line by line, in pieces of any size, and decodes their data as JSON. The data of several
// lines is one text. Data that is no JSON, and lines of other fields, are passed over.
type eventDecoder struct {
	reading *openAIReading
	json    jsonScanner

	line    lineState
	matched int  // how much of "data:" the line has begun with
	blank   bool // the line has had nothing so far, or only a carriage return
	// returned says that the line began with a carriage return, where a piece ended.
	returned bool
	// head is the beginning of the line's data, by which the end mark is known, and length all of it.
	head   [len(doneMark) + 1]byte
	length int
	done   bool // the end mark was there
}

type lineState uint8

const (
	inField   lineState = iota // the name is still being read
	afterName                  // a space may come before the data
	inData
	inOther // a comment or a field that is not data
)

const (
	dataField = "data:"
	doneMark  = "[DONE]"
)

func newEventDecoder(r *openAIReading) eventDecoder {
	return eventDecoder{reading: r, json: jsonScanner{root: openAITree, sink: r}, blank: true}
}

// begin is called before the first byte of an event.
func (d *eventDecoder) begin() {
	d.json.reset()
	d.reading.begin()
	d.startLine()
}

func (d *eventDecoder) startLine() {
	d.line, d.matched, d.blank, d.returned, d.length = inField, 0, true, false, 0
}

// write reads on to the end of the event, and returns how far that was and whether it has ended.
func (d *eventDecoder) write(p []byte) (n int, ended bool) {
	for n < len(p) {
		line := p[n:]
		end := bytes.IndexByte(line, '\n')
		if end >= 0 {
			line = line[:end]
		}
		d.part(line)
		if n += len(line); end < 0 {
			return n, false
		}
		n++
		if d.blank {
			return n, true
		}
		d.endLine()
	}
	return n, false
}

// part reads a part of a line, without its line feed. A line of nothing but a carriage return is blank.
func (d *eventDecoder) part(p []byte) {
	if len(p) == 0 {
		return
	}
	if d.blank && !d.returned && len(p) == 1 && p[0] == '\r' {
		d.returned = true
		return
	}
	if d.blank = false; d.returned {
		d.line = inOther
	}
	for d.line == inField && len(p) > 0 {
		if p[0] != dataField[d.matched] {
			d.line = inOther
			break
		}
		p = p[1:]
		if d.matched++; d.matched == len(dataField) {
			d.line = afterName
		}
	}
	if d.line == afterName && len(p) > 0 {
		d.line = inData
		if p[0] == ' ' {
			p = p[1:]
		}
	}
	if d.line == inData && len(p) > 0 {
		d.data(p)
	}
}

func (d *eventDecoder) data(p []byte) {
	if d.length < len(d.head) {
		copy(d.head[d.length:], p)
	}
	d.length += len(p)
	d.json.write(p)
}

func (d *eventDecoder) endLine() {
	if d.line == inData || d.line == afterName {
		mark := d.head[:min(d.length, len(d.head))]
		d.done = d.done || string(bytes.TrimSuffix(mark, []byte{'\r'})) == doneMark
		d.json.write([]byte{'\n'})
	}
	d.startLine()
}

// end is called after the last byte of an event.
func (d *eventDecoder) end() { d.json.reset() }
