package usage_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/store"
)

func TestPromiseOneCommit(t *testing.T) {
	t.Parallel()
	t.Run("what is returned is on disk with all that belongs to it", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "usage.db")
		b := benchOn(t, openStore(t, path), usage.Config{})
		b.limited(t, "acme", 10, 50)
		b.reserve(t, asking("acme", "r", 7, 0))
		want := b.log(t, reserved(request("acme", "1", 6), "r"))
		other := b.another(t, path, usage.Config{})
		got, err := other.Record(t.Context(), "acme", "1")
		equal(t, "error", error(nil), err)
		equal(t, "record", want, got)
		other.stands(t, "acme", 6, 0)
		equal(t, "alerts", 1, len(other.alerts(t, usage.AlertFilter{TenantID: "acme"})))
	})
	t.Run("a refused call leaves nothing", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, usage.Config{})
		b.limited(t, "acme", 10, 50)
		released := b.reserve(t, asking("acme", "r", 7, 0))
		if err := released.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := b.Log(t.Context(), reserved(request("acme", "1", 6), "r"))
		wantError(t, err, usage.ErrReservationReleased)
		b.stands(t, "acme", 0, 0)
		equal(t, "records", 0, len(b.records(t, usage.RecordFilter{TenantID: "acme"})))
		equal(t, "alerts", 0, len(b.alerts(t, usage.AlertFilter{})))
		b.log(t, request("acme", "1", 6)) // the id is still free
		b.stands(t, "acme", 6, 0)
	})
	t.Run("a call past what a total holds leaves nothing", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, usage.Config{Prices: dollarBook(t, "9999")})
		b.limited(t, "acme", 9_000_000)
		b.reserve(t, asking("acme", "r", 1, 0))
		b.log(t, request("acme", "1", 600))
		_, err := b.Log(t.Context(), reserved(request("acme", "2", 600), "r"))
		wantError(t, err, usage.ErrOverflow)
		b.stands(t, "acme", 600*9999, 9999)
		b.sound(t, "acme")
	})
	t.Run("nobody sees a reservation settled without its spend", func(t *testing.T) {
		t.Parallel()
		const calls = 60
		path := filepath.Join(t.TempDir(), "usage.db")
		b := benchOn(t, openStore(t, path), usage.Config{})
		b.limited(t, "acme", calls)
		for i := range calls {
			b.reserve(t, asking("acme", fmt.Sprint(i), 1, 0))
		}
		other := b.another(t, path, usage.Config{})
		var done atomic.Bool
		var watching sync.WaitGroup
		watching.Go(func() {
			for !done.Load() {
				limit := other.current(t, "acme").Limits[0]
				if sum := limit.Used.Add(limit.Held); !sum.Equal(decimal.NewFromInt(calls)) {
					t.Errorf("used %s and held %s are %s, want %d", limit.Used, limit.Held, sum, calls)
					return
				}
			}
		})
		together(calls, func(i int) {
			if _, err := b.Log(t.Context(), reserved(request("acme", fmt.Sprint(i), 1), fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
		})
		done.Store(true)
		watching.Wait()
		b.stands(t, "acme", calls, 0)
	})
}

func TestPromiseCountedExactlyOnce(t *testing.T) {
	t.Parallel()
	t.Run("a duplicate gets the first result and changes nothing", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, usage.Config{})
		first := b.log(t, request("acme", "1", 3))
		b.clock.advance(40 * 24 * time.Hour)
		if err := b.SetPrices(dollarBook(t, "5")); err != nil {
			t.Fatal(err)
		}
		again := b.log(t, request("acme", "1", 3))
		if !again.Duplicate || first.Duplicate {
			t.Errorf("duplicates: %v, then %v", first.Duplicate, again.Duplicate)
		}
		again.Duplicate = false
		equal(t, "the second result", first, again)
		equal(t, "calls this month", int64(0), b.current(t, "acme").Calls)
		b.sound(t, "acme")
	})
	t.Run("other content is a conflict that names the field", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, usage.Config{})
		first := usage.Call{
			TenantID: "acme", ID: "1", Provider: "api", Model: model, Quantities: usage.Quantities{usage.Requests: 1},
			At: instant(t, "2026-05-01"), Endpoint: "/a", Status: 200, Latency: time.Second, User: "u", IP: "1.2.3.4",
			Tags: map[string]string{"k": "v"},
		}
		want := b.log(t, first)
		for field, change := range map[string]func(*usage.Call){
			"Provider":      func(c *usage.Call) { c.Provider = "api2" },
			"Model":         func(c *usage.Call) { c.Model = "other" },
			"Lines":         func(c *usage.Call) { c.Quantities = usage.Quantities{usage.Requests: 2} },
			"Conditions":    func(c *usage.Call) { c.Conditions = usage.Conditions{"a": "b"} },
			"At":            func(c *usage.Call) { c.At = c.At.Add(time.Microsecond) },
			"Endpoint":      func(c *usage.Call) { c.Endpoint = "/b" },
			"Status":        func(c *usage.Call) { c.Status = 201 },
			"Latency":       func(c *usage.Call) { c.Latency = 0 },
			"Error":         func(c *usage.Call) { c.Error = "boom" },
			"User":          func(c *usage.Call) { c.User = "" },
			"IP":            func(c *usage.Call) { c.IP = "::1" },
			"Tags":          func(c *usage.Call) { c.Tags = nil },
			"ReservationID": func(c *usage.Call) { c.ReservationID = "r" },
		} {
			other := first
			change(&other)
			_, err := b.Log(t.Context(), other)
			var conflict *usage.ConflictError
			if !errors.As(err, &conflict) || conflict.Field != field || conflict.ID != "1" || conflict.TenantID != "acme" {
				t.Errorf("%s: got %v", field, err)
			}
		}
		got, err := b.Record(t.Context(), "acme", "1")
		equal(t, "error", error(nil), err)
		equal(t, "the first record", want, got)
		equal(t, "calls", int64(1), b.current(t, "acme").Calls)
	})
	t.Run("however many send it at once through two trackers", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "usage.db")
		b := benchOn(t, openStore(t, path), usage.Config{})
		trackers := []*bench{b, b.another(t, path, usage.Config{})}
		b.limited(t, "acme", 100)
		var firsts atomic.Int64
		together(64, func(i int) {
			record, err := trackers[i%2].Log(t.Context(), request("acme", "1", 3))
			if err != nil {
				t.Error(err)
			}
			if !record.Duplicate {
				firsts.Add(1)
			}
		})
		equal(t, "calls that were first", int64(1), firsts.Load())
		b.stands(t, "acme", 3, 0)
		b.sound(t, "acme")
	})
	t.Run("an id is its tenant's own", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, usage.Config{})
		b.log(t, request("acme", "1", 1))
		if other := b.log(t, request("globex", "1", 2)); other.Duplicate {
			t.Error("the other tenant's call is a duplicate")
		}
	})
}

