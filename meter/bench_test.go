package meter_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/meter"
	"github.com/acf68eca/usage/store"
)

// forgetful is a ledger that costs nothing: what is measured is the meter.
type forgetful struct{ store.Store }

func (forgetful) Append(_ context.Context, _ time.Time, records []*store.Record, _ store.Judge) ([]store.Outcome, error) {
	outcomes := make([]store.Outcome, len(records))
	for i := range records {
		outcomes[i].Record = records[i]
	}
	return outcomes, nil
}

func forgetfulTransport(tb testing.TB, base http.RoundTripper, hosts ...meter.Host) *meter.Transport {
	tb.Helper()
	tracker, err := usage.New(forgetful{}, usage.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	transport, err := meter.NewTransport(tracker, meter.Config{TenantID: "acme", Base: base, Hosts: hosts, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	return transport
}

// BenchmarkPlain is a small request and its response, through a transport that answers from memory: bare, and metered.
// The difference, less the call of the ledger by itself, is what the meter costs.
func BenchmarkPlain(b *testing.B) {
	header := http.Header{"Content-Type": {jsonType}, "X-Request-Id": {"req_1"}}
	base := roundTripper(func(req *http.Request) (*http.Response, error) {
		_, _ = io.Copy(io.Discard, req.Body)
		return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(strings.NewReader(chatAnswer)), Request: req}, nil
	})
	metered := forgetfulTransport(b, base)
	for _, bench := range []struct {
		name string
		http.RoundTripper
	}{{"bare", base}, {"metered", metered}} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 4096)
			for b.Loop() {
				req, _ := http.NewRequestWithContext(b.Context(), http.MethodPost, chatURL, strings.NewReader(chatRequest))
				req.Header.Set("Content-Type", jsonType)
				res, err := bench.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				for {
					if _, err := res.Body.Read(buf); err != nil {
						break
					}
				}
				res.Body.Close()
			}
			if err := metered.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
	b.Run("ledger", func(b *testing.B) {
		tracker, err := usage.New(forgetful{}, usage.Config{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			_, err := tracker.LogOpenAI(b.Context(), usage.OpenAICall{
				TenantID: "acme", ID: "chatcmpl-1", Model: "gpt-4o-2024-08-06", ServiceTier: "default", InputTokens: 19, OutputTokens: 10,
				Endpoint: "/v1/chat/completions", Status: 200, Latency: time.Second, Tags: map[string]string{meter.TagRequestID: "req_1"},
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkLoopback is the same over a connection to this machine, as a real transport makes it.
func BenchmarkLoopback(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.Header().Set("Content-Type", jsonType)
		_, _ = io.WriteString(w, chatAnswer)
	}))
	defer server.Close()
	base := server.Client().Transport
	metered := forgetfulTransport(b, base, meter.Host{BaseURL: server.URL})
	for _, bench := range []struct {
		name string
		http.RoundTripper
	}{{"bare", base}, {"metered", metered}} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				req, _ := http.NewRequestWithContext(b.Context(), http.MethodPost, server.URL+"/v1/chat/completions", strings.NewReader(chatRequest))
				req.Header.Set("Content-Type", jsonType)
				res, err := bench.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			if err := metered.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// openStreams opens streams through a transport, reads them into the middle of an event, and leaves them there.
func openStreams(tb testing.TB, n int, metered bool) []*http.Response {
	tb.Helper()
	content := strings.Repeat(streamChunk, 20) + `data: {"x":"` + strings.Repeat("x", 3900) // nearly all that is held
	base := roundTripper(func(req *http.Request) (*http.Response, error) {
		body := io.NopCloser(strings.NewReader(content))
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {eventStream}}, Body: body, Request: req}, nil
	})
	var transport http.RoundTripper = base
	if metered {
		transport = forgetfulTransport(tb, base)
	}
	ctx, cancel := context.WithCancel(context.Background()) // as a host's requests have
	tb.Cleanup(cancel)
	buf := make([]byte, len(content))
	open := make([]*http.Response, n)
	for i := range open {
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, chatURL, strings.NewReader(streamRequest))
		req.Header.Set("Content-Type", jsonType)
		res, err := transport.RoundTrip(req)
		if err != nil {
			tb.Fatal(err)
		}
		for from := 0; from < len(buf); from += 300 {
			if _, err := io.ReadFull(res.Body, buf[from:min(from+300, len(buf))]); err != nil {
				tb.Fatal(err)
			}
		}
		open[i] = res
	}
	return open
}

// perStream is what each of many open streams keeps in memory.
func perStream(tb testing.TB, metered bool) uint64 {
	tb.Helper()
	const n = 1000
	inUse := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := inUse()
	open := openStreams(tb, n, metered)
	after := inUse()
	runtime.KeepAlive(open)
	return (after - min(before, after)) / n
}

// Not parallel: it looks at the memory of the whole program.
func TestAThousandOpenStreamsAreSmall(t *testing.T) {
	if n := perStream(t, true) - perStream(t, false); n > 16<<10 {
		t.Errorf("a stream keeps %d bytes", n)
	}
}

// BenchmarkOpenStreams reports what each of 1,000 open streams keeps in memory, bare and metered.
func BenchmarkOpenStreams(b *testing.B) {
	for name, metered := range map[string]bool{"bare": false, "metered": true} {
		b.Run(name, func(b *testing.B) {
			var n uint64
			for b.Loop() {
				n = perStream(b, metered)
			}
			b.ReportMetric(float64(n), "B/stream")
			b.ReportMetric(0, "ns/op")
		})
	}
}
