package meter

import (
	"bytes"
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
	// The host adds the tenant. A request that failed or expired has an Error and no quantities, and costs nothing.
	Call usage.OpenAICall
}

// ParseBatch yields the lines of a batch's output file (GET /v1/files/{id}/content): each is a response of its own, at
// the batch's price. A line may be of any length and is not held. Empty lines are passed over. An error that wraps
// ErrMalformed is of one line, whose number the BatchLine has, and the next ones follow; one of reading ends the sequence.
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
	isObject                           bool
	fault                              error
}

func (l *batchLine) found(f field, k kind, value []byte) {
	if f < fLine || f > fLineErrorCode {
		l.openAIReading.found(f, k, value)
		return
	}
	if f == fLine && k == object {
		l.isObject = true
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
		l.errorCode = word(string(value))
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
	}
	b.start()
}

// call makes the call of a line that is complete.
func (l *batchLine) call(whole bool) (usage.OpenAICall, error) {
	if !whole || !l.isObject || l.fault != nil || l.status != 0 && (l.status < 100 || l.status > 599) {
		return usage.OpenAICall{}, fmt.Errorf("%w: not a line of a batch", ErrMalformed)
	}
	o := observation{provider: usage.OpenAI, endpoint: responses, openAI: l.openAIReading, status: int(l.status)}
	o.body.kind = document
	call := usage.OpenAICall{Model: o.openAIModel(), ServiceTier: condition(l.tier), Status: o.status, Batch: true}
	for _, id := range []string{l.openAIReading.id, l.requestID, l.id} {
		if call.ID = cleaned(id, maxName); call.ID != "" {
			break
		}
	}
	switch fault := l.invalid(); {
	case l.errorCode != "" || o.status >= 400:
		call.Error = l.errorCode
		if call.Error == "" {
			call.Error = l.failure()
		}
	case !l.used:
		call.UsageUnknown = UsageMissing
	case fault != "":
		call.UsageUnknown = UsageInvalid + ": " + fault
	default:
		l.fill(&call, o.endpoint)
	}
	return call, nil
}

// ParseRealtime reads a server event of the Realtime API, which comes over a websocket that passes the Transport
// untouched. ok is false for all events but response.done, the one that has the usage. The event names no model: model is
// the session's. The host adds the tenant.
func ParseRealtime(model string, event []byte) (call usage.OpenAICall, ok bool) {
	var r openAIReading
	s := newDocumentScanner(openAITree, &r)
	s.write(event)
	if s.docs == 0 || r.event != "response.done" {
		return usage.OpenAICall{}, false
	}
	if r.model != "" {
		model = r.model
	}
	call = usage.OpenAICall{ID: cleaned(r.id, maxName), Model: cleaned(model, maxName), Endpoint: "/v1/realtime"}
	switch fault := r.invalid(); {
	case !r.used:
		call.UsageUnknown = UsageMissing
	case fault != "":
		call.UsageUnknown = UsageInvalid + ": " + fault
	default:
		r.fill(&call, realtime)
	}
	return call, true
}