// exactCost is quantity × amount ÷ per, rounded half to even at 12 digits, in picodollars.
func exactCost(quantity int64, amount decimal.Decimal, per int64) *big.Int {
	exact := new(big.Rat).Mul(amount.Rat(), big.NewRat(quantity, per))
	exact.Mul(exact, big.NewRat(1_000_000_000_000, 1))
	quo, rem := new(big.Int).QuoRem(exact.Num(), exact.Denom(), new(big.Int))
	half := rem.Lsh(rem, 1).Cmp(exact.Denom())
	if half > 0 || half == 0 && quo.Bit(0) == 1 {
		quo.Add(quo, big.NewInt(1))
	}
	return quo
}

func dollarsOf(picos *big.Int) decimal.Decimal { return decimal.NewFromBigInt(picos, -12) }

func TestPromiseExact(t *testing.T) {
	t.Parallel()
	t.Run("a year of calls adds up to the last digit", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, usage.Config{})
		b.clock.set(instant(t, "2026-12-31T23"))
		var histories atomic.Int64
		rapid.Check(t, func(rt *rapid.T) {
			exactYear(t, rt, b, fmt.Sprint("t", histories.Add(1)))
		})
	})
	t.Run("a half is rounded to even, once for each line", func(t *testing.T) {
		t.Parallel()
		book, err := usage.NewPriceBook(
			usage.Price{Provider: "api", Model: model, Meter: usage.CallTime, Amount: usd("0.00000003"), Per: usage.PerMinute},
		)
		if err != nil {
			t.Fatal(err)
		}
		b := newBench(t, usage.Config{Prices: book})
		for i, want := range map[int64]string{1: "0", 3: "0.000000000002", 5: "0.000000000002", 7: "0.000000000004"} {
			call := request("acme", fmt.Sprint(i), 0)
			call.Quantities = usage.Quantities{usage.CallTime: i} // half a picodollar each
			wantDollars(t, fmt.Sprint(i, " halves"), want, b.log(t, call).Cost)
		}
		wantDollars(t, "the sum of the rounded", "0.000000000008", b.current(t, "acme").Cost)
	})
}

