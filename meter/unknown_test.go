package meter_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/meter"
)

// parsed is the one call of an exchange.
func parsed(t *testing.T, path, contentType, request string, response io.Reader) usage.OpenAICall {
	t.Helper()
	calls := meter.ParseOpenAI(meter.Exchange{
		URL: &url.URL{Path: path}, Request: strings.NewReader(request), Header: http.Header{"Content-Type": {contentType}}, Response: response,
	})
	if len(calls) != 1 {
		t.Fatalf("%d calls", len(calls))
	}
	return calls[0]
}

// Whatever an empty usage looks like, it is not a price of nothing.
func TestAUsageThatSaysNothingIsUnknown(t *testing.T) {
	t.Parallel()
	for _, reported := range []string{
		`{}`, `{"prompt_tokens":null,"completion_tokens":null}`, `{"tokens":7}`, `{"prompt_tokens":"","completion_tokens":" "}`,
		`{"prompt_tokens":null,"prompt_tokens_details":{"cached_tokens":0}}`, `null`, `{"type":"tokens"}`,
	} {
		body := `{"id":"chatcmpl-1","model":"gpt-4o","choices":[{"message":{"content":"hello"}}],"usage":` + reported + `}`
		for contentType, response := range map[string]string{jsonType: body, eventStream: "data: " + body + "\n\n" + streamDone} {
			r := newRig(t, meter.Config{}, replies(200, contentType, response))
			r.exchange(chatURL, streamRequest)
			if rec := r.one(); rec.Unpriced != meter.UsageMissing {
				t.Errorf("%s in %s: recorded %+v", reported, contentType, rec)
			}
		}
	}
	known := parsed(t, "/v1/embeddings", jsonType, `{}`, strings.NewReader(`{"model":"m","usage":{"prompt_tokens":"0"}}`))
	if known.UsageUnknown != "" {
		t.Errorf("a zero that is reported is %q", known.UsageUnknown)
	}
}

// An empty chunk does not take back the usage of the one before it.
func TestAUsageThatSaysNothingDoesNotReplaceOneThatDoes(t *testing.T) {
	t.Parallel()
	call := parsed(t, "/v1/chat/completions", eventStream, streamRequest, strings.NewReader(streamUsage+"data: {\"choices\":[],\"usage\":{}}\n\n"+streamDone))
	if call.InputTokens != 24 || call.UsageUnknown != "" {
		t.Errorf("%+v", call)
	}
}

func TestALaterEmptyNameDoesNotWipeAKnownOne(t *testing.T) {
	t.Parallel()
	stream := `data: {"id":"chatcmpl-9","model":"m","service_tier":"flex","choices":[{"index":0}]}` + "\n\n" +
		`data: {"id":"","model":"","service_tier":"","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}` + "\n\n" + streamDone
	call := parsed(t, "/v1/chat/completions", eventStream, streamRequest, strings.NewReader(stream))
	if call.ID != "chatcmpl-9" || call.Model != "m" || call.ServiceTier != "flex" {
		t.Errorf("%+v", call)
	}
}

// Pictures that had arrived when the response broke off may be some of those that are charged.
func TestACutResponseOfDALLEIsUnknown(t *testing.T) {
	t.Parallel()
	const request = `{"model":"dall-e-2","n":4,"prompt":"x"}`
	cut := io.MultiReader(strings.NewReader(`{"created":1,"data":[{"url":"https://x/1"},{"url":"http`), iotest.ErrReader(io.ErrUnexpectedEOF))
	if call := parsed(t, "/v1/images/generations", jsonType, request, cut); call.UsageUnknown != meter.UsageCut || call.Images != 0 {
		t.Errorf("%+v", call)
	}
	whole := strings.NewReader(`{"created":1,"data":[{"url":"https://x/1"},{"url":"https://x/2"}]}`)
	if call := parsed(t, "/v1/images/generations", jsonType, request, whole); call.UsageUnknown != "" || call.Images != 2 {
		t.Errorf("%+v", call)
	}
}

// Some servers give every response the same id. Equal calls are as many as were made.
func TestEqualCallsUnderARepeatingIDAreAllRecorded(t *testing.T) {
	t.Parallel()
	r := newRig(t, meter.Config{Hosts: []meter.Host{{BaseURL: "http://ollama:11434", Provider: "ollama"}}},
		replies(200, jsonType, `{"id":"chatcmpl-123","model":"llama","usage":{"prompt_tokens":5}}`))
	for range 3 {
		r.exchange("http://ollama:11434/v1/chat/completions", chatRequest)
		r.flush()
	}
	if all := r.records(); len(all) != 3 || len(r.failed) != 0 {
		t.Errorf("recorded %+v, %v", all, r.failed)
	}
}
