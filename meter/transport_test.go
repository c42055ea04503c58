package meter_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/meter"
)

const (
	secretKey    = "sk-proj-THISKEYISSECRET0123456789"
	secretPrompt = "THISPROMPTISSECRET"
	secretAnswer = "THISANSWERISSECRET"
)

// rig is a transport on a ledger of its own, with a provider that a test plays.
type rig struct {
	t         *testing.T
	tracker   *usage.Tracker
	transport *meter.Transport
	records   func() []usage.Record
	logged    *lockedBuffer

	mu     sync.Mutex
	failed []*meter.LogError
	asked  []*http.Request
	bodies []string
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// answer is how a test's provider answers.
type answer func(*http.Request) (*http.Response, error)

func newRig(t *testing.T, cfg meter.Config, provider answer) *rig {
	t.Helper()
	r := &rig{t: t, logged: new(lockedBuffer)}
	r.tracker, r.records = newTracker(t, usage.Config{})
	if cfg.TenantID == "" {
		cfg.TenantID = "acme"
	}
	cfg.Base = roundTripper(func(req *http.Request) (*http.Response, error) {
		var body []byte
		if req.Body != nil {
			var err error
			if body, err = io.ReadAll(req.Body); err != nil {
				return nil, err
			}
			req.Body.Close()
		}
		r.mu.Lock()
		r.asked, r.bodies = append(r.asked, req), append(r.bodies, string(body))
		r.mu.Unlock()
		return provider(req)
	})
	cfg.Logger = slog.New(slog.NewTextHandler(r.logged, nil))
	if cfg.OnError == nil {
		cfg.OnError = func(e *meter.LogError) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.failed = append(r.failed, e)
		}
	}
	var err error
	if r.transport, err = meter.NewTransport(r.tracker, cfg); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) flush() {
	r.t.Helper()
	if err := r.transport.Flush(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// one wants the ledger to have one record, when all is written.
func (r *rig) one() usage.Record {
	r.t.Helper()
	r.flush()
	all := r.records()
	if len(all) != 1 {
		r.t.Fatalf("%d records: %+v\nerrors: %v\nlog: %s", len(all), all, r.failed, r.logged)
	}
	return all[0]
}

func (r *rig) calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asked)
}

func (r *rig) post(ctx context.Context, url, body string) (*http.Response, error) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+secretKey)
	return (&http.Client{Transport: r.transport}).Do(req)
}

