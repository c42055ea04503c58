package meter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// naiveStream is what an event stream says by its specification, read as simply as it can be: event by event, each
// decoded whole.
type naiveStream struct {
	Input, Output, Cached int64
	Used, Done            bool
}

func readNaively(stream []byte) (n naiveStream) {
	var data []string
	stream = bytes.TrimPrefix(stream, []byte(byteOrderMark))
	flush := func() {
		if len(data) > 0 {
			n.event(strings.Join(data, "\n"))
		}
		data = nil
	}
	for line := range strings.SplitSeq(string(stream), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			flush()
			continue
		}
		if rest, ok := strings.CutPrefix(line, "data:"); ok {
			rest = strings.TrimPrefix(rest, " ")
			n.Done = n.Done || rest == "[DONE]"
			data = append(data, rest)
		}
	}
	flush()
	return n
}

func (n *naiveStream) event(data string) {
	for d := json.NewDecoder(strings.NewReader(data)); ; {
		var members map[string]json.RawMessage
		if d.Decode(&members) != nil {
			return
		}
		n.usage(members["usage"])
		var typ string
		_ = json.Unmarshal(members["type"], &typ)
		n.Done = n.Done || (&openAIReading{event: typ}).terminal()
		var response map[string]json.RawMessage
		_ = json.Unmarshal(members["response"], &response)
		n.usage(response["usage"])
	}
}

func (n *naiveStream) usage(raw json.RawMessage) {
	var u map[string]json.RawMessage
	if json.Unmarshal(raw, &u) != nil || u == nil {
		return
	}
	n.Used, n.Input, n.Output, n.Cached = true, whole(u["prompt_tokens"]), whole(u["completion_tokens"]), 0
	var details map[string]json.RawMessage
	_ = json.Unmarshal(u["prompt_tokens_details"], &details)
	n.Cached = whole(details["cached_tokens"])
}

func whole(raw json.RawMessage) (n int64) {
	_ = json.Unmarshal(raw, &n)
	return n
}

func scanned(s *eventScanner) naiveStream {
	r := s.decoder.reading
	return naiveStream{
		Input: r.last.usage.input, Output: r.last.usage.output, Cached: r.last.usage.cached, Used: r.used, Done: s.done,
	}
}

// scanPieces scans the stream in pieces that end at the given places.
func scanPieces(stream []byte, typed bool, ends ...int) *eventScanner {
	s := newEventScanner(new(openAIReading), typed)
	from := 0
	for _, end := range append(ends, len(stream)) {
		piece := bytes.Clone(stream[from:end]) // a reader uses its buffer again
		s.write(piece)
		clear(piece)
		from = end
	}
	s.finish()
	return s
}

const usageChunk = `{"id":"chatcmpl-1","model":"gpt-4o-2024-08-06","choices":[],"usage":{"prompt_tokens":24,"completion_tokens":17,"total_tokens":41,"prompt_tokens_details":{"cached_tokens":5}}}`