// exactYear logs calls of a tenant all over 2026, and wants every report to be the exact sum of them.
func exactYear(t *testing.T, rt *rapid.T, b *bench, tenantID string) {
	meters := []usage.Meter{usage.InputTokens, usage.OutputTokens, usage.Characters}
	amounts := make(map[usage.Meter]decimal.Decimal)
	pers := make(map[usage.Meter]int64)
	var prices []usage.Price
	for _, meter := range meters {
		pers[meter] = rapid.SampledFrom([]int64{1, 1_000, 1_000_000}).Draw(rt, "per")
		amounts[meter] = decimal.New(rapid.Int64Range(0, 1_000_000_000_000).Draw(rt, "amount"), -12)
		prices = append(prices, usage.Price{Provider: "api", Model: model, Meter: meter, Amount: amounts[meter], Per: pers[meter]})
	}
	book, err := usage.NewPriceBook(prices...)
	if err != nil {
		rt.Fatal(err)
	}
	if err := b.SetTenantPrices(tenantID, book); err != nil {
		rt.Fatal(err)
	}
	var months [12]big.Int
	var year big.Int
	for i := range rapid.IntRange(1, 8).Draw(rt, "calls") {
		at := time.UnixMicro(rapid.Int64Range(
			instant(t, "2026-01-01").UnixMicro(), instant(t, "2027-01-01").UnixMicro()-1).Draw(rt, "at")).UTC()
		call := usage.Call{TenantID: tenantID, ID: fmt.Sprint(i), Provider: "api", Model: model, At: at, Quantities: usage.Quantities{}}
		var want big.Int
		for _, meter := range meters {
			quantity := rapid.Int64Range(0, 10_000).Draw(rt, "quantity")
			call.Quantities[meter] = quantity
			want.Add(&want, exactCost(quantity, amounts[meter], pers[meter]))
		}
		record, err := b.Log(t.Context(), call)
		if err != nil || !record.Cost.Equal(dollarsOf(&want)) {
			rt.Fatalf("call %d costs %s, %v; want %s", i, record.Cost, err, dollarsOf(&want))
		}
		month := &months[at.Month()-1]
		month.Add(month, &want)
		year.Add(&year, &want)
	}
	history, err := b.History(t.Context(), tenantID, 12)
	if err != nil {
		rt.Fatal(err)
	}
	for i := range months {
		if got := history[11-i].Cost; !got.Equal(dollarsOf(&months[i])) {
			rt.Errorf("month %d is $%s, want $%s", i+1, got, dollarsOf(&months[i]))
		}
	}
	whole, err := b.Usage(t.Context(), tenantID, period(t, "2026-01-01", "2027-01-01"))
	if err != nil || !whole.Cost.Equal(dollarsOf(&year)) {
		rt.Errorf("the year is $%s, %v; want $%s", whole.Cost, err, dollarsOf(&year))
	}
	if drift, err := b.Verify(t.Context(), tenantID); err != nil || len(drift) > 0 {
		rt.Errorf("drift %+v, %v", drift, err)
	}
}

func TestPromisePricedWhenItHappened(t *testing.T) {
	t.Parallel()
	price := func(model, amount string, from, until time.Time) usage.Price {
		return usage.Price{Provider: usage.OpenAI, Model: model, Meter: usage.InputTokens, Amount: usd(amount), Per: usage.PerUnit, From: from, Until: until}
	}
	change := instant(t, "2026-05-10")
	book, err := usage.NewPriceBook(
		price("asked", "0.1", time.Time{}, change), price("asked", "0.2", change, time.Time{}),
		price("returned", "0.5", time.Time{}, time.Time{}),
		usage.Price{Provider: usage.OpenAI, Model: "asked", Meter: usage.InputTokens, Amount: usd("0.05"), Per: usage.PerUnit,
			Conditions: usage.Conditions{usage.ServiceTier: "flex"}},
		usage.Price{Provider: usage.OpenAI, Model: "returned", Meter: usage.InputTokens, Amount: usd("0.9"), Per: usage.PerUnit,
			AboveInputTokens: 100},
	)
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, usage.Config{Prices: book})
	for i, test := range []struct {
		name, model, tier string
		at                time.Time
		tokens            int64
		want              string
	}{
		{"a late call costs what it did then", "asked", "", change.Add(-time.Microsecond), 1, "0.1"},
		{"at the change it is the new price", "asked", "", change, 1, "0.2"},
		{"by the model that was returned", "returned", "", change, 1, "0.5"},
		{"by the dated snapshot that was returned", "returned-2026-01-02", "", change, 1, "0.5"},
		{"by its tier", "asked", "flex", change, 1, "0.05"},
		{"exactly at the context threshold", "returned", "", change, 100, "50"},
		{"above it, the whole call", "returned", "", change, 101, "90.9"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			record, err := b.LogOpenAI(t.Context(), usage.OpenAICall{
				TenantID: "acme", ID: fmt.Sprint(i), Model: test.model, ServiceTier: test.tier, At: test.at, InputTokens: test.tokens,
			})
			if err != nil {
				t.Fatal(err)
			}
			wantDollars(t, "the call", test.want, record.Cost)
			equal(t, "version", book.Version(), record.PriceVersion)
		})
	}
	t.Run("a call without a price is stored and counted, and its cost is absent", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, usage.Config{Prices: book})
		for i, call := range []usage.OpenAICall{
			{Model: "returnes", InputTokens: 5},                       // a neighbour's name
			{Model: "asked", ServiceTier: "priority", InputTokens: 5}, // a tier that has none
			{Model: "asked", InputTokens: 5, OutputTokens: 1},         // a meter that has none
			{Model: "asked", UsageUnknown: "the stream was cut"},      // nobody knows what it used
		} {
			call.TenantID, call.ID = "acme", fmt.Sprint(i)
			record, err := b.LogOpenAI(t.Context(), call)
			if err != nil || record.Unpriced == "" || !record.Cost.IsZero() {
				t.Errorf("call %d: $%s, unpriced %q, %v", i, record.Cost, record.Unpriced, err)
			}
		}
		month := b.current(t, "acme")
		equal(t, "calls", int64(4), month.Calls)
		equal(t, "unpriced", int64(4), month.Unpriced)
		equal(t, "tokens", int64(16), month.Tokens)
		for _, alert := range b.alerts(t, usage.AlertFilter{TenantID: "acme"}) {
			if alert.Kind != usage.AlertUnpriced || alert.Reason == "" {
				t.Errorf("alert %+v", alert)
			}
		}
		b.sound(t, "acme")
	})
}

