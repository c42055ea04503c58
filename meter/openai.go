package meter

import (
	"bytes"
	"strings"
	"time"

	"github.com/acf68eca/usage"
)

// openAIReading is what has been found of a response in OpenAI's form so far. What counts is taken from complete
// documents only: a part of a usage is none.
type openAIReading struct {
	id, model, tier      string
	errorCode, errorType string
	images               int64

	used  bool // there is a usage
	times int  // how many documents had one
	final bool // it is the whole call's and not only what was used up to an event of the stream
	last  documentReading
	event string // the type of the last event

	choices  int64 // how many there are to be, as far as is known
	finished int64 // how many have ended

	document documentReading
}

// documentReading is what one document says: a body, or an event of a stream. A response that stands in several events
// is repeated in each, and the last one says it all.
type documentReading struct {
	event      string // the type of an event
	code       string // of an event that is an error
	hasChoices bool

	used  bool
	told  bool // the usage has a count that says how much
	usage openAIUsage
	fault string // what is wrong with the usage

	toolUsage                 bool // the uses of tools are counted by the provider
	webSearches, fileSearches int64
	imageGenTokens            int64
	item, action              string // the type of the output's last item and of what it did
}

// openAIUsage are the numbers of a usage object.
type openAIUsage struct {
	input, output, total                int64
	cached, cacheWrite, cacheWrite12h   int64
	inputAudio, inputImage              int64
	cachedAudio, cachedImage            int64
	reasoning, outputAudio, outputImage int64
	seconds                             time.Duration
	hasOutputDetail                     bool
}

// begin is called where a document begins.
func (r *openAIReading) begin() { r.document = documentReading{} }

// end is called where a document is complete.
func (r *openAIReading) end() {
	d := &r.document
	d.countItem()
	if r.event = d.event; d.event == "error" {
		r.failed(d.code)
	}
	if r.final = false; d.used && (d.told || d.fault != "") { // one that says nothing is none
		r.used, r.last = true, *d
		r.times++
		r.final = r.isFinal(d)
	}
	r.begin()
}

// isFinal reports whether the usage of an event is that of the whole call. Servers may report one with each event, of
// what was used up to it. The last one of a chat has no choices, or their ends; that of other streams is in the event
// that ends them.
func (r *openAIReading) isFinal(d *documentReading) bool {
	switch d.event {
	case "":
		return !d.hasChoices || r.finished >= max(r.choices, 1)
	case "image_generation.completed", "image_edit.completed": // one for each picture
		return int64(r.times) >= r.choices
	}
	return r.terminal()
}

// failed takes an event that is an error of its own, and has no error object.
func (r *openAIReading) failed(code string) {
	if r.errorType == "" {
		r.errorType = "error"
	}
	if code != "" {
		r.errorCode = code
	}
}

// followed is called when more has come behind the last document that was read.
func (r *openAIReading) followed() { r.final = false }

func (r *openAIReading) found(f field, k kind, value []byte) {
	switch {
	case f == fUsage:
		r.document.foundUsage(k, value)
	case f > fUsage && f <= fSeconds:
		r.document.foundNumber(f, k, value)
	case k == element:
		r.foundElement(f)
	case k == text || k == literal || k == tooLong:
		r.foundValue(f, k, value)
	}
}

func (r *openAIReading) foundElement(f field) {
	switch f {
	case fChoices:
		r.document.hasChoices = true
	case fOutputItem:
		r.document.countItem()
	case fImages:
		r.images++
	}
}

func (d *documentReading) foundUsage(k kind, value []byte) {
	switch {
	case k == object:
		d.used, d.told, d.usage, d.fault = true, false, openAIUsage{}, ""
	case k == array || k == text || k == literal && string(value) != "null":
		d.used, d.fault = true, "usage is no object"
	}
}

func (d *documentReading) foundNumber(f field, k kind, value []byte) {
	if f == fUsageType {
		return // "tokens" or "duration": the numbers say the same
	}
	if k != text && k != literal {
		d.note(usageNames[f], errNumber)
		return
	}
	if blank := bytes.TrimSpace(value); len(blank) == 0 || string(blank) == "null" {
		return // not a zero
	}
	switch f {
	case fInput, fOutput, fTotal, fSeconds:
		d.told = true
	}
	if f == fSeconds {
		seconds, err := parseSeconds(value)
		d.usage.seconds = seconds
		d.note(usageNames[f], err)
		return
	}
	n, err := parseCount(value)
	*d.usage.number(f) = n
	d.note(usageNames[f], err)
	d.usage.hasOutputDetail = d.usage.hasOutputDetail || n > 0 && (f == fOutputAudio || f == fOutputImage)
}

func (d *documentReading) note(name string, err error) {
	if err != nil && d.fault == "" {
		d.fault = name + " " + err.Error()
	}
}

var usageNames = map[field]string{
	fInput: "input_tokens", fOutput: "output_tokens", fTotal: "total_tokens", fCached: "cached_tokens",
	fCacheWrite: "cache_write_tokens", fCacheWrite12h: "ttl_12h_tokens", fInputAudio: "audio_tokens",
	fInputImage: "image_tokens", fCachedAudio: "cached audio_tokens", fCachedImage: "cached image_tokens",
	fSeconds: "seconds", fReasoning: "reasoning_tokens", fOutputAudio: "output audio_tokens", fOutputImage: "output image_tokens",
}

