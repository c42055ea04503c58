package meter

import "github.com/acf68eca/usage"

// realtimeTree is an event of the Realtime API: a response in it, or a transcript.
var realtimeTree = &node{kids: append([]*node{
	{name: "item_id", field: fItemID},
	{name: "content_index", field: fContentIndex},
}, openAITree.kids...)}

// realtimeReading is what has been found of an event.
type realtimeReading struct {
	openAIReading
	item, content string
}

func (r *realtimeReading) found(f field, k kind, value []byte) {
	switch {
	case f != fItemID && f != fContentIndex:
		r.openAIReading.found(f, k, value)
	case k != text && k != literal || k == literal && string(value) == "null":
	case f == fItemID:
		r.item = string(value)
	default:
		r.content = string(value)
	}
}

// ParseRealtime reads a server event of the Realtime API, which comes over a websocket that passes the Transport
// untouched. ok is false for all events but the two that have a usage. The host adds the tenant.
//
// Of response.done, which names no model, model is the session's. The end of an input's transcript
// (conversation.item.input_audio_transcription.completed) is a call of its own, to the session's model for transcripts: its
// Model is empty, and the host says it. Its ID is that of the item, and of the item's part where it is not the first.
func ParseRealtime(model string, event []byte) (call usage.OpenAICall, ok bool) {
	var r realtimeReading
	s := newDocumentScanner(realtimeTree, &r)
	if s.write(event); s.docs == 0 {
		return usage.OpenAICall{}, false
	}
	e := realtime
	switch r.event {
	case "response.done":
		if r.model != "" {
			model = r.model
		}
		call = usage.OpenAICall{ID: cleaned(r.id, maxName), Model: cleaned(model, maxName)}
	case "conversation.item.input_audio_transcription.completed":
		e = transcription
		call = usage.OpenAICall{ID: r.transcriptID(), Model: cleaned(r.model, maxName)}
	default:
		return usage.OpenAICall{}, false
	}
	call.Endpoint = "/v1/realtime"
	switch fault := r.invalid(); {
	case !r.used:
		call.UsageUnknown = UsageMissing
	case fault != "":
		call.UsageUnknown = UsageInvalid + ": " + fault
	default:
		r.fill(&call, e)
	}
	return call, true
}

// transcriptID is the same each time that an event about a transcript comes.
func (r *realtimeReading) transcriptID() string {
	id := r.item
	if id != "" && r.content != "" && r.content != "0" {
		id += "/" + r.content
	}
	return cleaned(id, maxName)
}