func TestPromiseHardLimitsHold(t *testing.T) {
	t.Parallel()
	t.Run("whatever races", racingReservations)
	t.Run("holds", holds)
	t.Run("settled 70 and held 50 of 100 is impossible", settleAndExpire)
	t.Run("what just fits is admitted, and a full limit refuses even an ask of nothing", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, usage.Config{})
		b.limited(t, "acme", 10)
		b.log(t, request("acme", "1", 6))
		_, err := b.Reserve(t.Context(), asking("acme", "", 5, 0))
		var quota *usage.QuotaError
		if !errors.As(err, &quota) {
			t.Fatalf("got %v", err)
		}
		wantDollars(t, "used", "6", quota.Used)
		wantDollars(t, "asked", "5", quota.Asked)
		equal(t, "resets", instant(t, "2026-06-01"), quota.ResetsAt)
		b.reserve(t, asking("acme", "last", 4, 0))
		for _, asked := range []int64{0, 1} {
			_, err := b.Reserve(t.Context(), asking("acme", "", asked, 0))
			wantError(t, err, usage.ErrQuotaExceeded)
			wantError(t, b.CheckQuota(t.Context(), asking("acme", "", asked, 0)), usage.ErrQuotaExceeded)
		}
		b.stands(t, "acme", 6, 4)
	})
	t.Run("a limit of zero allows nothing", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, usage.Config{})
		b.limited(t, "acme", 0)
		_, err := b.Reserve(t.Context(), asking("acme", "", 0, 0))
		wantError(t, err, usage.ErrQuotaExceeded)
	})
	t.Run("a soft limit only warns", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, usage.Config{})
		b.quota(t, usage.Quota{
			TenantID: "acme", AlertPercents: []int{100},
			Limits: []usage.Limit{{Meter: usage.Cost, Max: usd("1"), Soft: true}},
		})
		b.reserve(t, asking("acme", "r", 5, 0))
		b.log(t, reserved(request("acme", "1", 5), "r"))
		equal(t, "alerts", 1, len(b.alerts(t, usage.AlertFilter{TenantID: "acme"})))
		b.reserve(t, asking("acme", "", 5, 0))
	})
	t.Run("a tenant without limits is unlimited", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, usage.Config{})
		b.reserve(t, asking("acme", "", 1_000_000, 0))
	})
	t.Run("a call is logged whatever the limit says", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, usage.Config{})
		b.limited(t, "acme", 1)
		b.log(t, request("acme", "1", 50))
		b.stands(t, "acme", 50, 0)
	})
	t.Run("a suspended tenant is refused and still logged", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, usage.Config{})
		if err := b.Suspend(t.Context(), "acme", "unpaid"); err != nil {
			t.Fatal(err)
		}
		_, err := b.Reserve(t.Context(), asking("acme", "", 0, 0))
		var suspended *usage.SuspendedError
		if !errors.As(err, &suspended) || suspended.Reason != "unpaid" {
			t.Errorf("got %v", err)
		}
		wantError(t, b.CheckQuota(t.Context(), asking("acme", "", 0, 0)), usage.ErrSuspended)
		b.log(t, request("acme", "1", 1))
		if err := b.Resume(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		b.reserve(t, asking("acme", "", 1, 0))
	})
	t.Run("an estimate without a price is refused where cost is limited", func(t *testing.T) {
		t.Parallel()
		for _, allow := range []bool{false, true} {
			b := newBench(t, usage.Config{AllowUnpriced: allow})
			unlisted := asking("acme", "", 1, 0)
			unlisted.Model = "unlisted"
			b.reserve(t, unlisted)
			b.limited(t, "acme", 10)
			if _, err := b.Reserve(t.Context(), unlisted); errors.Is(err, usage.ErrUnpriced) == allow {
				t.Errorf("allowed %v: got %v", allow, err)
			}
		}
	})
}

