package meter_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/meter"
	"github.com/acf68eca/usage/store"
)

// forgetful is a ledger that costs nothing: what is measured is the meter.
type forgetful struct {
	store.Store
	written *atomic.Int64
}

func (f forgetful) Append(_ context.Context, _ time.Time, records []*store.Record, _ store.Judge) ([]store.Outcome, error) {
	outcomes := make([]store.Outcome, len(records))
	for i := range records {
		outcomes[i].Record = records[i]
	}
	f.written.Add(int64(len(records)))
	return outcomes, nil
}

func forgetfulTracker(tb testing.TB) (tracker *usage.Tracker, written *atomic.Int64) {
	tb.Helper()
	written = new(atomic.Int64)
	tracker, err := usage.New(forgetful{written: written}, usage.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	return tracker, written
}

func forgetfulTransport(tb testing.TB, base http.RoundTripper, hosts ...meter.Host) *meter.Transport {
	tb.Helper()
	tracker, _ := forgetfulTracker(tb)
	return transportTo(tb, tracker, base, hosts...)
}

func transportTo(tb testing.TB, tracker *usage.Tracker, base http.RoundTripper, hosts ...meter.Host) *meter.Transport {
	tb.Helper()
	transport, err := meter.NewTransport(tracker, meter.Config{TenantID: "acme", Base: base, Hosts: hosts, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	return transport
}

// BenchmarkPlain is a small request and its response, through a transport that answers from memory, after it has waited
// as one does that has a connection: bare, and metered. The difference, less the call of the ledger by itself, is what the
// meter costs.
func BenchmarkPlain(b *testing.B) {
	header := http.Header{"Content-Type": {jsonType}, "X-Request-Id": {"req_1"}}
	base := roundTripper(func(req *http.Request) (*http.Response, error) {
		_, _ = io.Copy(io.Discard, req.Body)
		runtime.Gosched()
		return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(strings.NewReader(chatAnswer)), Request: req}, nil
	})
	tracker, written := forgetfulTracker(b)
	metered := transportTo(b, tracker, base)
	for _, bench := range []struct {
		name string
		http.RoundTripper
		records int64 // of each call
	}{{"bare", base, 0}, {"metered", metered, 1}} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			before := written.Load()
			buf := make([]byte, 4096)
			cpu := newWindows(func(calls int) {
				for written.Load() < before+int64(calls)*bench.records {
					runtime.Gosched()
				}
			})
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
				cpu.count()
			}
			if err := metered.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
			cpu.report(b)
		})
	}
	b.Run("ledger", func(b *testing.B) {
		tracker, _ := forgetfulTracker(b)
		b.ReportAllocs()
		cpu := newWindows(func(int) {})
		for b.Loop() {
			_, err := tracker.LogOpenAI(b.Context(), usage.OpenAICall{
				TenantID: "acme", ID: "chatcmpl-1", Model: "gpt-4o-2024-08-06", ServiceTier: "default", InputTokens: 19, OutputTokens: 10,
				Endpoint: "/v1/chat/completions", Status: 200, Latency: time.Second, Tags: map[string]string{meter.TagRequestID: "req_1"},
			})
			if err != nil {
				b.Fatal(err)
			}
			cpu.count()
		}
		cpu.report(b)
	})
}

// windows are the processor's times of each hundred calls, with what is written beside them. What else runs on the machine does not count in them, but
// makes caches cold: the tenth percentile is that of the calls which were left alone.
type windows struct {
	all   []float64 // µs for each call
	calls int
	since time.Duration
	flush func(calls int) // waits until what the calls so far are recorded by is written
}

const windowCalls = 100

func newWindows(flush func(calls int)) *windows { return &windows{since: cpuTime(), flush: flush} }

func (w *windows) count() {
	if w.calls++; w.calls%windowCalls != 0 {
		return
	}
	w.flush(w.calls)
	now := cpuTime()
	w.all = append(w.all, float64((now-w.since).Nanoseconds())/1000/windowCalls)
	w.since = now
}

func (w *windows) report(b *testing.B) {
	b.Helper()
	if len(w.all) > 0 {
		slices.Sort(w.all)
		b.ReportMetric(w.all[len(w.all)/10], "cpu-µs-p10/op")
		b.ReportMetric(w.all[len(w.all)/2], "cpu-µs-p50/op")
	}
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
