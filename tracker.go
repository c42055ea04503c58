package usage

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/acf68eca/usage/internal/group"
	"github.com/acf68eca/usage/store"
)

// Config sets what has a good default. The zero Config is ready for use.
type Config struct {
	// Prices is the price book. It is not stored: each process is given its own. Defaults to DefaultPrices().
	Prices *PriceBook
	// Now is the clock. It must be safe for concurrent use when the tracker is. Defaults to the machine's clock: when that is
	// set, it is followed within a millisecond.
	Now func() time.Time
	// CommitTimeout bounds one commit, which many calls may share and which no single caller's context ends.
	// Defaults to 30 seconds.
	CommitTimeout time.Duration
	// AllowUnpriced lets Reserve take estimates that cannot be priced although a hard limit on cost applies, holding no
	// cost for them. Defaults to false: they are refused with a *UnpricedError.
	AllowUnpriced bool
	// QuotaMaxAge is how old the standing that CheckQuota answers from may be as to what other processes have written.
	// Defaults to 1 second.
	QuotaMaxAge time.Duration
	// OnAlert is told of each alert that this tracker raises once, after its commit, by one goroutine that runs only while
	// there are alerts to tell of. It may block or panic: calls go on, and the alert stays in the ledger as pending. Past
	// 1,024 alerts that wait for it, further ones are only in the ledger. Defaults to nothing.
	OnAlert func(Alert)
	// Logger is told what no caller can be: a panic of OnAlert, an alert that OnAlert was not told of. Defaults to
	// slog.Default().
	Logger *slog.Logger
}

// Tracker records what tenants use. It is safe for concurrent use; a process needs one for a store.
type Tracker struct {
	store  store.Store
	cfg    Config
	now    func() time.Time // as stores keep it
	prices atomic.Pointer[bookSet]
	// setPrices orders the changes of prices.
	setPrices sync.Mutex
	calls     group.Group[*store.Record, store.Outcome]
	holds     group.Group[pendingHold, struct{}]
	alerts    alertQueue
	standings *standings
}

// bookSet is which book prices whose calls. It is never changed, only replaced.
type bookSet struct {
	book     *PriceBook
	byTenant map[string]*PriceBook
}

func (s *bookSet) of(tenantID string) *PriceBook {
	if book, ok := s.byTenant[tenantID]; ok {
		return book
	}
	return s.book
}

// What is committed together at the most: enough that a commit's own cost is small among so many, and little enough
// that a batch takes milliseconds.
const (
	maxBatch     = 2048
	maxBatchSize = 4 << 20
)

