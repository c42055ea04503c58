package usage

import (
	"cmp"
	"strings"
	"time"

	"github.com/acf68eca/usage/store"
)

// OpenAICall is a call to OpenAI, or to a server that reports usage in its way. Numbers go in as the provider returned
// them: a total includes its parts, and the tracker charges each token once, at the rate of its class.
//
// The names in parentheses are those of OpenAI's usage objects: Chat Completions first, then Responses. A number that
// the response lacks is zero. A part above its whole is a fault.
type OpenAICall struct {
	// TenantID is the host's name for the tenant, 1 to 255 bytes. Required. A tenant that does not exist is created.
	TenantID string
	// ID is what makes the call the same call when it is sent again, for this tenant: at most 255 bytes, best the
	// provider's own id ("chatcmpl-…", "resp_…", or the x-request-id header). Empty makes a new one, so that sending the
	// call again counts it again.
	ID string
	// Provider is whose server it is when it is not OpenAI's but reports usage in the same way: 1 to 64 lower-case letters,
	// digits, '-', '_' and '.'. Prices and limits are then those of that name. Empty is OpenAI.
	Provider string
	// Model is the model that the response names: prices follow it, not the alias that was asked for. At most 255 bytes.
	Model string
	// ServiceTier is the tier that the response names. It may differ from the one asked for, and it decides the price.
	// Kept in lower case, at most 64 bytes; empty is the default tier.
	ServiceTier string
	// Batch says that the call came through the Batch API.
	Batch bool
	// RegionalProcessing says that the call went to a regional endpoint, for which OpenAI charges more on models released
	// since 2026-03-05.
	RegionalProcessing bool

	// InputTokens is the whole input (prompt_tokens, input_tokens): text, audio and images, cached or not.
	InputTokens int64
	// CachedInputTokens is the part of InputTokens read from the cache (…_tokens_details.cached_tokens).
	CachedInputTokens int64
	// CacheWriteTokens is the part of InputTokens written to the cache (…_tokens_details.cache_write_tokens). They are
	// charged instead of the input rate, not besides it.
	CacheWriteTokens int64
	// CacheWrite12hTokens is the part of CacheWriteTokens kept for 12 hours (cache_write_tokens_details.ttl_12h_tokens).
	CacheWrite12hTokens int64
	// InputAudioTokens is the part of InputTokens that is audio, cached or not.
	InputAudioTokens int64
	// CachedAudioTokens is the part of both InputAudioTokens and CachedInputTokens (cached_tokens_details.audio_tokens).
	// Cached tokens whose kind is not given are text.
	CachedAudioTokens int64
	// InputImageTokens is the part of InputTokens that is images, cached or not. Leave it zero for models that charge
	// images as text.
	InputImageTokens int64
	// CachedImageTokens is the part of both InputImageTokens and CachedInputTokens (cached_tokens_details.image_tokens).
	CachedImageTokens int64
	// OutputTokens is the whole output (completion_tokens, output_tokens): text, reasoning, audio and images.
	OutputTokens int64
	// ReasoningTokens is the part of the output's text that was thought and not said. Counted, and charged as output.
	ReasoningTokens int64
	// OutputAudioTokens and OutputImageTokens are parts of OutputTokens.
	OutputAudioTokens, OutputImageTokens int64

	// Characters is the length of the text to speak, as Unicode code points. Charged when the call has no tokens (tts-1).
	Characters int64
	// Images is the number of images made. Charged when the call has no tokens (dall-e-3).
	Images int64
	// ImageSize and ImageQuality are those of the images made: "1024x1024", "hd". Kept in lower case, at most 64 bytes.
	ImageSize, ImageQuality string
	// Audio is the length of audio that is charged by the minute (whisper-1: usage.seconds), with a started millisecond
	// counted whole. Charged when the call has no tokens.
	Audio time.Duration
	// WebSearches, FileSearches and ContainerSessions are the uses of built-in tools, charged besides the tokens.
	WebSearches, FileSearches, ContainerSessions int64

	// At is when the call happened: it decides the price and the month that the call counts in. It is kept in UTC, cut to
	// microseconds, and has to be in the years 2000 to 2200. Zero is now, by the tracker's clock.
	At time.Time
	// ReservationID is the reservation that this call settles. Empty settles none.
	ReservationID string
	// Endpoint is the path or address that was called, at most 1,024 bytes. A query and fragment are cut off: they may
	// carry keys.
	Endpoint string
	// Status is the HTTP status, 100 to 599, or 0 when there was none. From 400 on the call counts as failed.
	Status int
	// Latency is how long the call took, cut to microseconds. Zero is unknown.
	Latency time.Duration
	// Error is the text of a failure; a call that has one counts as failed. It is never refused: control characters are
	// replaced, what looks like a key ("sk-…", "Bearer …") is masked, and what passes 1,024 bytes is cut. It is stored, so
	// keep prompts and keys out of it.
	Error string
	// User is the host's name for who made the call, at most 255 bytes.
	User string
	// IP is the user's address, kept in its canonical form.
	IP string
	// Tags are the host's own, at most 32: keys of 1 to 64 bytes, values of at most 255.
	Tags map[string]string
	// UsageUnknown is why nobody knows what the call used: "the stream was cut". Such a call may have no quantities. It is
	// stored and counted, and has no price with this as the reason, instead of a cost of zero. Cleaned and cut as Error
	// is, at 255 bytes. A failed call that the provider does not charge for is no such case: it has no quantities, and
	// costs nothing.
	UsageUnknown string
}

