// Package usage tracks what the tenants of a program spend at paid APIs: a durable ledger of every call, its exact
// cost from dated prices, totals by month and day, quotas that hold when calls race, and alerts.
//
// Open a store, make a Tracker with New, and log each call beside it:
//
//	tracker.LogOpenAI(ctx, usage.OpenAICall{TenantID: "acme", ID: resp.ID, Model: resp.Model, InputTokens: …})
//
// A Log… method returns nil only after the call is durable, and the same call sent again is counted once, so a host
// may simply repeat what failed.
package usage

import "github.com/acf68eca/usage/store"

// The providers with a Log… method of their own. A host's own provider is any other name, with Tracker.Log.
const (
	OpenAI     = "openai"
	ElevenLabs = "elevenlabs"
	Smartflo   = "smartflo"
)

// Meter names what is counted, always in whole units of one kind. A host may use names of its own for its own
// providers: lower-case letters, digits and underscores.
type Meter = store.Meter

// The meters of the built-in providers. Those of tokens are disjoint: each token is in one of them.
const (
	// Input that is text and was neither read from nor written to a cache.
	InputTokens Meter = "input_tokens"
	// Input read from a cache, all but audio and images.
	InputCachedTokens Meter = "input_cached_tokens"
	// Input written to a cache, kept for the provider's usual time (OpenAI: 30 minutes).
	InputCacheWriteTokens Meter = "input_cache_write_tokens"
	// Input written to a cache that is kept for 12 hours.
	InputCacheWrite12hTokens Meter = "input_cache_write_12h_tokens"
	InputAudioTokens         Meter = "input_audio_tokens"
	InputAudioCachedTokens   Meter = "input_audio_cached_tokens"
	InputImageTokens         Meter = "input_image_tokens"
	InputImageCachedTokens   Meter = "input_image_cached_tokens"
	// Output that is text, reasoning included.
	OutputTokens      Meter = "output_tokens"
	OutputAudioTokens Meter = "output_audio_tokens"
	OutputImageTokens Meter = "output_image_tokens"
	// Reasoning tokens are inside the output: counted, never charged on their own.
	ReasoningTokens Meter = "reasoning_tokens"

	// Characters of text turned into speech, as Unicode code points.
	Characters Meter = "characters"
	// Credits of a provider that sells them.
	Credits Meter = "credits"
	// AudioTime is the length of audio made or read, in milliseconds.
	AudioTime Meter = "audio_time"
	// CallTime is the billable length of a telephone or agent call, in milliseconds.
	CallTime Meter = "call_time"

	// ReportedCost is a cost that the provider reports itself, in picodollars (1e-12 USD). Its price is one each.
	ReportedCost Meter = "reported_cost"

	Images            Meter = "images"
	Generations       Meter = "generations"
	Requests          Meter = "requests"
	WebSearches       Meter = "web_search_calls"
	FileSearches      Meter = "file_search_calls"
	ContainerSessions Meter = "container_sessions"
)

// What a limit may count besides a single meter.
const (
	// Tokens is the sum of all token meters: the provider's total.
	Tokens Meter = "tokens"
	// Minutes is the sum of AudioTime and CallTime, in minutes.
	Minutes Meter = "minutes"
	// Calls is the number of calls, failed ones included.
	Calls Meter = "calls"
	// Cost is dollars.
	Cost Meter = "cost"
)

// What a price is per, and what a quantity is rounded up to, in units of the meter. The meters of time count
// milliseconds.
const (
	PerUnit     int64 = 1
	PerThousand int64 = 1_000
	PerMillion  int64 = 1_000_000
	PerSecond   int64 = 1_000
	PerMinute   int64 = 60_000
	PerHour     int64 = 3_600_000
)
