package storetest

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

func recordPromises() []promise {
	return []promise{
		{"a stored record is what was given, field by field", storedAsGiven},
		{"times come back in UTC with their microseconds", timesInUTC},
		{"outcomes are in the order of the records", outcomesInOrder},
		{"an empty batch is no error and asks no judge", emptyBatch},
		{"a record that does not exist is not found", recordNotFound},
		{"a tenant that does not exist is created with the defaults", tenantCreatedByAppend},
	}
}

// fullRecord has every field filled that a caller or the tracker fills.
func fullRecord(id string) store.Record {
	return store.Record{
		TenantID: acme, ID: id, Provider: "openai", Model: "gpt-4-0613",
		At: instant("2026-03-10T11:59:58.123456Z"), AtGiven: true, RecordedAt: instant("2026-03-10T12:00:00.654321Z"),
		Lines: []store.Line{
			{Meter: "input_tokens", Quantity: 150, Rate: store.Rate{Amount: 30e12, Per: 1_000_000}, Cost: 4_500_000_000},
			{Meter: "call_ms", Quantity: 185_000, Rate: store.Rate{Amount: 2e10, Per: 60_000, RoundUpTo: 60_000}, Cost: 80_000_000_000},
			{Meter: "audio_ms", Quantity: 7, Rate: store.Rate{Per: 60_000}},
			{Meter: "output_tokens", Quantity: 0, Rate: store.Rate{Amount: 1, Per: 1}},
			{Meter: "reasoning_tokens", Quantity: 40, Unbilled: true},
		},
		Cost:         84_500_000_000,
		PriceVersion: "2026-03-01+acme",
		Conditions:   "batch=true;service_tier=flex",
		Endpoint:     "/v1/chat/completions", Status: 503, Latency: 820*time.Millisecond + 17*time.Microsecond,
		Error: "upstream said no", User: "user-7", IP: "2001:db8::7",
		Tags:   map[string]string{"team": "research", "": "no key", "empty": ""},
		HoldID: "no such hold", Settlement: store.HoldUnknown,
	}
}

// recordForms are records that differ in form, each with an id of its own.
func recordForms() map[string]store.Record {
	forms := map[string]func(*store.Record){
		"every field":       func(*store.Record) {},
		"a default time":    func(r *store.Record) { r.AtGiven = false },
		"no lines":          func(r *store.Record) { r.Lines, r.Cost = nil, 0 },
		"no hold":           func(r *store.Record) { r.HoldID, r.Settlement = "", "" },
		"a meter twice":     func(r *store.Record) { r.Lines = append(r.Lines, r.Lines[4]); r.Lines[5].Meter = "input_tokens" },
		"an old call":       func(r *store.Record) { r.At = instant("1999-12-31T23:59:59.999999Z") },
		"the longest names": func(r *store.Record) { r.Provider, r.Model = strings.Repeat("p", 255), strings.Repeat("é", 127)+"m" },
		"a long text":       func(r *store.Record) { r.Error = strings.Repeat("x", 2_000) },
		"signs of SQL":      func(r *store.Record) { r.Model, r.User, r.Error = `m'; --`, `%_\"`, "?1 $1 :a {}" },
		"unicode": func(r *store.Record) {
			r.Provider, r.Model, r.User = "größe", "模型-4", "👩‍👩‍👧 é e\u0301"
			r.Tags = map[string]string{"ключ": "значение", "📞": "\u202eright to left"}
		},
		"only what is needed": func(r *store.Record) {
			*r = store.Record{TenantID: acme, Provider: "p", Model: "m", At: noon(), RecordedAt: noon()}
		},
		"the largest amounts": func(r *store.Record) {
			r.Model, r.Cost, r.Status = "largest", math.MaxInt64, math.MaxInt32
			r.Lines = []store.Line{{Meter: "m", Quantity: math.MaxInt64, Rate: store.Rate{Amount: math.MaxInt64, Per: math.MaxInt64, RoundUpTo: math.MaxInt64}, Cost: math.MaxInt64}}
		},
		"no price": func(r *store.Record) {
			r.Cost, r.Unpriced = 0, "model has no price"
			r.Lines = []store.Line{{Meter: "input_tokens", Quantity: 5}, {Meter: "reasoning_tokens", Quantity: 2, Unbilled: true}}
		},
	}
	records := make(map[string]store.Record, len(forms))
	for name, change := range forms {
		r := with(fullRecord(""), change)
		r.ID = name
		records[name] = r
	}
	for _, id := range []string{"x", " ", "a/b?c=d&e", strings.Repeat("i", 255), strings.Repeat("é", 127) + "i", "日本", "ID", "id"} {
		records["id "+id] = with(fullRecord(id), func(r *store.Record) { r.HoldID, r.Settlement = "", "" })
	}
	return records
}

func storedAsGiven(t *testing.T, l *ledger) {
	for name, want := range recordForms() {
		t.Run(name, func(t *testing.T) {
			l := l.in(t)
			given := want
			given.Settlement = ""
			equal(t, "outcome", l.add(noon(), given)[0], want)
			equal(t, "record", l.another().record(acme, want.ID), want)
		})
	}
	l.healthy(acme)
}

func timesInUTC(t *testing.T, l *ledger) {
	kolkata := time.FixedZone("", 19_800)
	at := instant("2026-03-10T11:59:58.000001Z")
	l.add(noon(), call(acme, "a", at.In(kolkata), 1))
	r := l.record(acme, "a")
	if r.At.Location() != time.UTC || r.RecordedAt.Location() != time.UTC {
		t.Errorf("times are in %v and %v, want UTC", r.At.Location(), r.RecordedAt.Location())
	}
	equal(t, "At", r.At, at)
}

func outcomesInOrder(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "b", noon(), 2))
	batch := []store.Record{
		call(globex, "z", noon(), 1), call(acme, "c", noon().Add(time.Hour), 3), call(acme, "b", noon(), 2),
		call(globex, "b", noon(), 5), call(acme, "a", noon().Add(-time.Hour), 4), call(globex, "z", noon(), 1),
	}
	for i, o := range l.try(noon(), batch...) {
		l.must("outcome", o.Err)
		equal(t, "outcome's record", *o.Record, batch[i])
		if want := i == 2 || i == 5; o.Duplicate != want {
			t.Errorf("outcome %d: duplicate %v, want %v", i, o.Duplicate, want)
		}
	}
}

func emptyBatch(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "a", noon(), 1))
	l.unchanged(noon(), func() {
		l.judged(noon(), func(*store.Standing, []*store.Record) store.Judgement {
			t.Error("judge was called")
			return store.Judgement{}
		})
	})
}

func recordNotFound(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "a", noon(), 1))
	for _, key := range [][2]string{{acme, "b"}, {acme, "A"}, {acme, ""}, {globex, "a"}, {"nobody", "a"}} {
		if _, err := l.Record(t.Context(), key[0], key[1]); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("record %q of %q: %v, want ErrNotFound", key[1], key[0], err)
		}
	}
}

func tenantCreatedByAppend(t *testing.T, l *ledger) {
	l.add(noon(), call(acme, "a", noon().Add(-time.Hour), 1))
	l.add(noon().Add(time.Hour), call(acme, "b", noon(), 1))
	equal(t, "tenants", l.tenants(), []store.Tenant{defaults(acme, noon())})
}

// defaults is the row of a tenant that the store made by itself.
func defaults(id string, createdAt time.Time) store.Tenant {
	return store.Tenant{ID: id, Name: id, TimeZone: "UTC", BillingDay: 1, CreatedAt: createdAt}
}
