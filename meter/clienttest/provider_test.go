package clienttest

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// provider is a fake of OpenAI, and of Azure, that writes down what each attempt used.
type provider struct {
	t      *testing.T
	server *httptest.Server

	mu       sync.Mutex
	script   []script // how the next attempts are answered; the last one is kept
	attempts []attempt
	// read is given after the first chunk of a stream that then waits: the client has it.
	waiting chan struct{}
}

// script is how an attempt is answered.
type script string

const (
	succeed  script = "succeed"
	overload script = "overload" // 429
	break500 script = "break"    // 500
	cut      script = "cut"      // a stream that breaks off after two chunks
	hang     script = "hang"     // two chunks of a stream, or nothing, and then nothing until the client goes away
)

// attempt is what the provider knows of one: it is its own ledger.
type attempt struct {
	ID          string
	Status      int
	Known       bool // the usage has been sent
	Input       int64
	Output      int64
	sentRequest string
}

func newProvider(t *testing.T, answers ...script) *provider {
	t.Helper()
	p := &provider{t: t, script: answers, waiting: make(chan struct{}, 16)}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	p.server.EnableHTTP2 = true
	p.server.StartTLS()
	t.Cleanup(p.server.Close)
	return p
}

// ledger returns what the provider has written down.
func (p *provider) ledger() []attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]attempt(nil), p.attempts...)
}

func (p *provider) note(a attempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempts = append(p.attempts, a)
}

func (p *provider) next() (script, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	answer := p.script[0]
	if len(p.script) > 1 {
		p.script = p.script[1:]
	}
	return answer, len(p.attempts) + 1
}

func (p *provider) serve(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	var asked struct {
		Stream        bool
		StreamOptions struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	if err := json.Unmarshal(body, &asked); err != nil {
		p.t.Errorf("the provider cannot read %s: %v", body, err)
	}
	answer, n := p.next()
	a := attempt{ID: fmt.Sprintf("chatcmpl-%s-%d", strings.ReplaceAll(p.t.Name(), "/", "-"), n), Status: 200, Input: int64(20 + n), Output: int64(10 + n), sentRequest: string(body)}
	w.Header().Set("X-Request-Id", fmt.Sprintf("req-%s-%d", strings.ReplaceAll(p.t.Name(), "/", "-"), n))
	switch {
	case answer == overload || answer == break500:
		p.fail(w, answer, a)
	case answer == hang && !asked.Stream:
		a.ID = ""
		p.note(a)
		p.waiting <- struct{}{}
		<-req.Context().Done()
	case asked.Stream:
		p.stream(w, req, answer, a, asked.StreamOptions.IncludeUsage)
	default:
		a.Known = true
		p.note(a)
		p.write(w, req, a)
	}
}

func (p *provider) fail(w http.ResponseWriter, answer script, a attempt) {
	a.ID, a.Status = w.Header().Get("X-Request-Id"), 429
	code := "rate_limit_exceeded"
	if answer == break500 {
		a.Status, code = 500, "server_error"
	}
	p.note(a)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Retry-After-Ms", "1")
	w.WriteHeader(a.Status)
	_, _ = fmt.Fprintf(w, `{"error":{"message":"later","type":"tokens","param":null,"code":%q}}`, code)
}

func (p *provider) write(w http.ResponseWriter, req *http.Request, a attempt) {
	var to io.Writer = w
	w.Header().Set("Content-Type", "application/json")
	if strings.Contains(req.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close()
		to = z
	}
	_, _ = fmt.Fprintf(to, `{"id":%q,"object":"chat.completion","created":1740823200,"model":"gpt-4o-2024-08-06","choices":[{"index":0,`+
		`"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":%s,"service_tier":"default"}`, a.ID, a.usage())
}

func (a attempt) usage() string {
	return fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}`, a.Input, a.Output, a.Input+a.Output)
}

func (p *provider) stream(w http.ResponseWriter, req *http.Request, answer script, a attempt, withUsage bool) {
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	send := func(choices, usage string) {
		_, _ = fmt.Fprintf(w, `data: {"id":%q,"object":"chat.completion.chunk","created":1740823200,"model":"gpt-4o-2024-08-06",`+
			`"choices":%s,"usage":%s}`+"\n\n", a.ID, choices, usage)
		_ = flush.Flush()
	}
	chunks := 5
	if answer != succeed {
		chunks = 2
		p.note(a) // before the client, which may stop at the first chunk, looks at it
	}
	for i := range chunks {
		send(fmt.Sprintf(`[{"index":0,"delta":{"content":"word%d \"usage\":{\"prompt_tokens\":9} "},"finish_reason":null}]`, i), "null")
	}
	switch answer {
	case cut:
		panic(http.ErrAbortHandler)
	case hang:
		p.waiting <- struct{}{}
		<-req.Context().Done()
		return
	}
	send(`[{"index":0,"delta":{},"finish_reason":"stop"}]`, "null")
	if a.Known = withUsage; withUsage {
		send("[]", a.usage())
	}
	p.note(a)
	_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
}
