package meter_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/meter"
)

// summary is what a record says, on one line: model, conditions, what is charged, what is counted, and why it has no price.
func summary(rec usage.Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", rec.Model, rec.Conditions)
	for _, line := range rec.Lines {
		fmt.Fprintf(&b, " %s=%d", line.Meter, line.Quantity)
	}
	for _, m := range slices.Sorted(maps.Keys(rec.Unbilled)) {
		fmt.Fprintf(&b, " (%s=%d)", m, rec.Unbilled[m])
	}
	if rec.Unpriced != "" {
		b.WriteString(" !" + rec.Unpriced)
	} else {
		fmt.Fprintf(&b, " $%s", rec.Cost)
	}
	return strings.TrimSpace(b.String())
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	const openAI, azure, eleven = "https://api.openai.com/v1", "https://acme.openai.azure.com/openai/deployments/prod%20eu", "https://api.elevenlabs.io/v1"
	for _, tt := range []struct {
		name, url, request, contentType, response, want string
	}{
		{
			"a legacy completion", openAI + "/completions", `{"model":"gpt-3.5-turbo-instruct"}`, jsonType,
			`{"id":"cmpl-1","model":"gpt-3.5-turbo-instruct-0914","choices":[{"text":"x"}],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}`,
			"gpt-3.5-turbo-instruct-0914  input_tokens=5 output_tokens=7",
		},
		{
			"a chat with audio", openAI + "/chat/completions", `{}`, jsonType,
			`{"id":"c","model":"gpt-audio-2025-08-28","usage":{"prompt_tokens":100,"completion_tokens":60,"total_tokens":160,"prompt_tokens_details":{"audio_tokens":80,"image_tokens":3},"completion_tokens_details":{"audio_tokens":50,"text_tokens":10}}}`,
			"gpt-audio-2025-08-28  input_tokens=20 input_audio_tokens=80 output_tokens=10 output_audio_tokens=50",
		},
		{
			"cache writes by how long they are kept", openAI + "/responses", `{}`, jsonType,
			`{"id":"r","model":"gpt-6.1-terra","usage":{"input_tokens":40000,"input_tokens_details":{"cached_tokens":10000,"cache_write_tokens":20000,"cache_write_tokens_details":{"ttl_30m_tokens":5000,"ttl_12h_tokens":15000}},"output_tokens":1000,"total_tokens":41000}}`,
			"gpt-6.1-terra  input_tokens=10000 input_cached_tokens=10000 input_cache_write_tokens=5000 input_cache_write_12h_tokens=15000 output_tokens=1000",
		},
		{
			"tools of a server that does not count them", openAI + "/responses", `{}`, jsonType,
			`{"id":"r","model":"gpt-5","output":[{"type":"web_search_call","action":{"type":"search"}},{"type":"web_search_call","action":{"type":"open_page"}},{"type":"message"},{"type":"file_search_call"}],"usage":{"input_tokens":1,"output_tokens":1}}`,
			"gpt-5  input_tokens=1 output_tokens=1 web_search_calls=1 file_search_calls=1",
		},
		{
			"a response as a stream", openAI + "/responses", `{"stream":true}`, eventStream,
			"event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"model\":\"gpt-5-2025-08-07\",\"usage\":null}}\n\n" +
				"event: response.incomplete\ndata: {\"type\":\"response.incomplete\",\"response\":{\"id\":\"resp_1\",\"model\":\"gpt-5-2025-08-07\",\"service_tier\":\"flex\",\"usage\":{\"input_tokens\":9,\"output_tokens\":4,\"output_tokens_details\":{\"reasoning_tokens\":3},\"total_tokens\":13}}}\n\n",
			"gpt-5-2025-08-07 service_tier=flex input_tokens=9 output_tokens=4 (reasoning_tokens=3)",
		},
		{
			"a transcription as a stream", openAI + "/audio/transcriptions", `{"model":"gpt-4o-transcribe","stream":true}`, eventStream,
			"data: {\"type\":\"transcript.text.delta\",\"delta\":\"x\"}\n\ndata: {\"type\":\"transcript.text.done\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":14,\"input_token_details\":{\"audio_tokens\":10},\"output_tokens\":45,\"total_tokens\":59}}\n\n",
			"gpt-4o-transcribe  input_tokens=4 input_audio_tokens=10 output_tokens=45",
		},
		{"a transcription as text", openAI + "/audio/transcriptions", `{"model":"whisper-1"}`, "text/plain", "hello", "whisper-1  !" + meter.UsageMissing},
		{"a translation", openAI + "/audio/translations", `{"model":"whisper-1"}`, jsonType, `{"text":"x","usage":{"type":"duration","seconds":"1.5001"}}`, "whisper-1  audio_time=1501"},
		{"speech", openAI + "/audio/speech", `{"model":"tts-1-hd","input":"na\u00efve \ud83e\udd8a é\n"}`, "audio/mpeg", "ID3", "tts-1-hd  characters=10"},
		{
			"speech as a stream with tokens", openAI + "/audio/speech", `{"model":"gpt-4o-mini-tts","input":"hello","stream_format":"sse"}`, eventStream,
			"data: {\"type\":\"speech.audio.delta\",\"audio\":\"AAAA\"}\n\ndata: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":3,\"output_tokens\":70,\"total_tokens\":73}}\n\n",
			"gpt-4o-mini-tts  input_tokens=3 output_audio_tokens=70 (characters=5)",
		},
		{
			"images of a model with tokens", openAI + "/images/generations", `{"model":"gpt-image-1","n":1}`, jsonType,
			`{"created":1,"data":[{"b64_json":"AAAA"}],"usage":{"input_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40},"output_tokens":4160,"total_tokens":4210}}`,
			"gpt-image-1  input_tokens=10 input_image_tokens=40 output_image_tokens=4160",
		},
		{
			"images of a model without", openAI + "/images/generations", `{"model":"dall-e-3","n":2,"size":"1792x1024"}`, jsonType, `{"created":1,"data":[{"url":"x"},{"url":"y"}]}`,
			"dall-e-3 quality=standard;size=1792x1024 images=2",
		},
		{"a deployment at Azure whose model is not named", azure + "/audio/speech?api-version=2025", `{"input":"hello"}`, "audio/mpeg", "ID3", "prod eu  characters=5 !unknown model prod eu"},
		{"a tool that makes images", openAI + "/responses", `{}`, jsonType, `{"id":"r","model":"gpt-5","usage":{"input_tokens":1,"output_tokens":1},"tool_usage":{"image_gen":{"total_tokens":50},"web_search":{"num_requests":"2"}}}`, "gpt-5  input_tokens=1 output_tokens=1 web_search_calls=2 + r/image_gen !" + meter.UsageImageTool},

		{"speech with timestamps", eleven + "/text-to-speech/v/with-timestamps", `{"text":"hello","model_id":"eleven_v3"}`, jsonType, `{"audio_base64":"AAAA","alignment":{"characters":["h"]}}`, "eleven_v3  characters=5 (credits=7)"},
		{"speech as a stream with timestamps", eleven + "/text-to-speech/v/stream/with-timestamps", `{"text":"hello","model_id":"eleven_v3"}`, jsonType, `{"audio_base64":"AAAA"}` + "\n" + `{"audio_base64":"AAAA"}`, "eleven_v3  characters=5 (credits=7)"},
		{"a dialogue", eleven + "/text-to-dialogue", `{"inputs":[{"text":"hello","voice_id":"a"},{"text":"you","voice_id":"b"}],"model_id":"eleven_v3"}`, "audio/mpeg", "ID3", "eleven_v3  characters=8 (credits=7)"},
		{"speech to text", eleven + "/speech-to-text", `{"model_id":"scribe_v2"}`, jsonType, `{"text":"x","transcription_id":"t1","audio_duration_secs":125.5}`, "scribe_v2  audio_time=125500 (credits=7)"},
		{"a sound effect", eleven + "/sound-generation", `{"text":"rain","model_id":"eleven_text_to_sound_v2"}`, "audio/mpeg", "ID3", "sound_effects  generations=1 (characters=4) (credits=7)"},
		{"music", eleven + "/music/stream", `{"prompt":"x","music_length_ms":30000}`, "audio/mpeg", "ID3", "music  audio_time=30000 (credits=7)"},
		{"music by its plan", eleven + "/music", `{"composition_plan":{"sections":[{"duration_ms":1000},{"duration_ms":2000}]}}`, "audio/mpeg", "ID3", "music  audio_time=3000 (credits=7)"},
		{"dubbing", eleven + "/dubbing", `{"watermark":true}`, jsonType, `{"dubbing_id":"d1","expected_duration_sec":127.2}`, "dubbing_v1 watermark=true audio_time=127200 (credits=7)"},
		{"a voice that is changed", eleven + "/speech-to-speech/v/stream", `{}`, "audio/mpeg", "ID3", "voice_changer  credits=7"},
		{"an endpoint that names its credits", eleven + "/text-to-voice/design", `{}`, jsonType, `{}`, "credits=7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, meter.Config{}, replies(200, tt.contentType, tt.response, "X-Request-Id", "req_1", "Character-Cost", "7"))
			r.exchange(tt.url, tt.request)
			r.flush()
			var got []string
			for _, rec := range r.records() {
				text := summary(rec)
				if strings.HasSuffix(rec.ID, "/image_gen") {
					text = rec.ID + " !" + rec.Unpriced
				}
				got = append(got, text)
			}
			slices.Reverse(got)
			slices.SortStableFunc(got, func(a, b string) int { return strings.Count(a, "/") - strings.Count(b, "/") })
			all := strings.Join(got, " + ")
			if all = strings.ReplaceAll(all, "map[]", ""); !strings.Contains(tt.want, "!") {
				all, _, _ = strings.Cut(all, " $")
				all, _, _ = strings.Cut(all, " !no price")
				all, _, _ = strings.Cut(all, " !unknown model")
			}
			if all = cutCosts(all); all != strings.TrimSpace(tt.want) {
				t.Errorf("recorded\n%q, want\n%q", all, tt.want)
			}
		})
	}
}

