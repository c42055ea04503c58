package meter

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/acf68eca/usage"
)

// Config sets what has a good default.
type Config struct {
	// TenantID is whose calls are made through the transport, for requests whose context does not say it by
	// usage.WithTenant. Empty leaves it to the context.
	TenantID string
	// FallbackTenantID is the tenant under which calls count that have none, with a warning to the Logger. Defaults to
	// none: such calls are refused with ErrNoTenant.
	FallbackTenantID string
	// Base makes the requests. Defaults to http.DefaultTransport.
	Base http.RoundTripper
	// Hosts are servers to meter besides those of OpenAI, Azure OpenAI and ElevenLabs: other servers with the same APIs,
	// a proxy, a fake one in a test. They stand above the built-in ones.
	Hosts []Host
	// ElevenLabsPlan is the subscription that pays for ElevenLabs, as ElevenLabsCall.Plan. Defaults to none: pay as you go.
	ElevenLabsPlan string
	// AskForUsage asks for the usage of streamed chat completions (stream_options.include_usage) in a clone of the request,
	// when the request does not say whether it wants it. The host then reads one more chunk, without choices. Defaults to
	// false: requests pass as they are, and such a stream has an unknown usage.
	AskForUsage bool

	// Reserve reserves what a call may use at the worst before it is made, and refuses the call with the error of
	// Tracker.Reserve, a *usage.QuotaError for one, when a hard limit is in the way. Defaults to false.
	Reserve bool
	// MaxOutputTokens is what Reserve takes a request to put out that sets no maximum itself. Defaults to 16,384.
	MaxOutputTokens int64
	// Estimate changes what Reserve asks for: the default is the request's bytes as input tokens, or as audio of the lowest
	// bit rate, which is a bound and not a forecast. Where there is none, the estimate has the meter UnmeasuredRequest: take
	// it away to let the call through. It must be safe for concurrent use. Defaults to no change.
	Estimate func(*http.Request, usage.Estimate) usage.Estimate

	// Estimator guesses what a call used that has an unknown usage. It must be safe for concurrent use. ok false is no
	// guess. A call that is recorded by a guess carries the tag TagEstimated. Defaults to none: unknown stays unknown.
	Estimator func(Unmeasured) (guess Guess, ok bool)
	// Labels says who made a request, for the record. It must be safe for concurrent use. Defaults to nobody.
	Labels func(*http.Request) Labels

	// RequestLimit and ResponseLimit bound how many bytes of a body are scanned. What is longer passes as everything does,
	// and what stands behind the limit is not known. They bound time: memory does not grow with a body. Default to 64 MiB
	// and 256 MiB.
	RequestLimit, ResponseLimit int64

	// OnError is told of each call that could not be recorded, and may record it later. It must be safe for concurrent use,
	// and must not call Flush, which waits for it. Defaults to nothing; the Logger is told in any case.
	OnError func(*LogError)
	// Logger is told of calls that could not be recorded, of calls without a tenant, and once of each host whose requests
	// look like those of a known API and are not metered. Defaults to slog.Default().
	Logger *slog.Logger
	// Now is the clock that calls are timed by. It must be safe for concurrent use. Defaults to time.Now: a test that gives the
	// tracker a clock gives it here too.
	Now func() time.Time
}

// Host is a server whose API is known.
type Host struct {
	// BaseURL is where the API begins: "https://llm.example.com:8443/v1". Required, with scheme and host. Of several that a
	// request's URL begins with, the longest counts.
	BaseURL string
	// Provider is whose prices and limits apply: a name of the host's, or usage.OpenAI for a proxy of OpenAI. Defaults to
	// the provider whose API it is. A server of ElevenLabs' API is always ElevenLabs.
	Provider string
	// API is the form of its requests and responses. Defaults to OpenAI.
	API API
}

// Labels say who made a call. See the fields of the same names in usage.OpenAICall.
type Labels struct {
	User, IP string
	// Tags are at most 27: the meter adds up to five of its own, which stand above others of their names.
	Tags map[string]string
}

// The tags that the meter adds to records.
const (
	// TagRequestID is the provider's id of the request, where the record's ID is another.
	TagRequestID = "request_id"
	// TagBytesSeen is how many bytes of the response came before its unknown usage was recorded.
	TagBytesSeen = "bytes_seen"
	// TagTokensSeen is how many tokens, input and output together, the provider had reported before its unknown usage was
	// recorded: the call used at least as many. Servers that report a usage with each event have it.
	TagTokensSeen = "tokens_seen"
	// TagEstimated is why the quantities are those of Config.Estimator and not of the provider.
	TagEstimated = "usage_estimated"
	// TagResponseID is the id that a server other than OpenAI's gave to a response and had given to another before. The
	// record then has an ID of its own.
	TagResponseID = "response_id"
)

const maxHostTags = 27

