package usage_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/store"
)

// laterBook has a price for "late": a dollar until 2026-05-10 and two from then on.
func laterBook(t *testing.T) *usage.PriceBook {
	t.Helper()
	change := instant(t, "2026-05-10")
	price := usage.Price{Provider: "api", Model: "late", Meter: usage.Requests, Per: usage.PerUnit}
	before, after := price, price
	before.Amount, before.Until = usd("1"), change
	after.Amount, after.From = usd("2"), change
	book, err := dollarBook(t, "1").With(before, after)
	if err != nil {
		t.Fatal(err)
	}
	return book
}

func late(id string, n int64, at time.Time) usage.Call {
	call := happened(request("acme", id, n), at)
	call.Model = "late"
	return call
}

func (b *bench) reprice(t *testing.T, filter usage.RepriceFilter, priced, unpriced int) {
	t.Helper()
	done, err := b.Reprice(t.Context(), filter)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "repriced", usage.Repriced{Priced: priced, Unpriced: unpriced}, done)
}

func TestRepricePricesWhatHadNoPriceAsOfItsTime(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.limited(t, "acme", 100, 10, 50)
	b.log(t, late("april", 3, instant(t, "2026-04-30")))
	b.log(t, late("early", 3, instant(t, "2026-05-09")))
	b.log(t, late("later", 3, instant(t, "2026-05-11")))
	b.log(t, request("acme", "priced", 1))
	never := request("acme", "never", 1)
	never.Model = "unlisted"
	b.log(t, never)
	b.log(t, usage.Call{TenantID: "acme", ID: "unknown", Provider: "api", Model: "late", UsageUnknown: "the stream was cut"})
	b.reprice(t, usage.RepriceFilter{TenantID: "acme"}, 0, 5)

	before := b.alerts(t, usage.AlertFilter{TenantID: "acme"})
	if _, err := b.AcknowledgeAlert(t.Context(), "acme", before[0].ID); err != nil {
		t.Fatal(err)
	}
	before = b.alerts(t, usage.AlertFilter{TenantID: "acme"})
	if err := b.SetPrices(laterBook(t)); err != nil {
		t.Fatal(err)
	}
	b.reprice(t, usage.RepriceFilter{TenantID: "acme"}, 3, 2)
	for id, want := range map[string]string{"april": "3", "early": "3", "later": "6", "priced": "1", "never": "0", "unknown": "0"} {
		record, err := b.Record(t.Context(), "acme", id)
		if err != nil {
			t.Fatal(err)
		}
		wantDollars(t, id, want, record.Cost)
		if unpriced := id == "never" || id == "unknown"; (record.Unpriced != "") != unpriced {
			t.Errorf("%s: unpriced %q", id, record.Unpriced)
		}
		if repriced := id == "april" || id == "early" || id == "later"; repriced != (record.PriceVersion == laterBook(t).Version()) {
			t.Errorf("%s: version %s", id, record.PriceVersion)
		}
	}
	b.stands(t, "acme", 10, 0)
	equal(t, "unpriced this month", int64(2), b.current(t, "acme").Unpriced)
	months, err := b.History(t.Context(), "acme", 2)
	if err != nil {
		t.Fatal(err)
	}
	wantDollars(t, "April", "3", months[1].Cost)
	after := b.alerts(t, usage.AlertFilter{TenantID: "acme"})
	if len(after) != len(before)+1 || after[len(before)].Percent != 10 {
		t.Errorf("got %d alerts after %d, want one more for the 10 %%", len(after), len(before))
	}
	for i := range before { // those that were there stay as they were
		equal(t, "status", before[i].Status, after[i].Status)
		equal(t, "id", before[i].ID, after[i].ID)
	}
	b.reprice(t, usage.RepriceFilter{TenantID: "acme"}, 0, 2)
	b.stands(t, "acme", 10, 0)
	b.sound(t, "acme")
	if again := b.log(t, late("later", 3, instant(t, "2026-05-11"))); !again.Duplicate {
		t.Error("the call sent again is not a duplicate")
	}
}

func TestRepriceKeepsToItsPeriodAndTenant(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	for i := range 4 {
		b.log(t, late(fmt.Sprint(i), 1, instant(t, "2026-05-01").Add(time.Duration(i)*time.Hour)))
	}
	globex := late("1", 1, instant(t, "2026-05-01"))
	globex.TenantID = "globex"
	b.log(t, globex)
	if err := b.SetTenantPrices("acme", laterBook(t)); err != nil {
		t.Fatal(err)
	}
	b.reprice(t, usage.RepriceFilter{TenantID: "globex"}, 0, 1) // the price is acme's alone
	b.reprice(t, usage.RepriceFilter{TenantID: "acme", From: instant(t, "2026-05-01T01"), To: instant(t, "2026-05-01T03")}, 2, 0)
	equal(t, "left", []string{"0", "3"}, ids(b.records(t, usage.RecordFilter{TenantID: "acme", Unpriced: true})))
	b.reprice(t, usage.RepriceFilter{TenantID: "nobody"}, 0, 0)
	_, err := b.Reprice(t.Context(), usage.RepriceFilter{})
	wantError(t, err, usage.ErrInvalid)
}

func TestTwoRepricesAtOnceCountOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.limited(t, "acme", 1_000_000)
	const calls = 1200 // more than a batch
	together(8, func(worker int) {
		for i := worker; i < calls; i += 8 {
			if _, err := b.Log(t.Context(), late(fmt.Sprint(i), 1, instant(t, "2026-05-11"))); err != nil {
				t.Error(err)
			}
		}
	})
	if err := b.SetPrices(laterBook(t)); err != nil {
		t.Fatal(err)
	}
	var priced atomic.Int64
	together(3, func(int) {
		done, err := b.Reprice(t.Context(), usage.RepriceFilter{TenantID: "acme"})
		if err != nil || done.Unpriced != 0 {
			t.Errorf("got %+v, %v", done, err)
		}
		priced.Add(int64(done.Priced))
	})
	equal(t, "priced", int64(calls), priced.Load())
	b.stands(t, "acme", 2*calls, 0)
	b.sound(t, "acme")
}

// pruning is a store whose records are pruned between the moments when Reprice reads and prices them.
type pruning struct {
	store.Store
	before time.Time
}

func (s *pruning) Reprice(ctx context.Context, now time.Time, records []*store.Record, judge store.Judge) ([]store.Outcome, error) {
	if _, err := s.Prune(ctx, "acme", s.before, 1000); err != nil {
		return nil, err
	}
	return s.Store.Reprice(ctx, now, records, judge)
}

func TestRepricePassesOverWhatIsPrunedMeanwhile(t *testing.T) {
	t.Parallel()
	b := benchOn(t, &pruning{openStore(t, ":memory:"), instant(t, "2026-05-11T06")}, usage.Config{})
	for hour := range 48 {
		call := happened(request("acme", fmt.Sprint(hour), 1), instant(t, "2026-05-10").Add(time.Duration(hour)*time.Hour))
		call.Quantities[usage.Images] = 1
		b.log(t, call)
	}
	book, err := dollarBook(t, "1").With(usage.Price{Provider: "api", Meter: usage.Images, Amount: usd("1"), Per: usage.PerUnit})
	if err != nil {
		t.Fatal(err)
	}
	b.sound(t, "acme")
	if err := b.SetPrices(book); err != nil {
		t.Fatal(err)
	}
	done, err := b.Reprice(t.Context(), usage.RepriceFilter{TenantID: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "repriced", usage.Repriced{Priced: 18}, done)
	b.sound(t, "acme")
}
