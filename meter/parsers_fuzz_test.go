package meter_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/acf68eca/usage/meter"
)

// addFixtures makes the payloads of a provider the seeds of a target.
func addFixtures(f *testing.F, provider string, add func(body []byte)) {
	f.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "fixtures", provider, "*"))
	if err != nil || len(paths) == 0 {
		f.Fatalf("no fixtures: %v", err)
	}
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		add(body)
	}
}

// FuzzOpenAI parses hostile exchanges the same whole and byte by byte.
func FuzzOpenAI(f *testing.F) {
	addFixtures(f, "openai", func(body []byte) {
		f.Add("/v1/chat/completions", "application/json", []byte(`{"model":"gpt-4o","stream":true}`), body)
		f.Add("/v1/responses", "text/event-stream", []byte(`{}`), body)
		f.Add("/v1/images/generations", "", body, body)
	})
	f.Fuzz(func(t *testing.T, path, contentType string, request, response []byte) {
		parse := func(oneByOne bool) any {
			x := meter.Exchange{
				URL: &url.URL{Path: path}, Header: http.Header{"Content-Type": {contentType}},
				Request: bytes.NewReader(request), Response: bytes.NewReader(response),
			}
			if oneByOne {
				x.Request, x.Response = iotest.OneByteReader(x.Request), iotest.OneByteReader(x.Response)
			}
			return meter.ParseOpenAI(x)
		}
		if diff := gocmp.Diff(parse(false), parse(true)); diff != "" {
			t.Errorf("(-whole +byte by byte):\n%s", diff)
		}
	})
}

// FuzzElevenLabs parses hostile exchanges the same whole and byte by byte.
func FuzzElevenLabs(f *testing.F) {
	addFixtures(f, "elevenlabs", func(body []byte) {
		f.Add("/v1/text-to-speech/v", "100", body, body)
		f.Add("/v1/speech-to-text", "", body, body)
	})
	f.Fuzz(func(t *testing.T, path, cost string, request, response []byte) {
		parse := func(oneByOne bool) any {
			x := meter.Exchange{
				URL: &url.URL{Path: path}, Header: http.Header{"Content-Type": {"application/json"}, "Character-Cost": {cost}},
				Request: bytes.NewReader(request), Response: bytes.NewReader(response),
			}
			if oneByOne {
				x.Request, x.Response = iotest.OneByteReader(x.Request), iotest.OneByteReader(x.Response)
			}
			return meter.ParseElevenLabs(x)
		}
		if diff := gocmp.Diff(parse(false), parse(true), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("(-whole +byte by byte):\n%s", diff)
		}
	})
}

// FuzzBatch parses hostile files the same whole and byte by byte.
func FuzzBatch(f *testing.F) {
	f.Add([]byte(batchFile))
	f.Add([]byte("{}\n\n[]\r\n{\"response\":{\"status_code\":1e9}}"))
	f.Fuzz(func(t *testing.T, file []byte) {
		parse := func(r io.Reader) (lines []meter.BatchLine) {
			for line, err := range meter.ParseBatch(r) {
				if err != nil && !errors.Is(err, meter.ErrMalformed) {
					t.Error(err)
				}
				lines = append(lines, line)
			}
			return lines
		}
		whole, single := parse(bytes.NewReader(file)), parse(iotest.OneByteReader(bytes.NewReader(file)))
		if diff := gocmp.Diff(whole, single); diff != "" {
			t.Errorf("(-whole +byte by byte):\n%s", diff)
		}
		if n := strings.Count(string(file), "\n") + 1; len(whole) > n {
			t.Errorf("%d lines of %d", len(whole), n)
		}
	})
}

func FuzzRealtime(f *testing.F) {
	f.Add([]byte(`{"type":"response.done","response":{"id":"r","usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}}`))
	f.Add([]byte(`{"type":"response.done","usage":[]}`))
	f.Fuzz(func(t *testing.T, event []byte) {
		call, ok := meter.ParseRealtime("m", event)
		if ok && call.UsageUnknown != "" && (call.InputTokens != 0 || call.OutputTokens != 0) {
			t.Errorf("%+v", call)
		}
	})
}

func FuzzConversation(f *testing.F) {
	f.Add([]byte(`{"conversation_id":"c","status":"done","metadata":{"call_duration_secs":61,"cost":1.5,"cost_fiat":"0.08"}}`))
	f.Add([]byte(`{"data":{"conversation_id":"c","metadata":{"cost_fiat":1e40,"start_time_unix_secs":9999999999}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		whole, err := meter.ParseElevenLabsConversation(bytes.NewReader(body))
		single, errSingle := meter.ParseElevenLabsConversation(iotest.OneByteReader(bytes.NewReader(body)))
		if (err == nil) != (errSingle == nil) || err == nil && !gocmp.Equal(whole, single) {
			t.Errorf("%+v, %v; %+v, %v", whole, err, single, errSingle)
		}
		if err == nil && (whole.CallTime < 0 || whole.Credits < 0) {
			t.Errorf("%+v", whole)
		}
	})
}

func FuzzSmartfloWebhook(f *testing.F) {
	addFixtures(f, "smartflo", func(body []byte) { f.Add("application/json", body) })
	f.Add("application/x-www-form-urlencoded", []byte("call_id=1&billsec=1:00:01&start_stamp=1778223893&direction=$direction&x+=%20y"))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		event, err := meter.ParseSmartfloWebhook(contentType, body)
		if err != nil {
			return
		}
		if call, err := event.Call(); err == nil && (call.ID == "" || call.Duration < 0 || call.At.IsZero()) {
			t.Errorf("%+v", call)
		}
	})
}

func FuzzSmartfloPage(f *testing.F) {
	f.Add([]byte(callPage))
	f.Add([]byte(`{"results":[{"call_id":1,"answered_seconds":"00:00:09","date":"2026-05-08","time":"00:00:00"},{}]}`))
	f.Fuzz(func(t *testing.T, page []byte) {
		for event, err := range meter.ParseSmartfloPage(bytes.NewReader(page)) {
			if err != nil {
				return
			}
			if call, err := event.Call(); err == nil && call.Duration < 0 {
				t.Errorf("%+v", call)
			}
		}
	})
}

func FuzzReports(f *testing.F) {
	addFixtures(f, "elevenlabs", func(body []byte) { f.Add(body) })
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _ = meter.ParseCharacterStats(body)
		if s, err := meter.ParseSubscription(body); err == nil && (s.CharacterCount < 0 || s.CharacterLimit < 0) {
			t.Errorf("%+v", s)
		}
		var socket meter.ElevenLabsSocket
		socket.Sent(body)
		if call := socket.Call(&url.URL{}); call.Characters < 0 {
			t.Errorf("%+v", call)
		}
	})
}