func (c OpenAICall) draft() (*draft, error) {
	var f faults
	d := newDraft(&f, common{
		TenantID: c.TenantID, ID: c.ID, Provider: cmp.Or(c.Provider, OpenAI), Model: c.Model, At: c.At, ReservationID: c.ReservationID,
		Endpoint: c.Endpoint, Status: c.Status, Latency: c.Latency, Error: c.Error, User: c.User, IP: c.IP,
		Tags: c.Tags, UsageUnknown: c.UsageUnknown,
	})
	c.checkQuantities(&f)
	return d.used(&f, c.lines(), c.conditions(&f))
}

func (c *OpenAICall) checkQuantities(f *faults) {
	c.checkInput(f)
	c.checkOutput(f)
	f.quantity("Characters", c.Characters)
	f.quantity("Images", c.Images)
	f.duration("Audio", c.Audio)
	f.quantity("WebSearches", c.WebSearches)
	f.quantity("FileSearches", c.FileSearches)
	f.quantity("ContainerSessions", c.ContainerSessions)
}

// checkInput wants every part of the input to be inside its whole. Its sums cannot overflow, as the quantities are then within
// bounds; and what is wrong with one part need not be said again of the sum.
func (c *OpenAICall) checkInput(f *faults) {
	n := len(*f)
	f.quantity("InputTokens", c.InputTokens)
	f.quantity("CachedInputTokens", c.CachedInputTokens)
	f.quantity("CacheWriteTokens", c.CacheWriteTokens)
	f.quantity("CacheWrite12hTokens", c.CacheWrite12hTokens)
	f.quantity("InputAudioTokens", c.InputAudioTokens)
	f.quantity("CachedAudioTokens", c.CachedAudioTokens)
	f.quantity("InputImageTokens", c.InputImageTokens)
	f.quantity("CachedImageTokens", c.CachedImageTokens)
	f.part("CachedInputTokens", c.CachedInputTokens, "InputTokens", c.InputTokens)
	f.part("CacheWriteTokens", c.CacheWriteTokens, "InputTokens", c.InputTokens)
	f.part("CacheWrite12hTokens", c.CacheWrite12hTokens, "CacheWriteTokens", c.CacheWriteTokens)
	f.part("InputAudioTokens", c.InputAudioTokens, "InputTokens", c.InputTokens)
	f.part("CachedAudioTokens", c.CachedAudioTokens, "InputAudioTokens", c.InputAudioTokens)
	f.part("InputImageTokens", c.InputImageTokens, "InputTokens", c.InputTokens)
	f.part("CachedImageTokens", c.CachedImageTokens, "InputImageTokens", c.InputImageTokens)
	if len(*f) == n {
		f.parts("CachedInputTokens", c.CachedInputTokens, c.CachedAudioTokens+c.CachedImageTokens)
		f.parts("InputTokens", c.InputTokens, c.InputTokens-c.textInput())
	}
}

