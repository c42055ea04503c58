package meter_test

import (
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/meter"
)

// running is an event of a server that reports with each what was used up to it.
func running(output int, choice string) string {
	return `data: {"id":"chatcmpl-7","model":"m","choices":[` + choice + `],"usage":{"prompt_tokens":24,"completion_tokens":` +
		strconv.Itoa(output) + `,"total_tokens":` + strconv.Itoa(24+output) + "}}\n\n"
}

// cutEverywhere parses a stream that ends as a whole and one that breaks off, each whole and byte by byte.
func cutEverywhere(t *testing.T, path, request, stream string, check func(how string, call usage.OpenAICall)) {
	t.Helper()
	for how, body := range map[string]io.Reader{
		"ended":               strings.NewReader(stream),
		"ended, byte by byte": iotest.OneByteReader(strings.NewReader(stream)),
		"broken":              io.MultiReader(strings.NewReader(stream), iotest.ErrReader(io.ErrUnexpectedEOF)),
	} {
		check(how, parsed(t, path, eventStream, request, body))
	}
}

// What a server has reported up to the middle of a stream is not what the call used.
func TestARunningUsageIsNeverTakenForAFinalOne(t *testing.T) {
	t.Parallel()
	const chat, responses, images = "/v1/chat/completions", "/v1/responses", "/v1/images/generations"
	delta, other := `{"index":0,"delta":{"content":"x"}}`, `{"index":1,"delta":{"content":"x"}}`
	stop := `{"index":0,"delta":{},"finish_reason":"stop"}`
	created := `data: {"type":"response.in_progress","response":{"id":"resp_7","model":"m","usage":{"input_tokens":24,"output_tokens":0}}}` + "\n\n"
	picture := `data: {"type":"image_generation.completed","usage":{"input_tokens":5,"output_tokens":4160,"total_tokens":4165}}` + "\n\n"
	for _, tt := range []struct{ name, path, request, stream, want string }{
		{"each event has it", chat, streamRequest, running(1, delta) + running(2, delta), meter.UsageCut},
		{"one of two choices has ended", chat, `{"n":2,"stream":true}`, running(1, delta) + running(2, stop), meter.UsageCut},
		{"one of two choices that nobody asked for has ended", chat, streamRequest, running(1, other) + running(2, stop), meter.UsageCut},
		{"the first event has it and no choices", chat, streamRequest, running(0, "") + streamChunk + streamChunk, meter.UsageCut},
		{"a long event follows", chat, streamRequest, running(0, "") + `data: {"choices":[{"delta":{"content":"` + strings.Repeat("x", 8<<10) + `"}}]}` + "\n\n", meter.UsageCut},
		{"an event of a response has it", responses, streamRequest, created, meter.UsageCut},
		{"a response that has it ends in an error", responses, streamRequest, created + "data: {\"type\":\"error\",\"code\":\"server_error\"}\n\n", meter.UsageMissing},
		{"a response that has it fails without one", responses, streamRequest, created + "data: {\"type\":\"response.failed\",\"response\":{\"usage\":null}}\n\n", meter.UsageMissing},
		{"one of two pictures has come", images, `{"model":"gpt-image-1","n":2,"stream":true}`, picture, meter.UsageCut},
	} {
		cutEverywhere(t, tt.path, tt.request, tt.stream, func(how string, call usage.OpenAICall) {
			if call.UsageUnknown != tt.want || call.InputTokens != 0 || call.OutputTokens != 0 {
				t.Errorf("%s, %s: %+v", tt.name, how, call)
			}
		})
	}
}

// What says that it is the last one is.
func TestAFinalUsageIsKnownHoweverTheStreamEnds(t *testing.T) {
	t.Parallel()
	delta, stop := `{"index":0,"delta":{"content":"x"}}`, `{"index":0,"delta":{},"finish_reason":"stop"}`
	for name, stream := range map[string]string{
		"an event without choices": running(1, delta) + running(17, ""),
		"and a part of the mark":   running(1, delta) + running(17, "") + "data: [DO",
		"the end of the choice":    running(1, delta) + running(17, stop),
		"the end mark":             running(1, delta) + running(17, delta) + streamDone,
		"an end mark that is cut":  running(1, delta) + running(17, delta) + strings.TrimRight(streamDone, "\n"),
	} {
		cutEverywhere(t, "/v1/chat/completions", streamRequest, stream, func(how string, call usage.OpenAICall) {
			if strings.HasSuffix(name, "is cut") && how == "broken" {
				return // nobody knows whether the mark was all of its line
			}
			if call.UsageUnknown != "" || call.OutputTokens != 17 {
				t.Errorf("%s, %s: %+v", name, how, call)
			}
		})
	}
}

// The least that was used is told to who may guess the rest, and kept beside the reason.
func TestTheLeastThatIsKnownOfACutStreamIsKept(t *testing.T) {
	t.Parallel()
	stream := running(1, `{"index":0}`) + running(7, `{"index":0}`)
	r := newRig(t, meter.Config{}, replies(200, eventStream, stream))
	r.exchange(chatURL, streamRequest)
	if rec := r.one(); rec.Unpriced != meter.UsageCut || len(rec.Lines) != 0 || rec.Tags[meter.TagTokensSeen] != "31" {
		t.Errorf("recorded %+v", rec)
	}
	guessing := newRig(t, meter.Config{Estimator: func(u meter.Unmeasured) (meter.Guess, bool) {
		return meter.Guess{InputTokens: u.InputTokens, OutputTokens: u.OutputTokens}, true
	}}, replies(200, eventStream, stream))
	guessing.exchange(chatURL, streamRequest)
	rec := guessing.one()
	if len(rec.Lines) != 2 || rec.Lines[0].Quantity != 24 || rec.Lines[1].Quantity != 7 || rec.Tags[meter.TagEstimated] != meter.UsageCut {
		t.Errorf("recorded %+v", rec)
	}
}