// exchange posts and reads the answer to its end.
func (r *rig) exchange(url, body string) (response string) {
	r.t.Helper()
	res, err := r.post(r.t.Context(), url, body)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// replies answers with a status, a content type and a body.
func replies(status int, contentType, body string, headers ...string) answer {
	return func(req *http.Request) (*http.Response, error) {
		header := http.Header{"Content-Type": {contentType}}
		for i := 0; i < len(headers); i += 2 {
			header.Set(headers[i], headers[i+1])
		}
		return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
	}
}

const (
	chatURL     = "https://api.openai.com/v1/chat/completions"
	chatRequest = `{"model":"gpt-4o","messages":[{"role":"user","content":"` + secretPrompt + `"}]}`
	chatAnswer  = `{"id":"chatcmpl-1","model":"gpt-4o-2024-08-06","choices":[{"message":{"content":"` + secretAnswer +
		`"}}],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29},"service_tier":"default"}`

	streamRequest = `{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"` + secretPrompt + `"}]}`
	streamChunk   = `data: {"id":"chatcmpl-2","model":"gpt-4o-2024-08-06","choices":[{"delta":{"content":"` + secretAnswer + `"}}],"usage":null}` + "\n\n"
	streamUsage   = `data: {"id":"chatcmpl-2","model":"gpt-4o-2024-08-06","choices":[],"usage":{"prompt_tokens":24,"completion_tokens":17,"total_tokens":41}}` + "\n\n"
	streamDone    = "data: [DONE]\n\n"
	eventStream   = "text/event-stream"
	jsonType      = "application/json"
)

func TestACallIsRecordedWithoutALineOfAccounting(t *testing.T) {
	t.Parallel()
	r := newRig(t, meter.Config{}, replies(200, jsonType, chatAnswer, "X-Request-Id", "req_1"))
	if got := r.exchange(chatURL, chatRequest); got != chatAnswer {
		t.Errorf("the host read %q", got)
	}
	rec := r.one()
	if rec.ID != "chatcmpl-1" || rec.Model != "gpt-4o-2024-08-06" || rec.Cost.String() != "0.0001475" || rec.Status != 200 ||
		rec.Endpoint != "/v1/chat/completions" || rec.Tags[meter.TagRequestID] != "req_1" || rec.Latency <= 0 {
		t.Errorf("recorded %+v", rec)
	}
	if r.bodies[0] != chatRequest || r.asked[0].ContentLength != int64(len(chatRequest)) {
		t.Errorf("sent %d bytes: %s", r.asked[0].ContentLength, r.bodies[0])
	}
}

func TestTheTenant(t *testing.T) {
	t.Parallel()
	ok := replies(200, jsonType, chatAnswer)
	tenants := func(r *rig) (ids []string) {
		r.flush()
		for tenant, err := range r.tracker.Tenants(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, tenant.ID)
		}
		return ids
	}
	t.Run("of the context stands above the configured one", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, meter.Config{}, ok)
		res, err := r.post(usage.WithTenant(t.Context(), "globex"), chatURL, chatRequest)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if diff := gocmp.Diff([]string{"globex"}, tenants(r)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("missing refuses the call, which is not made", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, meter.Config{TenantID: "acme"}, ok)
		bare, err := meter.NewTransport(r.tracker, meter.Config{Base: roundTripper(func(*http.Request) (*http.Response, error) {
			t.Error("the call was made")
			return nil, errors.ErrUnsupported
		})})
		if err != nil {
			t.Fatal(err)
		}
		for _, ctx := range []context.Context{t.Context(), usage.WithTenant(t.Context(), "a\nb"), usage.WithTenant(t.Context(), strings.Repeat("x", 256))} {
			body := &closing{Reader: strings.NewReader(chatRequest)}
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, chatURL, body)
			res, err := bare.RoundTrip(req)
			if err == nil {
				res.Body.Close()
			}
			if !errors.Is(err, meter.ErrNoTenant) || !body.closed {
				t.Errorf("error %v, body closed %t", err, body.closed)
			}
		}
	})
	t.Run("missing counts under the fallback and is logged", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, meter.Config{TenantID: "acme"}, ok)
		logged := new(lockedBuffer)
		var err error
		r.transport, err = meter.NewTransport(r.tracker, meter.Config{
			FallbackTenantID: "nobody", Base: roundTripper(ok), Logger: slog.New(slog.NewTextHandler(logged, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		r.exchange(chatURL, chatRequest)
		if diff := gocmp.Diff([]string{"nobody"}, tenants(r)); diff != "" {
			t.Error(diff)
		}
		if !strings.Contains(logged.String(), "without a tenant") {
			t.Errorf("logged %q", logged)
		}
	})
}

type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

func limit(t *testing.T, r *rig, m usage.Meter, n string) {
	t.Helper()
	limit := usage.Limit{Meter: m, Max: decimal.RequireFromString(n)}
	if err := r.tracker.SetQuota(t.Context(), usage.Quota{TenantID: "acme", Limits: []usage.Limit{limit}}); err != nil {
		t.Fatal(err)
	}
}

func TestReserve(t *testing.T) {
	t.Parallel()
	t.Run("refuses with a QuotaError and makes no call", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, meter.Config{Reserve: true}, replies(200, jsonType, chatAnswer))
		limit(t, r, usage.Tokens, "10")
		_, err := r.post(t.Context(), chatURL, chatRequest)
		var quota *usage.QuotaError
		if !errors.As(err, &quota) || quota.TenantID != "acme" {
			t.Fatalf("error %v", err)
		}
		if r.flush(); r.calls() != 0 || len(r.records()) != 0 {
			t.Errorf("%d calls, %d records", r.calls(), len(r.records()))
		}
	})
	t.Run("is settled by the record", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, meter.Config{Reserve: true}, replies(200, jsonType, chatAnswer))
		limit(t, r, usage.Cost, "1")
		r.exchange(chatURL, chatRequest)
		if rec := r.one(); rec.Settlement != usage.Settled || rec.ReservationID == "" {
			t.Errorf("settlement %q", rec.Settlement)
		}
		wantHeld(t, r, "0")
	})
	t.Run("asks for the prompt, the maximum output and each choice", func(t *testing.T) {
		t.Parallel()
		var asked usage.Estimate
		r := newRig(t, meter.Config{Reserve: true, Estimate: func(_ *http.Request, e usage.Estimate) usage.Estimate {
			asked = e
			return e
		}}, replies(200, jsonType, chatAnswer))
		body := `{"model":"gpt-4o","max_completion_tokens":50,"n":2,"service_tier":"flex","messages":[{"content":[{"image_url":{"url":"data:image/png;base64,AAAA"}}]}]}`
		r.exchange(chatURL, body)
		want := usage.Estimate{
			TenantID: "acme", Provider: "openai", Model: "gpt-4o", ServiceTier: "flex", Owner: "meter",
			InputTokens: int64(len(body) - len(`data:image/png;base64,AAAA"`)), OutputTokens: 100,
		}
		if diff := gocmp.Diff(want, asked); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("of speech asks for its characters", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, meter.Config{Reserve: true}, replies(200, "audio/mpeg", "ID3"))
		limit(t, r, usage.Characters, "9")
		_, err := r.post(t.Context(), "https://api.openai.com/v1/audio/speech", `{"model":"tts-1","input":"0123456789"}`)
		if !errors.Is(err, usage.ErrQuotaExceeded) {
			t.Errorf("error %v", err)
		}
		_, err = r.post(t.Context(), "https://api.elevenlabs.io/v1/text-to-speech/v", `{"model_id":"eleven_v3","text":"0123456789"}`)
		if !errors.Is(err, usage.ErrQuotaExceeded) {
			t.Errorf("error %v", err)
		}
		r.exchange("https://api.elevenlabs.io/v1/text-to-speech/v", `{"model_id":"eleven_v3","text":"012345678"}`)
		if rec := r.one(); rec.Settlement != usage.Settled {
			t.Errorf("settlement %q", rec.Settlement)
		}
	})
	t.Run("is given back when the provider only redirects", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, meter.Config{Reserve: true}, replies(304, jsonType, ""))
		limit(t, r, usage.Cost, "1")
		r.exchange(chatURL, chatRequest)
		if r.flush(); len(r.records()) != 0 {
			t.Error("recorded")
		}
		wantHeld(t, r, "0")
	})
	t.Run("holds a body that cannot be had again until its estimate is known", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, meter.Config{Reserve: true}, replies(200, jsonType, chatAnswer))
		limit(t, r, usage.Tokens, "100000")
		for _, size := range []int{10, 3 << 20} {
			body := `{"model":"gpt-4o","max_tokens":1,"messages":"` + strings.Repeat("x", size) + `"}`
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, chatURL, struct{ io.Reader }{strings.NewReader(body)})
			req.Header.Set("Content-Type", jsonType)
			res, err := r.transport.RoundTrip(req)
			if size > 100 {
				if !errors.Is(err, usage.ErrQuotaExceeded) {
					t.Errorf("error %v", err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if r.bodies[0] != body {
				t.Errorf("sent %.100s", r.bodies[0])
			}
		}
	})
}

func wantHeld(t *testing.T, r *rig, want string) {
	t.Helper()
	month, err := r.tracker.GetCurrentUsage(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range month.Limits {
		if l.Held.String() != want {
			t.Errorf("held %s, want %s", l.Held, want)
		}
	}
}

// piped is a response whose body a test writes as it goes.
func piped(contentType string) (answer, *io.PipeWriter) {
	r, w := io.Pipe()
	return func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {contentType}}, Body: r, Request: req}, nil
	}, w
}

