package storepostgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"os"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/acf68eca/usage"
	storepostgres "github.com/acf68eca/usage/store_postgres"
)

func ExampleOpen() {
	ctx := context.Background()
	st, err := storepostgres.Open(ctx, os.Getenv("DATABASE_URL")) // "postgres://user:password@host/db"
	check(err)
	defer st.Close()

	tracker, err := usage.New(st, usage.Config{})
	check(err)
	_, err = tracker.LogOpenAI(ctx, usage.OpenAICall{TenantID: "acme", ID: "chatcmpl-1", Model: "gpt-4", InputTokens: 150})
	check(err)
}

func ExampleNewConfig() {
	ctx := context.Background()
	db, err := sql.Open("pgx", os.Getenv("DATABASE_URL")) // the host's own pool, which stays open when the store is closed
	check(err)
	defer db.Close()
	db.SetMaxOpenConns(16)

	st, err := storepostgres.NewConfig(ctx, db, storepostgres.Config{Schema: "usage"})
	check(err)
	tracker, err := usage.New(st, usage.Config{})
	check(err)
	month, err := tracker.GetCurrentUsage(ctx, "acme")
	check(err)
	fmt.Println(month.Calls, month.Cost)
}

func ExampleMigrations() {
	files, err := fs.Glob(storepostgres.Migrations(), "*.sql")
	fmt.Println(files[0], err)
	// Output: 0001_ledger.sql <nil>
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
