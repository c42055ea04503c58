package usage_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/store"
)

func TestRecordsByFilter(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	start := instant(t, "2026-05-01")
	log := func(id string, hour int, change func(*usage.Call)) {
		t.Helper()
		call := happened(request("acme", id, 1), start.Add(time.Duration(hour)*time.Hour))
		change(&call)
		b.log(t, call)
	}
	log("d", 1, func(c *usage.Call) { c.User = "u" })
	log("a", 2, func(c *usage.Call) { c.Model = "other" })
	log("c", 2, func(c *usage.Call) { c.Status = 429 })
	log("b", 2, func(c *usage.Call) { c.Provider = "api2" }) // which has no price
	log("e", 3, func(c *usage.Call) { c.User, c.Status = "u", 429 })
	for _, test := range []struct {
		name   string
		filter usage.RecordFilter
		want   []string
	}{
		{"all, by time and id", usage.RecordFilter{}, []string{"d", "a", "b", "c", "e"}},
		{"newest first", usage.RecordFilter{NewestFirst: true}, []string{"e", "c", "b", "a", "d"}},
		{"from", usage.RecordFilter{From: start.Add(2 * time.Hour)}, []string{"a", "b", "c", "e"}},
		{"to, which is not in it", usage.RecordFilter{To: start.Add(2 * time.Hour)}, []string{"d"}},
		{"from and to", usage.RecordFilter{From: start.Add(2 * time.Hour), To: start.Add(3 * time.Hour)}, []string{"a", "b", "c"}},
		{"from a zone", usage.RecordFilter{From: start.Add(3 * time.Hour).In(time.FixedZone("", 3600))}, []string{"e"}},
		{"provider", usage.RecordFilter{Provider: "api2"}, []string{"b"}},
		{"model", usage.RecordFilter{Model: "other"}, []string{"a"}},
		{"user", usage.RecordFilter{User: "u"}, []string{"d", "e"}},
		{"status", usage.RecordFilter{Status: 429}, []string{"c", "e"}},
		{"unpriced", usage.RecordFilter{Unpriced: true}, []string{"b"}},
		{"several", usage.RecordFilter{User: "u", Status: 429, Provider: "api", Model: model}, []string{"e"}},
		{"what never was", usage.RecordFilter{User: "nobody", Model: "never", Provider: "never"}, nil},
		{"backwards", usage.RecordFilter{From: start.Add(time.Hour), To: start}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.filter.TenantID = "acme"
			equal(t, "records", test.want, ids(b.records(t, test.filter)))
			var paged []string
			for cursor := ""; ; {
				page, err := b.RecordsPage(t.Context(), test.filter, cursor, 1)
				if err != nil {
					t.Fatal(err)
				}
				if paged = append(paged, ids(page.Records)...); page.Next == "" {
					break
				}
				cursor = page.Next
			}
			equal(t, "records in pages", test.want, paged)
		})
	}
	equal(t, "nobody's", []string{}, ids(b.records(t, usage.RecordFilter{TenantID: "nobody"})))
}

func TestALoopOverRecordsMayEndEarly(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	const calls = 1050 // more than a page
	together(8, func(worker int) {
		for i := worker; i < calls; i += 8 {
			if _, err := b.Log(t.Context(), request("acme", fmt.Sprintf("%04d", i), 1)); err != nil {
				t.Error(err)
			}
		}
	})
	seen := 0
	for _, err := range b.Records(t.Context(), usage.RecordFilter{TenantID: "acme"}) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen == 3 {
			break
		}
	}
	equal(t, "seen", 3, seen)
	all := ids(b.records(t, usage.RecordFilter{TenantID: "acme"}))
	if len(all) != calls || !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != calls {
		t.Errorf("got %d records, in order: %v", len(all), slices.IsSorted(all))
	}
	b.log(t, request("acme", "after", 1)) // the loop that broke off holds nothing
}