func TestAStreamPassesWithoutDelay(t *testing.T) {
	t.Parallel()
	provider, server := piped(eventStream)
	r := newRig(t, meter.Config{}, provider)
	res, err := r.post(t.Context(), chatURL, streamRequest)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for _, part := range []string{streamChunk[:30], streamChunk[30:], ": keep-alive\n\n", streamUsage, streamDone} {
		go server.Write([]byte(part)) //nolint:errcheck // the reader sees it
		got := make([]byte, len(part))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != part {
			t.Fatalf("read %q, %v", got, err)
		}
	}
	if rec := r.one(); rec.Cost.String() != "0.00023" {
		t.Errorf("recorded %+v", rec)
	}
}

// A stream is recorded when the first of four things happens, and by none of the others again.
func TestAStreamIsRecordedOnce(t *testing.T) {
	t.Parallel()
	type stream struct {
		*rig
		res    *http.Response
		server *io.PipeWriter
		cancel context.CancelFunc
	}
	send := func(s *stream, part string) {
		go s.server.Write([]byte(part)) //nolint:errcheck // the reader sees it
		if _, err := io.ReadFull(s.res.Body, make([]byte, len(part))); err != nil {
			t.Error(err)
		}
	}
	for _, tt := range []struct {
		name  string
		end   func(*stream)
		usage bool
		want  string
	}{
		{"at the end mark, if nobody reads on or closes", func(s *stream) { send(s, streamUsage+streamDone) }, true, ""},
		{"at the end of the body", func(s *stream) {
			send(s, streamUsage)
			s.server.Close()
			_, _ = io.ReadAll(s.res.Body)
		}, true, ""},
		{"when it is closed", func(s *stream) { s.res.Body.Close() }, false, meter.UsageAbandoned},
		{"when it is closed after its usage", func(s *stream) {
			send(s, streamUsage)
			s.res.Body.Close()
		}, true, ""},
		{"when the server breaks off", func(s *stream) {
			s.server.CloseWithError(io.ErrUnexpectedEOF)
			_, _ = io.ReadAll(s.res.Body)
		}, false, meter.UsageCut},
		{"when it ends before its time", func(s *stream) {
			s.server.Close()
			_, _ = io.ReadAll(s.res.Body)
		}, false, meter.UsageCut},
		{"when the context ends, though nobody reads or closes", func(s *stream) { s.cancel() }, false, meter.UsageCancelled},
		{"when the context ends after its usage", func(s *stream) {
			send(s, streamUsage)
			s.cancel()
		}, true, ""},
		{"with its end and without a usage", func(s *stream) { send(s, streamDone) }, false, meter.UsageMissing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			provider, server := piped(eventStream)
			r := newRig(t, meter.Config{}, func(req *http.Request) (*http.Response, error) {
				res, err := provider(req)
				res.Header.Set("X-Request-Id", "req_9")
				return res, err
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			res, err := r.post(ctx, chatURL, streamRequest)
			if err != nil {
				t.Fatal(err)
			}
			s := &stream{r, res, server, cancel}
			send(s, streamChunk)
			tt.end(s)
			waitFor(t, r)
			server.Close()
			res.Body.Close()
			cancel()
			rec := r.one()
			if rec.Unpriced != tt.want || rec.ID != "chatcmpl-2" || rec.Model != "gpt-4o-2024-08-06" || rec.Tags[meter.TagRequestID] != "req_9" {
				t.Errorf("recorded %+v", rec)
			}
			if tt.usage && rec.Cost.String() != "0.00023" {
				t.Errorf("costs %s", rec.Cost)
			}
			if _, seen := rec.Tags[meter.TagBytesSeen]; seen == tt.usage {
				t.Errorf("tags %v", rec.Tags)
			}
		})
	}
}

// waitFor waits until a record has been written that nothing else waits for: the end of a context is told elsewhere.
func waitFor(t *testing.T, r *rig) {
	t.Helper()
	for {
		r.flush()
		if len(r.records()) > 0 || t.Context().Err() != nil {
			return
		}
	}
}

func TestWhatAnUnknownUsageLeavesBehind(t *testing.T) {
	t.Parallel()
	r := newRig(t, meter.Config{}, replies(200, eventStream, streamChunk+streamDone))
	r.exchange(chatURL, streamRequest)
	rec := r.one()
	if len(rec.Lines) != 0 || rec.Unpriced != meter.UsageMissing || rec.Tags[meter.TagBytesSeen] != fmt.Sprint(len(streamChunk)+len(streamDone)) {
		t.Errorf("recorded %+v", rec)
	}
}

func TestAnEstimator(t *testing.T) {
	t.Parallel()
	t.Run("stands in for an unknown usage, and is marked", func(t *testing.T) {
		t.Parallel()
		var saw meter.Unmeasured
		r := newRig(t, meter.Config{Estimator: func(u meter.Unmeasured) (meter.Guess, bool) {
			saw = u
			return meter.Guess{InputTokens: 10, OutputTokens: u.Events}, true
		}}, replies(200, eventStream, streamChunk+streamChunk+streamDone))
		r.exchange(chatURL, streamRequest)
		rec := r.one()
		if rec.Unpriced != "" || rec.Tags[meter.TagEstimated] != meter.UsageMissing || len(rec.Lines) != 2 || rec.Lines[1].Quantity != 3 {
			t.Errorf("recorded %+v", rec)
		}
		want := meter.Unmeasured{
			TenantID: "acme", Provider: "openai", Model: "gpt-4o-2024-08-06", Endpoint: "/v1/chat/completions", Reason: meter.UsageMissing,
			RequestBytes: int64(len(streamRequest)), ResponseBytes: int64(2*len(streamChunk) + len(streamDone)), Events: 3,
		}
		if diff := gocmp.Diff(want, saw); diff != "" {
			t.Error(diff)
		}
	})
	for name, estimator := range map[string]func(meter.Unmeasured) (meter.Guess, bool){
		"that has no guess leaves it unknown":  func(meter.Unmeasured) (meter.Guess, bool) { return meter.Guess{}, false },
		"that panics leaves it unknown":        func(meter.Unmeasured) (meter.Guess, bool) { panic(secretPrompt) },
		"that guesses nonsense leaves it that": func(meter.Unmeasured) (meter.Guess, bool) { return meter.Guess{InputTokens: -1}, true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, meter.Config{Estimator: estimator}, replies(200, eventStream, streamChunk+streamDone))
			r.exchange(chatURL, streamRequest)
			if rec := r.one(); rec.Unpriced == "" || len(rec.Lines) > 0 {
				t.Errorf("recorded %+v", rec)
			}
			if strings.Contains(r.logged.String(), secretPrompt) {
				t.Error("what it panicked with is logged")
			}
		})
	}
	t.Run("is not asked about a usage that is known or a call that failed", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, meter.Config{Estimator: func(meter.Unmeasured) (meter.Guess, bool) {
			t.Error("asked")
			return meter.Guess{}, true
		}}, replies(200, jsonType, chatAnswer))
		r.exchange(chatURL, chatRequest)
		r.flush()
	})
}