// cutCosts takes the dollars out of a summary: prices are tested elsewhere.
func cutCosts(s string) string {
	parts := strings.Split(s, " + ")
	for i := range parts {
		parts[i], _, _ = strings.Cut(parts[i], " $")
	}
	return strings.Join(parts, " + ")
}

// A form with a file has its model before or behind the file, which is passed over.
func TestForms(t *testing.T) {
	t.Parallel()
	form := func(before bool, size int) (contentType, body string) {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		fields := func() {
			_ = w.WriteField("model", "gpt-4o-mini-transcribe")
			_ = w.WriteField("empty", "")
			_ = w.WriteField("prompt", strings.Repeat("long ", 1000))
		}
		if before {
			fields()
		}
		part, _ := w.CreateFormFile("file", "audio.mp3")
		_, _ = io.WriteString(part, strings.Repeat("\r\n--\x00model", size))
		if !before {
			fields()
		}
		_ = w.Close()
		return w.FormDataContentType(), b.String()
	}
	for _, before := range []bool{true, false} {
		for _, size := range []int{0, 1, 100_000} {
			for _, again := range []bool{true, false} {
				t.Run(fmt.Sprintf("fields first %t, %d, body can be had again %t", before, size, again), func(t *testing.T) {
					t.Parallel()
					r := newRig(t, meter.Config{}, replies(200, jsonType, `{"text":"x","usage":{"type":"tokens","input_tokens":14,"output_tokens":45,"total_tokens":59}}`))
					contentType, body := form(before, size)
					var reader io.Reader = strings.NewReader(body)
					if !again {
						reader = iotest.HalfReader(reader)
					}
					req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.openai.com/v1/audio/transcriptions", reader)
					req.Header.Set("Content-Type", contentType)
					res, err := r.transport.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					_, _ = io.ReadAll(res.Body)
					res.Body.Close()
					if rec := r.one(); rec.Model != "gpt-4o-mini-transcribe" || r.bodies[0] != body {
						t.Errorf("recorded %+v", rec)
					}
				})
			}
		}
	}
}

