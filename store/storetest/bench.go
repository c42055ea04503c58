package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

// The hard case of a ledger: so many tenants that batches hardly merge.
const (
	benchTenants = 1_000
	benchModels  = 8
	benchBatch   = 64
)

// Bench runs the standard benchmarks, one operation of a store at a time. A batch counts as one operation.
func Bench(b *testing.B, newDB func(t testing.TB) Open) {
	for _, bench := range []struct {
		name string
		run  func(*testing.B, *ledger)
	}{
		{"append one", benchAppendOne},
		{"append 64 of 1000 tenants", benchAppendBatch},
		{"append 64 duplicates", benchDuplicates},
		{"standing", benchStanding},
		{"page of 50 records", benchPage},
	} {
		b.Run(bench.name, func(b *testing.B) {
			l := newLedger(b, newDB(b))
			b.ReportAllocs()
			bench.run(b, l)
		})
	}
}

// busyRecord is the n-th call of many tenants and models, a millisecond after the one before.
func busyRecord(n int) store.Record {
	// A step that shares no factor with the number of tenants visits all of them before it comes back.
	tenant := n * 389 % benchTenants
	r := call(fmt.Sprintf("tenant-%04d", tenant), fmt.Sprintf("call-%012d", n), noon().Add(time.Duration(n)*time.Millisecond), 150)
	r.Model = fmt.Sprint("model-", n/benchTenants%benchModels)
	r.Lines = append(r.Lines, store.Line{Meter: "output_tokens", Quantity: 450, Rate: store.Rate{Amount: 2, Per: 1}, Cost: 900})
	r.Cost += 900
	return r
}

// busyBatch is the n-th batch.
func busyBatch(n int) []store.Record {
	batch := make([]store.Record, benchBatch)
	for i := range batch {
		batch[i] = busyRecord(n*benchBatch + i)
	}
	return batch
}

func benchAppendOne(b *testing.B, l *ledger) {
	for n := 0; b.Loop(); n++ {
		l.add(noon(), busyRecord(n))
	}
}

func benchAppendBatch(b *testing.B, l *ledger) {
	for n := 0; b.Loop(); n++ {
		l.add(noon(), busyBatch(n)...)
	}
}

func benchDuplicates(b *testing.B, l *ledger) {
	l.add(noon(), busyBatch(0)...)
	for b.Loop() {
		l.try(noon(), busyBatch(0)...)
	}
}

// oneBusyTenant fills a ledger with calls of all models by one tenant.
func (l *ledger) oneBusyTenant() {
	for n := range 40 {
		batch := busyBatch(n)
		for i := range batch {
			batch[i].TenantID, batch[i].Model = acme, fmt.Sprint("model-", i%benchModels)
		}
		l.add(noon(), batch...)
	}
}

func benchStanding(b *testing.B, l *ledger) {
	l.oneBusyTenant()
	for b.Loop() {
		l.standing(acme, noon())
	}
}

func benchPage(b *testing.B, l *ledger) {
	l.oneBusyTenant()
	middle := &store.Position{At: noon().Add(time.Second)}
	for b.Loop() {
		page, err := l.Records(b.Context(), store.RecordQuery{TenantID: acme, After: middle, NewestFirst: true, Limit: 50})
		l.must("Records", err)
		if len(page) != 50 {
			b.Fatalf("page of %d records", len(page))
		}
	}
}
