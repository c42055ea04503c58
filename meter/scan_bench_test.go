package meter

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
)

// benchStream is a stream of 1,000 chunks as the Chat Completions API sends them, the last of them with the usage.
func benchStream() []byte {
	var b strings.Builder
	head := `"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1741569952,` +
		`"model":"gpt-4o-2024-08-06","service_tier":"default","system_fingerprint":"fp_44709d6fcb"`
	for i := range 999 {
		fmt.Fprintf(&b, "data: {%s,\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word%d\"},\"logprobs\":null,"+
			"\"finish_reason\":null}],\"usage\":null,\"obfuscation\":\"kx8Wd2\"}\n\n", head, i)
	}
	fmt.Fprintf(&b, "data: {%s,\"choices\":[],\"usage\":{\"prompt_tokens\":24,\"completion_tokens\":998,\"total_tokens\":1022,"+
		"\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":0,"+
		"\"audio_tokens\":0,\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}}\n\ndata: [DONE]\n\n", head)
	return []byte(b.String())
}

// BenchmarkStream compares the scanner with what a host would write: each chunk decoded into a struct that has nothing
// but the usage.
func BenchmarkStream(b *testing.B) {
	stream := benchStream()
	for _, size := range []int{4096, 300} {
		b.Run(fmt.Sprintf("reads=%d/scanner", size), func(b *testing.B) {
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				s := newEventScanner(new(openAIReading), false)
				for p := stream; len(p) > 0; {
					n := min(size, len(p))
					s.write(p[:n])
					p = p[n:]
				}
				if r := s.decoder.reading; !s.done || r.last.usage.output != 998 {
					b.Fatal("no usage")
				}
			}
		})
		b.Run(fmt.Sprintf("reads=%d/alternative", size), func(b *testing.B) {
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				if n := decodeEachChunk(b, stream, size); n != 998 {
					b.Fatal("no usage")
				}
			}
		})
	}
}

// pieces reads at most size bytes at a time.
type pieces struct {
	r    io.Reader
	size int
}

func (p pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.size)]) }

func decodeEachChunk(b *testing.B, stream []byte, size int) (output int64) {
	lines := bufio.NewScanner(pieces{bytes.NewReader(stream), size})
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok || string(data) == "[DONE]" {
			continue
		}
		var chunk struct {
			Usage *struct {
				PromptTokens     int64 `json:"prompt_tokens"`
				CompletionTokens int64 `json:"completion_tokens"`
			} `json:"usage"`
		}
		if err := json.Unmarshal(data, &chunk); err != nil {
			b.Fatal(err)
		}
		if chunk.Usage != nil {
			output = chunk.Usage.CompletionTokens
		}
	}
	return output
}

// BenchmarkDocument reads a small response, as each plain call has one.
func BenchmarkDocument(b *testing.B) {
	answer := []byte(`{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1741569952,` +
		`"model":"gpt-4o-2024-08-06","choices":[{"index":0,"message":{"role":"assistant","content":"Hello! How can I help you?",` +
		`"refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":10,` +
		`"total_tokens":29,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,` +
		`"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default"}`)
	b.SetBytes(int64(len(answer)))
	b.ReportAllocs()
	for b.Loop() {
		var r openAIReading
		s := newDocumentScanner(openAITree, &r)
		if s.write(answer); r.last.usage.output != 10 {
			b.Fatal("no usage")
		}
	}
}

// BenchmarkErrorSearch is what looking for errors costs of each piece of a stream, beside the search for everything.
func BenchmarkErrorSearch(b *testing.B) {
	stream := benchStream()
	s := newEventScanner(new(openAIReading), true)
	for _, size := range []int{4096, 300} {
		b.Run(fmt.Sprintf("reads=%d", size), func(b *testing.B) {
			b.SetBytes(int64(len(stream)))
			for b.Loop() {
				for p := stream; len(p) > 0; {
					n := min(size, len(p))
					if s.nextError(p[:n], 0) >= 0 {
						b.Fatal("an error")
					}
					p = p[n:]
				}
			}
		})
	}
}
