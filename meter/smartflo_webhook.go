package meter

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/acf68eca/usage"
)

// SmartfloConfig sets how Smartflo's calls are recorded.
type SmartfloConfig struct {
	// Secret is what a webhook has to know: Smartflo signs nothing, so the host makes a secret and puts it into the address
	// that it gives to Smartflo, as ?secret=…, or into the header X-Webhook-Secret. At least 16 bytes. Required for a
	// webhook, unused by an importer.
	Secret string
	// Tenant says whose call an event is about; ok false is nobody's. It must be safe for concurrent use. Defaults to the
	// event's custom_identifier.
	Tenant func(context.Context, SmartfloEvent) (tenantID string, ok bool)
	// FallbackTenantID is the tenant under which calls count that are nobody's, with a warning to the Logger. Defaults to
	// none: such calls are refused.
	FallbackTenantID string
	// OnError is told of each call that could not be recorded. Defaults to nothing; the Logger is told in any case.
	OnError func(*LogError)
	// Logger defaults to slog.Default().
	Logger *slog.Logger
}

// minSecret is how short a webhook's secret may be.
const minSecret = 16

// smartflo records Smartflo's calls.
type smartflo struct {
	tracker *usage.Tracker
	cfg     SmartfloConfig
	secret  [sha256.Size]byte
}

