package meter

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"iter"

	"github.com/acf68eca/usage"
)

// BatchLine is one line of a batch's output or error file.
type BatchLine struct {
	// Line is its number, from 1.
	Line int
	// CustomID is what the host named the request.
	CustomID string
	// Call is what is to be logged, with Batch set. Its ID is that of the response, else of the request, else of the line.
	// The host adds the tenant, and the Model of its request where it is empty, as it is of pictures. A request that failed
	// or expired has an Error and no quantities, and costs nothing.
	Call usage.OpenAICall
}

// ParseBatch yields the lines of a batch's output file (GET /v1/files/{id}/content): each is a response of its own, at
// the batch's price. A response that used a tool with a model of its own, which it does not name, is yielded twice, with
// a call of an unknown usage for the tool. A line may be of any length and is not held. Empty lines are passed over. An
// error that wraps ErrMalformed is of one line, whose number the BatchLine has, and the next ones follow; one of reading
// ends the sequence.
func ParseBatch(file io.Reader) iter.Seq2[BatchLine, error] {
	return func(yield func(BatchLine, error) bool) {
		b := batchReader{yield: yield}
		b.start()
		buf := make([]byte, 32<<10)
		for !b.stopped {
			n, err := file.Read(buf)
			b.write(buf[:n])
			switch {
			case b.stopped:
			case err == io.EOF:
				b.endLine()
				return
			case err != nil:
				yield(BatchLine{Line: b.number}, fmt.Errorf("meter: read the batch: %w", err))
				return
			}
		}
	}
}

// batchReader reads lines in pieces.
type batchReader struct {
	yield   func(BatchLine, error) bool
	stopped bool
	number  int
	blank   bool
	line    batchLine
	json    *jsonScanner
}

// batchLine is what has been found of a line: the response in it, and what stands around it.
type batchLine struct {
	openAIReading
	id, customID, requestID, errorCode string
	status                             int64
	isObject, hasError, hasResponse    bool
	fault                              error
}

func (l *batchLine) found(f field, k kind, value []byte) {
	if f < fLine || f > fLineErrorCode {
		l.openAIReading.found(f, k, value)
		return
	}
	switch {
	case f == fLine && k == object:
		l.isObject = true
	case f == fLineError && (k == object || k == text): // null is none
		l.hasError = true
	case f == fLineResponse && k == object:
		l.hasResponse = true
	}
	if k != text && k != literal || k == literal && string(value) == "null" {
		return
	}
	switch f {
	case fCustomID:
		l.customID = string(value)
	case fLineID:
		l.id = string(value)
	case fRequestID:
		l.requestID = string(value)
	case fLineErrorCode:
		if l.errorCode = word(string(value)); l.errorCode == "" {
			l.errorCode = unnamedError
		}
	case fLineStatus:
		l.status, l.fault = parseCount(value)
	}
}

func (b *batchReader) start() {
	b.line, b.blank = batchLine{}, true
	b.json = newDocumentScanner(batchTree, &b.line)
	b.number++
}

func (b *batchReader) write(p []byte) {
	for len(p) > 0 && !b.stopped {
		end := bytes.IndexByte(p, '\n')
		line := p
		if end >= 0 {
			line = p[:end]
		}
		b.blank = b.blank && len(bytes.TrimSpace(line)) == 0
		b.json.write(line)
		if end < 0 {
			return
		}
		b.endLine()
		p = p[end+1:]
	}
}

func (b *batchReader) endLine() {
	if !b.blank {
		call, err := b.line.call(b.json.docs > 0)
		b.stopped = !b.yield(BatchLine{Line: b.number, CustomID: b.line.customID, Call: call}, err)
		if tool, ok := b.line.toolCall(call); ok && err == nil && !b.stopped {
			b.stopped = !b.yield(BatchLine{Line: b.number, CustomID: b.line.customID, Call: tool}, nil)
		}
	}
	b.start()
}

// call makes the call of a line that is complete.
func (l *batchLine) call(whole bool) (usage.OpenAICall, error) {
	if !whole || !l.isObject || l.fault != nil || l.status != 0 && (l.status < 100 || l.status > 599) {
		return usage.OpenAICall{}, fmt.Errorf("%w: not a line of a batch", ErrMalformed)
	}
	call := usage.OpenAICall{
		Model: cleaned(l.model, maxName), ServiceTier: condition(l.tier), Status: int(l.status), Error: cmp.Or(l.lineError(), l.failure()), Batch: true,
	}
	for _, id := range []string{l.openAIReading.id, l.requestID, l.id} {
		if call.ID = cleaned(id, maxName); call.ID != "" {
			break
		}
	}
	switch fault := l.invalid(); {
	case l.used && fault != "":
		call.UsageUnknown = UsageInvalid + ": " + fault
	case l.used:
		l.fill(&call, l.endpoint())
	case l.lineError() == "" && call.Status < 400:
		call.UsageUnknown = UsageMissing
	}
	return call, nil
}

// unnamedError is the error of a line that failed and does not say by what.
const unnamedError = "unknown_error"

// lineError is the code of what kept the line's request from being answered, "" when nothing did. A line may have an error
// of nulls beside its response.
func (l *batchLine) lineError() string {
	if l.errorCode == "" && l.hasError && !l.hasResponse {
		return unnamedError
	}
	return l.errorCode
}

// endpoint is what the line's request asked for, as far as the tokens of the response depend on it: only those of
// pictures have a list of data and an output.
func (l *batchLine) endpoint() endpoint {
	if l.images > 0 && l.last.usage.output > 0 {
		return images
	}
	return responses
}
