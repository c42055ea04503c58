package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
)

// newFake answers as OpenAI does.
func newFake() *httptest.Server {
	mux := http.NewServeMux()
	answer := func(path, body string) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("X-Request-Id", "req"+path)
			_, _ = fmt.Fprint(w, body)
		})
	}
	answer("/v1/embeddings", `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,0.2]}],
		"model":"text-embedding-3-small","usage":{"prompt_tokens":1000,"total_tokens":1000}}`)
	answer("/v1/audio/transcriptions", `{"text":"Hello","usage":{"type":"duration","seconds":62}}`)
	answer("/v1/chat/completions", `{"id":"chatcmpl-1","object":"chat.completion","created":1740823200,"model":"gpt-4o-2024-08-06",
		"choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],
		"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10},"service_tier":"default"}`)
	return httptest.NewServer(mux)
}