func newSmartflo(tracker *usage.Tracker, cfg SmartfloConfig) (*smartflo, error) {
	if tracker == nil {
		return nil, errors.New("meter: the tracker is nil")
	}
	if cfg.FallbackTenantID != "" && !isTenant(cfg.FallbackTenantID) {
		return nil, &ConfigError{"FallbackTenantID", "is not a tenant's id of 1 to 255 bytes without control characters"}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Tenant == nil {
		cfg.Tenant = func(_ context.Context, e SmartfloEvent) (string, bool) {
			id := e.CustomIdentifier()
			return id, id != ""
		}
	}
	s := &smartflo{tracker: tracker, cfg: cfg, secret: sha256.Sum256([]byte(cfg.Secret))}
	s.cfg.Secret = "" // its hash is enough
	return s, nil
}

// NewSmartfloWebhook returns the handler of the webhooks that Smartflo sends about calls, as JSON or form in a POST or as
// the query of a GET. Only those about a hang-up are recorded; the others are answered and passed over. A call is recorded
// once by its call_id, however often and by whichever webhooks and records it is told of; the first stands.
//
// A hang-up is told by its end_stamp or by one of the fields hangup_cause…, so the webhook's template has to have one.
//
// It answers 204 when the event is recorded, was before, or is none to record; 400 when it is malformed or nobody's; 401
// without the secret, which is compared in constant time; 405, 413 and 415 for what is no webhook, the last for a body that
// is neither JSON nor a form; 503 when the ledger
// cannot be written, so that it is sent again. What it answers with says nothing of the payload.
func NewSmartfloWebhook(tracker *usage.Tracker, cfg SmartfloConfig) (http.Handler, error) {
	if len(cfg.Secret) < minSecret {
		return nil, &ConfigError{"Secret", fmt.Sprintf("is shorter than %d bytes", minSecret)}
	}
	s, err := newSmartflo(tracker, cfg)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(s.serve), nil
}

func (s *smartflo) serve(w http.ResponseWriter, req *http.Request) {
	if !s.knowsSecret(req) {
		http.Error(w, "the secret is missing or wrong", http.StatusUnauthorized)
		return
	}
	event, status := webhookEvent(w, req)
	if status != 0 {
		http.Error(w, http.StatusText(status), status)
		return
	}
	if !event.IsHangup() {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	switch _, err := s.record(req.Context(), event); {
	case err == nil, errors.Is(err, usage.ErrConflict):
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, ErrMalformed), errors.Is(err, ErrNoTenant), errors.Is(err, usage.ErrInvalid), errors.Is(err, usage.ErrPruned):
		http.Error(w, http.StatusText(http.StatusBadRequest), http.StatusBadRequest)
	default:
		http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
	}
}

// knowsSecret compares hashes, so that neither the length nor the beginning of the secret shows in the time it takes.
func (s *smartflo) knowsSecret(req *http.Request) bool {
	given := req.Header.Get("X-Webhook-Secret")
	if given == "" {
		given = req.URL.Query().Get("secret")
	}
	hash := sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(hash[:], s.secret[:]) == 1
}

// maxWebhook is how long a webhook's body may be.
const maxWebhook = 1 << 20

// webhookEvent reads the event of a request, or returns the status to refuse it with.
func webhookEvent(w http.ResponseWriter, req *http.Request) (e SmartfloEvent, status int) {
	var err error
	switch req.Method {
	case http.MethodGet:
		query := req.URL.Query()
		query.Del("secret")
		e, err = smartfloForm(query)
	case http.MethodPost:
		var body []byte
		if body, err = io.ReadAll(http.MaxBytesReader(w, req.Body, maxWebhook)); err != nil {
			if errors.As(err, new(*http.MaxBytesError)) {
				return e, http.StatusRequestEntityTooLarge
			}
			return e, http.StatusBadRequest
		}
		e, err = ParseSmartfloWebhook(req.Header.Get("Content-Type"), body)
	default:
		return e, http.StatusMethodNotAllowed
	}
	switch {
	case errors.Is(err, errContentType):
		return e, http.StatusUnsupportedMediaType
	case err != nil:
		return e, http.StatusBadRequest
	}
	return e, 0
}

// record records the call of a hang-up. A conflict is a call that is in the ledger with other content: the first stands.
func (s *smartflo) record(ctx context.Context, e SmartfloEvent) (usage.Record, error) {
	call, err := e.Call()
	if err == nil {
		call.TenantID, err = s.tenant(ctx, e)
	}
	if err != nil {
		return usage.Record{}, s.failed(call, err)
	}
	// The record must be the same by whichever way the call is told of: what it says is its id, time, length and direction.
	rec, err := s.tracker.LogSmartflo(ctx, call)
	if err != nil {
		return usage.Record{}, s.failed(call, err)
	}
	return rec, nil
}

// errTenantPanicked keeps a call from being recorded until the host's function works. The webhook is sent again.
var errTenantPanicked = errors.New("meter: SmartfloConfig.Tenant panicked")

func (s *smartflo) tenant(ctx context.Context, e SmartfloEvent) (string, error) {
	var id string
	var ok, returned bool
	guarded(s.cfg.Logger, "SmartfloConfig.Tenant", func() {
		id, ok = s.cfg.Tenant(ctx, e)
		returned = true
	})
	if !returned { // it is somebody's: it does not count under the fallback
		return "", fmt.Errorf("%w: call %q", errTenantPanicked, cleaned(e.CallID(), maxName))
	}
	if !ok && s.cfg.FallbackTenantID != "" {
		s.cfg.Logger.Warn("meter: a telephone call without a tenant", "counted_under", s.cfg.FallbackTenantID, "call", e.CallID())
		return s.cfg.FallbackTenantID, nil
	}
	if id = strings.TrimSpace(id); !ok || !isTenant(id) {
		return "", fmt.Errorf("%w: call %q", ErrNoTenant, cleaned(e.CallID(), maxName))
	}
	return id, nil
}

// failed tells of a call that is not recorded, and returns why.
func (s *smartflo) failed(call usage.SmartfloCall, err error) error {
	e := &LogError{Smartflo: &call, Err: err}
	s.cfg.Logger.Error("meter: a telephone call is not recorded", "error", e)
	if s.cfg.OnError != nil {
		guarded(s.cfg.Logger, "SmartfloConfig.OnError", func() { s.cfg.OnError(e) })
	}
	return err
}

// SmartfloImport says what an import did with the records of a page.
type SmartfloImport struct {
	// Recorded are calls that are new in the ledger, Known those that were there.
	Recorded, Known int
	// Conflicting are those that were there with another time, length or direction. The first stands.
	Conflicting int
	// Failed are those that could not be recorded. SmartfloConfig.OnError was told of each of them, and of the conflicting.
	Failed int
}

// ImportSmartflo records the calls of a page of GET /v1/call/records, each once by its call_id: a page may be imported
// again, and may overlap with webhooks. A record that cannot be recorded does not hold up the others. The error is that of
// ctx, of reading or parsing the page, or of the store that refuses everything; what was imported before it counts.
func ImportSmartflo(ctx context.Context, tracker *usage.Tracker, page io.Reader, cfg SmartfloConfig) (SmartfloImport, error) {
	var done SmartfloImport
	s, err := newSmartflo(tracker, cfg)
	if err != nil {
		return done, err
	}
	for event, err := range ParseSmartfloPage(page) {
		if errors.As(err, new(*recordError)) {
			done.Failed++
			_ = s.failed(usage.SmartfloCall{}, err) // the same error
			continue
		}
		if err != nil {
			return done, err
		}
		rec, err := s.record(ctx, event)
		switch {
		case err == nil && !rec.Duplicate:
			done.Recorded++
		case err == nil:
			done.Known++
		case errors.Is(err, usage.ErrConflict):
			done.Conflicting++
		case isOfOne(err):
			done.Failed++
		default:
			return done, err
		}
	}
	return done, nil
}

// isOfOne reports whether an error is that of one record and not of the ledger as a whole.
func isOfOne(err error) bool {
	for _, one := range []error{ErrMalformed, ErrNoTenant, usage.ErrInvalid, usage.ErrPruned, usage.ErrOverflow, errTenantPanicked} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}