func TestAskForUsage(t *testing.T) {
	t.Parallel()
	const ask = `"stream_options":{"include_usage":true}`
	for _, tt := range []struct{ name, url, body, want string }{
		{"adds the option", chatURL, `{ "stream": true}`, `{` + ask + `, "stream": true}`},
		{"adds it to other options", chatURL, `{"stream":true,"stream_options":{"x":{"y":1}}}`, `{"stream":true,"stream_options":{"include_usage":true,"x":{"y":1}}}`},
		{"adds it to no options", chatURL, `{"stream":true,"stream_options":{ }}`, `{"stream":true,"stream_options":{"include_usage":true }}`},
		{"leaves a request that says no", chatURL, `{"stream":true,"stream_options":{"include_usage":false}}`, ""},
		{"leaves options that are null", chatURL, `{"stream":true,"stream_options":null}`, ""},
		{"leaves a request that does not stream", chatURL, `{"stream":false}`, ""},
		{"leaves what is no JSON", chatURL, `{"stream":true,`, ""},
		{"leaves other endpoints", "https://api.openai.com/v1/responses", `{"stream":true}`, ""},
	} {
		for _, again := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, body can be had again %t", tt.name, again), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, meter.Config{AskForUsage: true}, replies(200, eventStream, streamUsage+streamDone))
				var reader io.Reader = strings.NewReader(tt.body)
				if !again {
					reader = struct{ io.Reader }{reader}
				}
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, tt.url, reader)
				req.Header.Set("Content-Type", jsonType)
				before := *req
				res, err := r.transport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				want := tt.want
				if want == "" {
					want = tt.body
				}
				if r.bodies[0] != want {
					t.Errorf("sent %s, want %s", r.bodies[0], want)
				}
				if again {
					if n := r.asked[0].ContentLength; n != int64(len(want)) {
						t.Errorf("content length %d, want %d", n, len(want))
					}
					second, err := r.asked[0].GetBody()
					if err != nil {
						t.Fatal(err)
					}
					if b, err := io.ReadAll(second); err != nil || string(b) != want {
						t.Errorf("sent again as %s, %v", b, err)
					}
				}
				if req.ContentLength != before.ContentLength || req.Body != before.Body || res.Request != req {
					t.Error("the host's request has changed")
				}
			})
		}
	}
}

