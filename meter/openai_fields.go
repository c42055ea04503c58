package meter

// field says which of the wanted values of a document one is. Zero is a value that is only on the way to others.
type field uint8

const (
	fID field = iota + 1
	fModel
	fTier
	fType // of a stream's event
	fCode // of an event that is an error, and a program in others
	fErrorCode
	fErrorType
	fChoices
	fChoiceIndex
	fFinish // why a choice ended
	fUsage
	fUsageType
	fInput
	fOutput
	fTotal
	fCached
	fCacheWrite
	fCacheWrite12h
	fInputAudio
	fInputImage
	fCachedAudio
	fCachedImage
	fReasoning
	fOutputAudio
	fOutputImage
	fSeconds
	fWebSearches
	fImageGenTotal
	fOutputItem
	fItemType
	fAction
	fImages

	// Batch files.
	fLine
	fCustomID
	fLineID
	fLineStatus
	fRequestID
	fLineError
	fLineResponse
	fLineErrorCode

	// Events of the Realtime API.
	fItemID
	fContentIndex

	// ElevenLabs.
	fAudioSeconds
	fTranscriptionID
	fDubbingID
	fDubbingSeconds
	fDetailStatus
	fConversationID
	fConversationStatus
	fCallSeconds
	fCredits
	fFiat
	fStartedAt

	// Requests.
	fBody
	fStream
	fStreamOptions
	fIncludeUsage
	fMaxOutput
	fChoicesAsked
	fSpeech
	fSize
	fQuality
	fMusicLength
	fWatermark
	fElsewhere
)

// The usage of all forms of OpenAI's responses has names that do not collide, so one tree reads them all.
// Source: the types of openai-go/v3 v3.96.0.
var usageNode = &node{name: "usage", field: fUsage, kids: []*node{
	{name: "type", field: fUsageType},
	{name: "prompt_tokens", field: fInput},
	{name: "input_tokens", field: fInput},
	{name: "completion_tokens", field: fOutput},
	{name: "output_tokens", field: fOutput},
	{name: "total_tokens", field: fTotal},
	{name: "seconds", field: fSeconds},
	{name: "prompt_tokens_details", kids: inputDetails},
	{name: "input_tokens_details", kids: inputDetails},
	{name: "input_token_details", kids: inputDetails}, // transcriptions and realtime
	{name: "completion_tokens_details", kids: outputDetails},
	{name: "output_tokens_details", kids: outputDetails},
	{name: "output_token_details", kids: outputDetails},
}}

var inputDetails = []*node{
	{name: "cached_tokens", field: fCached},
	{name: "cache_write_tokens", field: fCacheWrite},
	{name: "cache_write_tokens_details", kids: []*node{{name: "ttl_12h_tokens", field: fCacheWrite12h}}},
	{name: "audio_tokens", field: fInputAudio},
	{name: "image_tokens", field: fInputImage},
	{name: "cached_tokens_details", kids: []*node{
		{name: "audio_tokens", field: fCachedAudio},
		{name: "image_tokens", field: fCachedImage},
	}},
}

var outputDetails = []*node{
	{name: "reasoning_tokens", field: fReasoning},
	{name: "audio_tokens", field: fOutputAudio},
	{name: "image_tokens", field: fOutputImage},
}

var errorNode = &node{name: "error", kids: []*node{
	{name: "code", field: fErrorCode},
	{name: "type", field: fErrorType},
}}

// bodyNodes are the members of a response object, wherever it stands: alone, in an event, in a line of a batch.
var bodyNodes = []*node{
	{name: "id", field: fID},
	{name: "model", field: fModel},
	{name: "service_tier", field: fTier},
	usageNode,
	errorNode,
	{name: "tool_usage", kids: []*node{
		{name: "web_search", kids: []*node{{name: "num_requests", field: fWebSearches}}},
		{name: "image_gen", kids: []*node{{name: "total_tokens", field: fImageGenTotal}}},
	}},
	{name: "output", field: fOutputItem, elem: &node{kids: []*node{
		{name: "type", field: fItemType},
		{name: "action", kids: []*node{{name: "type", field: fAction}}},
	}}},
	{name: "choices", field: fChoices, elem: &node{kids: []*node{
		{name: "index", field: fChoiceIndex},
		{name: "finish_reason", field: fFinish},
	}}},
	{name: "data", field: fImages, elem: &node{}},
}

// openAITree is a response, or an event of a stream: its own members, or those of the response within it.
var openAITree = &node{kids: append([]*node{
	{name: "type", field: fType},
	{name: "code", field: fCode},
	{name: "response", kids: bodyNodes},
}, bodyNodes...)}

// batchTree is a line of a batch's output file.
var batchTree = &node{field: fLine, kids: []*node{
	{name: "id", field: fLineID},
	{name: "custom_id", field: fCustomID},
	{name: "error", field: fLineError, kids: []*node{{name: "code", field: fLineErrorCode}}},
	{name: "response", field: fLineResponse, kids: []*node{
		{name: "status_code", field: fLineStatus},
		{name: "request_id", field: fRequestID},
		{name: "body", kids: bodyNodes},
	}},
}}