func TestALoopOverRecordsEndsWithItsError(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.log(t, request("acme", "1", 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for filter, want := range map[usage.RecordFilter]error{
		{}:                   usage.ErrInvalid,
		{TenantID: "\xff"}:   usage.ErrInvalid,
		{TenantID: "acme"}:   context.Canceled,
		{TenantID: "nobody"}: context.Canceled,
	} {
		n := 0
		for _, err := range b.Records(ctx, filter) {
			n++
			wantError(t, err, want)
		}
		equal(t, "turns of the loop", 1, n)
	}
}

func TestPagesStayInPlaceWhileCallsAreAdded(t *testing.T) {
	t.Parallel()
	for _, newest := range []bool{false, true} {
		b := newBench(t, usage.Config{})
		at := instant(t, "2026-05-10")
		for i := range 10 {
			b.log(t, happened(request("acme", fmt.Sprint("old", i), 1), at.Add(time.Duration(i)*time.Hour)))
		}
		filter := usage.RecordFilter{TenantID: "acme", NewestFirst: newest}
		var seen []string
		for cursor, n := "", 0; ; n++ {
			page, err := b.RecordsPage(t.Context(), filter, cursor, 3)
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, ids(page.Records)...)
			// At both ends, and at the very time of the last record of the page.
			last := page.Records[len(page.Records)-1].At
			for name, at := range map[string]time.Time{"a": at.Add(-time.Hour), "z": at.Add(24 * time.Hour), "same": last} {
				b.log(t, happened(request("acme", fmt.Sprint(name, n), 1), at))
			}
			if cursor = page.Next; cursor == "" || n > 20 {
				break
			}
		}
		var old []string
		for _, id := range seen {
			if strings.HasPrefix(id, "old") {
				old = append(old, id)
			}
		}
		if slices.Sort(old); len(old) != 10 || len(slices.Compact(old)) != 10 {
			t.Errorf("newest first %v: saw %v of the old", newest, old)
		}
		if slices.Sort(seen); len(slices.Compact(slices.Clone(seen))) != len(seen) {
			t.Errorf("newest first %v: saw one twice: %v", newest, seen)
		}
	}
}

func TestPageSizes(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	const calls = 1001
	together(8, func(worker int) {
		for i := worker; i < calls; i += 8 {
			if _, err := b.Log(t.Context(), request("acme", fmt.Sprint(i), 1)); err != nil {
				t.Error(err)
			}
		}
	})
	for limit, want := range map[int]int{-1: 100, 0: 100, 1: 1, 1000: 1000, 1001: 1000, 1 << 40: 1000} {
		page, err := b.RecordsPage(t.Context(), usage.RecordFilter{TenantID: "acme"}, "", limit)
		if err != nil || len(page.Records) != want || page.Next == "" {
			t.Errorf("limit %d: %d records, next %q, %v", limit, len(page.Records), page.Next, err)
		}
	}
}

func FuzzCursor(f *testing.F) {
	b := newBench(f, usage.Config{})
	for i := range 3 {
		b.log(f, request("acme", fmt.Sprint("id", i), 1))
	}
	page, err := b.RecordsPage(f.Context(), usage.RecordFilter{TenantID: "acme"}, "", 1)
	if err != nil {
		f.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	for _, seed := range []string{
		"", page.Next, page.Next + "A", page.Next[:8], page.Next + "=", "!", "AQ", "\x00", "../..",
		encode([]byte("\x01\xff\xff\xff\xff\xff\xff\xff\xffid")), encode([]byte("\x01\x7f\xff\xff\xff\xff\xff\xff\xffid")),
		encode([]byte("\x01\x80\x00\x00\x00\x00\x00\x00\x00id")), encode([]byte("\x02\x00\x00\x00\x00\x00\x00\x00\x00id")),
		encode([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x00")), encode([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x00\xff\xfe")),
		encode([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x00a\x00b")), encode([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x00' OR 1=1 --")),
		encode([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x00" + strings.Repeat("x", 256))), strings.Repeat("A", 1<<16),
		encode([]byte("1779278400000000 1 acme")),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		for _, newest := range []bool{false, true} {
			_, err := b.RecordsPage(context.Background(), usage.RecordFilter{TenantID: "acme", NewestFirst: newest}, cursor, 2)
			if err != nil && !errors.Is(err, usage.ErrInvalid) {
				t.Errorf("%q: %v", cursor, err)
			}
		}
		_, err := b.Alerts(context.Background(), usage.AlertFilter{After: cursor})
		if err != nil && !errors.Is(err, usage.ErrInvalid) {
			t.Errorf("alerts after %q: %v", cursor, err)
		}
	})
}

func TestCursorsThatNoPageGave(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	for i := range 2 {
		b.log(t, request("acme", fmt.Sprint("id", i), 1))
	}
	page, err := b.RecordsPage(t.Context(), usage.RecordFilter{TenantID: "acme"}, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, cursor := range []string{"!", "AQ", page.Next + "=", page.Next[:8], " " + page.Next, strings.ToUpper(page.Next) + "_"} {
		_, err := b.RecordsPage(t.Context(), usage.RecordFilter{TenantID: "acme"}, cursor, 1)
		var invalid *usage.InvalidError
		if !errors.As(err, &invalid) || invalid.Faults[0].Field != "cursor" {
			t.Errorf("%q: %v", cursor, err)
		}
	}
	_, err = b.RecordsPage(t.Context(), usage.RecordFilter{}, "!", 1)
	var invalid *usage.InvalidError
	if !errors.As(err, &invalid) || len(invalid.Faults) != 2 {
		t.Errorf("no tenant and no cursor: %v", err)
	}
	_, err = b.Record(t.Context(), "acme", "")
	wantError(t, err, store.ErrInvalid)
}