func TestTheRecordsID(t *testing.T) {
	t.Parallel()
	embeddings := `{"object":"list","data":[{"embedding":[0.1]}],"model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}`
	const url = "https://api.openai.com/v1/embeddings"
	t.Run("is the provider's of the request where the response has none", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, meter.Config{}, replies(200, jsonType, embeddings, "X-Request-Id", "req_7"))
		r.exchange(url, `{"input":"x"}`)
		if rec := r.one(); rec.ID != "req_7" || rec.Tags[meter.TagRequestID] != "" {
			t.Errorf("recorded %+v", rec)
		}
	})
	t.Run("is made for each attempt where there is none", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, meter.Config{}, replies(200, jsonType, embeddings))
		r.exchange(url, `{"input":"x"}`)
		r.exchange(url, `{"input":"x"}`)
		if r.flush(); len(r.records()) != 2 {
			t.Errorf("%d records", len(r.records()))
		}
	})
	t.Run("is no id that a proxy only gives back", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, meter.Config{}, func(req *http.Request) (*http.Response, error) {
			return replies(200, jsonType, embeddings, "X-Request-Id", req.Header.Get("X-Request-Id"))(req)
		})
		for range 2 {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"input":"x"}`))
			req.Header.Set("X-Request-Id", "mine")
			res, err := r.transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.ReadAll(res.Body)
			res.Body.Close()
		}
		if r.flush(); len(r.records()) != 2 {
			t.Errorf("%d records, %v", len(r.records()), r.failed)
		}
	})
	t.Run("counts a response that is sent twice once", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, meter.Config{}, replies(200, jsonType, chatAnswer))
		r.exchange(chatURL, chatRequest)
		r.flush()
		r.exchange(chatURL, chatRequest)
		if rec := r.one(); rec.Cost.String() != "0.0001475" {
			t.Errorf("recorded %+v", rec)
		}
	})
}

func TestFailedAttemptsCostNothing(t *testing.T) {
	t.Parallel()
	attempts := []answer{
		replies(429, jsonType, `{"error":{"message":"`+secretPrompt+`","type":"tokens","code":"rate_limit_exceeded"}}`, "X-Request-Id", "req_1"),
		replies(500, "text/html", `<h1>`+secretPrompt, "X-Request-Id", "req_2"),
		replies(200, jsonType, chatAnswer),
	}
	next := 0
	r := newRig(t, meter.Config{}, func(req *http.Request) (*http.Response, error) {
		next++
		return attempts[next-1](req)
	})
	for range attempts {
		r.exchange(chatURL, chatRequest)
	}
	r.flush()
	month, err := r.tracker.GetCurrentUsage(t.Context(), "acme")
	if err != nil || month.Calls != 3 || month.Errors != 2 || month.Cost.String() != "0.0001475" || month.Unpriced != 0 {
		t.Errorf("%+v, %v", month, err)
	}
	rec, err := r.tracker.Record(t.Context(), "acme", "req_1")
	if err != nil || rec.Error != "rate_limit_exceeded" || rec.Status != 429 {
		t.Errorf("%+v, %v", rec, err)
	}
}

func TestWhatIsNotCharged(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, method, url string }{
		{"a GET of a response", http.MethodGet, "https://api.openai.com/v1/responses/resp_1"},
		{"a GET of an endpoint", http.MethodGet, chatURL},
		{"a HEAD", http.MethodHead, chatURL},
		{"a DELETE", http.MethodDelete, chatURL},
		{"an upload", http.MethodPost, "https://api.openai.com/v1/files"},
		{"a batch", http.MethodPost, "https://api.openai.com/v1/batches"},
		{"a response that is cancelled", http.MethodPost, "https://api.openai.com/v1/responses/resp_1/cancel"},
		{"a run that is cancelled", http.MethodPost, "https://api.openai.com/v1/threads/thread_1/runs/run_1/cancel"},
		{"a new voice", http.MethodPost, "https://api.elevenlabs.io/v1/voices/add"},
		{"a conversation that is read", http.MethodGet, "https://api.elevenlabs.io/v1/convai/conversations/c"},
		{"another host", http.MethodPost, "https://llm.example.com/v1/chat/completions"},
		{"telephony", http.MethodPost, "https://api-smartflo.tatateleservices.com/v1/click_to_call"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, meter.Config{Reserve: true}, replies(200, jsonType, chatAnswer))
			req, _ := http.NewRequestWithContext(t.Context(), tt.method, tt.url, strings.NewReader(chatRequest))
			res, err := r.transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if r.asked[0] != req {
				t.Error("the request is not the host's")
			}
			_, _ = io.ReadAll(res.Body)
			res.Body.Close()
			if r.flush(); len(r.records()) != 0 {
				t.Error("it is recorded")
			}
		})
	}
}

func TestAnEndpointThatNobodyKnowsIsNotLost(t *testing.T) {
	t.Parallel()
	r := newRig(t, meter.Config{}, replies(200, jsonType, `{"id":"video_1","model":"sora-2"}`))
	r.exchange("https://api.openai.com/v1/videos", `{"model":"sora-2"}`)
	if rec := r.one(); rec.Unpriced != meter.UsageUnknownEndpoint || rec.Model != "sora-2" || rec.ID != "video_1" {
		t.Errorf("recorded %+v", rec)
	}
}

func TestAHostThatIsNotMeteredIsToldOfOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, meter.Config{}, replies(200, jsonType, chatAnswer))
	for range 3 {
		r.exchange("https://llm.example.com/v1/chat/completions", chatRequest)
	}
	if n := strings.Count(r.logged.String(), "llm.example.com"); n != 1 {
		t.Errorf("told %d times: %s", n, r.logged)
	}
}

func TestServersThatFollowOpenAI(t *testing.T) {
	t.Parallel()
	r := newRig(t, meter.Config{Hosts: []meter.Host{
		{BaseURL: "https://llm.example.com", Provider: "wrong"},
		{BaseURL: "https://llm.example.com:443/groq/v1/", Provider: "groq"},
		{BaseURL: "http://127.0.0.1:8080/v1"},
	}}, replies(200, jsonType, `{"id":"c1","model":"llama-3","usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}`))
	r.exchange("https://LLM.example.com/groq/v1/chat/completions", `{"model":"llama-3"}`)
	rec := r.one()
	if rec.Provider != "groq" || rec.Unpriced != "unknown provider groq" || len(rec.Lines) != 2 {
		t.Errorf("recorded %+v", rec)
	}
}

func TestLoggingNeverFailsTheCall(t *testing.T) {
	t.Parallel()
	for name, onError := range map[string]func(*meter.LogError){
		"and tells the callback": nil, "and survives its panic": func(*meter.LogError) { panic(secretKey) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, meter.Config{OnError: onError}, replies(200, jsonType, `{"id":"c1","model":"m","usage":{"prompt_tokens":1}}`))
			if _, err := r.tracker.LogOpenAI(t.Context(), usage.OpenAICall{TenantID: "acme", ID: "c1", Model: "other"}); err != nil {
				t.Fatal(err)
			}
			r.exchange(chatURL, chatRequest)
			r.flush()
			if onError == nil && (len(r.failed) != 1 || !errors.Is(r.failed[0], usage.ErrConflict) || r.failed[0].OpenAI.ID != "c1") {
				t.Errorf("told of %v", r.failed)
			}
			if log := r.logged.String(); !strings.Contains(log, "not recorded") || strings.Contains(log, secretKey) {
				t.Errorf("logged %s", log)
			}
		})
	}
}

// A ledger that refuses a part of a call gets the call without it.
func TestACallIsNotLostForOneOfItsParts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, body, want string }{
		{"numbers that contradict each other", `{"id":"c1","model":"m","usage":{"prompt_tokens":10,"prompt_tokens_details":{"cached_tokens":50}}}`, meter.UsageInvalid},
		{"numbers that are too large", `{"id":"c1","model":"m","usage":{"prompt_tokens":1e50000000}}`, meter.UsageInvalid},
		{"half a token", `{"id":"c1","model":"m","usage":{"prompt_tokens":1.5}}`, meter.UsageInvalid},
		{"a total that is not the sum", `{"id":"c1","model":"m","usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":3}}`, meter.UsageInvalid},
		{"overlapping parts of the input", `{"id":"c1","model":"m","usage":{"prompt_tokens":10,"prompt_tokens_details":{"cached_tokens":6,"cache_write_tokens":6}}}`, meter.UsageInvalid},
		{"a name with control characters", `{"id":"c1","model":"a\u0000b","usage":{"prompt_tokens":1}}`, "no price"},
		{"no JSON", `{"id":"c1","usage":{"prompt_tokens":1]}`, meter.UsageMalformed},
		{"a tier that no price can have", `{"id":"c1","model":"gpt-4o","service_tier":"a;b=c","usage":{"prompt_tokens":1}}`, "no price"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, meter.Config{Labels: func(*http.Request) meter.Labels {
				return meter.Labels{User: "a\nb", Tags: map[string]string{"": "x"}}
			}}, replies(200, jsonType, tt.body))
			r.exchange(chatURL, `{}`)
			if rec := r.one(); !strings.HasPrefix(rec.Unpriced, tt.want) || rec.ID != "c1" {
				t.Errorf("recorded %+v", rec)
			}
		})
	}
}

