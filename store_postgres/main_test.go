package storepostgres_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/acf68eca/usage/internal/pgtest"
	storepostgres "github.com/acf68eca/usage/store_postgres"
)

// Some tests need other processes on the same ledger: the test binary runs itself with this variable set to a role, and
// with the DSN, the schema and a number that tells it from the others as its arguments.
const roleVariable = "USAGE_POSTGRES_TEST_ROLE"

func TestMain(m *testing.M) {
	if name := os.Getenv(roleVariable); name != "" {
		if err := play(name, os.Args[1:]); err != nil {
			say("failed: %v", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	server, err := pgtest.Open()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	storepostgres.Server = server
	code := m.Run()
	if err := server.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// play opens the ledger, waits for its standard input to end, so that processes begin together, and plays the role.
func play(name string, args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), processLimit)
	defer cancel()
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	if name == "bencher" {
		tenants, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		return bench(args[0], args[1], n, tenants)
	}
	clock := crashClock
	if name == "hurrier" {
		clock = time.Now
	}
	tracker, done, err := openTracker(ctx, args[0], args[1], clock)
	if err != nil {
		return err
	}
	defer done()
	if err := ready(); err != nil {
		return err
	}
	return roles[name](ctx, tracker, n)
}
