package meter

import (
	"net/http"
	"strings"
	"time"

	"github.com/acf68eca/usage"
)

// UnmeasuredRequest is the meter of an estimate of which nobody can say what the call may use: its length is not known, its
// encoding cannot be read, its audio is elsewhere, or the endpoint is none that the meter knows. It has no price unless the
// host gives it one, so that Reserve treats the call as its Config.AllowUnpriced says.
const UnmeasuredRequest usage.Meter = "unmeasured_request"

// estimate is what a call may use at the worst. Of text it is a bound: a token has at least one byte, and the body has
// more than its words. Pictures and the like in the form of text are left out, and counted by nobody before the call.
func (t *Transport) estimate(req *http.Request, f *flight) usage.Estimate {
	o := &f.observed
	if f.body != nil {
		o.request = f.body.facts()
	}
	e := usage.Estimate{
		TenantID: f.tenant, Provider: o.provider, Model: o.openAIModel(), ServiceTier: condition(o.request.tier), Owner: "meter",
	}
	size, known := f.requestSize(req.ContentLength)
	if o.api == ElevenLabs {
		known = t.estimateElevenLabs(&e, o, size) && known
	} else {
		known = t.estimateOpenAI(&e, o, size) && known
		if f.regional {
			e.Conditions = withCondition(e.Conditions, usage.RegionalProcessing)
		}
	}
	if !known {
		if e.Quantities == nil {
			e.Quantities = make(usage.Quantities, 1)
		}
		e.Quantities[UnmeasuredRequest] = 1
	}
	if t.cfg.Estimate != nil {
		guarded(t.cfg.Logger, "Config.Estimate", func() {
			changed := t.cfg.Estimate(req, e)
			changed.TenantID = e.TenantID
			e = changed
		})
	}
	return e
}

// requestSize returns how long the request's body is, decoded, and whether that is all of it. length is what its head says,
// negative when it does not.
func (f *flight) requestSize(length int64) (n int64, known bool) {
	asked := &f.observed.request
	switch {
	case f.body == nil, asked.complete:
		return asked.bytes, true
	case isEncoded(f.body.encoding):
		return asked.bytes, false
	}
	return max(asked.bytes, length), length > 0
}

// estimateOpenAI fills in the estimate, and reports whether it is a bound. size is how long the body is.
func (t *Transport) estimateOpenAI(e *usage.Estimate, o *observation, size int64) (known bool) {
	asked := &o.request
	input := max(size-asked.media, 0)
	output := t.cfg.MaxOutputTokens
	if asked.maxOutput > 0 {
		output = asked.maxOutput
	}
	output = bounded(output, max(asked.choices, 1))
	switch o.endpoint {
	case chat, completions, responses:
		e.InputTokens, e.OutputTokens = input, output
	case embeddings:
		e.InputTokens = input
	case speech:
		estimateSpeech(e, spoken(asked, size))
	case transcription:
		t.estimateTranscription(e, size)
		return !asked.elsewhere
	case images:
		t.estimateImages(e, o, input)
	default:
		return false
	}
	return true
}

// spoken is how many characters of text to speak a request has at most.
func spoken(asked *requestFacts, size int64) int64 {
	if asked.complete {
		return asked.speech
	}
	return max(asked.speech, size)
}

// Of a file of audio only its size is known before the call, and how many bytes a second has at the least.
const (
	// leastBytesPerSecond are those of the lowest bit rate of Opus. Source: RFC 6716, section 2.1.1.
	leastBytesPerSecond = 750
	// audioTokensPerSecond are at most those of speech that is put out; what is heard takes fewer.
	audioTokensPerSecond = 20
)

// audioBound is how long the audio in a body of some size can be at the most.
func audioBound(size int64) time.Duration {
	return time.Duration(min(size/leastBytesPerSecond+1, maxSeconds)) * time.Second
}

// estimateTranscription takes the models that are charged by time to have "whisper" in their names, as those of other
// servers have too.
func (t *Transport) estimateTranscription(e *usage.Estimate, size int64) {
	if length := audioBound(size); strings.Contains(e.Model, "whisper") {
		e.Audio = length
	} else {
		e.OutputTokens = t.cfg.MaxOutputTokens
		e.Quantities = usage.Quantities{usage.InputAudioTokens: int64(length/time.Second) * audioTokensPerSecond}
	}
}

// speechTokens is how many tokens of audio a character may become: they are spoken at about 15 a second, which a token of
// audio is a twentieth of.
const speechTokens = 4

func estimateSpeech(e *usage.Estimate, characters int64) {
	if strings.HasPrefix(e.Model, "tts-1") {
		e.Characters = characters
		return
	}
	e.InputTokens = characters
	e.Quantities = usage.Quantities{usage.OutputAudioTokens: bounded(characters, speechTokens)}
}

func (t *Transport) estimateImages(e *usage.Estimate, o *observation, input int64) {
	asked := &o.request
	n := max(asked.choices, 1)
	if !o.isDALLE() {
		e.InputTokens = input
		e.Quantities = usage.Quantities{usage.OutputImageTokens: bounded(t.cfg.MaxOutputTokens, n)}
		return
	}
	call := usage.OpenAICall{Model: e.Model, ImageSize: condition(asked.size), ImageQuality: condition(asked.quality)}
	o.imageDefaults(&call)
	e.Quantities = usage.Quantities{usage.Images: n}
	e.Conditions = usage.Conditions{usage.Size: strings.ToLower(call.ImageSize), usage.Quality: strings.ToLower(call.ImageQuality)}
}

// estimateElevenLabs fills in the estimate, and reports whether it is a bound.
func (t *Transport) estimateElevenLabs(e *usage.Estimate, o *observation, size int64) (known bool) {
	asked := &o.request
	e.Model = cleaned(elevenModel(o.endpoint, asked.model), maxName)
	if plan := t.cfg.ElevenLabsPlan; plan != "" {
		e.Conditions = usage.Conditions{usage.Plan: strings.ToLower(plan)}
	}
	switch o.endpoint {
	case textToSpeech:
		e.Characters = spoken(asked, size)
	case soundEffects:
		e.Quantities = usage.Quantities{usage.Generations: 1}
	case music:
		e.Audio = asked.length
		return asked.length > 0
	case dubbing, speechToText, voiceChanger, voiceIsolator:
		if e.Audio = audioBound(size); o.endpoint == dubbing && asked.watermark {
			e.Conditions = withCondition(e.Conditions, usage.Watermark)
		}
		return !asked.elsewhere
	}
	return true
}

func withCondition(c usage.Conditions, name string) usage.Conditions {
	if c == nil {
		c = make(usage.Conditions, 1)
	}
	c[name] = "true"
	return c
}

// bounded is a product as the ledger takes it.
func bounded(a, b int64) int64 {
	if a > maxCount/b {
		return maxCount
	}
	return a * b
}
