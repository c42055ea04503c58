package meter

import (
	"strings"
	"testing"
)

// What is taken off the bound of a reservation is files, however the body is cut. A prompt is never one.
func TestOnlyFilesAreTakenOffTheBound(t *testing.T) {
	t.Parallel()
	const png = "data:image/png;base64,AAAA"
	media := int64(len(png) + 1)
	for _, tt := range []struct {
		name, body string
		want       int64
	}{
		{"a picture of a chat", `{"messages":[{"content":[{"type":"image_url","image_url":{"url":"` + png + `"}}]}]}`, media},
		{"a picture of a response", `{"input":[{"content":[{"type":"input_image","image_url" : "` + png + `"}]}]}`, media},
		{"two files", `{"input":[{"file_data":"data:application/pdf;base64,AA"},{"image_url":"` + png + `"}]}`, media + int64(len(`data:application/pdf;base64,AA"`))},
		{"a picture to change", `{"image":"` + png + `"}`, media},
		{"a slash that is escaped", `{"x":{"url":"data:image\/png;base64,AAAA"}}`, media + 1},
		{"a prompt", `{"messages":[{"role":"user","content":"` + png + `"}]}`, 0},
		{"a prompt that begins so", `{"messages":[{"role":"user","content":"data: word word"}]}`, 0},
		{"a prompt at the top", `{"prompt":"` + png + `","input":"` + png + `","instructions":"` + png + `"}`, 0},
		{"a prompt after the name of a file", `{"messages":["url","` + png + `"]}`, 0},
		{"a part of a list", `{"x":{"url":["` + png + `"]},"image":["` + png + `"]}`, 0},
		{"a name", `{"x":{"url":{"` + png + `":1}}}`, 0},
		{"words at an address", `{"x":{"url":"data:word word"}}`, 0},
		{"words that are no base64", `{"x":{"url":"data:image/png,word"}}`, 0},
		{"a text in base64", `{"x":{"file_data":"data:text/plain;base64,AAAA"}}`, 0},
		{"words in the place of the type", `{"x":{"url":"data:image/a word or two;base64,AAAA"}}`, 0},
		{"an address", `{"x":{"url":"https://example.com/` + png + `"}}`, 0},
	} {
		for at := range len(tt.body) {
			s := newRequestScanner(jsonMedia, "", 1<<20)
			s.write([]byte(tt.body[:at]))
			s.write([]byte(tt.body[at:]))
			if got := s.finish(); got.media != tt.want || !got.complete {
				t.Errorf("%s, cut at %d: %d bytes, want %d, complete %t", tt.name, at, got.media, tt.want, got.complete)
				break
			}
		}
	}
}

func TestAPromptOfALongTextIsBounded(t *testing.T) {
	t.Parallel()
	s := newRequestScanner(jsonMedia, "", 1<<20)
	s.write([]byte(`{"messages":[{"content":"data:` + strings.Repeat("word ", 1000) + `"}]}`))
	if got := s.finish(); got.media != 0 || got.bytes < 5000 {
		t.Errorf("%+v", got)
	}
}