// racingReservations: 500 goroutines reserve through two trackers on one file, and settle, release or forget at random.
func racingReservations(t *testing.T) {
	t.Parallel()
	const goroutines, limit = 500, 200
	path := filepath.Join(t.TempDir(), "usage.db")
	b := benchOn(t, openStore(t, path), usage.Config{})
	trackers := []*bench{b, b.another(t, path, usage.Config{})}
	watcher := b.another(t, path, usage.Config{})
	b.limited(t, "acme", limit)

	var done atomic.Bool
	var watching sync.WaitGroup
	watching.Go(func() {
		for !done.Load() {
			stands := watcher.current(t, "acme").Limits[0]
			if sum := stands.Used.Add(stands.Held); sum.GreaterThan(decimal.NewFromInt(limit)) {
				t.Errorf("used %s and held %s pass %d", stands.Used, stands.Held, limit)
				return
			}
		}
	})
	var spent, refused atomic.Int64
	together(goroutines, func(i int) {
		tracker, n, id := trackers[i%2], 1+rand.Int64N(3), fmt.Sprint(i)
		forgets := rand.IntN(4) == 0
		expires := 1000 * time.Hour
		if forgets {
			expires = time.Minute
		}
		reservation, err := tracker.Reserve(t.Context(), asking("acme", id, n, expires))
		switch {
		case errors.Is(err, usage.ErrQuotaExceeded):
			refused.Add(1)
			return
		case err != nil:
			t.Errorf("reserve: %v", err)
			return
		case forgets:
			b.clock.advance(time.Second)
			return
		case rand.IntN(3) == 0:
			err = reservation.Release(t.Context())
		default:
			n = rand.Int64N(n + 1)
			spent.Add(n)
			_, err = tracker.Log(t.Context(), reserved(request("acme", id, n), id))
		}
		if err != nil {
			t.Errorf("end of a reservation: %v", err)
		}
	})
	done.Store(true)
	watching.Wait()

	b.clock.advance(time.Minute)
	b.stands(t, "acme", spent.Load(), 0)
	b.sound(t, "acme")
	if refused.Load() == 0 && spent.Load() < limit/2 {
		t.Errorf("nothing was refused, and only %d spent", spent.Load())
	}
	if rest := limit - spent.Load(); rest > 0 { // all of it can be used
		b.reserve(t, asking("acme", "rest", rest, 0))
	}
	_, err := b.Reserve(t.Context(), asking("acme", "one more", 1, 0))
	wantError(t, err, usage.ErrQuotaExceeded)
}

