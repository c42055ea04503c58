package meter_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/meter"
)

// A body that is held and does not come does not hold its call up beyond its context.
func TestAHeldBodyEndsWithTheContext(t *testing.T) {
	t.Parallel()
	for _, cfg := range []meter.Config{{Reserve: true}, {AskForUsage: true}} {
		r := newRig(t, cfg, replies(200, jsonType, chatAnswer))
		ctx, cancel := context.WithCancel(t.Context())
		body, writer := io.Pipe()
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, chatURL, body)
		req.Header.Set("Content-Type", jsonType)
		done := make(chan error)
		go func() {
			res, err := r.transport.RoundTrip(req)
			if err == nil {
				res.Body.Close()
			}
			done <- err
		}()
		if _, err := writer.Write([]byte(`{"model":`)); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if r.flush(); r.calls() != 0 || len(r.records()) != 0 {
			t.Errorf("%d calls, %d records", r.calls(), len(r.records()))
		}
	}
}

// endless is a copy of a body that writes itself for as long as it may.
type endless struct{ written int64 }

func (e *endless) Read([]byte) (int, error) { return 0, io.EOF }
func (e *endless) Close() error             { return nil }

func (e *endless) WriteTo(w io.Writer) (int64, error) {
	for piece := make([]byte, 1024); ; {
		n, err := w.Write(piece)
		if e.written += int64(n); err != nil {
			return e.written, err
		}
	}
}

func TestTheRequestLimitBoundsABodyThatWritesItself(t *testing.T) {
	t.Parallel()
	var asked usage.Estimate
	r := newRig(t, meter.Config{RequestLimit: 2000, Reserve: true, Estimate: func(_ *http.Request, e usage.Estimate) usage.Estimate {
		asked = e
		return e
	}}, replies(200, jsonType, chatAnswer))
	body := new(endless)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, chatURL, strings.NewReader(chatRequest))
	req.GetBody = func() (io.ReadCloser, error) { return body, nil }
	res, err := r.transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if body.written > 4096 || asked.InputTokens < 2000 {
		t.Errorf("read %d bytes, asked for %+v", body.written, asked)
	}
	r.flush()
}

// Credits that are not whole, or cannot be read, do not take away the characters that were counted.
func TestCreditsDoNotTakeAwayWhatIsCounted(t *testing.T) {
	t.Parallel()
	for cost, want := range map[string]int64{"12.5": 13, "abc": 0, "-1": 0, "0": 0, "13": 13} {
		r := newRig(t, meter.Config{}, replies(200, "audio/mpeg", "ID3", "Character-Cost", cost))
		r.exchange("https://api.elevenlabs.io/v1/text-to-speech/v", `{"text":"hello","model_id":"eleven_flash_v2_5"}`)
		rec := r.one()
		if len(rec.Lines) != 1 || rec.Lines[0].Quantity != 5 || rec.Unbilled[usage.Credits] != want || rec.Unpriced != "" {
			t.Errorf("%s credits: recorded %+v", cost, rec)
		}
	}
}