// streams are what streams can look like, by what is difficult about them.
func streams() map[string]string {
	chunk := `data: {"id":"chatcmpl-1","model":"gpt-4o-2024-08-06","choices":[{"delta":{"content":"Hi"}}],"usage":null}` + "\n\n"
	lastChunk := "data: " + usageChunk + "\n\ndata: [DONE]\n\n"
	return map[string]string{
		"the chunk of the usage comes last":      chunk + chunk + lastChunk,
		"a byte order mark comes before":         byteOrderMark + chunk + lastChunk,
		"a part of a byte order mark does":       byteOrderMark[:2] + chunk + lastChunk,
		"a byte order mark begins a later event": chunk + byteOrderMark + lastChunk,
		"lines end with CRLF":                    strings.ReplaceAll(chunk+chunk+lastChunk, "\n", "\r\n"),
		"there is white space around the name":   chunk + strings.Replace(lastChunk, `"usage":`, "\"usage\" \t:  ", 1),
		"there is no space after the field name": strings.ReplaceAll(chunk+lastChunk, "data: ", "data:"),
		"comments and other fields come between": ": keep-alive\n\n" + chunk + ": keep-alive\nevent: x\nid: 7\nretry: 10\n" + lastChunk,
		"the usage stands on lines of its own":   "data: {\"id\":\"a\",\ndata: \"usage\"\ndata: :\ndata: {\"prompt_tokens\": 24,\ndata: \"completion_tokens\":17}}\n\ndata: [DONE]\n\n",
		"the model writes the name":              strings.Replace(chunk, "Hi", `\"usage\":{\"prompt_tokens\":9}`, 1) + lastChunk,
		"the model writes the name alone":        strings.Replace(chunk, "Hi", `usage`, 1) + lastChunk,
		"the model writes the end mark":          strings.Replace(chunk, "Hi", `[DONE]`, 1) + chunk,
		"a tool has a parameter of the name":     `data: {"type":"response.created","response":{"tools":[{"parameters":{"properties":{"usage":{"prompt_tokens":9}}}}],"usage":null}}` + "\n\n",
		"a name ends with an escaped quote":      `data: {"x\"usage":{"prompt_tokens":9}}` + "\n\n" + lastChunk,
		"the usage is in the response":           `data: {"type":"response.completed","response":{"id":"resp_1","usage":{"prompt_tokens":3,"completion_tokens":4}}}` + "\n\n",
		"the response failed":                    `data: {"type":"response.failed","response":{"id":"resp_1","usage":null}}` + "\n\n",
		"each chunk has the usage so far":        strings.Replace(chunk, "null", `{"prompt_tokens":24,"completion_tokens":1}`, 1) + strings.Replace(chunk, "null", `{"prompt_tokens":24,"completion_tokens":2}`, 1),
		"the stream is cut in the usage":         chunk + lastChunk[:len(lastChunk)-60],
		"it is no JSON":                          "data: {\"usage\":{\"prompt_tokens\":1\n\ndata: }}{\"usage\":{}\n\n" + lastChunk,
		"a line is a megabyte long":              `data: {"type":"response.completed","response":{"output":"` + strings.Repeat("x", 1<<20) + `","usage":{"prompt_tokens":3,"completion_tokens":4}}}` + "\n\n" + lastChunk,
		"a comment is a megabyte long":           ":" + strings.Repeat(" usage\"", 1<<17) + "\n" + lastChunk,
		"blank lines come before":                "\n\r\n\n" + chunk + "\n\n\n" + lastChunk,
		"a blank line ends in the middle":        "data: 1\n\r\r\ndata: {\"usage\":{}}\n\r\n\n" + lastChunk,
		"the last event has no end":              chunk + strings.TrimRight(lastChunk, "\n"),
		"two documents are in one event":         "data: {\"id\":\"a\"}\ndata: " + usageChunk + "\ndata: [DONE]\n\n",
		"it is empty":                            "",
	}
}

