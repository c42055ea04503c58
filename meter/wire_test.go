package meter_test

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/meter"
)

// A parameter that nobody needs does not hide what a response is.
func TestAContentTypeWithBadParametersIsRead(t *testing.T) {
	t.Parallel()
	for _, contentType := range []string{
		"text/event-stream; charset", "text/event-stream;charset=utf-8;", "Text/Event-Stream; charset=utf-8; charset=utf-8", "text/event-stream ; =",
	} {
		if call := parsed(t, "/v1/chat/completions", contentType, streamRequest, strings.NewReader(streamUsage+streamDone)); call.InputTokens != 24 || call.UsageUnknown != "" {
			t.Errorf("%q: %+v", contentType, call)
		}
	}
	for _, contentType := range []string{"audio/mpeg; x", "audio/mpeg;"} {
		if call := parsed(t, "/v1/audio/speech", contentType, `{"model":"tts-1","input":"hello"}`, strings.NewReader("ID3")); call.Characters != 5 || call.UsageUnknown != "" {
			t.Errorf("%q: %+v", contentType, call)
		}
	}
	if call := parsed(t, "/v1/chat/completions", "json", chatRequest, strings.NewReader(chatAnswer)); call.InputTokens != 19 {
		t.Errorf("%+v", call)
	}
}

// idle is a transport that has idle connections.
type idle struct{ closed int }

func (*idle) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.ErrUnsupported }
func (i *idle) CloseIdleConnections()                         { i.closed++ }

func TestIdleConnectionsOfTheBaseAreClosed(t *testing.T) {
	t.Parallel()
	tracker, _ := newTracker(t, usage.Config{})
	base := new(idle)
	for _, base := range []http.RoundTripper{base, roundTripper(func(*http.Request) (*http.Response, error) { return nil, io.EOF })} {
		transport, err := meter.NewTransport(tracker, meter.Config{TenantID: "acme", Base: base})
		if err != nil {
			t.Fatal(err)
		}
		(&http.Client{Transport: transport}).CloseIdleConnections()
	}
	if base.closed != 1 {
		t.Errorf("closed %d times", base.closed)
	}
}

// An error in the middle of a stream is an event like the others. Its code is kept, however the stream is cut.
func TestTheCodeOfAnErrorWithinAStreamIsKept(t *testing.T) {
	t.Parallel()
	stream := strings.Repeat(streamChunk, 20) + "data: {\"error\":{\"code\":\"server_error\",\"message\":\"" + secretAnswer + "\"}}\n\n"
	for _, end := range []string{"", streamDone} {
		call := parsed(t, "/v1/chat/completions", eventStream, streamRequest, strings.NewReader(stream+end))
		if call.Error != "server_error" || call.UsageUnknown == "" {
			t.Errorf("%+v", call)
		}
		cut := parsed(t, "/v1/chat/completions", eventStream, streamRequest, iotest.OneByteReader(strings.NewReader(stream+end)))
		if cut.Error != call.Error || cut.UsageUnknown != call.UsageUnknown {
			t.Errorf("cut: %+v", cut)
		}
	}
}

// The stream of the Responses API has errors that are events of their own.
func TestTheCodeOfAnErrorEventIsKept(t *testing.T) {
	t.Parallel()
	delta := `data: {"type":"response.output_text.delta","delta":"` + secretAnswer + `"}` + "\n\n"
	program := `data: {"type":"response.code_interpreter_call_code.done","code":"x=1","usage":{}}` + "\n\n"
	for event, want := range map[string]string{
		`{"type":"error","code":"server_error","message":"` + secretAnswer + `","param":null}`: "server_error",
		`{"message":"x","code":"ERR_1","type" : "error"}`:                                      "ERR_1",
		`{"type":"error","code":null,"message":"` + secretAnswer + `"}`:                        "error",
		`{"type":"error","code":"` + secretAnswer + ` is no word","message":"x"}`:              "error",
		`{"type":"error","error":{"code":"rate_limit_exceeded"}}`:                              "rate_limit_exceeded",
		`{"id":"x","object":"chat.completion.chunk","error": {"code":502}}`:                    "502",
		`{"type":"response.failed","response":{"error":null,"usage":null}}`:                    "",
	} {
		stream := strings.Repeat(delta, 20) + program + "data: " + event + "\n\n"
		for _, body := range []io.Reader{strings.NewReader(stream), iotest.OneByteReader(strings.NewReader(stream))} {
			if call := parsed(t, "/v1/responses", eventStream, streamRequest, body); call.Error != want || call.UsageUnknown == "" {
				t.Errorf("%s: %+v", event, call)
			}
		}
	}
}

// A byte order mark is no part of the first event, and passes to the host.
func TestAByteOrderMarkBeforeTheFirstEventIsPassedOver(t *testing.T) {
	t.Parallel()
	const stream = "\uFEFF" + streamUsage + streamDone
	r := newRig(t, meter.Config{}, replies(200, eventStream, stream))
	if got := r.exchange(chatURL, streamRequest); got != stream {
		t.Errorf("the host read %q", got)
	}
	if rec := r.one(); rec.ID != "chatcmpl-2" || rec.Cost.String() != "0.00023" {
		t.Errorf("recorded %+v", rec)
	}
}

// It has been made and charged, so that it cannot be refused; it is not lost without a word either.
func TestAChargeWithoutATenantIsToldOf(t *testing.T) {
	t.Parallel()
	tracker, records := newTracker(t, usage.Config{})
	var told []*meter.LogError
	transport, err := meter.NewTransport(tracker, meter.Config{
		Base: roundTripper(replies(200, jsonType, `{}`, "Character-Cost", "7", "Request-Id", "req_1")), Logger: slog.New(slog.DiscardHandler),
		OnError: func(e *meter.LogError) { told = append(told, e) },
	})
	if err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.elevenlabs.io/v1/text-to-voice/design", strings.NewReader(`{}`))
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(res.Body); string(got) != "{}" || err != nil {
		t.Errorf("the host read %q, %v", got, err)
	}
	res.Body.Close()
	if err := transport.Flush(t.Context()); err != nil || len(records()) != 0 {
		t.Errorf("%v, recorded %+v", err, records())
	}
	if len(told) != 1 || !errors.Is(told[0], meter.ErrNoTenant) || told[0].ElevenLabs.Credits != 7 || told[0].ElevenLabs.ID != "req_1" {
		t.Errorf("told of %+v", told)
	}
}
