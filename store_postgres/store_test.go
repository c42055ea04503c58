package storepostgres_test

import (
	"testing"

	"github.com/acf68eca/usage/internal/pgtest"
	"github.com/acf68eca/usage/internal/proctest"
	"github.com/acf68eca/usage/store"
	"github.com/acf68eca/usage/store/storetest"
	storepostgres "github.com/acf68eca/usage/store_postgres"
)

// opener opens stores on one schema.
func opener(dsn, schema string) storetest.Open {
	return func(t testing.TB) store.Store {
		st, err := storepostgres.OpenConfig(t.Context(), dsn, storepostgres.Config{Schema: schema, Connections: 8, BusyTimeout: proctest.Limit})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Open { return opener(storepostgres.Schema(t)) })
}

func BenchmarkStore(b *testing.B) {
	dsn := durable(b)
	storetest.Bench(b, func(testing.TB) storetest.Open { return opener(dsn, "bench_"+pgtest.Name()) })
}