func TestLabels(t *testing.T) {
	t.Parallel()
	r := newRig(t, meter.Config{Labels: func(req *http.Request) meter.Labels {
		return meter.Labels{User: "u-17", IP: "192.0.2.1", Tags: map[string]string{"feature": req.Header.Get("X-Feature")}}
	}}, replies(200, jsonType, chatAnswer, "X-Request-Id", "req_1"))
	r.exchange(chatURL, chatRequest)
	rec := r.one()
	if rec.User != "u-17" || rec.IP != "192.0.2.1" || len(rec.Tags) != 2 {
		t.Errorf("recorded %+v", rec)
	}
}

func TestLimitsOfScanning(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 4096)
	t.Run("a response that is longer passes and is unknown", func(t *testing.T) {
		t.Parallel()
		for _, tt := range []struct{ contentType, body string }{
			{jsonType, `{"x":"` + long + `","usage":{"prompt_tokens":1}}`},
			{eventStream, "data: {\"x\":\"" + long + "\"}\n\n" + streamUsage + streamDone},
		} {
			r := newRig(t, meter.Config{ResponseLimit: 1000}, replies(200, tt.contentType, tt.body))
			if got := r.exchange(chatURL, streamRequest); got != tt.body {
				t.Error("the response has changed")
			}
			if rec := r.one(); rec.Unpriced != meter.UsageTooLong {
				t.Errorf("recorded %+v", rec)
			}
		}
	})
	t.Run("a request that is longer passes, and what stands in it is unknown", func(t *testing.T) {
		t.Parallel()
		body := `{"model":"tts-1","input":"` + long + `"}`
		r := newRig(t, meter.Config{RequestLimit: 1000}, replies(200, "audio/mpeg", "ID3"))
		r.exchange("https://api.openai.com/v1/audio/speech", body)
		if rec := r.one(); rec.Unpriced != meter.UsageRequestUnread || r.bodies[0] != body {
			t.Errorf("recorded %+v", rec)
		}
	})
	t.Run("a request that is longer does not matter where the response says all", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, meter.Config{RequestLimit: 10}, replies(200, jsonType, chatAnswer))
		r.exchange(chatURL, chatRequest)
		if rec := r.one(); rec.Unpriced != "" {
			t.Errorf("recorded %+v", rec)
		}
	})
}

func zipped(t *testing.T, body string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestEncodings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, encoding, contentType, body, want string }{
		{"gzip is decoded", "gzip", jsonType, zipped(t, chatAnswer), ""},
		{"gzip of a stream is decoded", "GZIP", eventStream, zipped(t, streamChunk+streamUsage+streamDone), ""},
		{"gzip that is broken is unknown", "gzip", jsonType, zipped(t, chatAnswer)[:40], meter.UsageCut},
		{"gzip that is none is unknown", "gzip", jsonType, chatAnswer, meter.UsageCut},
		{"another encoding is unknown", "br", jsonType, chatAnswer, meter.UsageEncoded},
		{"no encoding is none", "identity", jsonType, chatAnswer, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, meter.Config{}, replies(200, tt.contentType, tt.body, "Content-Encoding", tt.encoding))
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, chatURL, strings.NewReader(chatRequest))
			req.Header.Set("Accept-Encoding", tt.encoding)
			res, err := r.transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			for p := make([]byte, 7); ; { // a few bytes at a time
				n, err := res.Body.Read(p)
				got.Write(p[:n])
				if err != nil {
					break
				}
			}
			res.Body.Close()
			if got.String() != tt.body {
				t.Error("the response has changed")
			}
			if rec := r.one(); rec.Unpriced != tt.want {
				t.Errorf("recorded %+v", rec)
			}
		})
	}
}

func TestResponsesWithoutABodyPassUntouched(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		status int
		url    string
		want   string
	}{
		{"a 204", 204, chatURL, meter.UsageMissing},
		{"an empty 200", 200, chatURL, meter.UsageMissing},
		{"an empty failure", 503, chatURL, ""},
		{"speech that is charged by the request", 200, "https://api.openai.com/v1/audio/speech", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, meter.Config{}, func(req *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: tt.status, Header: http.Header{"Content-Type": {"audio/mpeg"}}, Body: http.NoBody, Request: req}, nil
			})
			res, err := r.post(t.Context(), tt.url, `{"model":"tts-1","input":"hello"}`)
			if err != nil {
				t.Fatal(err)
			}
			if res.Body != http.NoBody {
				t.Error("the body is another")
			}
			if rec := r.one(); rec.Unpriced != tt.want || rec.Status != tt.status {
				t.Errorf("recorded %+v", rec)
			}
		})
	}
}

