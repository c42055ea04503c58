package main

import (
	"os"
	"strings"
	"testing"

	"github.com/acf68eca/usage/internal/pgtest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "process-") {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestTwoProcessesShareALimit(t *testing.T) {
	server, err := pgtest.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	var out strings.Builder
	if err := share(t.Context(), server.Database(t), &out); err != nil {
		t.Fatal(err)
	}
	// A call costs 0.039 dollars and its reservation takes 0.045.
	want := "25 calls, $0.975 of $1, $0 still held\nalert: cost_warning, 80% reached\n"
	if out.String() != want {
		t.Errorf("got:\n%swant:\n%s", out.String(), want)
	}
}
