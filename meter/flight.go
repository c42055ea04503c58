package meter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/acf68eca/usage"
)

// flight is one call on its way.
type flight struct {
	transport *Transport
	request   *http.Request // as it is sent
	body      *requestBody  // nil when there is none
	carried   requestBody   // what body points to
	response  responseBody
	sending   sending
	tenant    string
	started   time.Time
	labels    Labels
	hold      string // the reservation's id
	regional  bool
	echo      string // the request's own id, which a proxy may answer with
	// over is closed when the call has ended and what is to be recorded of it is announced. The transport's lock guards it;
	// nil as long as no flush waits.
	over chan struct{}

	mu       sync.Mutex
	observed observation
	answer   bool // there is a response, whose end is watched
	ended    bool
	stop     func() bool // takes back the watch on the context
}

// flight returns a call that nothing has been done for. Its tenant is empty when nobody says whose it is.
func (t *Transport) flight(req *http.Request, r route, e endpoint) *flight {
	return &flight{
		transport: t, request: req, tenant: t.tenant(req), started: t.cfg.Now(), regional: r.regional, echo: requestID(req.Header),
		observed: observation{provider: r.provider, api: r.api, endpoint: e, path: cleaned(req.URL.Path, maxPathLength)},
		labels:   t.labels(req),
	}
}

// begin makes a call ready to be sent: its tenant, what its request says, and the room for it.
func (t *Transport) begin(req *http.Request, r route, e endpoint) (*flight, error) {
	f := t.flight(req, r, e)
	if f.tenant == "" {
		return nil, fmt.Errorf("%w: %s %s (usage.WithTenant says whose it is, or Config.TenantID)", ErrNoTenant, req.Method, req.URL.Path)
	}
	if err := f.prepare(req); err != nil {
		return nil, err
	}
	if t.cfg.Reserve {
		reservation, err := t.tracker.Reserve(req.Context(), t.estimate(req, f))
		if err != nil {
			return nil, err
		}
		f.hold = reservation.ID
	}
	return f, nil
}

// send makes the call. Whatever becomes of it, Flush knows of it from here on.
func (f *flight) send() (res *http.Response, err error) {
	f.transport.opened(f)
	returned := false
	defer func() {
		if !returned || err != nil || res == nil {
			f.failed(err) // after a panic too, which goes on its way
		}
	}()
	res, err = f.transport.cfg.Base.RoundTrip(f.request)
	returned = true
	return res, err
}

// maxPathLength is how long the ledger lets an endpoint be.
const maxPathLength = 1024

// failed records an attempt that got no response. If the request was sent, nobody knows whether it was worked on.
func (f *flight) failed(err error) {
	f.mu.Lock()
	f.observed.status = 0
	sent := f.isSent(err)
	f.readRequest()
	f.mu.Unlock()
	f.end(endNoResponse, failure(err), !sent)
}

// failure names what kept a response from coming. The error's own text is not kept: a transport may quote its request.
func failure(err error) string {
	var operation *net.OpError
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return "context canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "deadline exceeded"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.As(err, &operation):
		return operation.Op + " failed"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed"
	}
	return "no response"
}

// answered begins to read a response.
func (f *flight) answered(res *http.Response) {
	if !isCall(res.StatusCode) {
		f.release()
		f.transport.closed(f)
		return
	}
	f.mu.Lock()
	f.readRequest()
	f.observed.begins(res.StatusCode, res.Header, f.transport.cfg.ResponseLimit)
	if f.echo != "" && f.observed.requestID == f.echo {
		f.observed.requestID = "" // not the provider's, and the same for each attempt
	}
	isEmpty := hasNoBody(res)
	f.mu.Unlock()
	if isEmpty {
		f.end(endOfBody, "", false)
		return
	}
	f.response = responseBody{flight: f, body: res.Body}
	res.Body = &f.response
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx := f.request.Context(); ctx.Done() != nil {
		f.stop = context.AfterFunc(ctx, func() { f.end(endContext, "", false) })
	}
	f.answer = true
}

func (f *flight) isAnswered() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.answer
}

// hasNoBody reports whether a response has nothing to be read. A length of zero alone does not say so: it is what a
// transport that does not set it leaves.
func hasNoBody(res *http.Response) bool {
	saysZero := res.ContentLength == 0 && (res.ProtoMajor == 2 || res.Header.Get("Content-Length") == "0")
	return res.Body == nil || res.Body == http.NoBody || saysZero || res.StatusCode == http.StatusNoContent
}

