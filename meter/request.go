package meter

import (
	"mime"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// requestFacts are what a request says that the response may not: they are all that is kept of it.
type requestFacts struct {
	model, tier  string
	stream       bool
	options      bool  // stream_options stands in the body
	optionsAt    int64 // where its members begin
	optionsEmpty bool
	includeUsage string // "", "true" or "false"
	maxOutput    int64
	choices      int64
	speech       int64 // code points of the text to speak
	hasSpeech    bool
	size         string
	quality      string
	length       time.Duration // of the music asked for
	watermark    bool
	elsewhere    bool // the audio is not in the request, which says where it is

	// bytes is the length of the body, decoded, and media how much of it is pictures and the like in the form of text.
	bytes, media int64
	bodyAt       int64 // where the members of the body begin
	complete     bool  // all of it was read, and understood
}

// requestTree is a request to OpenAI or to ElevenLabs: their names do not collide.
var requestTree = &node{field: fBody, kids: []*node{
	{name: "model", field: fModel},
	{name: "model_id", field: fModel},
	{name: "service_tier", field: fTier},
	{name: "stream", field: fStream},
	{name: "stream_options", field: fStreamOptions, kids: []*node{{name: "include_usage", field: fIncludeUsage}}},
	{name: "max_tokens", field: fMaxOutput},
	{name: "max_completion_tokens", field: fMaxOutput},
	{name: "max_output_tokens", field: fMaxOutput},
	{name: "n", field: fChoicesAsked},
	{name: "best_of", field: fChoicesAsked},
	{name: "input", field: fSpeech, counted: true},
	{name: "text", field: fSpeech, counted: true},
	{name: "inputs", elem: &node{kids: []*node{{name: "text", field: fSpeech, counted: true}}}},
	{name: "size", field: fSize},
	{name: "quality", field: fQuality},
	{name: "music_length_ms", field: fMusicLength},
	{name: "composition_plan", kids: []*node{{name: "sections", elem: &node{kids: []*node{{name: "duration_ms", field: fMusicLength}}}}}},
	{name: "watermark", field: fWatermark},
	{name: "cloud_storage_url", field: fElsewhere},
	{name: "source_url", field: fElsewhere},
	{name: "url", field: fElsewhere},
}}

// requestScanner reads a request's body in pieces.
type requestScanner struct {
	facts requestFacts
	json  jsonScanner
	media mediaCounter
	form  *formScanner
	limit int64
	fault bool
}

// newRequestScanner reads bodies of a content type, up to limit bytes of them. A body in another encoding, or of a type
// that is neither JSON nor a form, says nothing.
func newRequestScanner(contentType, encoding string, limit int64) *requestScanner {
	s := &requestScanner{limit: limit}
	s.json = jsonScanner{root: requestTree, sink: s, media: &s.media}
	if contentType == jsonMedia && encoding == "" {
		return s
	}
	media, params, err := mime.ParseMediaType(contentType)
	switch {
	case isEncoded(encoding):
		s.fault = true
	case strings.HasPrefix(media, "multipart/") && params["boundary"] == "":
		s.fault = true
	case strings.HasPrefix(media, "multipart/"):
		s.form = newFormScanner(params["boundary"], s.formValue)
	case err == nil && !isJSON(media):
		s.fault = true
	}
	return s
}

func (s *requestScanner) write(p []byte) {
	s.facts.bytes += int64(len(p))
	switch {
	case s.fault:
	case s.facts.bytes > s.limit:
		s.fault = true
	case s.form != nil:
		s.form.write(p)
	default:
		s.json.consumed = s.facts.bytes - int64(len(p))
		s.json.write(p)
	}
}

// finish returns what was found in the whole body.
func (s *requestScanner) finish() requestFacts {
	f := s.facts
	f.media = s.media.n
	f.complete = !s.fault && (s.form != nil && s.form.done || s.form == nil && s.json.docs == 1 && s.json.between())
	return f
}

func (s *requestScanner) found(f field, k kind, value []byte) {
	switch {
	case f == fBody && k == object:
		s.facts.bodyAt = s.json.offset()
	case f == fStreamOptions && k == object:
		s.facts.options, s.facts.optionsAt = true, s.json.offset()
	case f == fStreamOptions && k == empty:
		s.facts.optionsEmpty = true
	case f == fStreamOptions:
		s.facts.options, s.facts.optionsAt = true, 0
	case f == fSpeech && k == counted:
		n, _ := strconv.ParseInt(string(value), 10, 64)
		s.facts.speech, s.facts.hasSpeech = s.facts.speech+n, true
	case k == text || k == literal:
		s.facts.set(f, string(value))
	}
}

func (s *requestScanner) end() {}

// formValue takes a field of a form, which has the same names.
func (s *requestScanner) formValue(name, value string) {
	n := requestTree.kid([]byte(name))
	switch {
	case n == nil:
	case n.field == fSpeech:
		s.facts.speech, s.facts.hasSpeech = s.facts.speech+int64(utf8.RuneCountInString(value)), true
	default:
		s.facts.set(n.field, value)
	}
}

func (r *requestFacts) set(f field, value string) {
	if value == "null" {
		return
	}
	switch f {
	case fModel:
		r.model = value
	case fTier:
		r.tier = value
	case fStream:
		r.stream = value == "true"
	case fIncludeUsage:
		r.includeUsage = value
	case fMaxOutput:
		r.maxOutput = max(r.maxOutput, countOf(value))
	case fChoicesAsked:
		r.choices = max(r.choices, countOf(value))
	case fSize:
		r.size = value
	case fQuality:
		r.quality = value
	case fMusicLength:
		length, _ := parseMilliseconds([]byte(value))
		r.length += length
	case fWatermark:
		r.watermark = value == "true"
	case fElsewhere:
		r.elsewhere = r.elsewhere || value != ""
	}
}

// countOf is a number of the host's own request: what is none is not there.
func countOf(value string) int64 {
	n, err := parseCount([]byte(value))
	if err != nil {
		return 0
	}
	return n
}