func TestRegionalHostsOfOpenAIAreChargedMore(t *testing.T) {
	t.Parallel()
	r := newRig(t, meter.Config{}, replies(200, jsonType, `{"id":"c","model":"gpt-5.5-2026-04-23","usage":{"prompt_tokens":1000000}}`))
	r.exchange("https://eu.api.openai.com/v1/chat/completions", chatRequest)
	if rec := r.one(); rec.Conditions[usage.RegionalProcessing] != "true" || rec.Cost.String() != "11" {
		t.Errorf("recorded %+v", rec)
	}
}

func TestElevenLabsUnknowns(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, path, request string
		status              int
		response            string
		headers             []string
		want, failure       string
	}{
		{"a transcription without its length", "/v1/speech-to-text", `{"model_id":"scribe_v1"}`, 200, `{"text":"x"}`, nil, meter.UsageMissing, ""},
		{"a length that is none", "/v1/speech-to-text", `{"model_id":"scribe_v1"}`, 200, `{"audio_duration_secs":"x"}`, nil, meter.UsageInvalid + ": the duration is not a number", ""},
		{"credits that are none", "/v1/speech-to-speech/v", `{}`, 200, `{}`, []string{"Character-Cost", "many"}, meter.UsageInvalid + ": character-cost is not a number", ""},
		{"a voice change for no credits", "/v1/speech-to-speech/v", `{}`, 200, `{}`, []string{"Character-Cost", "0"}, meter.UsageMissing, ""},
		{"a transcription for no credits", "/v1/speech-to-text", `{"model_id":"scribe_v1"}`, 200, `{"text":"x"}`, []string{"Character-Cost", "0"}, meter.UsageMissing, ""},
		{"a text that cannot be read", "/v1/text-to-speech/v", `{"text":"x`, 200, `{}`, nil, meter.UsageRequestUnread, ""},
		{"a voice change without credits", "/v1/speech-to-speech/v", `{}`, 200, `{}`, nil, meter.UsageMissing, ""},
		{"a refusal", "/v1/text-to-speech/v", `{"text":"x"}`, 401, `{"detail":{"status":"quota_exceeded","message":"` + secretPrompt + `"}}`, nil, "", "quota_exceeded"},
		{"a request that is wrong", "/v1/text-to-speech/v", `{"text":"x"}`, 422, `{"detail":[{"loc":["body"],"msg":"` + secretPrompt + `","type":"missing"}]}`, nil, "", "missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, meter.Config{}, replies(tt.status, jsonType, tt.response, tt.headers...))
			r.exchange("https://api.elevenlabs.io"+tt.path, tt.request)
			if rec := r.one(); rec.Unpriced != tt.want && !strings.HasPrefix(rec.Unpriced, "no price") || rec.Error != tt.failure {
				t.Errorf("recorded %+v", rec)
			}
		})
	}
}

