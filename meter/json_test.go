package meter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// deaf is a sink for tests of what a scanner keeps.
type deaf struct{}

func (deaf) found(field, kind, []byte) {}
func (deaf) end()                      {}

func listen(root *node, document string) *jsonScanner {
	s := &jsonScanner{root: root, sink: deaf{}}
	s.write([]byte(document))
	return s
}

func TestJSONThatIsNone(t *testing.T) {
	t.Parallel()
	for _, document := range []string{
		`{"usage":}`, `{"usage" {}}`, `{,}`, `{"id":"a",}`, `{"usage":{"prompt_tokens":1]}`, `{"id":nul}`, `{"id":"a"`, `}`, `{"id":'a'}`, `{1:2}`,
		`{"usage":{"prompt_tokens":1`, `nope`, `{"choices":[}`, `{"choices":[1,]}`, `{"id":tru e}`, "",
	} {
		if s := listen(openAITree, document); s.docs > 0 {
			t.Errorf("%s is a document", document)
		}
	}
}

func TestNothingIsKeptOfWhatNobodyWants(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	deep := strings.Repeat(`{"a":[`, 100_000) + strings.Repeat(`]}`, 100_000)
	s := listen(openAITree, `{"choices":"`+long+`","`+long+`":`+deep+`,"id":"`+long+`","model":"m"}`)
	if s.docs != 1 || cap(s.buf) > 2*maxScalar {
		t.Errorf("%d documents, %d bytes kept", s.docs, cap(s.buf))
	}
}

func TestNestingOfWhatIsWantedIsBounded(t *testing.T) {
	t.Parallel()
	deep := &node{field: fID}
	deep.elem = deep
	if s := listen(deep, strings.Repeat("[", 1000)); !s.bad {
		t.Error("no fault")
	}
}

