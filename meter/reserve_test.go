package meter_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/meter"
)

// audioForm is a form with a file of some size.
func audioForm(size int, fields ...string) (contentType, body string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part, _ := w.CreateFormFile("file", "audio.mp3")
	_, _ = part.Write(make([]byte, size))
	for i := 0; i < len(fields); i += 2 {
		_ = w.WriteField(fields[i], fields[i+1])
	}
	_ = w.Close()
	return w.FormDataContentType(), b.String()
}

// reserving is a rig whose calls are reserved, and what the last of them asked for.
func reserving(t *testing.T, tracking usage.Config, provider answer) (r *rig, asked *usage.Estimate) {
	t.Helper()
	asked = new(usage.Estimate)
	r = newRig(t, meter.Config{}, provider)
	r.tracker, r.records = newTracker(t, tracking)
	base := roundTripper(func(req *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		r.asked, r.bodies = append(r.asked, req), append(r.bodies, string(body))
		return provider(req)
	})
	var err error
	r.transport, err = meter.NewTransport(r.tracker, meter.Config{
		TenantID: "acme", Reserve: true, Base: base, Logger: slog.New(slog.DiscardHandler), AskForUsage: true,
		Estimate: func(_ *http.Request, e usage.Estimate) usage.Estimate {
			*asked = e
			return e
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, asked
}

// send posts a body with headers, of which nothing is known but its bytes when length is negative.
func (r *rig) send(url, body string, length int64, headers ...string) error {
	r.t.Helper()
	req, _ := http.NewRequestWithContext(r.t.Context(), http.MethodPost, url, strings.NewReader(body))
	if length < 0 {
		req.ContentLength, req.GetBody = length, nil
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := r.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	r.flush()
	return nil
}

const (
	transcribeURL = "https://api.openai.com/v1/audio/transcriptions"
	elevenURL     = "https://api.elevenlabs.io/v1"
)

// Audio is held for at its lowest bit rate, by the meter that its model is charged by.
func TestReserveHoldsForAudio(t *testing.T) {
	t.Parallel()
	const size = 750_000
	for _, tt := range []struct {
		url    string
		fields []string
		want   usage.Estimate
	}{
		{transcribeURL, []string{"model", "whisper-1"}, usage.Estimate{Provider: "openai", Model: "whisper-1", Audio: 1001 * time.Second}},
		{transcribeURL, []string{"model", "gpt-4o-transcribe"}, usage.Estimate{
			Provider: "openai", Model: "gpt-4o-transcribe", OutputTokens: 16_384, Quantities: usage.Quantities{usage.InputAudioTokens: 20_020},
		}},
		{elevenURL + "/speech-to-text", []string{"model_id", "scribe_v2"}, usage.Estimate{Provider: "elevenlabs", Model: "scribe_v2", Audio: 1001 * time.Second}},
		{elevenURL + "/speech-to-speech/v", nil, usage.Estimate{Provider: "elevenlabs", Model: "voice_changer", Audio: 1001 * time.Second}},
		{elevenURL + "/dubbing", []string{"watermark", "true"}, usage.Estimate{
			Provider: "elevenlabs", Model: "dubbing_v1", Audio: 1001 * time.Second, Conditions: usage.Conditions{usage.Watermark: "true"},
		}},
	} {
		r, asked := reserving(t, usage.Config{}, replies(200, jsonType, `{"usage":{"type":"duration","seconds":60}}`))
		limit(t, r, usage.Cost, "1000")
		contentType, body := audioForm(size, tt.fields...)
		if err := r.send(tt.url, body, 0, "Content-Type", contentType); err != nil {
			t.Error(err)
		}
		tt.want.TenantID, tt.want.Owner = "acme", "meter"
		if diff := gocmp.Diff(tt.want, *asked); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.url, diff)
		}
		if rec := r.one(); rec.Settlement != usage.Settled || r.bodies[0] != body {
			t.Errorf("recorded %+v", rec)
		}
		wantHeld(t, r, "0")
	}
}

func TestReserveRefusesATranscriptionThatMayPassTheLimit(t *testing.T) {
	t.Parallel()
	r, _ := reserving(t, usage.Config{}, replies(200, jsonType, `{}`))
	limit(t, r, usage.Cost, "0.01")
	for _, model := range []string{"whisper-1", "gpt-4o-transcribe"} {
		contentType, body := audioForm(750_000, "model", model)
		if err := r.send(transcribeURL, body, 0, "Content-Type", contentType); !errors.As(err, new(*usage.QuotaError)) {
			t.Errorf("%s: error %v", model, err)
		}
	}
	if len(r.asked) != 0 {
		t.Error("a call was made")
	}
}

// A call of which nobody can say what it may use is refused where a hard limit on cost applies, unless the tracker allows
// what has no price.
func TestReserveTreatsWhatItCannotMeasureAsTheTrackerSays(t *testing.T) {
	t.Parallel()
	form, elsewhere := audioForm(0, "model", "whisper-1", "url", "https://example.com/a.mp3")
	for name, send := range map[string]func(*rig) error{
		"audio that is elsewhere": func(r *rig) error { return r.send(transcribeURL, elsewhere, 0, "Content-Type", form) },
		"a model without a price": func(r *rig) error {
			contentType, body := audioForm(9, "model", "nobody-knows")
			return r.send(transcribeURL, body, 0, "Content-Type", contentType)
		},
		"an encoding that cannot be read": func(r *rig) error {
			return r.send("https://acme.openai.azure.com/openai/deployments/gpt-4o/chat/completions", chatRequest, 0, "Content-Type", jsonType, "Content-Encoding", "br")
		},
		"gzip that is none": func(r *rig) error {
			return r.send("https://acme.openai.azure.com/openai/deployments/gpt-4o/chat/completions", chatRequest, 0, "Content-Type", jsonType, "Content-Encoding", "gzip")
		},
		"a length that is not known": func(r *rig) error {
			return r.send(chatURL, `{"model":"gpt-4o","max_tokens":1,"messages":"`+strings.Repeat("x", 2<<20)+`"}`, -1, "Content-Type", jsonType)
		},
		"an endpoint that nobody knows": func(r *rig) error { return r.send("https://api.openai.com/v1/videos", `{"model":"sora-2"}`, 0) },
		"music of any length":           func(r *rig) error { return r.send(elevenURL+"/music", `{"prompt":"x"}`, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _ := reserving(t, usage.Config{}, replies(200, jsonType, chatAnswer))
			limit(t, r, usage.Cost, "1000")
			if err := send(r); !errors.As(err, new(*usage.UnpricedError)) || len(r.asked) != 0 {
				t.Errorf("error %v, %d calls", err, len(r.asked))
			}
			allowing, _ := reserving(t, usage.Config{AllowUnpriced: true}, replies(200, jsonType, chatAnswer))
			limit(t, allowing, usage.Cost, "1000")
			if err := send(allowing); err != nil || len(allowing.asked) != 1 {
				t.Errorf("error %v, %d calls", err, len(allowing.asked))
			}
			unlimited, _ := reserving(t, usage.Config{}, replies(200, jsonType, chatAnswer))
			if err := send(unlimited); err != nil || len(unlimited.asked) != 1 {
				t.Errorf("error %v, %d calls", err, len(unlimited.asked))
			}
		})
	}
}

// A request in gzip is read for what it asks, and sent as it is: nothing is put into it.
func TestAGzipRequestIsRead(t *testing.T) {
	t.Parallel()
	const plain = `{"model":"gpt-4o","stream":true,"max_tokens":50,"messages":[]}`
	body := zipped(t, plain)
	for _, length := range []int64{0, -1} {
		r, asked := reserving(t, usage.Config{}, replies(200, eventStream, streamUsage+streamDone))
		limit(t, r, usage.Cost, "1000")
		if err := r.send(chatURL, body, length, "Content-Type", jsonType, "Content-Encoding", "GZIP"); err != nil {
			t.Fatal(err)
		}
		want := usage.Estimate{TenantID: "acme", Owner: "meter", Provider: "openai", Model: "gpt-4o", InputTokens: int64(len(plain)), OutputTokens: 50}
		if diff := gocmp.Diff(want, *asked); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if rec := r.one(); r.bodies[0] != body || rec.Settlement != usage.Settled {
			t.Errorf("sent %q, recorded %+v", r.bodies[0], rec)
		}
	}
	speech := newRig(t, meter.Config{}, replies(200, "audio/mpeg", "ID3"))
	if err := speech.send("https://api.openai.com/v1/audio/speech", zipped(t, `{"model":"tts-1","input":"hello"}`), 0, "Content-Type", jsonType, "Content-Encoding", "gzip"); err != nil {
		t.Fatal(err)
	}
	if rec := speech.one(); len(rec.Lines) != 1 || rec.Lines[0].Quantity != 5 {
		t.Errorf("recorded %+v", rec)
	}
}

// Few bytes of gzip may be gigabytes of a request.
func TestTheRequestLimitBoundsWhatIsDecoded(t *testing.T) {
	t.Parallel()
	r := newRig(t, meter.Config{RequestLimit: 1000}, replies(200, "audio/mpeg", "ID3"))
	body := zipped(t, `{"model":"tts-1","input":"`+strings.Repeat("x", 1<<20)+`"}`)
	if err := r.send("https://api.openai.com/v1/audio/speech", body, 0, "Content-Type", jsonType, "Content-Encoding", "gzip"); err != nil {
		t.Fatal(err)
	}
	if rec := r.one(); rec.Unpriced != meter.UsageRequestUnread {
		t.Errorf("recorded %+v", rec)
	}
}