// A websocket is opened by a GET and answered with 101: both sides of it pass.
func TestAWebsocketWorksThroughTheTransport(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		_, _ = conn.Write([]byte("echo " + line))
	}))
	defer server.Close()
	tracker, records := newTracker(t, usage.Config{})
	transport, err := meter.NewTransport(tracker, meter.Config{TenantID: "acme", Hosts: []meter.Host{{BaseURL: server.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/v1/realtime?model=gpt-realtime", nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	socket, ok := res.Body.(io.ReadWriter)
	if !ok || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status %d, body %T", res.StatusCode, res.Body)
	}
	_, _ = socket.Write([]byte("hello\n"))
	got := make([]byte, len("echo hello\n"))
	if _, err := io.ReadFull(socket, got); err != nil || string(got) != "echo hello\n" {
		t.Errorf("%q, %v", got, err)
	}
	if len(records()) != 0 {
		t.Error("recorded")
	}
}

func TestAnAttemptWithoutAResponse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		reads bool
		err   error
		want  string
		text  string
	}{
		{"that was not sent costs nothing", false, &net.OpError{Op: "dial", Err: errors.New(secretKey)}, "", "dial failed"},
		{"that may have been sent has an unknown usage", false, errors.New(secretKey), meter.UsageNoResponse, "no response"},
		{"that was sent has an unknown usage", true, io.ErrUnexpectedEOF, meter.UsageNoResponse, "connection closed"},
		{"that was cancelled has an unknown usage", true, context.Canceled, meter.UsageNoResponse, "context canceled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tracker, records := newTracker(t, usage.Config{})
			transport, err := meter.NewTransport(tracker, meter.Config{TenantID: "acme", Reserve: true, Base: roundTripper(
				func(req *http.Request) (*http.Response, error) {
					if tt.reads {
						_, _ = io.Copy(io.Discard, req.Body)
					}
					return nil, tt.err
				})})
			if err != nil {
				t.Fatal(err)
			}
			for _, url := range []string{chatURL, "https://api.openai.com/v1/audio/speech", "https://api.elevenlabs.io/v1/text-to-speech/v"} {
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"model":"tts-1","model_id":"eleven_v3","input":"hello","text":"hello"}`))
				if _, err := transport.RoundTrip(req); !errors.Is(err, tt.err) {
					t.Errorf("error %v", err)
				}
			}
			if err := transport.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			all := records()
			for _, rec := range all {
				if rec.Unpriced != tt.want || rec.Error != tt.text || !rec.Cost.IsZero() || rec.Settlement != usage.Settled {
					t.Errorf("recorded %+v", rec)
				}
			}
			if len(all) != 3 {
				t.Errorf("%d records", len(all))
			}
		})
	}
}

// Go's own transport tells whether it has sent a request, whatever its body. One that was not sent costs nothing.
func TestWhetherARequestWasSent(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.ReadAll(req.Body)
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for _, tt := range []struct{ url, want string }{{server.URL, meter.UsageNoResponse}, {closed.URL, ""}} {
		for name, body := range map[string]io.Reader{
			"in memory": strings.NewReader(chatRequest), "read along": struct{ io.Reader }{strings.NewReader(chatRequest)}, "empty": nil, "none": http.NoBody,
		} {
			tracker, records := newTracker(t, usage.Config{})
			transport, err := meter.NewTransport(tracker, meter.Config{TenantID: "acme", Base: server.Client().Transport, Hosts: []meter.Host{{BaseURL: tt.url}}})
			if err != nil {
				t.Fatal(err)
			}
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, tt.url+"/v1/chat/completions", body)
			if res, err := transport.RoundTrip(req); err == nil {
				res.Body.Close()
				t.Error("no error")
			}
			if err := transport.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if all := records(); len(all) != 1 || all[0].Unpriced != tt.want || all[0].Error == "" || all[0].Model != "gpt-4o" && name == "in memory" {
				t.Errorf("body %s: recorded %+v", name, all)
			}
		}
	}
}

func TestACallThatWasCancelledBeforeItWasSentCostsNothing(t *testing.T) {
	t.Parallel()
	tracker, records := newTracker(t, usage.Config{})
	transport, err := meter.NewTransport(tracker, meter.Config{TenantID: "acme", Base: new(http.Transport)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, chatURL, strings.NewReader(chatRequest))
	if res, err := transport.RoundTrip(req); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", res, err)
	}
	if err := transport.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all := records(); len(all) != 1 || all[0].Unpriced != "" || all[0].Error != "context canceled" {
		t.Errorf("recorded %+v", all)
	}
}

// A body of which GetBody gives no copy is read as it is sent.
func TestABodyWithoutACopyIsSent(t *testing.T) {
	t.Parallel()
	r := newRig(t, meter.Config{}, replies(200, "audio/mpeg", "ID3"))
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.openai.com/v1/audio/speech", strings.NewReader(`{"model":"tts-1","input":"hello"}`))
	req.GetBody = func() (io.ReadCloser, error) { return nil, errors.ErrUnsupported }
	res, err := r.transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if rec := r.one(); rec.Unpriced != "" || len(rec.Lines) != 1 || rec.Lines[0].Quantity != 5 {
		t.Errorf("recorded %+v", rec)
	}
}

// Nothing of a prompt, an answer or a key is in the ledger or the log, whatever goes wrong.
func TestNothingSecretIsKept(t *testing.T) {
	t.Parallel()
	answers := []answer{
		replies(200, jsonType, chatAnswer), replies(200, eventStream, streamChunk+streamDone),
		replies(400, jsonType, `{"error":{"message":"`+secretPrompt+` `+secretKey+`","code":"invalid_request_error"}}`),
		replies(200, jsonType, `{"id":"c1","model":"m","usage":"`+secretAnswer+`"}`),
		replies(200, jsonType, `{"id":"c2","model":"m","usage":{"prompt_tokens":"`+secretAnswer+`"}}`),
		replies(200, jsonType, secretAnswer),
		func(*http.Request) (*http.Response, error) { return nil, errors.New(secretKey + secretPrompt) },
	}
	next := 0
	r := newRig(t, meter.Config{Reserve: true}, func(req *http.Request) (*http.Response, error) {
		next++
		return answers[next-1](req)
	})
	for range answers {
		res, err := r.post(t.Context(), chatURL+"?key="+secretKey, chatRequest)
		if err == nil {
			_, _ = io.ReadAll(res.Body)
			res.Body.Close()
		}
	}
	r.flush()
	all := r.records()
	if len(all) != len(answers) {
		t.Errorf("%d records", len(all))
	}
	kept := fmt.Sprintf("%+v %s %v", all, r.logged, r.failed)
	for _, secret := range []string{secretKey, secretPrompt, secretAnswer} {
		if strings.Contains(kept, secret) {
			t.Errorf("%s is kept: %s", secret, kept)
		}
	}
}

func TestFlush(t *testing.T) {
	t.Parallel()
	blocked, release := make(chan struct{}), make(chan struct{})
	r := newRig(t, meter.Config{OnError: func(*meter.LogError) {
		close(blocked)
		<-release
	}}, replies(200, jsonType, chatAnswer))
	if err := r.transport.Flush(t.Context()); err != nil {
		t.Errorf("nothing to wait for: %v", err)
	}
	if _, err := r.tracker.LogOpenAI(t.Context(), usage.OpenAICall{TenantID: "acme", ID: "chatcmpl-1", Model: "other"}); err != nil {
		t.Fatal(err)
	}
	r.exchange(chatURL, chatRequest)
	<-blocked
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := r.transport.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	close(release)
	r.flush()
}

func TestConfigsFaultsAreAllNamed(t *testing.T) {
	t.Parallel()
	_, err := meter.NewTransport(nil, meter.Config{
		TenantID: "a\n", FallbackTenantID: strings.Repeat("x", 256), RequestLimit: -1, ResponseLimit: -1, MaxOutputTokens: -1,
		Hosts: []meter.Host{
			{BaseURL: "llm.example.com"}, {BaseURL: "https://x.example.com", Provider: "My LLM"},
			{BaseURL: "https://x.example.com", API: meter.ElevenLabs, Provider: "other"}, {BaseURL: "https://x.example.com", API: 9},
		},
	})
	for _, want := range []string{"tracker", "TenantID", "FallbackTenantID", "RequestLimit", "ResponseLimit", "MaxOutputTokens", "Hosts[0]", "Hosts[1]", "Hosts[2]", "Hosts[3]"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named in: %v", want, err)
		}
	}
	if !errors.As(err, new(*meter.ConfigError)) {
		t.Error("no ConfigError")
	}
}

func TestHostilePeers(t *testing.T) {
	t.Parallel()
	t.Run("a status that is none is a failure", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, meter.Config{}, replies(999, jsonType, "{}"))
		r.exchange(chatURL, chatRequest)
		if rec := r.one(); rec.Status != 599 || rec.Error != "http_status_999" || rec.Unpriced != "" {
			t.Errorf("recorded %+v", rec)
		}
	})
	t.Run("a sentence in the place of a code is not kept", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, meter.Config{}, replies(400, jsonType, `{"error":{"code":"You said `+secretPrompt+`","type":"invalid_request_error"}}`))
		r.exchange(chatURL, chatRequest)
		if rec := r.one(); rec.Error != "invalid_request_error" {
			t.Errorf("recorded %+v", rec)
		}
	})
	t.Run("a transport that answers nothing", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, meter.Config{}, func(*http.Request) (*http.Response, error) { return nil, nil })
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, chatURL, strings.NewReader(chatRequest))
		if res, err := r.transport.RoundTrip(req); res != nil || err != nil {
			t.Errorf("%v, %v", res, err)
		}
		if rec := r.one(); rec.Unpriced != meter.UsageNoResponse {
			t.Errorf("recorded %+v", rec)
		}
	})
	t.Run("a stream of several images", func(t *testing.T) {
		t.Parallel()
		image := `data: {"type":"image_generation.completed","usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}` + "\n\n"
		r := newRig(t, meter.Config{}, replies(200, eventStream, image+image))
		r.exchange("https://api.openai.com/v1/images/generations", `{"model":"gpt-image-1","stream":true}`)
		if rec := r.one(); !strings.HasPrefix(rec.Unpriced, meter.UsageInvalid) {
			t.Errorf("recorded %+v", rec)
		}
	})
	t.Run("a clock that is off", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, meter.Config{Now: func() time.Time { return time.Unix(0, 0) }}, replies(200, jsonType, chatAnswer))
		r.exchange(chatURL, chatRequest)
		if rec := r.one(); rec.At.Year() < 2000 || rec.Unpriced != "" {
			t.Errorf("recorded %+v", rec)
		}
	})
}

