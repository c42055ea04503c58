package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
)

// newFake answers as ElevenLabs does.
func newFake() *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/text-to-speech/voice/stream", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "audio/mpeg")
		w.Header().Set("Request-Id", "req_1")
		w.Header().Set("Character-Cost", "12")
		_, _ = fmt.Fprint(w, "ID3 and so on")
	})
	mux.HandleFunc("GET /v1/convai/conversations/conv_1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"agent_id":"a","conversation_id":"conv_1","status":"done","transcript":[],
			"metadata":{"start_time_unix_secs":1790812800,"call_duration_secs":61,"cost":420,"cost_fiat":0.0812}}`)
	})
	return httptest.NewServer(mux)
}