// The parsers say the same as the transport, of what a host with a transport of its own hands them.
func TestParsersByThemselves(t *testing.T) {
	t.Parallel()
	address, _ := url.Parse(chatURL)
	got := meter.ParseOpenAI(meter.Exchange{URL: address, Response: strings.NewReader(chatAnswer), Header: http.Header{"X-Request-Id": {"req_1"}}})
	want := []usage.OpenAICall{{
		ID: "chatcmpl-1", Model: "gpt-4o-2024-08-06", ServiceTier: "default", InputTokens: 19, OutputTokens: 10, Status: 200, Endpoint: "/v1/chat/completions",
	}}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	cut := meter.ParseOpenAI(meter.Exchange{Provider: "groq", URL: address, Response: iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(chatAnswer)))})
	if len(cut) != 1 || cut[0].UsageUnknown != meter.UsageCut || cut[0].Provider != "groq" {
		t.Errorf("%+v", cut)
	}
	if calls := meter.ParseOpenAI(meter.Exchange{Method: http.MethodGet, URL: address}); calls != nil {
		t.Errorf("%+v", calls)
	}
	speech, _ := url.Parse("https://api.elevenlabs.io/v1/text-to-speech/v")
	spoken := meter.ParseElevenLabs(meter.Exchange{URL: speech, Request: strings.NewReader(`{"text":"hello","model_id":"eleven_v3"}`), Header: http.Header{"Request-Id": {"r1"}}})
	if len(spoken) != 1 || spoken[0].Characters != 5 || spoken[0].ID != "r1" {
		t.Errorf("%+v", spoken)
	}
}

