package clienttest

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/meter"
	storesqlite "github.com/acf68eca/usage/store_sqlite"
)

// host is a host's side: its client over a metered transport, and its ledger.
type host struct {
	t         *testing.T
	provider  *provider
	client    client
	tracker   *usage.Tracker
	transport *meter.Transport
}

func newHost(t *testing.T, name string, over func(http.RoundTripper) http.RoundTripper, answers ...script) *host {
	t.Helper()
	st, err := storesqlite.Open(t.Context(), ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	h := &host{t: t, provider: newProvider(t, answers...)}
	if h.tracker, err = usage.New(st, usage.Config{}); err != nil {
		t.Fatal(err)
	}
	h.transport, err = meter.NewTransport(h.tracker, meter.Config{
		TenantID: "acme", Base: h.provider.server.Client().Transport, AskForUsage: true,
		Hosts:   []meter.Host{{BaseURL: h.provider.server.URL}},
		OnError: func(e *meter.LogError) { t.Error(e) },
	})
	if err != nil {
		t.Fatal(err)
	}
	var transport http.RoundTripper = h.transport
	if over != nil {
		transport = over(transport)
	}
	h.client = makers[name](h.provider.server.URL, &http.Client{Transport: transport})
	return h
}

// row is an attempt as either ledger has it.
type row struct {
	ID            string
	Status        int
	Input, Output int64
	Unknown       bool
}

// same wants the host's ledger to be the provider's.
func (h *host) same() {
	h.t.Helper()
	var want []row
	for _, a := range h.provider.ledger() {
		r := row{ID: a.ID, Status: a.Status, Unknown: a.Status < 400 && !a.Known}
		if a.Known {
			r.Input, r.Output = a.Input, a.Output
		}
		if a.ID == "" { // it did not come to an answer
			r.Status = 0
		}
		want = append(want, r)
	}
	got := h.rows(len(want))
	if diff := cmp.Diff(want, got); diff != "" {
		h.t.Errorf("ledgers (-provider +host):\n%s", diff)
	}
	month, err := h.tracker.GetCurrentUsage(h.t.Context(), "acme")
	if err != nil || month.Calls != int64(len(want)) {
		h.t.Errorf("%d calls of %d, %v", month.Calls, len(want), err)
	}
}

// rows waits until as many records are there as have to be: what ends by its context ends beside the test.
func (h *host) rows(n int) (rows []row) {
	h.t.Helper()
	for len(rows) < n && h.t.Context().Err() == nil {
		if err := h.transport.Flush(h.t.Context()); err != nil {
			h.t.Fatal(err)
		}
		rows = nil
		for rec, err := range h.tracker.Records(h.t.Context(), usage.RecordFilter{TenantID: "acme"}) {
			if err != nil {
				h.t.Fatal(err)
			}
			r := row{ID: rec.ID, Status: rec.Status, Unknown: rec.Unpriced != ""}
			if rec.Status == 0 {
				r.ID = ""
			}
			for _, line := range rec.Lines {
				switch line.Meter {
				case usage.InputTokens:
					r.Input = line.Quantity
				case usage.OutputTokens:
					r.Output = line.Quantity
				}
			}
			rows = append(rows, r)
		}
	}
	return rows
}

func each(t *testing.T, test func(t *testing.T, name string)) {
	t.Helper()
	for name := range makers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, name)
		})
	}
}

func (h *host) want(err error, wanted bool) {
	h.t.Helper()
	if (err != nil) != wanted {
		h.t.Errorf("error %v", err)
	}
}

func TestSuccess(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, name string) {
		h := newHost(t, name, nil, succeed)
		for range 3 {
			h.want(h.client.complete(t.Context()), false)
		}
		h.same()
	})
}

func TestTwoFailuresThenSuccess(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, name string) {
		h := newHost(t, name, nil, overload, break500, succeed)
		tries := 3
		if h.client.retries() {
			tries = 1
		}
		for i := range tries {
			h.want(h.client.complete(t.Context()), i < tries-1)
		}
		if n := len(h.provider.ledger()); n != 3 {
			t.Errorf("%d attempts", n)
		}
		h.same()
	})
}

func TestStream(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, name string) {
		h := newHost(t, name, nil, succeed)
		h.want(h.client.stream(t.Context(), readOn, true), false)
		if sent := h.provider.ledger()[0]; !sent.Known || !strings.Contains(sent.sentRequest, prompt) {
			t.Errorf("sent %+v", sent)
		}
		h.same()
	})
}

func TestStreamBrokenByTheReader(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, name string) {
		h := newHost(t, name, nil, hang)
		h.want(h.client.stream(t.Context(), stop, true), true)
		h.same()
	})
}

func TestStreamCutByTheServer(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, name string) {
		h := newHost(t, name, nil, cut)
		err := h.client.stream(t.Context(), readOn, true)
		if name != "langchaingo" { // which takes a stream that broke off for one that ended
			h.want(err, true)
		}
		h.same()
	})
}

func TestContextCancelled(t *testing.T) {
	t.Parallel()
	t.Run("of a stream that is being read", func(t *testing.T) {
		t.Parallel()
		each(t, func(t *testing.T, name string) {
			h := newHost(t, name, nil, hang)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			err := h.client.stream(ctx, func() bool {
				cancel()
				return false
			}, true)
			if name != "langchaingo" { // which takes a stream that broke off for one that ended
				h.want(err, true)
			}
			h.same()
		})
	})
	t.Run("before the response", func(t *testing.T) {
		t.Parallel()
		each(t, func(t *testing.T, name string) {
			h := newHost(t, name, nil, hang)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				<-h.provider.waiting
				cancel()
			}()
			h.want(h.client.complete(ctx), true)
			h.same()
		})
	})
}

// Go's transport decodes gzip itself when nobody asked for it: then the meter sees text. Where the host asks for it, the
// meter sees gzip, and decodes it for itself.
func TestGzip(t *testing.T) {
	t.Parallel()
	for name, over := range map[string]func(http.RoundTripper) http.RoundTripper{
		"by Go's transport": nil,
		"by the host":       func(base http.RoundTripper) http.RoundTripper { return gunzips{base} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, name string) {
				h := newHost(t, name, over, succeed)
				h.want(h.client.complete(t.Context()), false)
				h.same()
			})
		})
	}
}

// gunzips asks for gzip and decodes it.
type gunzips struct{ base http.RoundTripper }

func (g gunzips) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Accept-Encoding", "gzip")
	res, err := g.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if res.Header.Get("Content-Encoding") != "gzip" {
		return nil, fmt.Errorf("the response is not encoded: %v", res.Header)
	}
	z, err := gzip.NewReader(res.Body)
	if err != nil {
		return nil, err
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{z, res.Body}
	res.Header.Del("Content-Encoding")
	return res, nil
}

func TestAReaderThatNeverCloses(t *testing.T) {
	t.Parallel()
	t.Run("after the end", func(t *testing.T) {
		t.Parallel()
		each(t, func(t *testing.T, name string) {
			h := newHost(t, name, nil, succeed)
			h.want(h.client.stream(t.Context(), readOn, false), false)
			h.same()
		})
	})
	t.Run("in the middle, until its context ends", func(t *testing.T) {
		t.Parallel()
		each(t, func(t *testing.T, name string) {
			h := newHost(t, name, nil, hang)
			ctx, cancel := context.WithCancel(t.Context())
			h.want(h.client.stream(ctx, stop, false), true)
			cancel()
			h.same()
		})
	})
}
