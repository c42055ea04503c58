package usage_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/internal/proctest"
	"github.com/acf68eca/usage/store"
	storesqlite "github.com/acf68eca/usage/store_sqlite"
)

// clock is a clock that only a test moves.
type clock struct{ micros atomic.Int64 }

func (c *clock) now() time.Time          { return time.UnixMicro(c.micros.Load()).UTC() }
func (c *clock) set(at time.Time)        { c.micros.Store(at.UnixMicro()) }
func (c *clock) advance(d time.Duration) { c.micros.Add(d.Microseconds()) }

// instant parses "2006-01-02", with "T15", "T15:04" or "T15:04:05" behind it where that matters, in UTC.
func instant(t testing.TB, s string) time.Time {
	t.Helper()
	for _, layout := range []string{time.DateOnly, "2006-01-02T15", "2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at
		}
	}
	t.Fatalf("%q is no instant", s)
	return time.Time{}
}

func period(t testing.TB, start, end string) usage.Period {
	t.Helper()
	return usage.Period{Start: instant(t, start), End: instant(t, end)}
}

func openStore(t testing.TB, path string) store.Store {
	t.Helper()
	st, err := storesqlite.OpenConfig(t.Context(), path, storesqlite.Config{BusyTimeout: proctest.Limit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// bench is a tracker under test, with what it stands on. Its clock starts at noon of 2026-05-20, and its book charges
// a dollar for a request to any model of "api" but "unlisted".
type bench struct {
	*usage.Tracker
	clock *clock
	store store.Store
}

const model = "m"

func newBench(t testing.TB, cfg usage.Config) *bench {
	t.Helper()
	return benchOn(t, openStore(t, ":memory:"), cfg)
}

func benchOn(t testing.TB, st store.Store, cfg usage.Config) *bench {
	t.Helper()
	b := &bench{clock: new(clock), store: st}
	b.clock.set(instant(t, "2026-05-20T12"))
	if cfg.Now == nil {
		cfg.Now = b.clock.now
	}
	if cfg.Prices == nil {
		cfg.Prices = dollarBook(t, "1")
	}
	if cfg.CommitTimeout == 0 {
		cfg.CommitTimeout = proctest.Limit
	}
	var err error
	if b.Tracker, err = usage.New(st, cfg); err != nil {
		t.Fatal(err)
	}
	return b
}

// another is a second tracker on the same file with the same clock, as another process would have.
func (b *bench) another(t testing.TB, path string, cfg usage.Config) *bench {
	t.Helper()
	cfg.Now = b.clock.now
	other := benchOn(t, openStore(t, path), cfg)
	other.clock = b.clock
	return other
}

// dollarBook charges so many dollars for a request to "m" and its like, and to "m" a cent a token and a dollar for
// each minute.
func dollarBook(t testing.TB, dollars string) *usage.PriceBook {
	t.Helper()
	price := func(model string, meter usage.Meter, amount string, per int64) usage.Price {
		return usage.Price{Provider: "api", Model: model, Meter: meter, Amount: usd(amount), Per: per}
	}
	book, err := usage.NewPriceBook(
		price(model, usage.Requests, dollars, usage.PerUnit), price("other", usage.Requests, dollars, usage.PerUnit),
		price(model, usage.InputTokens, "0.01", usage.PerUnit), price(model, usage.OutputTokens, "0.01", usage.PerUnit),
		price(model, usage.CallTime, "1", usage.PerMinute), price(model, usage.AudioTime, "1", usage.PerMinute),
	)
	if err != nil {
		t.Fatal(err)
	}
	return book
}

// request is a call of so many requests, which cost a dollar each.
func request(tenantID, id string, n int64) usage.Call {
	return usage.Call{
		TenantID: tenantID, ID: id, Provider: "api", Model: model, Quantities: usage.Quantities{usage.Requests: n},
	}
}

// reserved is a call that settles a reservation.
func reserved(call usage.Call, reservationID string) usage.Call {
	call.ReservationID = reservationID
	return call
}

// happened is a call with its time.
func happened(call usage.Call, at time.Time) usage.Call {
	call.At = at
	return call
}

func asking(tenantID, id string, n int64, expires time.Duration) usage.Estimate {
	return usage.Estimate{
		TenantID: tenantID, ID: id, Provider: "api", Model: model, Quantities: usage.Quantities{usage.Requests: n},
		ExpiresIn: expires,
	}
}

func (b *bench) log(t testing.TB, call usage.Call) usage.Record {
	t.Helper()
	record, err := b.Log(t.Context(), call)
	if err != nil {
		t.Fatalf("Log(%s, %s): %v", call.TenantID, call.ID, err)
	}
	return record
}

func (b *bench) reserve(t testing.TB, e usage.Estimate) *usage.Reservation {
	t.Helper()
	reservation, err := b.Reserve(t.Context(), e)
	if err != nil {
		t.Fatalf("Reserve(%s, %s): %v", e.TenantID, e.ID, err)
	}
	return reservation
}

// limited gives a tenant a hard limit of dollars a month, with alerts at some percents.
func (b *bench) limited(t testing.TB, tenantID string, dollars int64, percents ...int) {
	t.Helper()
	b.quota(t, usage.Quota{
		TenantID: tenantID, AlertPercents: percents,
		Limits: []usage.Limit{{Meter: usage.Cost, Max: decimal.NewFromInt(dollars)}},
	})
}

func (b *bench) quota(t testing.TB, q usage.Quota) {
	t.Helper()
	if err := b.SetQuota(t.Context(), q); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) current(t testing.TB, tenantID string) *usage.Usage {
	t.Helper()
	current, err := b.GetCurrentUsage(t.Context(), tenantID)
	if err != nil {
		t.Fatal(err)
	}
	return current
}

// stands wants so many dollars to be used and held of the tenant's first limit.
func (b *bench) stands(t testing.TB, tenantID string, used, held int64) {
	t.Helper()
	limit := b.current(t, tenantID).Limits[0]
	if !limit.Used.Equal(decimal.NewFromInt(used)) || !limit.Held.Equal(decimal.NewFromInt(held)) {
		t.Errorf("%s: used %s and held %s, want %d and %d", tenantID, limit.Used, limit.Held, used, held)
	}
}

// sound wants the totals to be those of the ledger.
func (b *bench) sound(t testing.TB, tenantIDs ...string) {
	t.Helper()
	for _, id := range tenantIDs {
		if drift, err := b.Verify(t.Context(), id); err != nil || len(drift) > 0 {
			t.Errorf("%s: drift %+v, %v", id, drift, err)
		}
	}
}

func (b *bench) records(t testing.TB, filter usage.RecordFilter) (records []usage.Record) {
	t.Helper()
	for record, err := range b.Records(t.Context(), filter) {
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, record)
	}
	return records
}

func (b *bench) alerts(t testing.TB, filter usage.AlertFilter) []usage.Alert {
	t.Helper()
	alerts, err := b.Alerts(t.Context(), filter)
	if err != nil {
		t.Fatal(err)
	}
	return alerts
}

func ids(records []usage.Record) []string {
	all := make([]string, len(records))
	for i := range records {
		all[i] = records[i].ID
	}
	return all
}

// equal compares two values; decimals and times by what they mean.
func equal(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got the error %v, want %v", err, want)
	}
}

func wantDollars(t testing.TB, what string, want string, got decimal.Decimal) {
	t.Helper()
	if !got.Equal(usd(want)) {
		t.Errorf("%s is $%s, want $%s", what, got, want)
	}
}

// together runs n functions at once.
func together(n int, do func(i int)) {
	var ready, done sync.WaitGroup
	ready.Add(n)
	for i := range n {
		done.Go(func() {
			ready.Done()
			ready.Wait()
			do(i)
		})
	}
	done.Wait()
}

// faulty is a store of which one method can fail or wait.
type faulty struct {
	store.Store
	// append comes before the store's Append, which it stands in for when it returns an error.
	append func([]*store.Record) error
	// after comes after an Append that went through.
	after func()
}

func (s *faulty) Append(ctx context.Context, now time.Time, records []*store.Record, judge store.Judge) ([]store.Outcome, error) {
	if s.append != nil {
		if err := s.append(records); err != nil {
			return nil, err
		}
	}
	outcomes, err := s.Store.Append(ctx, now, records, judge)
	if s.after != nil {
		s.after()
	}
	return outcomes, err
}

func TestNewNamesEveryFault(t *testing.T) {
	t.Parallel()
	_, err := usage.New(nil, usage.Config{CommitTimeout: -1})
	var invalid *usage.InvalidError
	if !errors.As(err, &invalid) || len(invalid.Faults) != 2 {
		t.Errorf("got %v, want both faults", err)
	}
	wantError(t, err, usage.ErrInvalid)
}

func TestCallsWithoutAnIDAreCallsOfTheirOwn(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	first, second := b.log(t, request("acme", "", 1)), b.log(t, request("acme", "", 1))
	if first.ID == "" || first.ID == second.ID || second.Duplicate {
		t.Errorf("got %q and %q (duplicate: %v)", first.ID, second.ID, second.Duplicate)
	}
	equal(t, "calls", int64(2), b.current(t, "acme").Calls)
}

func TestACallWithoutATimeHappensNow(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	record := b.log(t, request("acme", "1", 1))
	if !record.At.Equal(b.clock.now()) || !record.RecordedAt.Equal(b.clock.now()) {
		t.Errorf("got %v, recorded at %v; want %v", record.At, record.RecordedAt, b.clock.now())
	}
}

func TestTimesAreCutToMicrosecondsInUTC(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	at := time.Date(2026, 5, 20, 1, 2, 3, 456_789_999, time.FixedZone("east", 3600))
	record := b.log(t, happened(request("acme", "1", 1), at))
	equal(t, "time", time.Date(2026, 5, 20, 0, 2, 3, 456_789_000, time.UTC), record.At)
	equal(t, "zone", "UTC", record.At.Location().String())
}

func TestAnInvalidCallIsNotWritten(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	call := request("acme", "1", -1)
	call.Status = 42
	_, err := b.Log(t.Context(), call)
	var invalid *usage.InvalidError
	if !errors.As(err, &invalid) || len(invalid.Faults) != 2 {
		t.Errorf("got %v, want both faults", err)
	}
	if _, err := b.Tenant(t.Context(), "acme"); !errors.Is(err, usage.ErrNotFound) {
		t.Errorf("the tenant was created: %v", err)
	}
}

func TestTheRecordOfALogIsTheOneInTheLedger(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{Prices: usage.DefaultPrices()})
	want, err := b.LogOpenAI(t.Context(), usage.OpenAICall{
		TenantID: "acme", ID: "1", Model: "gpt-5", InputTokens: 1000, CachedInputTokens: 200, OutputTokens: 50,
		ReasoningTokens: 20, ServiceTier: "Flex", Batch: false, At: instant(t, "2026-05-19"), Endpoint: "/v1/responses",
		Status: 500, Latency: 1234567 * time.Nanosecond, Error: "boom\n", User: "u", IP: "::FFFF:1.2.3.4",
		Tags: map[string]string{"team": "x"},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.Record(t.Context(), "acme", "1")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "record", want, got)
	equal(t, "error text", "boom ", got.Error)
	equal(t, "address", "1.2.3.4", got.IP)
	equal(t, "latency", 1234*time.Microsecond, got.Latency)
	equal(t, "unbilled", usage.Quantities{usage.ReasoningTokens: 20}, got.Unbilled)
	if got.PriceVersion != usage.DefaultPrices().Version() {
		t.Errorf("version %q", got.PriceVersion)
	}
}

func TestTheHostMayGoOnWithItsMaps(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	call := request("acme", "1", 1)
	call.Tags = map[string]string{"team": "x"}
	record := b.log(t, call)
	call.Tags["team"] = "y"
	call.Quantities[usage.Requests] = 5
	equal(t, "tags", map[string]string{"team": "x"}, record.Tags)
	got, err := b.Record(t.Context(), "acme", "1")
	equal(t, "record", record, got)
	equal(t, "error", error(nil), err)
}

func TestACallOfAnEndedContextIsNotWritten(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Log(ctx, request("acme", "1", 1))
	wantError(t, err, context.Canceled)
	if errors.Is(err, usage.ErrUnknownOutcome) {
		t.Errorf("the outcome is known, and the error says %v", err)
	}
	_, err = b.Reserve(ctx, asking("acme", "1", 1, 0))
	wantError(t, err, context.Canceled)
	_, err = b.Record(t.Context(), "acme", "1")
	wantError(t, err, usage.ErrNotFound)
}

func TestWhatWasNotFoundIsNamed(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	ctx := t.Context()
	b.log(t, request("acme", "1", 1)) // a tenant that exists and has other things
	_, tenant := b.Tenant(ctx, "globex")
	_, call := b.Record(ctx, "acme", "x")
	_, alert := b.ResolveAlert(ctx, "acme", "x")
	for want, err := range map[string]error{
		`tenant "globex": not found`:                    tenant,
		`call "x" of tenant "acme": not found`:          call,
		`alert "x" of tenant "acme": not found`:         alert,
		`reservation "x" of tenant "acme": not found`:   b.Release(ctx, "acme", "x"),
		`reservation "1" of tenant "nobody": not found`: b.Release(ctx, "nobody", "1"),
	} {
		wantError(t, err, usage.ErrNotFound)
		if err != nil && err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
}

func TestAClosedStoreSaysSo(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.store.Close()
	ctx := t.Context()
	_, logged := b.Log(ctx, request("acme", "1", 1))
	_, held := b.Reserve(ctx, asking("acme", "1", 1, 0))
	_, read := b.GetCurrentUsage(ctx, "acme")
	_, listed := b.RecordsPage(ctx, usage.RecordFilter{TenantID: "acme"}, "", 0)
	for _, err := range []error{logged, held, read, listed, b.SetTenant(ctx, usage.Tenant{ID: "acme"})} {
		wantError(t, err, usage.ErrClosed)
	}
}

func TestTenants(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	_, err := b.Tenant(t.Context(), "acme")
	wantError(t, err, usage.ErrNotFound)
	b.log(t, request("acme", "1", 1))
	tenant, err := b.Tenant(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "tenant", usage.Tenant{ID: "acme", Name: "acme", TimeZone: "UTC", BillingDay: 1, CreatedAt: b.clock.now()}, tenant)

	b.clock.advance(time.Hour)
	if err := b.Suspend(t.Context(), "acme", "unpaid"); err != nil {
		t.Fatal(err)
	}
	if err := b.SetTenant(t.Context(), usage.Tenant{ID: "acme", Name: "Acme", TimeZone: "Asia/Kolkata", BillingDay: 31, Suspended: "x"}); err != nil {
		t.Fatal(err)
	}
	tenant, err = b.Tenant(t.Context(), "acme")
	equal(t, "error", error(nil), err)
	equal(t, "what setting it changes", usage.Tenant{
		ID: "acme", Name: "Acme", TimeZone: "Asia/Kolkata", BillingDay: 31, Suspended: "unpaid",
		CreatedAt: b.clock.now().Add(-time.Hour),
	}, tenant)

	for i := range 3 {
		b.log(t, request(fmt.Sprint("t", i), "1", 1))
	}
	var all []string
	for tenant, err := range b.Tenants(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, tenant.ID); len(all) == 3 {
			break
		}
	}
	equal(t, "tenants until the loop breaks", []string{"acme", "t0", "t1"}, all)
}

func TestMovingATenantsCalendarMovesItsTotals(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.limited(t, "acme", 100)
	b.log(t, happened(request("acme", "april", 1), instant(t, "2026-04-25")))
	b.log(t, happened(request("acme", "early", 2), instant(t, "2026-05-09")))
	b.log(t, happened(request("acme", "late", 4), instant(t, "2026-05-19T20")))
	b.stands(t, "acme", 6, 0)
	for _, test := range []struct {
		zone string
		day  int
		want int64
	}{{"", 20, 0}, {"Asia/Kolkata", 20, 4}, {"", 10, 4}, {"", 25, 7}, {"", 1, 6}} {
		if err := b.SetTenant(t.Context(), usage.Tenant{ID: "acme", TimeZone: test.zone, BillingDay: test.day}); err != nil {
			t.Fatal(err)
		}
		b.stands(t, "acme", test.want, 0)
		b.sound(t, "acme")
	}
}

func TestCallersShareCommitsOnOneFile(t *testing.T) {
	t.Parallel()
	var commits atomic.Int64
	st := &faulty{Store: openStore(t, filepath.Join(t.TempDir(), "usage.db"))}
	st.append = func([]*store.Record) error { commits.Add(1); return nil }
	b := benchOn(t, st, usage.Config{})
	const callers = 200
	together(callers, func(i int) {
		if _, err := b.Log(t.Context(), request(fmt.Sprint("t", i%3), fmt.Sprint(i), 1)); err != nil {
			t.Error(err)
		}
	})
	if n := commits.Load(); n >= callers {
		t.Errorf("%d callers made %d commits", callers, n)
	}
	var calls int64
	for i := range 3 {
		calls += b.current(t, fmt.Sprint("t", i)).Calls
	}
	equal(t, "calls", int64(callers), calls)
	b.sound(t, "t0", "t1", "t2")
}

func TestRebuildMakesTheTotalsAnew(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.limited(t, "acme", 100)
	b.log(t, request("acme", "1", 3))
	if err := b.Rebuild(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	b.stands(t, "acme", 3, 0)
	b.sound(t, "acme", "nobody")
	if !slices.Equal(ids(b.records(t, usage.RecordFilter{TenantID: "acme"})), []string{"1"}) {
		t.Error("the records changed")
	}
}
