// Package meter counts what a host's calls to paid APIs use, without a line at each call. Transport goes under the
// providers' SDK clients as their http.RoundTripper: it reads what the provider reports as it goes by, whatever the SDK
// makes of it, and records it with a usage.Tracker. Streams and bodies pass byte for byte and without delay, and nothing
// of prompts, answers and keys is kept or logged.
//
// The parsers are usable by themselves, for webhooks, batch files, websockets and hosts with a transport of their own.
// What is captured of each endpoint, and what is not, is in docs/metering.md.
package meter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/acf68eca/usage"
)

// Transport is an http.RoundTripper that records the calls that pass it. It is safe for concurrent use.
//
// A POST to a known provider is a call; each attempt of an SDK's retries is one of its own. It is recorded once: when its
// response has said all that it will, its body ends or breaks, is closed, or the request's context ends, whichever is
// first. The record's ID is the provider's id of the response, else its id of the request, else a new one. A failed
// attempt is recorded with its status and costs nothing. A call whose response does not say what was used is recorded with
// an unknown usage, and why; it is never zero. Everything else passes untouched: GET and other methods, websockets,
// requests to unknown hosts, endpoints that are not charged by themselves.
//
// Recording happens off the request's context and beside the host's call, which it can neither fail nor hold up, unless
// 1,024 records wait for a store that does not answer. What could not be recorded goes to Config.OnError and the Logger.
type Transport struct {
	tracker *usage.Tracker
	cfg     Config
	routes  []route
	out     *outbox

	mu        sync.Mutex
	strangers map[string]struct{}
	open      map[*flight]struct{} // calls that have been made and have not ended
}

// NewTransport returns a transport that records with a tracker. The error joins a *ConfigError for each fault.
func NewTransport(tracker *usage.Tracker, cfg Config) (*Transport, error) {
	complete, routes, err := cfg.complete()
	if tracker == nil {
		err = errors.Join(errors.New("meter: the tracker is nil"), err)
	}
	if err != nil {
		return nil, err
	}
	t := &Transport{tracker: tracker, cfg: complete, routes: routes, strangers: make(map[string]struct{}), open: make(map[*flight]struct{})}
	t.out = newOutbox(t.deliver)
	return t, nil
}

// RoundTrip makes a request. Besides the errors of Config.Base it returns ErrNoTenant, that of the request's context if it
// ends while a body is held, and with Config.Reserve those of Tracker.Reserve; the request has not been made then. An SDK
// may take them for a failed connection and try again, which is refused again.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil {
		return t.cfg.Base.RoundTrip(req) // which says what is wrong
	}
	r, known := t.route(req.URL)
	if !known {
		t.stranger(req)
		return t.cfg.Base.RoundTrip(req)
	}
	e := classify(r.api, req.Method, req.URL.Path)
	switch e {
	case unmetered:
		return t.cfg.Base.RoundTrip(req)
	case anyElevenLabs:
		return t.passElevenLabs(req, r)
	}
	f, err := t.begin(req, r, e)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	res, err := f.send()
	if err != nil || res == nil {
		return res, err
	}
	if res.Request == f.request {
		res.Request = req
	}
	f.answered(res)
	return res, nil
}

// passElevenLabs makes a request to an endpoint of ElevenLabs that nobody knows. Most are free; it is a call when the
// response says that it was charged.
func (t *Transport) passElevenLabs(req *http.Request, r route) (*http.Response, error) {
	started := t.cfg.Now()
	res, err := t.cfg.Base.RoundTrip(req)
	if err != nil || res == nil || res.Header.Get(characterCost) == "" {
		return res, err
	}
	f := t.flight(req, r, anyElevenLabs)
	if f.started = started; f.tenant == "" {
		f.observed.begins(res.StatusCode, res.Header, 0)
		call := f.observed.elevenLabsCall(endOfBody) // what the head says of it
		call.At = started
		t.report(&LogError{ElevenLabs: &call, Err: ErrNoTenant})
		return res, nil
	}
	t.opened(f)
	f.answered(res)
	return res, nil
}

// Flush waits until the calls that have ended are recorded or have failed to be; a call whose context has ended has, as
// soon as Config.Base gives it up. Those that wait for their responses or read them are not waited for. The error is that
// of ctx. Call it before the program ends, after the last response was read or closed.
func (t *Transport) Flush(ctx context.Context) error {
	t.mu.Lock()
	var over []*flight
	for f := range t.open {
		if f.request.Context().Err() == nil {
			continue
		}
		if f.over == nil {
			f.over = make(chan struct{})
		}
		over = append(over, f)
	}
	t.mu.Unlock()
	for _, f := range over {
		if f.isAnswered() {
			f.end(endContext, "", false) // as the watch on its context does, if it has not yet
			continue
		}
		select { // whether it was sent is known when the Base returns
		case <-f.over:
		case <-ctx.Done():
			return fmt.Errorf("meter: flush: %w", ctx.Err())
		}
	}
	return t.out.flush(ctx)
}

// CloseIdleConnections closes those of Config.Base, as http.Client.CloseIdleConnections asks for.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.cfg.Base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// opened remembers a call that is made.
func (t *Transport) opened(f *flight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[f] = struct{}{}
}

func (t *Transport) closed(f *flight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.open[f]; ok {
		delete(t.open, f)
		if f.over != nil {
			close(f.over)
		}
	}
}

// tenant returns whose call a request is, "" when nobody says.
func (t *Transport) tenant(req *http.Request) string {
	id, ok := usage.TenantFromContext(req.Context())
	if !ok {
		id = t.cfg.TenantID
	}
	if id == "" && t.cfg.FallbackTenantID != "" {
		id = t.cfg.FallbackTenantID
		t.cfg.Logger.Warn("meter: a call without a tenant", "counted_under", id, "host", req.URL.Host, "path", req.URL.Path)
	}
	if !isTenant(id) {
		return ""
	}
	return id
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close() // as RoundTrip promises to
	}
}
