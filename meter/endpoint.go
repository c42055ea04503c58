package meter

import (
	"net/url"
	"strings"
)

// endpoint is what a request asks for, as far as it matters for what is charged.
type endpoint uint8

const (
	// unmetered is what costs nothing by itself, or is charged elsewhere. It passes untouched.
	unmetered endpoint = iota
	// unknownEndpoint is a request that may cost something and that nobody knows how to read.
	unknownEndpoint

	// OpenAI and those that follow it.
	chat
	completions
	responses
	embeddings
	transcription
	speech
	images
	realtime // in parsers only: it is a websocket

	// ElevenLabs.
	textToSpeech
	speechToText
	soundEffects
	music
	dubbing
	voiceChanger
	voiceIsolator
	anyElevenLabs // charged when the response names credits
)

// openAIEndpoints are the ends of paths: "/v1/chat/completions", "/openai/deployments/prod/chat/completions" and
// "/openai/v1/chat/completions" ask for the same.
var openAIEndpoints = []struct {
	end      string
	endpoint endpoint
}{
	{"/chat/completions", chat},
	{"/completions", completions},
	{"/responses", responses},
	{"/responses/compact", responses},
	{"/embeddings", embeddings},
	{"/audio/transcriptions", transcription},
	{"/audio/translations", transcription},
	{"/audio/speech", speech},
	{"/images/generations", images},
	{"/images/edits", images},
	{"/images/variations", images},
}

// openAIFree are parts of paths whose requests are not charged by themselves: what is kept at the provider, and what
// only prepares a call. Batches are charged by their output, realtime sessions by their events.
var openAIFree = []string{
	"/files", "/uploads", "/batches", "/moderations", "/models", "/vector_stores", "/assistants", "/conversations",
	"/realtime", "/evals", "/organization", "/responses/", "/chat/completions/", "/skills", "/containers/",
}

func openAIEndpoint(path string) endpoint {
	path = strings.TrimSuffix(path, "/")
	for _, known := range openAIEndpoints {
		if strings.HasSuffix(path, known.end) {
			return known.endpoint
		}
	}
	if strings.HasSuffix(path, "/cancel") {
		return unmetered
	}
	if strings.Contains(path, "/threads") && !strings.Contains(path, "/runs") {
		return unmetered // what is said in a thread; its runs are charged
	}
	for _, free := range openAIFree {
		if strings.Contains(path+"/", free+"/") || strings.HasSuffix(free, "/") && strings.Contains(path, free) {
			return unmetered
		}
	}
	return unknownEndpoint
}

// deployment returns the name of the deployment in a path of Azure's, "" in any other.
func deployment(path string) string {
	_, rest, found := strings.Cut(path, "/deployments/")
	if !found {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	if unescaped, err := url.PathUnescape(name); err == nil {
		return unescaped
	}
	return name
}

// elevenLabsEndpoints are the beginnings of paths behind the version.
var elevenLabsEndpoints = []struct {
	begin    string
	endpoint endpoint
}{
	{"/text-to-speech", textToSpeech},
	{"/text-to-dialogue", textToSpeech},
	{"/speech-to-text", speechToText},
	{"/sound-generation", soundEffects},
	{"/music", music},
	{"/dubbing", dubbing},
	{"/speech-to-speech", voiceChanger},
	{"/audio-isolation", voiceIsolator},
}

func elevenLabsEndpoint(path string) endpoint {
	_, rest, found := strings.Cut(path, "/v1/")
	if !found {
		return anyElevenLabs
	}
	rest = "/" + rest
	for _, known := range elevenLabsEndpoints {
		if after, ok := strings.CutPrefix(rest, known.begin); ok && (after == "" || after[0] == '/') {
			switch {
			case known.endpoint == music && after == "/plan",
				known.endpoint == dubbing && after != "":
				return anyElevenLabs
			}
			return known.endpoint
		}
	}
	return anyElevenLabs
}
