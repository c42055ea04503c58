package usage_test

import (
	"context"
	"encoding/base64"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/store"
)

// faultyHolds is a store whose Hold fails where fail says so.
type faultyHolds struct {
	store.Store
	fail func(context.Context, []store.Hold) error
}

func (s *faultyHolds) Hold(ctx context.Context, now time.Time, holds []store.Hold, decide store.Decide) ([]store.HoldOutcome, error) {
	if err := s.fail(ctx, holds); err != nil {
		return nil, err
	}
	return s.Store.Hold(ctx, now, holds, decide)
}

func TestReservationsOfAFaultyStore(t *testing.T) {
	t.Parallel()
	t.Run("a hold that cannot be stored fails alone", func(t *testing.T) {
		t.Parallel()
		poison := func(_ context.Context, holds []store.Hold) error {
			for _, h := range holds {
				if h.ID == "poison" {
					return store.ErrInvalid
				}
			}
			return nil
		}
		b := benchOn(t, &faultyHolds{openStore(t, ":memory:"), poison}, usage.Config{})
		ids := []string{"a", "b", "poison", "c", "d", "e"}
		together(len(ids), func(i int) {
			_, err := b.Reserve(t.Context(), asking("acme", ids[i], 1, time.Hour))
			if want := ids[i] == "poison"; errors.Is(err, usage.ErrInvalid) != want {
				t.Errorf("reserve %q: %v", ids[i], err)
			}
		})
	})
	t.Run("an unknown outcome names the reservation", func(t *testing.T) {
		t.Parallel()
		unknown := func(context.Context, []store.Hold) error { return store.ErrUnknownOutcome }
		b := benchOn(t, &faultyHolds{openStore(t, ":memory:"), unknown}, usage.Config{})
		_, err := b.Reserve(t.Context(), asking("acme", "", 1, time.Hour))
		var outcome *usage.UnknownOutcomeError
		if !errors.As(err, &outcome) || outcome.ID == "" || outcome.TenantID != "acme" {
			t.Errorf("got %v, want the id of the reservation", err)
		}
	})
	t.Run("a commit that takes longer than it may says that the store is busy", func(t *testing.T) {
		t.Parallel()
		hang := func(ctx context.Context, _ []store.Hold) error {
			<-ctx.Done()
			return ctx.Err()
		}
		b := benchOn(t, &faultyHolds{openStore(t, ":memory:"), hang}, usage.Config{CommitTimeout: time.Millisecond})
		_, err := b.Reserve(t.Context(), asking("acme", "", 1, time.Hour))
		wantError(t, err, usage.ErrBusy)
	})
}

func TestAReservationThatExpiresAtOnceStillHolds(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.limited(t, "acme", 1)
	b.reserve(t, asking("acme", "", 1, time.Nanosecond))
	_, err := b.Reserve(t.Context(), asking("acme", "", 1, time.Hour))
	wantError(t, err, usage.ErrQuotaExceeded)
	_, err = b.Reserve(t.Context(), asking("acme", "", 1, 367*24*time.Hour))
	wantError(t, err, usage.ErrInvalid)
}