func (u *openAIUsage) number(f field) *int64 {
	switch f {
	case fInput:
		return &u.input
	case fOutput:
		return &u.output
	case fTotal:
		return &u.total
	case fCached:
		return &u.cached
	case fCacheWrite:
		return &u.cacheWrite
	case fCacheWrite12h:
		return &u.cacheWrite12h
	case fInputAudio:
		return &u.inputAudio
	case fInputImage:
		return &u.inputImage
	case fCachedAudio:
		return &u.cachedAudio
	case fCachedImage:
		return &u.cachedImage
	case fReasoning:
		return &u.reasoning
	case fOutputAudio:
		return &u.outputAudio
	}
	return &u.outputImage
}

func (r *openAIReading) foundValue(f field, k kind, value []byte) {
	if k == literal && string(value) == "null" {
		return
	}
	switch f {
	case fID:
		setKnown(&r.id, value)
	case fModel:
		setKnown(&r.model, value)
	case fTier:
		setKnown(&r.tier, value)
	case fType:
		set(&r.document.event, value)
	case fCode:
		r.document.code = word(string(value))
	case fErrorCode: // Azure sends a number
		set(&r.errorCode, value)
	case fErrorType:
		set(&r.errorType, value)
	case fChoiceIndex:
		if n, err := parseCount(value); err == nil {
			r.choices = max(r.choices, n+1)
		}
	case fFinish:
		r.finished++
	case fWebSearches, fImageGenTotal:
		r.document.foundTool(f, value)
	case fItemType:
		set(&r.document.item, value)
	case fAction:
		set(&r.document.action, value)
	}
}

// set makes *s the text, without a new string where it is that already: events repeat themselves.
func set(s *string, text []byte) {
	if *s != string(text) {
		*s = string(text)
	}
}

// setKnown is set, but for an empty text: the last chunk of some servers names nothing again.
func setKnown(s *string, text []byte) {
	if len(bytes.TrimSpace(text)) > 0 {
		set(s, text)
	}
}

func (d *documentReading) foundTool(f field, value []byte) {
	n, err := parseCount(value)
	d.note("tool_usage", err)
	if f == fImageGenTotal {
		d.imageGenTokens = n
		return
	}
	d.toolUsage, d.webSearches = true, n
}

// countItem counts the tool that the output's last item used. Servers that do not count web searches themselves, in
// tool_usage, are charged for those that searched; opening a page is none.
func (d *documentReading) countItem() {
	switch {
	case d.item == "web_search_call" && !d.toolUsage && (d.action == "" || d.action == "search"):
		d.webSearches++
	case d.item == "file_search_call":
		d.fileSearches++
	}
	d.item, d.action = "", ""
}

// fill puts what was found into a call.
func (r *openAIReading) fill(c *usage.OpenAICall, e endpoint) {
	u := &r.last.usage
	c.InputTokens, c.OutputTokens = u.input, u.output
	c.CachedInputTokens, c.CachedAudioTokens = u.cached, u.cachedAudio
	c.CacheWriteTokens, c.CacheWrite12hTokens = u.cacheWrite, u.cacheWrite12h
	c.InputAudioTokens, c.ReasoningTokens = u.inputAudio, u.reasoning
	c.OutputAudioTokens, c.OutputImageTokens = u.outputAudio, u.outputImage
	c.Audio = u.seconds
	c.WebSearches, c.FileSearches = r.last.webSearches, r.last.fileSearches
	switch e {
	case images, realtime: // elsewhere images are charged as text
		c.InputImageTokens, c.CachedImageTokens = u.inputImage, u.cachedImage
	case chat, completions, responses:
		c.OutputImageTokens = 0
	}
	if !u.hasOutputDetail {
		switch e { // what has only one kind of output does not name it
		case images:
			c.OutputImageTokens = u.output
		case speech:
			c.OutputAudioTokens = u.output
		}
	}
}

// invalid returns what is wrong with the usage as a whole, "" for nothing. A part above its whole is found by the
// tracker too, and said in the same place here.
func (r *openAIReading) invalid() string {
	u := &r.last.usage
	switch {
	case r.last.fault != "":
		return r.last.fault
	case u.total > 0 && u.total != u.input+u.output:
		return "total_tokens is not the sum of input and output"
	case u.cached > u.input, u.cacheWrite > u.input, u.inputAudio > u.input, u.inputImage > u.input:
		return "a part of the input is more than the input"
	case u.reasoning+u.outputAudio+u.outputImage > u.output:
		return "the parts of the output are more than the output"
	case u.cacheWrite12h > u.cacheWrite, u.cachedAudio > u.inputAudio, u.cachedImage > u.inputImage,
		u.cachedAudio+u.cachedImage > u.cached:
		return "a part of a part is more than that"
	case u.cached+u.cacheWrite+u.inputAudio-u.cachedAudio > u.input:
		return "the parts of the input are more than the input"
	}
	return ""
}

// terminal reports whether the last event ends its stream.
func (r *openAIReading) terminal() bool {
	switch r.event {
	case "response.completed", "response.incomplete", "response.failed", "response.cancelled", "error",
		"transcript.text.done", "speech.audio.done":
		return true
	}
	return false
}

// failure is a word for what went wrong, without the provider's sentence: that may quote the prompt.
func (r *openAIReading) failure() string {
	if code := word(r.errorCode); code != "" {
		return code
	}
	return word(r.errorType)
}

// word returns a code that a provider gives, "" when it is no word but a sentence.
func word(code string) string {
	code = cleaned(code, maxWord)
	if strings.ContainsFunc(code, func(r rune) bool { return r > '~' || r == ' ' || r == '"' }) {
		return ""
	}
	return code
}

const maxWord = 64
