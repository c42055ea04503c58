package storepostgres_test

import (
	"testing"

	"github.com/acf68eca/usage/internal/pgtest"

	"github.com/acf68eca/usage/store"
	"github.com/acf68eca/usage/store/storetest"
	storepostgres "github.com/acf68eca/usage/store_postgres"
)

func newDB(t testing.TB) storetest.Open {
	dsn, schema := storepostgres.Schema(t)
	return func(t testing.TB) store.Store {
		st, err := storepostgres.OpenConfig(t.Context(), dsn, storepostgres.Config{Schema: schema, Connections: 8})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
}

func TestStore(t *testing.T) { storetest.Run(t, newDB) }

func BenchmarkStore(b *testing.B) {
	server := durable(b)
	storetest.Bench(b, func(t testing.TB) storetest.Open {
		schema := "test_" + pgtest.Name()
		return func(t testing.TB) store.Store {
			st, err := storepostgres.OpenConfig(t.Context(), server, storepostgres.Config{Schema: schema})
			if err != nil {
				t.Fatal(err)
			}
			return st
		}
	})
}