func TestRepriceGoesOnPastACallThatCannotBePriced(t *testing.T) {
	t.Parallel()
	none, err := usage.NewPriceBook()
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, usage.Config{Prices: none})
	for _, id := range []string{"a", "b", "c"} { // any two of them pass what a total holds
		b.log(t, usage.Call{TenantID: "acme", ID: id, Provider: "api", Model: "dear", Quantities: usage.Quantities{usage.Images: 600}})
	}
	b.log(t, request("acme", "small", 1))
	book, err := dollarBook(t, "1").With(usage.Price{
		Provider: "api", Model: "dear", Meter: usage.Images, Amount: usd("10000"), Per: usage.PerUnit,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SetPrices(book); err != nil {
		t.Fatal(err)
	}
	done, err := b.Reprice(t.Context(), usage.RepriceFilter{TenantID: "acme"})
	wantError(t, err, usage.ErrOverflow)
	equal(t, "repriced", usage.Repriced{Priced: 2, Unpriced: 2}, done)
	b.sound(t, "acme")
}

func TestFiltersAreChecked(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	far := time.Date(300_000, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, filter := range map[string]usage.RecordFilter{
		"a time that no store can hold": {TenantID: "acme", To: far},
		"a user that is no text":        {TenantID: "acme", User: "\xff\x00"},
		"no tenant":                     {},
	} {
		_, err := b.RecordsPage(t.Context(), filter, "", 10)
		if !errors.Is(err, usage.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, filter := range map[string]usage.AlertFilter{
		"a time that no store can hold": {To: far},
		"an unknown kind":               {Kind: "quota_warned"},
		"an unknown status":             {Status: "done"},
		"a cursor of another form":      {After: base64.RawURLEncoding.EncodeToString([]byte("+1 1 acme"))},
	} {
		_, err := b.Alerts(t.Context(), filter)
		if !errors.Is(err, usage.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestACursorHasOneForm(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.log(t, request("acme", "a", 1))
	b.log(t, request("acme", "b", 1))
	page, err := b.RecordsPage(t.Context(), usage.RecordFilter{TenantID: "acme"}, "", 1)
	if err != nil || page.Next == "" {
		t.Fatalf("page %+v, %v", page, err)
	}
	if _, err := b.RecordsPage(t.Context(), usage.RecordFilter{TenantID: "acme"}, page.Next, 1); err != nil {
		t.Error(err)
	}
	_, err = b.RecordsPage(t.Context(), usage.RecordFilter{TenantID: "acme"}, page.Next+"\n", 1)
	wantError(t, err, usage.ErrInvalid)
}

func TestOnAlertThatEndsItsGoroutineIsToldOfTheNext(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var told []int
	both := make(chan struct{})
	b := newBench(t, usage.Config{OnAlert: func(a usage.Alert) {
		mu.Lock()
		told = append(told, a.Percent)
		if len(told) == 2 {
			close(both)
		}
		mu.Unlock()
		runtime.Goexit()
	}})
	b.limited(t, "acme", 10, 50, 80)
	b.log(t, request("acme", "a", 9))
	<-both
	mu.Lock()
	defer mu.Unlock()
	equal(t, "told of", []int{50, 80}, told)
}

func TestNoKeyIsStored(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	call := request("acme", "a", 1)
	call.Endpoint = "https://user:sk-secret@api.example.com/v1/chat?key=sk-secret"
	call.Error = "Incorrect API key provided: sk-secretsecret. Sent as Bearer abc.def-ghi, twice: Bearer xyz"
	record := b.log(t, call)
	equal(t, "endpoint", "https://api.example.com/v1/chat", record.Endpoint)
	equal(t, "error", "Incorrect API key provided: sk-*** Sent as Bearer ***, twice: Bearer ***", record.Error)
}

func TestOverageIsKnownOnceTheCallIsPriced(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{Prices: dollarBook(t, "1")})
	hold := b.reserve(t, asking("acme", "", 3, time.Hour))
	call := reserved(request("acme", "a", 10), hold.ID)
	call.Model = "unlisted"
	if record := b.log(t, call); record.Unpriced == "" || !record.Overage.IsZero() {
		t.Fatalf("got %+v, want a call without a price", record)
	}
	book, err := dollarBook(t, "1").With(usage.Price{
		Provider: "api", Model: "unlisted", Meter: usage.Requests, Amount: usd("1"), Per: usage.PerUnit,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SetPrices(book); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Reprice(t.Context(), usage.RepriceFilter{TenantID: "acme"}); err != nil {
		t.Fatal(err)
	}
	record, err := b.Record(t.Context(), "acme", "a")
	if err != nil {
		t.Fatal(err)
	}
	wantDollars(t, "overage", "7", record.Overage)
}

func TestASnapshotHasTheTiersOfItsModel(t *testing.T) {
	t.Parallel()
	cost := func(model string, tier string, at string) (string, error) {
		sum, err := usage.DefaultPrices().Price(usage.PriceQuery{
			Provider: usage.OpenAI, Model: model, At: instant(t, at), Conditions: usage.Conditions{usage.ServiceTier: tier},
		}, []usage.Line{{Meter: usage.InputTokens, Quantity: 1_000_000}})
		return sum.String(), err
	}
	base, err := cost("o3", "flex", "2026-06-01")
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := cost("o3-2025-04-16", "flex", "2026-06-01")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "price of the snapshot", base, snapshot)
	// gpt-4o-2024-05-13 costs twice what gpt-4o does now: the tiers of gpt-4o are not its own.
	if sum, err := cost("gpt-4o-2024-05-13", "priority", "2026-06-01"); !errors.Is(err, usage.ErrUnpriced) {
		t.Logf("listed for the snapshot itself: %s, %v", sum, err)
		if other, _ := cost("gpt-4o", "priority", "2026-06-01"); other == sum {
			t.Errorf("the snapshot is charged %s, the price of another", sum)
		}
	}
}
