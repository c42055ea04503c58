package meter

import (
	"net/http"
	"strings"

	"github.com/acf68eca/usage"
)

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
	if o.api == ElevenLabs {
		t.estimateElevenLabs(&e, o)
	} else {
		t.estimateOpenAI(&e, o, req.ContentLength)
		if f.regional {
			e.Conditions = usage.Conditions{usage.RegionalProcessing: "true"}
		}
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

func (t *Transport) estimateOpenAI(e *usage.Estimate, o *observation, length int64) {
	asked := &o.request
	input := max(asked.bytes-asked.media, 0)
	if !asked.complete {
		input = max(input, length, 0)
	}
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
		t.estimateSpeech(e, o)
	case images:
		t.estimateImages(e, o, input)
	}
}

// speechTokens is how many tokens of audio a character may become: they are spoken at about 15 a second, which a token of
// audio is a twentieth of.
const speechTokens = 4

func (t *Transport) estimateSpeech(e *usage.Estimate, o *observation) {
	if strings.HasPrefix(e.Model, "tts-1") {
		e.Characters = o.request.speech
		return
	}
	e.InputTokens = o.request.speech
	e.Quantities = usage.Quantities{usage.OutputAudioTokens: bounded(o.request.speech, speechTokens)}
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

func (t *Transport) estimateElevenLabs(e *usage.Estimate, o *observation) {
	e.Model = cleaned(elevenModel(o.endpoint, o.request.model), maxName)
	switch o.endpoint {
	case textToSpeech:
		e.Characters = o.request.speech
	case soundEffects:
		e.Quantities = usage.Quantities{usage.Generations: 1}
	case music:
		e.Audio = o.request.length
	}
	if plan := t.cfg.ElevenLabsPlan; plan != "" {
		e.Conditions = usage.Conditions{usage.Plan: strings.ToLower(plan)}
	}
}

// bounded is a product as the ledger takes it.
func bounded(a, b int64) int64 {
	if a > maxCount/b {
		return maxCount
	}
	return a * b
}