// readRequest takes what has been found of the request by now.
func (f *flight) readRequest() {
	if f.body != nil {
		f.observed.request = f.body.facts()
	}
}

// release gives back what was reserved for a call that turned out to be none.
func (f *flight) release() {
	if out := f.transport.out; f.hold != "" {
		out.run(out.add(entry{tenant: f.tenant, release: f.hold}))
	}
}

// responseBody is a response's body as it passes to the host.
type responseBody struct {
	flight *flight
	body   io.ReadCloser
}

// Read reads for the host, and looks at what was read.
func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.flight.read(p[:max(n, 0)], err)
	return n, err
}

// Close ends the call, whatever of it has been read.
func (b *responseBody) Close() error {
	b.flight.end(endClosed, "", false)
	return b.body.Close()
}

func (f *flight) read(p []byte, err error) {
	f.mu.Lock()
	if f.ended {
		f.mu.Unlock()
		return
	}
	f.observed.seen += int64(len(p))
	done := f.observed.body.write(p)
	f.mu.Unlock()
	switch {
	case done:
		f.end(endTerminal, "", false)
	case err == nil:
	case errors.Is(err, io.EOF):
		f.end(endOfBody, "", false)
	case f.request.Context().Err() != nil:
		f.end(endContext, "", false)
	default:
		f.end(endBroken, "", false)
	}
}

// end records the call, the first time it is called. failure says why there is no response; unsent, that the provider
// cannot have seen the request.
func (f *flight) end(how ending, failure string, unsent bool) {
	f.mu.Lock()
	if f.ended {
		f.mu.Unlock()
		return
	}
	f.ended = true
	if f.stop != nil {
		f.stop()
	}
	f.readRequest()
	f.observed.finish(how)
	var entries [2]entry
	var deliveries [2]*delivery
	n := f.entries(&entries, how, failure, unsent)
	f.observed.body = bodyScanner{} // the host may hold on to the response for long
	for i := range n {
		deliveries[i] = f.transport.out.add(entries[i]) // before anybody can know that the call has ended
	}
	f.transport.closed(f)
	f.mu.Unlock()
	for i := range n {
		f.transport.out.run(deliveries[i])
	}
	if n == 0 {
		f.release()
	}
}

// entries makes what is to be recorded of a call that has ended: a call, and perhaps that of a tool.
func (f *flight) entries(entries *[2]entry, how ending, failure string, unsent bool) (n int) {
	o := &f.observed
	latency := f.transport.cfg.Now().Sub(f.started)
	latency = max(latency, 0)
	if o.api == ElevenLabs {
		if !o.isCharged() {
			return 0
		}
		call := o.elevenLabsCall(how)
		call.TenantID, call.At, call.Latency, call.ReservationID = f.tenant, f.started, latency, f.hold
		call.Plan, call.User, call.IP = f.transport.cfg.ElevenLabsPlan, f.labels.User, f.labels.IP
		if failure != "" {
			call.Error = failure
		}
		if unsent {
			call.UsageUnknown, call.Characters, call.Generations, call.Audio = "", 0, 0, 0
		}
		call.Tags = f.tags(call.ID, call.UsageUnknown)
		entries[0] = entry{elevenLabs: &call, seen: f.unmeasured(call.UsageUnknown)}
		return 1
	}
	calls := o.openAICalls(how)
	for i := range calls {
		call := &calls[i]
		if unsent {
			*call = withoutUsage(*call)
		}
		call.TenantID, call.At, call.Latency = f.tenant, f.started, latency
		call.User, call.IP, call.RegionalProcessing = f.labels.User, f.labels.IP, f.regional
		if i == 0 {
			call.ReservationID = f.hold
		}
		if failure != "" {
			call.Error = failure
		}
		call.Tags = f.tags(call.ID, call.UsageUnknown)
		entries[i] = entry{openAI: call, seen: f.unmeasured(call.UsageUnknown)}
	}
	return len(calls)
}

// withoutUsage returns a call that used nothing.
func withoutUsage(c usage.OpenAICall) usage.OpenAICall {
	return usage.OpenAICall{
		TenantID: c.TenantID, ID: c.ID, Provider: c.Provider, Model: c.Model, ServiceTier: c.ServiceTier,
		RegionalProcessing: c.RegionalProcessing, At: c.At, ReservationID: c.ReservationID, Endpoint: c.Endpoint,
		Status: c.Status, Latency: c.Latency, Error: c.Error, User: c.User, IP: c.IP, Tags: c.Tags,
	}
}