// holds is the case table of reservations.
func holds(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.limited(t, "acme", 1000)
	b.log(t, request("acme", "before", 15))
	for _, hold := range []struct {
		id      string
		n       int64
		expires time.Duration
	}{
		{"A", 15, 1000 * time.Second}, {"B", 15, 50 * time.Second}, {"C", 15, time.Second}, {"D", 7, 50 * time.Second},
		{"E", 1, 1000 * time.Second}, {"F", 1, 1000 * time.Second},
	} {
		b.reserve(t, asking("acme", hold.id, hold.n, hold.expires))
	}
	b.stands(t, "acme", 15, 54)
	b.clock.advance(time.Second)
	b.stands(t, "acme", 15, 39) // at its very end C holds nothing
	log := func(id, reservation string, n int64) (usage.Record, error) {
		return b.Log(t.Context(), reserved(request("acme", id, n), reservation))
	}
	settles := func(id, reservation string, n int64, want usage.Settlement, overage string) {
		t.Helper()
		record, err := log(id, reservation, n)
		if err != nil || record.Settlement != want {
			t.Errorf("settle %s with %d: %q, %v; want %q", reservation, n, record.Settlement, err, want)
		}
		wantDollars(t, "overage", overage, record.Overage)
	}

	settles("a", "A", 13, usage.Settled, "0")
	b.stands(t, "acme", 28, 24)
	if again, err := log("a", "A", 13); err != nil || !again.Duplicate || again.Settlement != usage.Settled {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	_, err := log("a", "A", 14)
	var conflict *usage.ConflictError
	if !errors.As(err, &conflict) || conflict.Field != "Lines" {
		t.Errorf("the same id with another amount: %v", err)
	}
	if err := b.Release(t.Context(), "acme", "B"); err != nil {
		t.Errorf("release B: %v", err)
	}
	if err := b.Release(t.Context(), "acme", "B"); err != nil {
		t.Errorf("release B again: %v", err)
	}
	_, err = log("a2", "A", 1)
	var reservation *usage.ReservationError
	if !errors.As(err, &reservation) || reservation.RecordID != "a" {
		t.Errorf("settle A under a new id: %v", err)
	}
	wantError(t, err, usage.ErrReservationSettled)
	wantError(t, b.Release(t.Context(), "acme", "A"), usage.ErrReservationSettled)
	_, err = log("b", "B", 1)
	wantError(t, err, usage.ErrReservationReleased)
	settles("c", "C", 15, usage.ReservationExpired, "0")
	settles("d", "D", 8, usage.Settled, "1")
	settles("e", "E", 1, usage.Settled, "0")
	settles("f", "F", 0, usage.Settled, "0")
	settles("g", "never", 1, usage.ReservationUnknown, "0")
	b.stands(t, "acme", 15+13+15+8+1+0+1, 0)
	wantError(t, b.Release(t.Context(), "acme", "never"), usage.ErrNotFound)
	_, err = b.Reserve(t.Context(), asking("acme", "B", 1, 0))
	if !errors.As(err, &conflict) || conflict.Field != "ID" {
		t.Errorf("the id of an old reservation: %v", err)
	}
	b.sound(t, "acme")
}

func settleAndExpire(t *testing.T) {
	t.Parallel()
	begin := func(t *testing.T) *bench {
		t.Helper()
		b := newBench(t, usage.Config{})
		b.limited(t, "acme", 100)
		b.log(t, request("acme", "before", 70))
		b.reserve(t, asking("acme", "r", 30, time.Minute))
		_, err := b.Reserve(t.Context(), asking("acme", "second", 20, 0))
		wantError(t, err, usage.ErrQuotaExceeded)
		return b
	}
	t.Run("settled, then past its end", func(t *testing.T) {
		t.Parallel()
		b := begin(t)
		b.clock.advance(time.Minute - time.Microsecond)
		equal(t, "settlement", usage.Settled, b.log(t, reserved(request("acme", "1", 30), "r")).Settlement)
		b.stands(t, "acme", 100, 0)
		b.clock.advance(time.Hour)
		b.stands(t, "acme", 100, 0)
	})
	t.Run("past its end, then settled", func(t *testing.T) {
		t.Parallel()
		b := begin(t)
		b.clock.advance(time.Minute)
		b.reserve(t, asking("acme", "second", 20, time.Hour)) // the room is free
		equal(t, "settlement", usage.ReservationExpired, b.log(t, reserved(request("acme", "1", 30), "r")).Settlement)
		b.stands(t, "acme", 100, 20) // the call was made
		_, err := b.Reserve(t.Context(), asking("acme", "third", 0, 0))
		wantError(t, err, usage.ErrQuotaExceeded)
	})
}

func TestPromiseNoResetJob(t *testing.T) {
	t.Parallel()
	t.Run("the month ends by the clock alone", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, usage.Config{})
		b.limited(t, "acme", 10)
		b.clock.set(instant(t, "2026-06-01").Add(-time.Microsecond))
		b.log(t, request("acme", "may", 10))
		wantError(t, b.CheckQuota(t.Context(), asking("acme", "", 0, 0)), usage.ErrQuotaExceeded)
		b.clock.advance(time.Microsecond)
		b.stands(t, "acme", 0, 0)
		equal(t, "period", period(t, "2026-06-01", "2026-07-01"), b.current(t, "acme").Period)
		b.reserve(t, asking("acme", "", 10, 0))
	})
	t.Run("a late call counts in its own month and day", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, usage.Config{})
		b.limited(t, "acme", 10)
		b.log(t, happened(request("acme", "late", 7), instant(t, "2026-04-30T23:59:59")))
		b.log(t, happened(request("acme", "just", 2), instant(t, "2026-05-01")))
		b.stands(t, "acme", 2, 0)
		months, err := b.History(t.Context(), "acme", 2)
		if err != nil {
			t.Fatal(err)
		}
		wantDollars(t, "May", "2", months[0].Cost)
		wantDollars(t, "April", "7", months[1].Cost)
	})
	t.Run("a reservation made before midnight is settled in the next month", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, usage.Config{})
		b.limited(t, "acme", 10)
		b.clock.set(instant(t, "2026-05-31T23:59:59"))
		b.reserve(t, asking("acme", "r", 8, time.Hour))
		b.clock.advance(time.Minute)
		b.stands(t, "acme", 0, 8)
		equal(t, "settlement", usage.Settled, b.log(t, reserved(request("acme", "1", 6), "r")).Settlement)
		b.stands(t, "acme", 6, 0)
	})
	t.Run("months begin at the tenant's midnight on its billing day", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, usage.Config{})
		if err := b.SetTenant(t.Context(), usage.Tenant{ID: "acme", TimeZone: "Asia/Kolkata", BillingDay: 31}); err != nil {
			t.Fatal(err)
		}
		b.clock.set(instant(t, "2026-06-29T18:29:59")) // 23:59:59 on the 29th there
		equal(t, "before", period(t, "2026-05-30T18:30", "2026-06-29T18:30"), b.current(t, "acme").Period)
		b.clock.advance(time.Second)
		equal(t, "after", period(t, "2026-06-29T18:30", "2026-07-30T18:30"), b.current(t, "acme").Period)
	})
}