// Unmeasured is what is known of a call whose usage is not.
type Unmeasured struct {
	TenantID, Provider, Model, Endpoint string
	// Reason is why it is not known: one of the Usage… constants.
	Reason string
	// RequestBytes is the length of the request's body, without its gzip, and MediaBytes how much of it is pictures and the
	// like in the form of text. Characters is the length of the text to speak.
	RequestBytes, MediaBytes, Characters int64
	// MaxOutputTokens is what the request allows, 0 when it does not say.
	MaxOutputTokens int64
	// ResponseBytes and Events are what came of the response: of a chat completion, an event is about a token.
	ResponseBytes, Events int64
	// InputTokens and OutputTokens are the least that the call used: what the provider had reported when its stream broke
	// off. They are 0 when it reports a usage only at the end.
	InputTokens, OutputTokens int64
}

// Guess is what a call is estimated to have used.
type Guess struct {
	InputTokens, OutputTokens int64
	Characters, Credits       int64
	Audio                     time.Duration
}

// ErrNoTenant is returned for a call of which nobody said whose it is, or said it with a name that no tenant can have.
// The call has not been made.
var ErrNoTenant = errors.New("meter: the request has no tenant")

// LogError says that a call could not be recorded. One of its calls is set: log it again with it when the cause is gone.
// It holds no part of a prompt, an answer or a key. It unwraps to Err.
type LogError struct {
	OpenAI     *usage.OpenAICall
	ElevenLabs *usage.ElevenLabsCall
	Smartflo   *usage.SmartfloCall
	// Err is what the tracker returned.
	Err error
}

// Error names the call.
func (e *LogError) Error() string {
	var tenant, id string
	switch {
	case e.OpenAI != nil:
		tenant, id = e.OpenAI.TenantID, e.OpenAI.ID
	case e.ElevenLabs != nil:
		tenant, id = e.ElevenLabs.TenantID, e.ElevenLabs.ID
	case e.Smartflo != nil:
		tenant, id = e.Smartflo.TenantID, e.Smartflo.ID
	}
	return fmt.Sprintf("meter: call %q of tenant %q is not recorded: %v", id, tenant, e.Err)
}

// Unwrap returns Err.
func (e *LogError) Unwrap() error { return e.Err }

// ConfigError says what is wrong with a configuration.
type ConfigError struct {
	// Field is as it is written in Go: "Hosts[1].BaseURL".
	Field, Problem string
}

// Error names the field and its problem.
func (e *ConfigError) Error() string { return "meter: Config." + e.Field + " " + e.Problem }

// complete checks a configuration, all faults at once, and returns it with its defaults.
func (c Config) complete() (Config, []route, error) {
	var faults []error
	fault := func(field, problem string) { faults = append(faults, &ConfigError{field, problem}) }
	for field, id := range map[string]string{"TenantID": c.TenantID, "FallbackTenantID": c.FallbackTenantID} {
		if id != "" && !isTenant(id) {
			fault(field, "is not a tenant's id of 1 to 255 bytes without control characters")
		}
	}
	if c.ElevenLabsPlan != "" && condition(c.ElevenLabsPlan) != c.ElevenLabsPlan {
		fault("ElevenLabsPlan", "is not a plan of at most 64 bytes without ';' and '='")
	}
	for field, n := range map[string]int64{
		"RequestLimit": c.RequestLimit, "ResponseLimit": c.ResponseLimit, "MaxOutputTokens": c.MaxOutputTokens,
	} {
		if n < 0 {
			fault(field, "is negative")
		}
	}
	routes := make([]route, len(c.Hosts))
	for i, host := range c.Hosts {
		var problem string
		if routes[i], problem = host.route(); problem != "" {
			fault(fmt.Sprintf("Hosts[%d]", i), problem)
		}
	}
	if c.Base == nil {
		c.Base = http.DefaultTransport
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.MaxOutputTokens = cmp.Or(c.MaxOutputTokens, 16_384)
	c.RequestLimit = cmp.Or(c.RequestLimit, defaultRequestLimit)
	c.ResponseLimit = cmp.Or(c.ResponseLimit, defaultResponseLimit)
	return c, routes, errors.Join(faults...)
}

func isTenant(id string) bool {
	return id != "" && cleaned(id, maxName) != "" && strings.TrimSpace(id) != ""
}

func (h Host) route() (r route, problem string) {
	base, err := url.Parse(h.BaseURL)
	switch {
	case err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https":
		return route{}, "has a BaseURL that is not one with scheme and host"
	case h.API != OpenAI && h.API != ElevenLabs:
		return route{}, "has an API that is none"
	case h.API == ElevenLabs && h.Provider != "" && h.Provider != usage.ElevenLabs:
		return route{}, "has ElevenLabs' API and another Provider"
	case h.Provider != "" && !isProvider(h.Provider):
		return route{}, "has a Provider that is not 1 to 64 lower-case letters, digits, '-', '_' or '.'"
	}
	provider := usage.OpenAI
	if h.API == ElevenLabs {
		provider = usage.ElevenLabs
	}
	return route{
		host: hostOf(base), path: strings.TrimSuffix(base.Path, "/"), api: h.API, provider: cmp.Or(h.Provider, provider),
	}, ""
}

func isProvider(name string) bool {
	return len(name) <= 64 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}
