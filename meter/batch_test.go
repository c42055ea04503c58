package meter_test

import (
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/meter"
)

// batchCalls are the calls of a file whose lines are all lines of a batch.
func batchCalls(t *testing.T, file string) (calls []usage.OpenAICall) {
	t.Helper()
	for line, err := range meter.ParseBatch(strings.NewReader(file)) {
		if err != nil || line.CustomID != "a" {
			t.Fatalf("%+v, %v", line, err)
		}
		calls = append(calls, line.Call)
	}
	return calls
}

// The tokens of the tool that makes images are as little lost in a batch as in a response of its own.
func TestTheImageToolOfABatchIsACallOfItsOwn(t *testing.T) {
	t.Parallel()
	got := batchCalls(t, `{"id":"b","custom_id":"a","response":{"status_code":200,"request_id":"req","body":{"id":"resp_1","model":"gpt-5",`+
		`"usage":{"input_tokens":3,"output_tokens":4},"tool_usage":{"image_gen":{"total_tokens":50}}}}}`)
	want := []usage.OpenAICall{
		{ID: "resp_1", Model: "gpt-5", Status: 200, Batch: true, InputTokens: 3, OutputTokens: 4},
		{ID: "resp_1/image_gen", Status: 200, Batch: true, UsageUnknown: meter.UsageImageTool},
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPicturesOfABatchAreCountedAsPictures(t *testing.T) {
	t.Parallel()
	got := batchCalls(t, `{"id":"b","custom_id":"a","response":{"status_code":200,"request_id":"req","body":{"created":1,"data":[{"b64_json":"AAAA"}],`+
		`"usage":{"input_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40},"output_tokens":4160,"total_tokens":4210}}}}`)
	want := []usage.OpenAICall{{
		ID: "req", Status: 200, Batch: true, InputTokens: 50, InputImageTokens: 40, OutputTokens: 4160, OutputImageTokens: 4160,
	}}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What a line says went wrong may be of nulls, with a response beside it or without one.
func TestALineOfABatchWithANullErrorCode(t *testing.T) {
	t.Parallel()
	const answer = `{"status_code":200,"request_id":"req","body":{"model":"gpt-5","usage":{"input_tokens":3,"output_tokens":4}}}`
	used := usage.OpenAICall{ID: "req", Model: "gpt-5", Status: 200, Batch: true, InputTokens: 3, OutputTokens: 4}
	failed := func(code string) usage.OpenAICall { return usage.OpenAICall{ID: "b", Batch: true, Error: code} }
	both := used
	both.Error = "server_error"
	for line, want := range map[string]usage.OpenAICall{
		`"response":` + answer + `,"error":{"code":null,"message":null}`:         used,
		`"error":{"code":null,"message":null},"response":` + answer:              used,
		`"response":` + answer + `,"error":{"code":"server_error"}`:              both,
		`"response":null,"error":{"code":null,"message":"` + secretPrompt + `"}`: failed("unknown_error"),
		`"error":{"message":"x"}`: failed("unknown_error"),
		`"response":null,"error":{"code":"` + secretPrompt + ` is no word"}`:           failed("unknown_error"),
		`"response":null,"error":"` + secretPrompt + `"`:                               failed("unknown_error"),
		`"response":null,"error":{"code":"batch_cancelled"}`:                           failed("batch_cancelled"),
		`"response":{"status_code":500,"body":{"error":{"code":null}}},"error":null`:   {ID: "b", Batch: true, Status: 500},
		`"response":{"status_code":200,"body":{"error":{"code":"x"}}},"error":null`:    {ID: "b", Batch: true, Status: 200, Error: "x", UsageUnknown: meter.UsageMissing},
		`"response":{"status_code":200,"body":{}},"error":{"code":null,"message":"x"}`: {ID: "b", Batch: true, Status: 200, UsageUnknown: meter.UsageMissing},
	} {
		if diff := gocmp.Diff([]usage.OpenAICall{want}, batchCalls(t, `{"id":"b","custom_id":"a",`+line+"}")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", line, diff)
		}
	}
}

// The transcript of what was said to a session is made by a model of its own, and charged by itself.
func TestTranscriptsOfARealtimeSessionAreCalls(t *testing.T) {
	t.Parallel()
	event := func(rest string) string {
		return `{"type":"conversation.item.input_audio_transcription.completed","event_id":"event_1","item_id":"item_1",` + rest + `,"transcript":"` + secretPrompt + `"}`
	}
	for _, tt := range []struct {
		event string
		want  usage.OpenAICall
	}{
		{
			event(`"content_index":0,"usage":{"type":"tokens","input_tokens":26,"input_token_details":{"text_tokens":0,"audio_tokens":26},"output_tokens":17,"total_tokens":43}`),
			usage.OpenAICall{ID: "item_1", Endpoint: "/v1/realtime", InputTokens: 26, InputAudioTokens: 26, OutputTokens: 17},
		},
		{event(`"content_index":1,"usage":{"type":"duration","seconds":1.5}`), usage.OpenAICall{ID: "item_1/1", Endpoint: "/v1/realtime", Audio: 1_500_000_000}},
		{event(`"content_index":null`), usage.OpenAICall{ID: "item_1", Endpoint: "/v1/realtime", UsageUnknown: meter.UsageMissing}},
		{event(`"usage":{"input_tokens":1,"output_tokens":1,"total_tokens":9}`), usage.OpenAICall{
			ID: "item_1", Endpoint: "/v1/realtime", UsageUnknown: meter.UsageInvalid + ": total_tokens is not the sum of input and output",
		}},
	} {
		call, ok := meter.ParseRealtime("gpt-realtime", []byte(tt.event))
		if diff := gocmp.Diff(tt.want, call); !ok || diff != "" {
			t.Errorf("%s: %t (-want +got):\n%s", tt.event, ok, diff)
		}
	}
	for _, typ := range []string{"delta", "failed", "segment"} {
		if call, ok := meter.ParseRealtime("m", []byte(strings.Replace(event(`"usage":{"input_tokens":1}`), "completed", typ, 1))); ok {
			t.Errorf("%s: %+v", typ, call)
		}
	}
}
