package meter

import (
	"time"

	"github.com/acf68eca/usage"
)

// elevenTree is a response of ElevenLabs with JSON in it.
// Source: the types of @elevenlabs/elevenlabs-js 2.73.0.
var elevenTree = &node{kids: []*node{
	{name: "audio_duration_secs", field: fAudioSeconds},
	{name: "transcription_id", field: fTranscriptionID},
	{name: "dubbing_id", field: fDubbingID},
	{name: "expected_duration_sec", field: fDubbingSeconds},
	{name: "detail", kids: detailNodes, elem: &node{kids: detailNodes}},
}}

var detailNodes = []*node{
	{name: "status", field: fDetailStatus},
	{name: "code", field: fDetailStatus},
	{name: "type", field: fDetailStatus},
}

// elevenReading is what has been found of a response of ElevenLabs.
type elevenReading struct {
	id      string
	failure string
	audio   time.Duration
	hasTime bool
	fault   string
}

func (r *elevenReading) end() {}

func (r *elevenReading) found(f field, k kind, value []byte) {
	if k != text && k != literal || k == literal && string(value) == "null" {
		return
	}
	switch f {
	case fTranscriptionID, fDubbingID:
		set(&r.id, value)
	case fDetailStatus:
		if r.failure == "" {
			r.failure = word(string(value))
		}
	case fAudioSeconds, fDubbingSeconds:
		length, err := parseSeconds(value)
		if err != nil {
			r.fault = "the duration " + err.Error()
		}
		r.audio, r.hasTime = length, true
	}
}

// Products that ElevenLabs sells under their own name, whatever model makes them.
const (
	modelSoundEffects  = "sound_effects"
	modelMusic         = "music"
	modelDubbing       = "dubbing_v1"
	modelVoiceChanger  = "voice_changer"
	modelVoiceIsolator = "voice_isolator"
	modelAgents        = "agents"
)

func elevenModel(e endpoint, asked string) string {
	switch e {
	case soundEffects:
		return modelSoundEffects
	case music:
		return modelMusic
	case dubbing:
		return modelDubbing
	case voiceChanger:
		return modelVoiceChanger
	case voiceIsolator:
		return modelVoiceIsolator
	}
	return asked
}

// elevenLabsCall makes the call of an exchange that has ended.
func (o *observation) elevenLabsCall(end ending) usage.ElevenLabsCall {
	call := usage.ElevenLabsCall{
		ID: o.callID(o.eleven.id), Model: cleaned(elevenModel(o.endpoint, o.request.model), maxName), Credits: o.credits,
		Endpoint: o.path, Status: o.status,
	}
	if o.status >= 400 {
		call.Error = o.eleven.failure
		return call
	}
	switch o.endpoint {
	case textToSpeech:
		call.Characters = o.request.speech
	case soundEffects:
		call.Characters, call.Generations = o.request.speech, 1
	case music:
		call.Audio = o.request.length
	case speechToText:
		call.Audio = o.eleven.audio
	case dubbing:
		call.Audio, call.Watermark = o.eleven.audio, o.request.watermark
	}
	if call.UsageUnknown = o.elevenUnknown(&call, end); call.UsageUnknown != "" {
		call.Characters, call.Generations, call.Audio = 0, 0, 0
	}
	return call
}

// elevenUnknown returns why the call's usage is not known, "" when it is. What a response's head says is known however
// the body ends: it comes before the audio.
func (o *observation) elevenUnknown(call *usage.ElevenLabsCall, end ending) string {
	switch {
	case end == endNoResponse:
		return UsageNoResponse
	case o.eleven.fault != "":
		return UsageInvalid + ": " + o.eleven.fault
	case call.Characters > 0 || call.Generations > 0 || call.Audio > 0 || o.credits > 0:
		return "" // no credits say nothing: what is known otherwise is known without them
	case o.fault != "":
		return UsageInvalid + ": " + o.fault
	case o.endpoint == textToSpeech && o.request.complete && o.request.hasSpeech, // an empty text
		o.eleven.hasTime:
		return ""
	case o.endpoint == textToSpeech && !o.request.complete:
		return UsageRequestUnread
	}
	return o.unknown(end)
}