// A text of nothing but backslashes is not searched from each of them to its end.
func TestHostileTextsTakeLinearTime(t *testing.T) {
	t.Parallel()
	s := listen(openAITree, `{"x":"`+strings.Repeat(`\\`, 1<<20)+`"}`)
	if s.docs != 1 {
		t.Error("no document")
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "0 <nil>", "null": "0 <nil>", "19": "19 <nil>", " 19 ": "19 <nil>", "19.0": "19 <nil>", "1.9e1": "19 <nil>", "190e-1": "19 <nil>",
		"1000000000000000": "1000000000000000 <nil>", "1000000000000001": "0 " + errCount.Error(), "-1": "0 " + errCount.Error(),
		"1.5": "0 " + errCount.Error(), "x": "0 " + errNumber.Error(), "1e50000000": "0 " + errNumber.Error(), "1e-50000000": "0 " + errNumber.Error(),
		"0x10": "0 " + errNumber.Error(), "1_000": "0 " + errNumber.Error(), "NaN": "0 " + errNumber.Error(), "Infinity": "0 " + errNumber.Error(),
		".5": "0 " + errNumber.Error(), "5.": "0 " + errNumber.Error(), strings.Repeat("1", 100): "0 " + errNumber.Error(), "1e": "0 " + errNumber.Error(),
	} {
		n, err := parseCount([]byte(text))
		if got := fmt.Sprint(n, err); got != strings.ReplaceAll(want, " ", "") && got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
	for text, want := range map[string]time.Duration{"125.5": 125500 * time.Millisecond, "0.0001": time.Millisecond, "0": 0, "61.47000122070312": 61471 * time.Millisecond} {
		if d, err := parseSeconds([]byte(text)); d != want || err != nil {
			t.Errorf("%s s is %s, %v", text, d, err)
		}
	}
	for _, text := range []string{"-0.1", "1e10", "x"} {
		if _, err := parseSeconds([]byte(text)); err == nil {
			t.Errorf("%s is a length", text)
		}
	}
}

// standardResponse is what the standard library reads of a response.
type standardResponse struct {
	ID, Model string
	Usage     *struct {
		Prompt     *int64 `json:"prompt_tokens"`
		Completion *int64 `json:"completion_tokens"`
		Details    *struct {
			Cached *int64 `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	}
}

func documents() []string {
	return []string{
		`{"id":"chatcmpl-1","model":"gpt-4o","choices":[{"message":{"content":"\"usage\":{"}}],"usage":{"prompt_tokens":19,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":3}}}`,
		`{"usage":null,"id":"\u00e9\ud83e\udd8a\\\"","model":""}`, `[]`, `{}`, ` {"a" : [ 1 , -2.5e3, true, {"b":{}} ] , "id" : "x"} `,
		`{"usage":{"prompt_tokens":null,"completion_tokens":0,"prompt_tokens_details":null}}`, `{"id":"a","id":"b","usage":{"prompt_tokens":1},"usage":{"prompt_tokens":2}}`,
	}
}

// FuzzDocument compares the scanner with the standard library, wherever a valid document is cut.
func FuzzDocument(f *testing.F) {
	for _, d := range documents() {
		f.Add([]byte(d), uint16(7))
	}
	f.Fuzz(func(t *testing.T, document []byte, cut uint16) {
		at := int(cut) % (len(document) + 1)
		var whole, cutUp openAIReading
		first, second := newDocumentScanner(openAITree, &whole), newDocumentScanner(openAITree, &cutUp)
		first.write(document)
		second.write(document[:at])
		second.write(document[at:])
		if diff := cmp.Diff(fmt.Sprintf("%+v", whole), fmt.Sprintf("%+v", cutUp)); diff != "" {
			t.Fatalf("cut at %d (-whole +cut):\n%s", at, diff)
		}
		if cap(first.buf) > 4*maxScalar {
			t.Errorf("%d bytes kept", cap(first.buf))
		}
		compareWithStandard(t, document, &whole, first.docs)
	})
}

// compareWithStandard compares what both take for a document. Names that differ only in case are the same to the standard
// library, and numbers in texts are none.
func compareWithStandard(t *testing.T, document []byte, got *openAIReading, docs int) {
	t.Helper()
	var want standardResponse
	text := string(document)
	if !utf8.ValidString(text) || strings.Contains(text, `\`) || json.Unmarshal(document, &want) != nil || hasOtherCase(text) {
		return
	}
	if !strings.HasPrefix(strings.TrimSpace(text), "{") {
		return
	}
	if docs != 1 {
		t.Fatalf("%d documents in %s", docs, document)
	}
	isEmpty := want.Usage != nil && want.Usage.Prompt == nil && want.Usage.Completion == nil // which may be none
	isRepeated := strings.Count(text, `"usage"`) > 1                                         // which the standard library adds up, and here the last one counts
	if (want.Usage != nil) != got.used && !isEmpty && !isRepeated && !strings.Contains(text, "null") {
		t.Errorf("usage %t in %s", got.used, document)
	}
	if want.Usage == nil || got.last.fault != "" || isRepeated || strings.Count(text, "tokens") > 4 || !got.used {
		return
	}
	if p := want.Usage.Prompt; p != nil && *p != got.last.usage.input && *p >= 0 && *p <= maxCount && strings.Count(text, "prompt_tokens\"") == 1 && !strings.Contains(text, "input_tokens") {
		t.Errorf("input %d, want %d: %s", got.last.usage.input, *p, document)
	}
}

func hasOtherCase(text string) bool {
	lower := strings.ToLower(text)
	for _, name := range []string{`"id"`, `"model"`, `"usage"`, "prompt_tokens", "completion_tokens", "cached_tokens"} {
		if strings.Count(lower, name) != strings.Count(text, name) {
			return true
		}
	}
	return false
}

// FuzzRequest counts the text to speak as the standard library reads it, wherever the body is cut.
func FuzzRequest(f *testing.F) {
	f.Add("naïve café 🦊", "tts-1", uint16(3))
	f.Add("\"\\\n\u2028 </b>", "data:x", uint16(40))
	f.Add("\xff\U0010ffff", "", uint16(9))
	f.Fuzz(func(t *testing.T, spoken, model string, cut uint16) {
		body, err := json.Marshal(map[string]any{"input": spoken, "model": model, "messages": []string{spoken}, "stream": true})
		if err != nil {
			t.Fatal(err)
		}
		at := int(cut) % (len(body) + 1)
		s := newRequestScanner("application/json", "", 1<<20)
		s.write(body[:at])
		s.write(body[at:])
		got := s.finish()
		var decoded struct{ Input, Model string }
		if err := json.Unmarshal(body, &decoded); err != nil {
			t.Fatal(err)
		}
		want := int64(utf8.RuneCountInString(decoded.Input))
		if !got.complete || got.speech != want || !got.stream || got.bytes != int64(len(body)) || body[got.bodyAt-1] != '{' {
			t.Errorf("%+v, want %d characters of %s", got, want, body)
		}
		if len(decoded.Model) <= maxScalar/6 && got.model != decoded.Model {
			t.Errorf("model %q, want %q", got.model, decoded.Model)
		}
	})
}

// FuzzForm reads hostile forms, wherever they are cut, and holds little of them.
func FuzzForm(f *testing.F) {
	f.Add([]byte("--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\r\n--\r\n--b--\r\n"), uint16(20))
	f.Add([]byte("--b\r\n\r\n\r\n--b\r\nx: y\r\n\r\nz\r\n--b--"), uint16(3))
	f.Add([]byte("--b--"), uint16(1))
	f.Fuzz(func(t *testing.T, body []byte, cut uint16) {
		read := func(pieces ...[]byte) (facts requestFacts) {
			s := newRequestScanner("multipart/form-data; boundary=b", "", 1<<20)
			for _, piece := range pieces {
				s.write(bytes.Clone(piece))
				if held := cap(s.form.held); held > 64<<10 {
					t.Errorf("holds %d bytes", held)
				}
			}
			return s.finish()
		}
		at := int(cut) % (len(body) + 1)
		if diff := cmp.Diff(fmt.Sprintf("%+v", read(body)), fmt.Sprintf("%+v", read(body[:at], body[at:]))); diff != "" {
			t.Errorf("cut at %d (-whole +cut):\n%s", at, diff)
		}
	})
}

// FuzzGunzip decodes what may be gzip, wherever it is cut, as the standard library does in one go.
func FuzzGunzip(f *testing.F) {
	for _, text := range []string{"", "hello", strings.Repeat("usage", 10_000)} {
		f.Add(compressed(text), uint16(9), false)
		f.Add(compressed(text), uint16(30), true)
	}
	f.Fuzz(func(t *testing.T, body []byte, cut uint16, stops bool) {
		decode := func(pieces ...[]byte) string {
			var out bytes.Buffer
			write := func(p []byte) bool {
				out.Write(p[:min(len(p), 1<<20-min(out.Len(), 1<<20))])
				return true
			}
			g := newGunzipper()
			defer g.close()
			for _, piece := range pieces {
				g.write(piece, write)
			}
			if !stops {
				g.end(write)
			}
			return out.String()
		}
		at := int(cut) % (len(body) + 1)
		if whole, cutUp := decode(body), decode(body[:at], body[at:]); whole != cutUp {
			t.Errorf("cut at %d: %q, %q", at, whole, cutUp)
		}
	})
}

// FuzzNumber reads what may be a number in bounded time and never as what it is not.
func FuzzNumber(f *testing.F) {
	for _, text := range []string{"1", "1.5", "1e50000000", "-0", "null", "", "1e-40", "00012", "9223372036854775808"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := parseCount(text)
		if n < 0 || n > maxCount || err != nil && n != 0 {
			t.Errorf("%q is %d, %v", text, n, err)
		}
		if d, err := parseSeconds(text); d < 0 || err != nil && d != 0 {
			t.Errorf("%q is %s, %v", text, d, err)
		}
		var want int64
		if json.Unmarshal(text, &want) == nil && want >= 0 && want <= maxCount && strings.TrimSpace(string(text)) != "null" && n != want {
			t.Errorf("%q is %d, want %d", text, n, want)
		}
	})
}
