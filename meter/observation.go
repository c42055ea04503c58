package meter

import (
	"net/http"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/acf68eca/usage"
)

// Why nobody knows what a call used, as it stands in Record.Unpriced. The words stay the same, so that hosts can group
// by them; those of UsageInvalid are followed by what is wrong.
const (
	// UsageMissing: the response is whole and says nothing of its usage, as a streamed chat completion does unless it was
	// asked for it: see Config.AskForUsage.
	UsageMissing = "the response reports no usage"
	// UsageCut: the response broke off before its usage.
	UsageCut = "the response was cut before its usage"
	// UsageMalformed: the response is not the JSON that it should be.
	UsageMalformed = "the response is malformed"
	// UsageAbandoned: the host closed the response before its usage was read.
	UsageAbandoned = "the response was closed before its usage"
	// UsageCancelled: the request's context ended before the usage was read.
	UsageCancelled = "the context ended before the usage"
	// UsageTooLong: the usage did not come within Config.ResponseLimit.
	UsageTooLong = "the response was too long to be read for its usage"
	// UsageEncoded: the response has a content encoding other than gzip.
	UsageEncoded = "the response has an encoding that cannot be read"
	// UsageRequestUnread: what is charged stands in the request, which was longer than Config.RequestLimit or could not
	// be read.
	UsageRequestUnread = "the request could not be read for what is charged"
	// UsageInvalid: the response reports a usage that contradicts itself or has numbers that are none.
	UsageInvalid = "invalid usage"
	// UsageNoResponse: the request was sent and no response came, which does not say that it was not worked on.
	UsageNoResponse = "no response came"
	// UsageUnknownEndpoint: the endpoint is none that the meter knows.
	UsageUnknownEndpoint = "the meter does not know this endpoint"
	// UsageImageTool: the response used a tool that makes images, and does not name the model that is charged.
	UsageImageTool = "the model of the image tool is not reported"
)

// ending is what ended a response.
type ending uint8

const (
	endOfBody ending = iota
	endTerminal
	endClosed
	endBroken
	endContext
	endNoResponse
)

// observation is one exchange with a provider as it goes by: what has been found of its request and response so far. It
// keeps no part of either but names, numbers and ids.
type observation struct {
	provider string
	api      API
	endpoint endpoint
	path     string
	request  requestFacts

	status     int
	requestID  string
	credits    int64
	hasCredits bool
	fault      string // what is wrong with the head

	openAI openAIReading
	eleven elevenReading
	body   bodyScanner
	seen   int64 // bytes of the response
}

// characterCost is the header in which ElevenLabs says how many credits it charged.
const characterCost = "Character-Cost"

// begins reads the head of a response. limit bounds how much of its body is scanned.
func (o *observation) begins(status int, h http.Header, limit int64) {
	if o.status = status; status > maxStatus { // none that a ledger knows: it failed
		o.status = maxStatus
		o.openAI.errorCode, o.eleven.failure = "http_status_"+strconv.Itoa(status), "http_status_"+strconv.Itoa(status)
	}
	o.requestID = requestID(h)
	if cost := header(h, characterCost); cost != "" && o.api == ElevenLabs {
		n, err := parseCredits([]byte(cost))
		if o.credits, o.hasCredits = n, err == nil; err != nil {
			o.fault = "character-cost " + err.Error()
		}
	}
	o.body = o.newBodyScanner(h, limit)
}

const maxStatus = 599

// requestID is the provider's name for the exchange.
func requestID(h http.Header) string {
	for _, name := range [...]string{"X-Request-Id", "Request-Id", "Apim-Request-Id"} {
		if id := cleaned(header(h, name), maxName); id != "" {
			return id
		}
	}
	return ""
}

// callID is the provider's id of the response, else its id of the request, else empty: one is made then.
func (o *observation) callID(response string) string {
	if id := cleaned(response, maxName); id != "" {
		return id
	}
	return o.requestID
}

// openAICalls makes the calls of an exchange that has ended: one, and another for images that a tool made.
func (o *observation) openAICalls(end ending) []usage.OpenAICall {
	r := &o.openAI
	call := usage.OpenAICall{
		ID: o.callID(r.id), Model: o.openAIModel(), ServiceTier: condition(r.tier), Endpoint: o.path, Status: o.status,
	}
	if o.provider != usage.OpenAI {
		call.Provider = o.provider
	}
	if o.status >= 400 || r.failure() != "" {
		call.Error = r.failure()
	}
	if call.UsageUnknown = o.openAIUnknown(end); call.UsageUnknown != "" {
		return []usage.OpenAICall{call}
	}
	if r.used {
		r.fill(&call, o.endpoint)
	}
	if o.status < 400 {
		o.fillFromRequest(&call)
	}
	if tool, ok := r.toolCall(call); ok {
		return []usage.OpenAICall{call, tool}
	}
	return []usage.OpenAICall{call}
}