// checkOutput is checkInput of the output.
func (c *OpenAICall) checkOutput(f *faults) {
	n := len(*f)
	f.quantity("OutputTokens", c.OutputTokens)
	f.quantity("ReasoningTokens", c.ReasoningTokens)
	f.quantity("OutputAudioTokens", c.OutputAudioTokens)
	f.quantity("OutputImageTokens", c.OutputImageTokens)
	f.part("ReasoningTokens", c.ReasoningTokens, "OutputTokens", c.OutputTokens)
	f.part("OutputAudioTokens", c.OutputAudioTokens, "OutputTokens", c.OutputTokens)
	f.part("OutputImageTokens", c.OutputImageTokens, "OutputTokens", c.OutputTokens)
	if len(*f) == n {
		f.parts("OutputTokens", c.OutputTokens, c.ReasoningTokens+c.OutputAudioTokens+c.OutputImageTokens)
	}
}

// lines returns disjoint lines: those of input tokens add up to InputTokens, those of output tokens to OutputTokens.
func (c *OpenAICall) lines() []store.Line {
	var l lineList
	l.bill(InputTokens, c.textInput())
	l.bill(InputCachedTokens, c.cachedText())
	l.bill(InputCacheWriteTokens, c.CacheWriteTokens-c.CacheWrite12hTokens)
	l.bill(InputCacheWrite12hTokens, c.CacheWrite12hTokens)
	l.bill(InputAudioTokens, c.InputAudioTokens-c.CachedAudioTokens)
	l.bill(InputAudioCachedTokens, c.CachedAudioTokens)
	l.bill(InputImageTokens, c.InputImageTokens-c.CachedImageTokens)
	l.bill(InputImageCachedTokens, c.CachedImageTokens)
	l.bill(OutputTokens, c.OutputTokens-c.OutputAudioTokens-c.OutputImageTokens)
	l.bill(OutputAudioTokens, c.OutputAudioTokens)
	l.bill(OutputImageTokens, c.OutputImageTokens)
	// A model that counts tokens is charged by them, and by nothing else that the same work can be measured in.
	perToken := c.InputTokens != 0 || c.OutputTokens != 0
	l.add(Characters, c.Characters, perToken)
	l.add(Images, c.Images, perToken)
	l.add(AudioTime, milliseconds(c.Audio), perToken)
	l.bill(WebSearches, c.WebSearches)
	l.bill(FileSearches, c.FileSearches)
	l.bill(ContainerSessions, c.ContainerSessions)
	l.count(ReasoningTokens, c.ReasoningTokens)
	return l
}

// textInput is what remains of the input without audio, images, cache reads and cache writes.
func (c *OpenAICall) textInput() int64 {
	return c.InputTokens - c.cachedText() - c.CacheWriteTokens - c.InputAudioTokens - c.InputImageTokens
}

// cachedText is what was read from the cache and is neither audio nor images.
func (c *OpenAICall) cachedText() int64 {
	return c.CachedInputTokens - c.CachedAudioTokens - c.CachedImageTokens
}

func (c *OpenAICall) conditions(f *faults) Conditions {
	f.condition("ServiceTier", c.ServiceTier)
	f.condition("ImageSize", c.ImageSize)
	f.condition("ImageQuality", c.ImageQuality)
	var conditions Conditions
	setCondition(&conditions, ServiceTier, strings.ToLower(strings.TrimSpace(c.ServiceTier)))
	setCondition(&conditions, Batch, yes(c.Batch))
	setCondition(&conditions, RegionalProcessing, yes(c.RegionalProcessing))
	setCondition(&conditions, Size, strings.ToLower(c.ImageSize))
	setCondition(&conditions, Quality, strings.ToLower(c.ImageQuality))
	return conditions
}
