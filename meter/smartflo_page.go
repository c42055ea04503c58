package meter

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
)

// ParseSmartfloPage yields the call records of a page, as GET /v1/call/records answers it. It holds one record at a time.
// The error wraps ErrMalformed, or is that of reading. That of one record, which is none, does not end the sequence; that of
// the page does.
func ParseSmartfloPage(page io.Reader) iter.Seq2[SmartfloEvent, error] {
	return func(yield func(SmartfloEvent, error) bool) {
		ration := &rationed{r: page, left: maxRecord}
		d := json.NewDecoder(ration)
		d.UseNumber()
		if err := enterResults(d); err != nil {
			yield(SmartfloEvent{}, err)
			return
		}
		for d.More() {
			ration.left = maxRecord
			var raw json.RawMessage
			if err := d.Decode(&raw); err != nil {
				yield(SmartfloEvent{}, pageError(err))
				return
			}
			if !yield(pageRecord(raw)) {
				return
			}
		}
		if _, err := d.Token(); err != nil {
			yield(SmartfloEvent{}, pageError(err))
		}
	}
}

// recordError is what is wrong with one record of a page.
type recordError struct{ err error }

func (e *recordError) Error() string { return e.err.Error() }
func (e *recordError) Unwrap() error { return e.err }

func pageRecord(raw json.RawMessage) (SmartfloEvent, error) {
	var members map[string]any
	err := decodeExactly(raw, &members)
	var event SmartfloEvent
	if err == nil {
		event, err = smartfloMembers(members)
	}
	if err != nil {
		return SmartfloEvent{}, &recordError{err}
	}
	event.record = true
	return event, nil
}

// enterResults reads up to the first record.
func enterResults(d *json.Decoder) error {
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return pageError(err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return pageError(err)
		}
		if name != "results" {
			var other any
			if err := d.Decode(&other); err != nil {
				return pageError(err)
			}
			continue
		}
		if token, err := d.Token(); err != nil || token != json.Delim('[') {
			return pageError(err)
		}
		return nil
	}
	return fmt.Errorf("%w: the page has no results", ErrMalformed)
}

// pageError hides what a fault of JSON quotes of the page, and keeps what a reader says.
func pageError(err error) error {
	var syntax *json.SyntaxError
	var types *json.UnmarshalTypeError
	switch {
	case err == nil, errors.As(err, &syntax), errors.As(err, &types):
		return fmt.Errorf("%w: not a page of call records", ErrMalformed)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: the page was cut: %w", ErrMalformed, io.ErrUnexpectedEOF)
	}
	if errors.Is(err, ErrMalformed) {
		return err
	}
	return fmt.Errorf("meter: read the page: %w", err)
}

// maxRecord bounds how much is read for one record.
const maxRecord = 4 << 20

// rationed is a reader that has a record's length at most to give.
type rationed struct {
	r    io.Reader
	left int
}

func (r *rationed) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, fmt.Errorf("%w: a record is longer than %d bytes", ErrMalformed, maxRecord)
	}
	n, err := r.r.Read(p[:min(len(p), r.left)])
	r.left -= n
	return n, err
}