// Some servers make ids of a few digits. What they answer under an id that was there is not lost.
func TestIDsThatRepeat(t *testing.T) {
	t.Parallel()
	n := 0
	r := newRig(t, meter.Config{Hosts: []meter.Host{{BaseURL: "http://ollama:11434", Provider: "ollama"}}}, func(req *http.Request) (*http.Response, error) {
		n = min(n+1, 2)
		return replies(200, jsonType, fmt.Sprintf(`{"id":"chatcmpl-123","model":"llama","usage":{"prompt_tokens":%d}}`, n))(req)
	})
	for range 2 {
		r.exchange("http://ollama:11434/v1/chat/completions", chatRequest)
		r.flush()
	}
	all := r.records()
	if len(all) != 2 || all[1].Tags[meter.TagResponseID] != "chatcmpl-123" || len(r.failed) != 0 {
		t.Errorf("recorded %+v, %v", all, r.failed)
	}
}

// Flush sees the end of a context before anybody else has been told of it.
func TestFlushAfterCancel(t *testing.T) {
	t.Parallel()
	provider, server := piped(eventStream)
	defer server.Close()
	r := newRig(t, meter.Config{}, provider)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := r.post(ctx, chatURL, streamRequest); err != nil {
		t.Fatal(err)
	}
	cancel()
	if rec := r.one(); rec.Unpriced != meter.UsageCancelled {
		t.Errorf("recorded %+v", rec)
	}
}

// An Estimator that takes its time holds up nobody.
func TestAnEstimatorThatBlocksHoldsUpNobody(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	r := newRig(t, meter.Config{Estimator: func(meter.Unmeasured) (meter.Guess, bool) {
		<-release
		return meter.Guess{InputTokens: 1}, true
	}}, replies(200, eventStream, streamChunk+streamDone))
	if got := r.exchange(chatURL, streamRequest); got != streamChunk+streamDone {
		t.Errorf("read %q", got)
	}
	close(release)
	if rec := r.one(); rec.Tags[meter.TagEstimated] == "" {
		t.Errorf("recorded %+v", rec)
	}
}

// More records than may wait for a store that does not answer hold up their calls, and none is lost.
func TestAStoreThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	r := newRig(t, meter.Config{Estimator: func(meter.Unmeasured) (meter.Guess, bool) {
		<-release
		return meter.Guess{}, false
	}}, func(req *http.Request) (*http.Response, error) { return replies(200, eventStream, streamDone)(req) })
	for range 1024 {
		r.exchange(chatURL, streamRequest)
	}
	held := make(chan struct{})
	go func() {
		defer close(held)
		r.exchange(chatURL, streamRequest)
	}()
	select {
	case <-held:
		t.Error("the call was not held up")
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	<-held
	r.flush()
	if n := len(r.records()); n != 1025 {
		t.Errorf("%d records, failed %v", n, r.failed[:min(len(r.failed), 1)])
	}
}