// errPoison is what a store says of a record that it cannot hold.
var errPoison = fmt.Errorf("store says: %w", store.ErrInvalid)

// queued is a tracker whose first commit is held up, with three more calls waiting behind it.
type queued struct {
	*bench
	st      *faulty
	through chan struct{}
	calls   map[string]*logged
}

type logged struct {
	done   bool
	record usage.Record
	err    error
	cancel context.CancelFunc
}

// queue holds up the commit of "first" and queues "a", "b" and "c". It is for use in a synctest bubble.
func queue(t *testing.T) *queued {
	q := &queued{st: &faulty{Store: openStore(t, ":memory:")}, through: make(chan struct{}), calls: map[string]*logged{}}
	q.st.append = func([]*store.Record) error { <-q.through; return nil }
	q.bench = benchOn(t, q.st, usage.Config{})
	for _, id := range []string{"first", "a", "b", "c"} {
		q.log(t, id, request("acme", id, 1))
	}
	return q
}

func (q *queued) log(t *testing.T, name string, call usage.Call) {
	ctx, cancel := context.WithCancel(t.Context())
	l := &logged{cancel: cancel}
	q.calls[name] = l
	go func() {
		l.record, l.err = q.Log(ctx, call)
		l.done = true
	}()
	synctest.Wait()
}

func TestPromiseNothingIsLostQuietly(t *testing.T) {
	t.Parallel()
	for _, poison := range []error{errPoison, fmt.Errorf("store says: %w", store.ErrCorrupt)} {
		t.Run("a record of which the "+poison.Error()+" fails alone", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := queue(t)
				var batches [][]string
				q.st.append = func(records []*store.Record) error {
					var ids []string
					for i := range records {
						ids = append(ids, records[i].ID)
					}
					batches = append(batches, ids)
					if slices.Contains(ids, "b") {
						return poison
					}
					return nil
				}
				close(q.through)
				synctest.Wait()
				equal(t, "batches", [][]string{{"a", "b", "c"}, {"a"}, {"b"}, {"c"}}, batches)
				for id, call := range q.calls {
					if id == "b" {
						wantError(t, call.err, poison)
					} else if call.err != nil || !call.done {
						t.Errorf("%s: done %v, %v", id, call.done, call.err)
					}
				}
				equal(t, "records", int64(3), q.current(t, "acme").Calls)
				q.sound(t, "acme")
				q.store.Close()
			})
		})
	}
	for _, whole := range []error{
		store.ErrFull, store.ErrBusy, store.ErrReadOnly, store.ErrUnavailable, store.ErrClosed,
	} {
		t.Run("everybody is told that the "+whole.Error(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := queue(t)
				tries := 0
				q.st.append = func([]*store.Record) error { tries++; return fmt.Errorf("append: %w", whole) }
				close(q.through)
				synctest.Wait()
				for _, id := range []string{"a", "b", "c"} {
					wantError(t, q.calls[id].err, whole)
				}
				equal(t, "tries", 1, tries)
				equal(t, "calls", int64(1), q.current(t, "acme").Calls)
				q.st.append = nil // there is room again
				for _, id := range []string{"a", "b", "c"} {
					if record := q.bench.log(t, request("acme", id, 1)); record.Duplicate {
						t.Errorf("%s had been written", id)
					}
				}
				q.store.Close()
			})
		})
	}
	t.Run("a caller who stops waiting for its commit learns the id to ask with", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			q := queue(t)
			call := request("acme", "", 1)
			q.log(t, "nameless", call)
			q.through <- struct{}{} // "a" leads now, with the others in its batch
			synctest.Wait()
			q.calls["nameless"].cancel()
			synctest.Wait()
			var unknown *usage.UnknownOutcomeError
			err := q.calls["nameless"].err
			if !errors.As(err, &unknown) || unknown.ID == "" || unknown.TenantID != "acme" {
				t.Fatalf("got %v", err)
			}
			wantError(t, err, usage.ErrUnknownOutcome)
			wantError(t, err, context.Canceled)
			close(q.through)
			synctest.Wait()
			call.ID = unknown.ID
			if again := q.bench.log(t, call); !again.Duplicate {
				t.Error("it was counted twice")
			}
			equal(t, "calls", int64(5), q.current(t, "acme").Calls)
			q.store.Close()
		})
	})
	t.Run("a caller who leaves the queue is not written", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			q := queue(t)
			q.calls["b"].cancel()
			synctest.Wait()
			wantError(t, q.calls["b"].err, context.Canceled)
			if errors.Is(q.calls["b"].err, usage.ErrUnknownOutcome) {
				t.Errorf("the outcome is known, and the error says %v", q.calls["b"].err)
			}
			close(q.through)
			synctest.Wait()
			if again := q.bench.log(t, request("acme", "b", 1)); again.Duplicate {
				t.Error("it had been written")
			}
			q.store.Close()
		})
	})
	t.Run("a store that does not know gives the id to ask with", func(t *testing.T) {
		t.Parallel()
		st := &faulty{Store: openStore(t, ":memory:")}
		st.append = func([]*store.Record) error { return fmt.Errorf("append: %w", store.ErrUnknownOutcome) }
		b := benchOn(t, st, usage.Config{})
		_, err := b.Log(t.Context(), request("acme", "", 1))
		var unknown *usage.UnknownOutcomeError
		if !errors.As(err, &unknown) || unknown.ID == "" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the caller that leads does not end the commit of the others", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			q := queue(t)
			q.calls["first"].cancel()
			q.calls["a"].cancel()
			close(q.through)
			synctest.Wait()
			for _, id := range []string{"first", "b", "c"} {
				if q.calls[id].err != nil || !q.calls[id].done {
					t.Errorf("%s: %v", id, q.calls[id].err)
				}
			}
			q.store.Close()
		})
	})
	t.Run("no key in an address reaches the disk", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		b := benchOn(t, openStore(t, filepath.Join(dir, "usage.db")), usage.Config{})
		for i, endpoint := range []string{"https://api.example/v1/call?key=sk-s3cret", "/v1/call#sk-s3cret", "/v1/call?sk-s3cret#x"} {
			call := request("acme", fmt.Sprint(i), 1)
			call.Endpoint = endpoint
			if record := b.log(t, call); !strings.HasSuffix(record.Endpoint, "/v1/call") {
				t.Errorf("endpoint %q", record.Endpoint)
			}
		}
		files, err := os.ReadDir(dir)
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			content, err := os.ReadFile(filepath.Join(dir, file.Name()))
			if err != nil || strings.Contains(string(content), "s3cret") {
				t.Errorf("%s holds the key (%v)", file.Name(), err)
			}
		}
	})
}

