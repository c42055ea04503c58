package meter_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/meter"
)

// streamHandler answers each call with a stream of its own, cut, hung or whole by its number.
func streamHandler(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	n := strings.TrimSpace(req.URL.Query().Get("n"))
	w.Header().Set("Content-Type", eventStream)
	flush := http.NewResponseController(w)
	for range 20 {
		_, _ = fmt.Fprintf(w, `data: {"id":"chatcmpl-%s","model":"gpt-4o-2024-08-06","choices":[{"delta":{"content":"%d"}}],"usage":null}`+"\n\n", n, len(body))
		_ = flush.Flush()
	}
	switch req.URL.Query().Get("how") {
	case "cut":
		panic(http.ErrAbortHandler)
	case "hang":
		<-req.Context().Done()
		return
	}
	_, _ = fmt.Fprintf(w, `data: {"id":"chatcmpl-%s","model":"gpt-4o-2024-08-06","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11}}`+"\n\n", n)
	_, _ = io.WriteString(w, streamDone)
}

// 256 streams at once, of which some end, some are cut by either side, some are cancelled, and some are never closed,
// are each recorded once, and no goroutine is left.
func TestConcurrentStreams(t *testing.T) {
	const streams = 256
	tracker, records := newTracker(t, usage.Config{})
	before := runtime.NumGoroutine()
	server := httptest.NewServer(http.HandlerFunc(streamHandler))
	base := server.Client().Transport.(*http.Transport)
	transport, err := meter.NewTransport(tracker, meter.Config{
		TenantID: "acme", Base: base, Hosts: []meter.Host{{BaseURL: server.URL}}, OnError: func(e *meter.LogError) { t.Error(e) },
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for n := range streams {
		wg.Go(func() { useStream(t, transport, server.URL, n) })
	}
	wg.Wait()
	for len(records()) < streams && t.Context().Err() == nil {
		if err := transport.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	base.CloseIdleConnections()
	server.Close()
	month, err := tracker.GetCurrentUsage(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	const whole = 52 + 51 // those with n%5 of 0 and of 4
	if month.Calls != streams || month.Tokens != 11*whole || month.Unpriced != streams-whole || month.Errors != 0 {
		t.Errorf("%d calls, %d unpriced, %d tokens", month.Calls, month.Unpriced, month.Tokens)
	}
	deadline := time.Now().Add(time.Minute)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
		runtime.Gosched()
	}
}

// useStream reads a stream in one of the ways in which hosts do.
func useStream(t *testing.T, transport *meter.Transport, url string, n int) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	how := map[int]string{1: "cut", 2: "hang", 3: "hang"}[n%5]
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("%s/v1/chat/completions?how=%s&n=%d", url, how, n), strings.NewReader(streamRequest))
	if err != nil {
		t.Error(err)
		return
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Error(err)
		return
	}
	first := make([]byte, 100)
	if _, err := io.ReadFull(res.Body, first); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	switch n % 5 {
	case 2: // closed while another goroutine reads
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(io.Discard, res.Body)
		}()
		res.Body.Close()
		<-done
	case 3: // cancelled, and never closed
		cancel()
	case 4: // read to its end, and never closed
		_, _ = io.Copy(io.Discard, res.Body)
	default:
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
}

// Whatever the body, the host reads what the provider sent, byte for byte.
func FuzzTransport(f *testing.F) {
	f.Add([]byte(streamChunk+streamUsage+streamDone), eventStream, "", uint16(100), uint16(7))
	f.Add([]byte(chatAnswer), jsonType, "", uint16(4096), uint16(1))
	f.Add([]byte(chatAnswer), jsonType, "gzip", uint16(9), uint16(50))
	f.Add([]byte("ID3\x00\xff"), "audio/mpeg", "br", uint16(2), uint16(9))
	tracker, _ := newTracker(f, usage.Config{})
	f.Fuzz(func(t *testing.T, body []byte, contentType, encoding string, read, closeAt uint16) {
		transport, err := meter.NewTransport(tracker, meter.Config{TenantID: "acme", Base: roundTripper(func(req *http.Request) (*http.Response, error) {
			header := http.Header{"Content-Type": {contentType}, "Content-Encoding": {encoding}}
			return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(bytes.NewReader(body)), Request: req}, nil
		}), OnError: func(e *meter.LogError) {
			if !errors.Is(e, usage.ErrConflict) { // the fuzzer says the same id twice
				t.Error(e)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, chatURL, strings.NewReader(streamRequest))
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		for p := make([]byte, 1+int(read)); got.Len() < int(closeAt)*8; {
			n, err := res.Body.Read(p)
			got.Write(p[:n])
			if err != nil {
				break
			}
		}
		if err := errors.Join(res.Body.Close(), transport.Flush(t.Context())); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(body, got.Bytes()) {
			t.Error("the host read other bytes")
		}
	})
}