// toolCall makes the call of the images that a tool of a call made.
func (r *openAIReading) toolCall(of usage.OpenAICall) (tool usage.OpenAICall, ok bool) {
	if r.last.imageGenTokens == 0 || of.UsageUnknown != "" {
		return tool, false
	}
	tool = usage.OpenAICall{
		ID: of.ID, Provider: of.Provider, Batch: of.Batch, Endpoint: of.Endpoint, Status: of.Status, UsageUnknown: UsageImageTool,
	}
	if tool.ID != "" {
		tool.ID = cleaned(tool.ID+"/image_gen", maxName)
	}
	return tool, true
}

// openAIModel is the model that the response names, else the one asked for, else the deployment.
func (o *observation) openAIModel() string {
	for _, model := range [...]string{o.openAI.model, o.request.model, deployment(o.path)} {
		if model = cleaned(model, maxName); model != "" {
			return model
		}
	}
	return ""
}

// openAIUnknown returns why the call's usage is not known, "" when it is.
func (o *observation) openAIUnknown(end ending) string {
	r := &o.openAI
	switch {
	case end == endNoResponse:
		return UsageNoResponse
	case r.used && (r.final || o.body.marked()):
		if fault := r.invalid(); fault != "" {
			return UsageInvalid + ": " + fault
		}
		if o.endpoint == images && r.times > 1 {
			return UsageInvalid + ": several images of a stream have one each"
		}
		return ""
	case o.status >= 400:
		return ""
	case o.endpoint == speech && o.body.kind == opaque:
		if !o.request.complete {
			return UsageRequestUnread
		}
		return ""
	case o.endpoint == images && o.isDALLE() && o.body.whole(): // pictures of a part may be of any number
		return ""
	}
	return o.unknown(end)
}

// least returns what the provider had reported up to some event of a stream that broke off, 0 when it had not.
func (o *observation) least() (input, output int64) {
	if r := &o.openAI; r.used && !r.final && r.invalid() == "" {
		return r.last.usage.input, r.last.usage.output
	}
	return 0, 0
}

// unknown returns why a body said nothing of its usage.
func (o *observation) unknown(end ending) string {
	switch {
	case o.endpoint == unknownEndpoint:
		return UsageUnknownEndpoint
	case o.body.encoded:
		return UsageEncoded
	case o.body.limited:
		return UsageTooLong
	case o.body.whole(), end == endOfBody && o.seen == 0:
		return UsageMissing
	case o.body.json != nil && o.body.json.bad:
		return UsageMalformed
	case end == endClosed:
		return UsageAbandoned
	case end == endContext:
		return UsageCancelled
	case o.body.kind == opaque && end == endOfBody:
		return UsageMissing
	}
	return UsageCut
}

// fillFromRequest adds what is charged by the request, where the response has no tokens.
func (o *observation) fillFromRequest(call *usage.OpenAICall) {
	switch {
	case o.endpoint == speech:
		call.Characters = o.request.speech
	case o.endpoint == images && o.isDALLE() && call.InputTokens == 0 && call.OutputTokens == 0:
		call.Images = o.openAI.images
		call.ImageSize, call.ImageQuality = condition(o.request.size), condition(o.request.quality)
		o.imageDefaults(call)
	}
}

func (o *observation) isDALLE() bool { return strings.HasPrefix(o.openAIModel(), "dall-e-") }

// imageDefaults fills in what a request that does not say it gets.
// Source: OpenAI's reference of POST /v1/images/generations.
func (o *observation) imageDefaults(call *usage.OpenAICall) {
	if call.ImageSize == "" || call.ImageSize == "auto" {
		call.ImageSize = "1024x1024"
	}
	if call.Model == "dall-e-3" && (call.ImageQuality == "" || call.ImageQuality == "auto") {
		call.ImageQuality = "standard"
	}
	if call.Model == "dall-e-2" {
		call.ImageQuality = ""
	}
}

// maxName is how long the ledger lets ids and models be.
const maxName = 255

// cleaned returns a name of a provider's as the ledger takes it: "" when it is longer, and without spaces around it and
// characters that are none.
func cleaned(name string, limit int) string {
	if isPlain(name) && len(name) <= limit {
		return name
	}
	name = strings.TrimSpace(name)
	if len(name) > limit || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return ""
	}
	return name
}

// isPlain reports whether a text is of printable ASCII without spaces, as nearly all names are.
func isPlain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// maxCondition is how long the ledger lets a condition be.
const maxCondition = 64

// condition returns what a provider says as the ledger's conditions take it. What they cannot take is a tier or size
// that nobody has a price for, and is not dropped: that would charge the standard price.
func condition(value string) string {
	if value == "" || cleaned(value, maxCondition) != "" && !strings.ContainsAny(value, ";=") {
		return strings.TrimSpace(value)
	}
	return "unreadable"
}