// New returns a tracker on a store. The store stays the caller's to close, after the tracker's last use.
// It returns an *InvalidError when st is nil or a duration in cfg negative.
func New(st store.Store, cfg Config) (*Tracker, error) {
	var f faults
	if st == nil {
		f.add("store", "is nil")
	}
	if cfg.CommitTimeout < 0 {
		f.add("Config.CommitTimeout", "is negative")
	}
	if cfg.QuotaMaxAge < 0 {
		f.add("Config.QuotaMaxAge", "is negative")
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	if cfg.Prices == nil {
		cfg.Prices = DefaultPrices()
	}
	if cfg.CommitTimeout == 0 {
		cfg.CommitTimeout = 30 * time.Second
	}
	if cfg.QuotaMaxAge == 0 {
		cfg.QuotaMaxAge = time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	t := &Tracker{store: st, cfg: cfg, standings: &standings{maxAge: cfg.QuotaMaxAge, seed: maphash.MakeSeed()}}
	t.now = (&clock{look: lookAtBoth}).now
	if cfg.Now != nil {
		t.now = func() time.Time { return inMicros(cfg.Now()) }
	}
	t.prices.Store(&bookSet{book: cfg.Prices})
	var writers func() int
	if several, ok := st.(store.Writers); ok {
		writers = several.Writers
	}
	t.calls = group.Group[*store.Record, store.Outcome]{
		Commit: t.commitCalls, Size: recordSize, MaxItems: maxBatch, MaxSize: maxBatchSize,
		Leaders: writers, Key: func(r *store.Record) string { return r.TenantID },
	}
	t.holds = group.Group[pendingHold, struct{}]{
		Commit: t.commitHolds, Size: func(pendingHold) int { return 0 }, MaxItems: maxBatch, MaxSize: maxBatchSize,
		Leaders: writers, Key: func(h pendingHold) string { return h.TenantID },
	}
	t.alerts = alertQueue{tell: cfg.OnAlert, logger: cfg.Logger}
	return t, nil
}

// SetPrices replaces the price book for calls that are logged from now on, of tenants that have none of their own, in this
// process: books are not stored, so give them to each process, each time it starts. Calls that are in the ledger keep their
// price; Reprice prices those that have none. It returns an *InvalidError when book is nil.
func (t *Tracker) SetPrices(book *PriceBook) error {
	if book == nil {
		return &InvalidError{Faults: []Fault{{Field: "book", Problem: "is nil"}}}
	}
	t.changePrices(func(s *bookSet) { s.book = book })
	return nil
}

// SetTenantPrices gives one tenant a price book of its own, in this process as SetPrices does; nil takes it away again. The
// tenant need not exist. It returns an *InvalidError when tenantID cannot be one.
func (t *Tracker) SetTenantPrices(tenantID string, book *PriceBook) error {
	var f faults
	f.id("tenantID", tenantID)
	if err := f.err(); err != nil {
		return err
	}
	t.changePrices(func(s *bookSet) {
		s.byTenant[tenantID] = book
		if book == nil {
			delete(s.byTenant, tenantID)
		}
	})
	return nil
}

func (t *Tracker) changePrices(change func(*bookSet)) {
	t.setPrices.Lock()
	defer t.setPrices.Unlock()
	old := t.prices.Load()
	next := &bookSet{book: old.book, byTenant: make(map[string]*PriceBook, len(old.byTenant)+1)}
	maps.Copy(next.byTenant, old.byTenant)
	change(next)
	t.prices.Store(next)
}

// SetTenant creates or replaces a tenant: name, time zone, billing day and contacts; its suspension stays as it is.
// When zone or billing day change, the totals follow in the same commit: each call then counts in the periods of the
// new calendar. That reads the tenant's whole ledger. Thresholds that only the move has passed are alerted at the next
// call, and one that was alerted before may be again: the periods are others.
//
// Tenants need not be set: a call of an unknown tenant creates it with its id as its name, UTC and the first of the
// month. The error is an *InvalidError or the store's.
func (t *Tracker) SetTenant(ctx context.Context, tenant Tenant) error {
	row, err := validTenant(tenant)
	if err != nil {
		return err
	}
	err = t.store.SetTenant(ctx, t.now(), row)
	t.standings.forget(row.ID)
	return err
}

// Tenant returns a tenant, or ErrNotFound.
func (t *Tracker) Tenant(ctx context.Context, tenantID string) (Tenant, error) {
	if err := checkTenant(tenantID); err != nil {
		return Tenant{}, err
	}
	standing, err := t.store.Standing(ctx, tenantID, t.now())
	if err == nil && standing.Tenant.CreatedAt.IsZero() {
		err = fmt.Errorf("tenant %s: %w", quote(tenantID), ErrNotFound)
	}
	return standing.Tenant, err
}

// Tenants yields all tenants in the order of their ids. The first error ends the sequence.
func (t *Tracker) Tenants(ctx context.Context) iter.Seq2[Tenant, error] {
	return func(yield func(Tenant, error) bool) {
		for after := ""; ; {
			page, err := t.store.Tenants(ctx, after, maxPage)
			if err != nil {
				yield(Tenant{}, err)
				return
			}
			for _, tenant := range page {
				if !yield(tenant, nil) {
					return
				}
			}
			if len(page) < maxPage {
				return
			}
			after = page[len(page)-1].ID
		}
	}
}

// Suspend makes CheckQuota and Reserve refuse a tenant with a *SuspendedError that holds the reason. Calls are still
// logged: they have been made. An unknown tenant is created. The reason is required, of at most 255 bytes.
func (t *Tracker) Suspend(ctx context.Context, tenantID, reason string) error {
	var f faults
	f.id("tenantID", tenantID)
	f.required("reason", reason, maxID)
	if err := f.err(); err != nil {
		return err
	}
	return t.suspend(ctx, tenantID, reason)
}

// Resume lifts a suspension. Resuming a tenant that is not suspended changes nothing, but an unknown one is created.
func (t *Tracker) Resume(ctx context.Context, tenantID string) error {
	if err := checkTenant(tenantID); err != nil {
		return err
	}
	return t.suspend(ctx, tenantID, "")
}

func (t *Tracker) suspend(ctx context.Context, tenantID, reason string) error {
	err := t.store.Suspend(ctx, t.now(), tenantID, reason)
	t.standings.forget(tenantID)
	return err
}

// LogOpenAI records a call to OpenAI and returns it as it is in the ledger, priced. It returns nil only when the record
// is durable, together with its totals, the reservation it settles and the alerts it raises.
//
// The same call again, by its id, is counted once: the record of the first time comes back, marked Duplicate. Errors:
//   - *InvalidError, with every fault named; nothing was written.
//   - *ConflictError: the tenant has another call of this id.
//   - *ReservationError: another call has settled the reservation, or it was released. Log the call without it.
//   - *PrunedError: the call happened before what Prune has dropped, and may have been counted.
//   - *UnknownOutcomeError: ctx ended while the call was being committed. Log it again with the ID in the error.
//   - ErrBusy, ErrFull, ErrReadOnly, ErrCorrupt, ErrUnavailable, ErrOverflow, ErrClosed: it was not written.
//
// A quota never refuses a call here: it has been made, and its cost is real.
func (t *Tracker) LogOpenAI(ctx context.Context, call OpenAICall) (Record, error) {
	d, err := call.draft()
	return t.log(ctx, d, err)
}

// LogElevenLabs records a call to ElevenLabs, as LogOpenAI does.
func (t *Tracker) LogElevenLabs(ctx context.Context, call ElevenLabsCall) (Record, error) {
	d, err := call.draft()
	return t.log(ctx, d, err)
}

// LogSmartflo records a telephone call over Tata Tele Smartflo, as LogOpenAI does.
func (t *Tracker) LogSmartflo(ctx context.Context, call SmartfloCall) (Record, error) {
	d, err := call.draft()
	return t.log(ctx, d, err)
}

// Log records a call to any other provider, as LogOpenAI does. Its price comes from what the host has added to the
// price book.
func (t *Tracker) Log(ctx context.Context, call Call) (Record, error) {
	d, err := call.draft()
	return t.log(ctx, d, err)
}

func (t *Tracker) log(ctx context.Context, d *draft, err error) (Record, error) {
	if err != nil {
		return Record{}, err
	}
	if err := ctx.Err(); err != nil {
		return Record{}, fmt.Errorf("usage: log: %w", err)
	}
	r := &d.record
	if err := t.complete(r, &d.query); err != nil {
		return Record{}, err
	}
	outcome, err := t.calls.Do(ctx, r)
	if err == nil {
		record := recordOf(outcome.Record, d.query.Conditions) // the same as in the row, duplicate or not
		record.Duplicate = outcome.Duplicate
		return record, nil
	}
	switch {
	case errors.Is(err, group.ErrWithdrawn):
		return Record{}, fmt.Errorf("usage: log: not written: %w", err)
	case errors.Is(err, group.ErrTaken), errors.Is(err, ErrUnknownOutcome):
		return Record{}, &UnknownOutcomeError{TenantID: r.TenantID, ID: r.ID, Err: err}
	}
	return Record{}, err
}

// complete fills in what the caller left open and prices the call.
func (t *Tracker) complete(r *store.Record, q *PriceQuery) error {
	r.RecordedAt = t.now()
	if r.At.IsZero() {
		r.At, q.At = r.RecordedAt, r.RecordedAt
	}
	if r.ID == "" {
		id, err := newID()
		if err != nil {
			return err
		}
		r.ID = id
	}
	book := t.prices.Load().of(r.TenantID)
	r.PriceVersion = book.Version()
	if r.Unpriced != "" {
		return nil // the usage is not known, so there is nothing to price
	}
	cost, err := book.price(q, r.Lines)
	if err != nil {
		return unpricedReason(err, &r.Unpriced)
	}
	r.Cost = cost
	return nil
}

// unpricedReason takes the reason out of a *UnpricedError, and returns any other error.
func unpricedReason(err error, reason *string) error {
	var unpriced *UnpricedError
	if !errors.As(err, &unpriced) {
		return err
	}
	*reason = unpriced.Reason
	return nil
}

// newID returns an id in the order of time, which databases add at the end of their indexes.
func newID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("usage: make an id: %w", err)
	}
	return id.String(), nil
}

