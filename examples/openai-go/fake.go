package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
)

// newFake answers as OpenAI does: with an overload first, and then with a completion or a stream.
func newFake() *httptest.Server {
	var calls atomic.Int64
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		n := calls.Add(1)
		w.Header().Set("X-Request-Id", fmt.Sprintf("req_%d", n))
		const head = `"id":"chatcmpl-%d","created":1740823200,"model":"gpt-4o-2024-08-06","service_tier":"default"`
		switch {
		case n == 1:
			w.Header().Set("Retry-After-Ms", "1")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = fmt.Fprint(w, `{"error":{"message":"later","type":"requests","param":null,"code":"rate_limit_exceeded"}}`)
		case strings.Contains(string(body), `"stream":true`):
			w.Header().Set("Content-Type", "text/event-stream")
			for _, word := range []string{"Hello ", "again"} {
				_, _ = fmt.Fprintf(w, "data: {"+head+`,"choices":[{"index":0,"delta":{"content":%q}}],"usage":null}`+"\n\n", n, word)
			}
			if strings.Contains(string(body), `"include_usage":true`) {
				_, _ = fmt.Fprintf(w, "data: {"+head+`,"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}`+"\n\n", n)
			}
			_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, "{"+head+`,"choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],`+
				`"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}`, n)
		}
	}))
}