func TestAStreamIsReadAsItsSpecificationSays(t *testing.T) {
	t.Parallel()
	for name, stream := range streams() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := readNaively([]byte(stream))
			step := max(1, len(stream)*len(stream)/2_000_000)
			for at := 0; at <= len(stream); at += step {
				if diff := cmp.Diff(want, scanned(scanPieces([]byte(stream), true, at))); diff != "" {
					t.Fatalf("cut at %d (-want +got):\n%s", at, diff)
				}
			}
			var each []int
			for at := range min(len(stream), 1<<14) {
				each = append(each, at)
			}
			if diff := cmp.Diff(want, scanned(scanPieces([]byte(stream), true, each...))); diff != "" {
				t.Errorf("byte by byte (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAStreamsModelAndIDAreThoseOfItsFirstEventsThatNameThem(t *testing.T) {
	t.Parallel()
	filters := `data: {"id":"","model":"","choices":[],"prompt_filter_results":[]}` + "\n\n"
	named := `data: {"id":"chatcmpl-9","model":"gpt-4o-2024-08-06","service_tier":"flex","choices":[]}` + "\n\n"
	s := scanPieces([]byte(filters+named+named), false, 50)
	if r := s.decoder.reading; r.id != "chatcmpl-9" || r.model != "gpt-4o-2024-08-06" || r.tier != "flex" {
		t.Errorf("read %q, %q, %q", r.id, r.model, r.tier)
	}
}

func TestAScannerHoldsLittle(t *testing.T) {
	t.Parallel()
	stream := []byte(streams()["a line is a megabyte long"])
	s := newEventScanner(new(openAIReading), true)
	for len(stream) > 0 {
		n := min(300, len(stream))
		s.write(stream[:n])
		stream = stream[n:]
		if held := cap(s.held) + cap(s.decoder.json.buf); held > 2*maxHeld {
			t.Fatalf("holds %d bytes", held)
		}
	}
}

func FuzzEvents(f *testing.F) {
	for _, stream := range streams() {
		if len(stream) < 1<<16 {
			f.Add([]byte(stream), uint64(7), true)
			f.Add([]byte(stream), uint64(1), false)
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64, typed bool) {
		random := rand.New(rand.NewPCG(seed, 1))
		var ends []int
		for at := 0; len(stream) > 0 && at < len(stream); at += 1 + random.IntN(1+random.IntN(len(stream))) {
			ends = append(ends, at)
		}
		pieces := scanPieces(stream, typed, ends...)
		whole := scanPieces(stream, typed)
		if diff := cmp.Diff(scanned(whole), scanned(pieces)); diff != "" {
			t.Errorf("in pieces %v (-whole +pieces):\n%s", ends, diff)
		}
		if w, p := whole.decoder.reading, pieces.decoder.reading; w.final != p.final || w.failure() != p.failure() {
			t.Errorf("in pieces %v: final %t, %q; whole %t, %q", ends, p.final, p.failure(), w.final, w.failure())
		}
		if held := cap(pieces.held) + cap(pieces.decoder.json.buf); held > 2*maxHeld {
			t.Errorf("holds %d bytes", held)
		}
	})
}

// A stream of chunks that an encoder makes is read as its specification says, wherever it is cut.
func FuzzEncodedStream(f *testing.F) {
	f.Add("Hello", "usage", int64(24), int64(17), uint16(40), true, false)
	f.Add(`"usage":{"prompt_tokens":1}`, "x\\", int64(0), int64(1), uint16(500), false, true)
	f.Add("[DONE]\n\n", "DONE]", int64(9), int64(2), uint16(3), true, true)
	f.Fuzz(func(t *testing.T, content, name string, in, out int64, cut uint16, usage, returns bool) {
		var b strings.Builder
		event := func(v any) {
			encoded, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "data: %s\n\n", encoded)
		}
		if name == "type" || name == "response" || name == "usage" {
			name += "_"
		}
		event(map[string]any{"id": "a", "model": "m", name: content, "choices": []any{map[string]any{"usage": map[string]any{name: content}}}, "usage": nil})
		event(map[string]any{"id": "a", "model": "m", "delta": map[string]any{"content": content, "usage": name}})
		if usage {
			event(map[string]any{"x": content, "usage": map[string]any{"prompt_tokens": in, name: content, "completion_tokens": out}})
		}
		b.WriteString("data: [DONE]\n\n")
		stream := b.String()
		if returns {
			stream = strings.ReplaceAll(stream, "\n", "\r\n")
		}
		got := scanned(scanPieces([]byte(stream), false, int(cut)%(len(stream)+1)))
		want := naiveStream{Done: true, Used: usage}
		if usage && in >= 0 && in <= maxCount {
			want.Input = in
		}
		if usage && out >= 0 && out <= maxCount {
			want.Output = out
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s\n%s", diff, stream)
		}
	})
}