const batchFile = `{"id":"batch_req_1","custom_id":"a","response":{"status_code":200,"request_id":"req_1","body":{"id":"chatcmpl-1","model":"gpt-4o-2024-08-06","usage":{"prompt_tokens":1000000,"completion_tokens":0,"total_tokens":1000000}}},"error":null}

{"id":"batch_req_2","custom_id":"b","response":{"status_code":200,"request_id":"req_2","body":{"object":"list","data":[{"embedding":[0.1]}],"model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}},"error":null}
{"id":"batch_req_3","custom_id":"c","response":null,"error":{"code":"batch_expired","message":"THISPROMPTISSECRET"}}
{"id":"batch_req_4","custom_id":"d","response":{"status_code":400,"request_id":"req_4","body":{"error":{"code":"context_length_exceeded"}}},"error":null}
not a line
{"id":"batch_req_5","custom_id":"e","response":{"status_code":200,"request_id":"req_5","body":{"id":"resp_5","model":"gpt-5"}}}`

func TestParseBatch(t *testing.T) {
	t.Parallel()
	tracker, _ := newTracker(t, usage.Config{})
	for _, reader := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.DataErrReader, iotest.HalfReader} {
		var got []string
		for line, err := range meter.ParseBatch(reader(strings.NewReader(batchFile))) {
			if err != nil {
				if !errors.Is(err, meter.ErrMalformed) {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprint(line.Line, " malformed"))
				continue
			}
			line.Call.TenantID = "acme"
			line.Call.At = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
			rec, err := tracker.LogOpenAI(t.Context(), line.Call)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(line.Line, " ", line.CustomID, " ", rec.ID, " ", rec.Cost, " ", rec.Error, rec.Unpriced))
		}
		want := []string{
			"1 a chatcmpl-1 1.25 ", "3 b req_2 0.00000008 ", "4 c batch_req_3 0 batch_expired", "5 d req_4 0 context_length_exceeded",
			"6 malformed", "7 e resp_5 0 " + meter.UsageMissing,
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	for line, err := range meter.ParseBatch(strings.NewReader(batchFile)) {
		if err != nil || line.Line != 1 {
			t.Errorf("%+v, %v", line, err)
		}
		break
	}
	broken := errors.New("broken")
	for _, err := range meter.ParseBatch(iotest.ErrReader(broken)) {
		if !errors.Is(err, broken) {
			t.Errorf("error %v", err)
		}
	}
}

func TestParseRealtime(t *testing.T) {
	t.Parallel()
	done := `{"type":"response.done","event_id":"e","response":{"object":"realtime.response","id":"resp_1","status":"completed","usage":{"total_tokens":253,"input_tokens":132,"output_tokens":121,
		"input_token_details":{"text_tokens":119,"audio_tokens":13,"image_tokens":0,"cached_tokens":64,"cached_tokens_details":{"text_tokens":60,"audio_tokens":4}},"output_token_details":{"text_tokens":30,"audio_tokens":91}}}}`
	call, ok := meter.ParseRealtime("gpt-realtime-2025-08-28", []byte(done))
	want := usage.OpenAICall{
		ID: "resp_1", Model: "gpt-realtime-2025-08-28", Endpoint: "/v1/realtime", InputTokens: 132, CachedInputTokens: 64,
		InputAudioTokens: 13, CachedAudioTokens: 4, OutputTokens: 121, OutputAudioTokens: 91,
	}
	if diff := gocmp.Diff(want, call); !ok || diff != "" {
		t.Error(ok, diff)
	}
	for _, event := range []string{`{"type":"response.created","response":{"usage":{"input_tokens":1}}}`, "", "{", done[:200]} {
		if _, ok := meter.ParseRealtime("m", []byte(event)); ok {
			t.Errorf("%s is no end of a response", event)
		}
	}
	if call, ok := meter.ParseRealtime("m", []byte(`{"type":"response.done","response":{"id":"r","usage":null}}`)); !ok || call.UsageUnknown != meter.UsageMissing {
		t.Errorf("%+v", call)
	}
}

