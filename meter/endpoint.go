package meter

type endpoint uint8

const (
	unknown endpoint = iota
	chat
	completions
	responses
	embeddings
	transcription
	speech
	images
	realtime
)
