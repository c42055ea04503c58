package meter

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"net/url"

	"github.com/acf68eca/usage"
)

// API is the form in which a server takes requests and reports usage.
type API uint8

const (
	// OpenAI is the form of OpenAI's API, which many servers follow.
	OpenAI API = iota
	// ElevenLabs is the form of ElevenLabs' API.
	ElevenLabs
)

// Exchange is one request to a provider and its response, for hosts that have a transport of their own. Nothing of it is
// kept.
type Exchange struct {
	// Provider is the host's name for whose server it is. Defaults to the provider whose API it is.
	Provider string
	// Method is that of the request. Defaults to POST.
	Method string
	// URL is what was requested: its path says what the call is. Required.
	URL *url.URL
	// RequestHeader is where the body's Content-Type is. Nil is JSON.
	RequestHeader http.Header
	// Request is the request's body. What is charged by it (text that is spoken, a transcription's model) is unknown
	// without one. Nil is none.
	Request io.Reader
	// Status is the response's, 100 to 599. Defaults to 200.
	Status int
	// Header is the response's.
	Header http.Header
	// Response is the response's body, read to its end. An error other than io.EOF is a response that was cut. Nil is an
	// empty one.
	Response io.Reader
}

// ParseOpenAI reads an exchange in OpenAI's form and returns what is to be logged, with the ID, Model, ServiceTier,
// quantities, Endpoint, Status and Error that the provider gave: the host adds the tenant and what else it knows. It
// returns none when the exchange is not charged by itself, as a GET is, and two when the response used a tool with a
// model of its own.
//
// A call whose usage is not known says why in UsageUnknown; it is never zero. Nothing that is read is held in memory.
func ParseOpenAI(x Exchange) []usage.OpenAICall {
	o, end, ok := x.observe(OpenAI, usage.OpenAI)
	if !ok {
		return nil
	}
	return o.openAICalls(end)
}

// ParseElevenLabs reads an exchange with ElevenLabs as ParseOpenAI does.
func ParseElevenLabs(x Exchange) []usage.ElevenLabsCall {
	o, end, ok := x.observe(ElevenLabs, usage.ElevenLabs)
	if !ok || !o.isCharged() {
		return nil
	}
	return []usage.ElevenLabsCall{o.elevenLabsCall(end)}
}

func (x *Exchange) observe(api API, provider string) (o *observation, end ending, ok bool) {
	o = &observation{provider: cmp.Or(x.Provider, provider), api: api, path: x.URL.Path}
	if o.endpoint = classify(api, cmp.Or(x.Method, http.MethodPost), o.path); o.endpoint == unmetered {
		return nil, 0, false
	}
	if x.Request != nil {
		o.request = readRequest(x.Request, x.RequestHeader.Get("Content-Type"), x.RequestHeader.Get("Content-Encoding"), defaultRequestLimit)
	}
	if o.begins(cmp.Or(x.Status, http.StatusOK), x.Header, defaultResponseLimit); !isCall(o.status) {
		return nil, 0, false
	}
	end = endOfBody
	if x.Response != nil {
		if _, err := io.Copy(scanWriter(o.read), x.Response); err != nil && !errors.Is(err, io.EOF) {
			end = endBroken
		}
	}
	o.finish(end)
	return o, end, true
}

// classify returns what a request asks for. Only a POST is ever charged.
func classify(api API, method, path string) endpoint {
	switch {
	case method != http.MethodPost:
		return unmetered
	case api == ElevenLabs:
		return elevenLabsEndpoint(path)
	}
	return openAIEndpoint(path)
}

// isCall reports whether a status is that of a call: an interim response or a redirection is none.
func isCall(status int) bool { return status >= 200 && status < 300 || status >= 400 }

// isCharged reports whether an exchange with an endpoint that may be free was charged.
func (o *observation) isCharged() bool {
	return o.endpoint != anyElevenLabs || o.hasCredits || o.fault != ""
}

func (o *observation) read(p []byte) {
	o.seen += int64(len(p))
	o.body.write(p)
}

func (o *observation) finish(end ending) { o.body.finish(end == endOfBody) }

// scanWriter is a scanner as an io.Writer.
type scanWriter func([]byte)

func (w scanWriter) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

const (
	defaultRequestLimit  = 64 << 20
	defaultResponseLimit = 256 << 20
)