func TestPromiseTenantsAreApart(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := newBench(t, usage.Config{})
	b.limited(t, "acme", 10, 50)
	b.limited(t, "globex", 10, 50)
	if err := b.SetTenantPrices("globex", dollarBook(t, "2")); err != nil {
		t.Fatal(err)
	}

	b.reserve(t, asking("acme", "r", 3, 0))
	wantDollars(t, "globex's reservation of the same id", "2", b.reserve(t, asking("globex", "r", 1, 0)).Cost)
	wantError(t, b.Release(ctx, "initech", "r"), usage.ErrNotFound)
	b.stands(t, "acme", 0, 3)
	equal(t, "settling another's reservation", usage.ReservationUnknown, b.log(t, reserved(request("initech", "1", 1), "r")).Settlement)
	b.stands(t, "acme", 0, 3)
	b.stands(t, "globex", 0, 2)

	wantDollars(t, "acme's call", "3", b.log(t, reserved(request("acme", "1", 3), "r")).Cost)
	wantDollars(t, "globex's call", "6", b.log(t, request("globex", "1", 3)).Cost)
	b.stands(t, "acme", 3, 0)
	b.stands(t, "globex", 6, 2)
	equal(t, "acme's alerts", 0, len(b.alerts(t, usage.AlertFilter{TenantID: "acme"})))
	equal(t, "globex's alerts", 1, len(b.alerts(t, usage.AlertFilter{TenantID: "globex"})))
	alert := b.alerts(t, usage.AlertFilter{})[0]
	_, err := b.ResolveAlert(ctx, "acme", alert.ID)
	wantError(t, err, usage.ErrNotFound)
	_, err = b.Record(ctx, "initech", "2")
	wantError(t, err, usage.ErrNotFound)
	equal(t, "acme's records", []string{"1"}, ids(b.records(t, usage.RecordFilter{TenantID: "acme"})))

	if err := b.Suspend(ctx, "globex", "unpaid"); err != nil {
		t.Fatal(err)
	}
	b.reserve(t, asking("acme", "", 7, 0)) // all that acme has left
	if err := b.SetTenantPrices("globex", nil); err != nil {
		t.Fatal(err)
	}
	wantDollars(t, "globex's call at everybody's price", "1", b.log(t, request("globex", "2", 1)).Cost)
	for _, id := range []string{"", strings.Repeat("x", 256), "a\x00b"} {
		_, err := b.GetCurrentUsage(ctx, id)
		wantError(t, err, usage.ErrInvalid)
	}
	b.sound(t, "acme", "globex", "initech")
}