func TestParseElevenLabsConversation(t *testing.T) {
	t.Parallel()
	const metadata = `"metadata":{"start_time_unix_secs":1790812800,"call_duration_secs":61,"queue_wait_secs":30,"cost":420,"cost_fiat":0.0812345678901234567,"charging":{"llm_price":1}}`
	tracker, _ := newTracker(t, usage.Config{})
	for _, body := range []string{
		`{"agent_id":"a","conversation_id":"conv_1","status":"done","transcript":[{"message":"` + secretPrompt + `"}],` + metadata + `}`,
		`{"type":"post_call_transcription","event_timestamp":1,"data":{"conversation_id":"conv_1","status":"done",` + metadata + `}}`,
	} {
		call, err := meter.ParseElevenLabsConversation(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		call.TenantID = "acme"
		rec, err := tracker.LogElevenLabs(t.Context(), call)
		if err != nil || rec.ID != "conv_1" || rec.Cost.String() != "0.08123456789" || rec.Unbilled[usage.CallTime] != 61_000 || rec.Unbilled[usage.Credits] != 420 {
			t.Errorf("%+v, %v", rec, err)
		}
	}
	for _, body := range []string{"", "{}", `{"conversation_id":"c","status":"in-progress","metadata":{"cost":1}}`, `{"conversation_id":"c","metadata":{"cost_fiat":"1e50000000"}}`, `{"conversation_id":"c","metadata":{"call_duration_secs":-1}}`} {
		if _, err := meter.ParseElevenLabsConversation(strings.NewReader(body)); !errors.Is(err, meter.ErrMalformed) {
			t.Errorf("%s: %v", body, err)
		}
	}
	call, err := meter.ParseElevenLabsConversation(strings.NewReader(`{"conversation_id":"c","metadata":{"cost_fiat":null}}`))
	if err != nil || call.UsageUnknown != meter.UsageMissing {
		t.Errorf("%+v, %v", call, err)
	}
}

func TestReports(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "[]", `{"usage":{"a":[1e50000000]}}`, `{"usage":{"a":["x"]}}`, `{"usage":{}} x`} {
		if _, err := meter.ParseCharacterStats([]byte(body)); !errors.Is(err, meter.ErrMalformed) {
			t.Errorf("%s: %v", body, err)
		}
	}
	for _, body := range []string{"", "[]", `{"character_count":-1}`, `{"character_limit":1e40}`} {
		if _, err := meter.ParseSubscription([]byte(body)); !errors.Is(err, meter.ErrMalformed) {
			t.Errorf("%s: %v", body, err)
		}
	}
	s, err := meter.ParseSubscription([]byte(`{"tier":"scale","character_count":"17231","character_limit":2000000,"next_character_count_reset_unix":1795132800}`))
	if err != nil || s.CharacterCount != 17231 || !s.ResetsAt.Equal(time.Unix(1795132800, 0)) {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestElevenLabsSocketThatCannotBeRead(t *testing.T) {
	t.Parallel()
	var s meter.ElevenLabsSocket
	s.Sent([]byte(`{"text":"hello"}`))
	s.Sent([]byte("{"))
	if call := s.Call(&url.URL{RawQuery: "model_id=eleven_v3"}); call.UsageUnknown != meter.UsageRequestUnread || call.Characters != 0 {
		t.Errorf("%+v", call)
	}
}