func checkTenant(id string) error {
	var f faults
	f.id("tenantID", id)
	return f.err()
}

func recordSize(r *store.Record) int {
	size := 256 + len(r.ID) + len(r.TenantID) + len(r.Endpoint) + len(r.Error) + len(r.Unpriced) + 64*len(r.Lines)
	for key, value := range r.Tags {
		size += len(key) + len(value)
	}
	return size
}

// commitCalls appends a batch. A batch that fails for one record's sake is retried record by record, so that only that
// one fails.
func (t *Tracker) commitCalls(batch []*store.Record) []group.Result[store.Outcome] {
	results := make([]group.Result[store.Outcome], len(batch))
	outcomes, err := t.appendCalls(batch)
	if err != nil && len(batch) > 1 && concernsOne(err) {
		for i := range batch {
			results[i] = t.commitCalls(batch[i : i+1])[0]
		}
		return results
	}
	for i := range results {
		if results[i].Err = err; err == nil {
			results[i] = group.Result[store.Outcome]{Out: outcomes[i], Err: outcomes[i].Err}
			t.alerts.add(outcomes[i].Alerts)
		}
	}
	return results
}

func (t *Tracker) appendCalls(batch []*store.Record) (outcomes []store.Outcome, err error) {
	w := t.standings.witness()
	err = t.commit(func(ctx context.Context) (err error) {
		outcomes, err = t.store.Append(ctx, t.now(), batch, w.judge)
		return err
	})
	w.recordsCameAbout(outcomes)
	w.done(err)
	return outcomes, err
}

// commit runs a shared commit under the tracker's own deadline. That no caller asked for it, so its end is the store's
// being busy.
func (t *Tracker) commit(write func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), t.cfg.CommitTimeout)
	defer cancel()
	err := write(ctx)
	if err != nil && ctx.Err() != nil && !errors.Is(err, ErrUnknownOutcome) {
		return fmt.Errorf("%w for longer than %s: %w", ErrBusy, t.cfg.CommitTimeout, err)
	}
	return err
}

// concernsOne reports whether an error may be one record's fault: it is none that the database has as a whole. Damage mostly
// is in some tenant's rows.
func concernsOne(err error) bool {
	for _, whole := range []error{
		ErrBusy, ErrFull, ErrReadOnly, ErrUnavailable, ErrSchema, ErrClosed, ErrUnknownOutcome,
		context.DeadlineExceeded, context.Canceled,
	} {
		if errors.Is(err, whole) {
			return false
		}
	}
	return true
}
