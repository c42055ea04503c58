// Postgres starts two processes that share one ledger and one hard limit, each of which reserves, calls and logs until
// there is no room. It needs a server:
//
//	USAGE_POSTGRES_DSN=postgres://user:password@host/db go run ./examples/postgres
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"sync"

	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage"
	storepostgres "github.com/acf68eca/usage/store_postgres"
)

func main() {
	ctx, dsn := context.Background(), os.Getenv("USAGE_POSTGRES_DSN")
	if len(os.Args) > 1 {
		check(work(ctx, dsn, os.Args[1]))
		return
	}
	if dsn == "" {
		log.Fatal("set USAGE_POSTGRES_DSN to a server: postgres://user:password@host/db")
	}
	check(share(ctx, dsn, os.Stdout))
}

// share sets a limit of a dollar, has two processes use it up and says what became of it.
func share(ctx context.Context, dsn string, out io.Writer) error {
	tracker, done, err := open(ctx, dsn)
	if err != nil {
		return err
	}
	defer done() //nolint:errcheck // what is written is committed
	budget := usage.Limit{Meter: usage.Cost, Max: decimal.NewFromInt(1)}
	if err := tracker.SetQuota(ctx, usage.Quota{TenantID: "acme", Limits: []usage.Limit{budget}, AlertPercents: []int{80, 100}}); err != nil {
		return err
	}
	var workers sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		workers.Go(func() {
			worker := exec.CommandContext(ctx, os.Args[0], fmt.Sprint("process-", i+1)) // this program again
			worker.Env = append(os.Environ(), "USAGE_POSTGRES_DSN="+dsn)
			worker.Stderr = os.Stderr
			errs[i] = worker.Run()
		})
	}
	workers.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return report(ctx, tracker, out)
}

// work is what each process does: take room for the worst case, make the call, and log what it used.
func work(ctx context.Context, dsn, name string) error {
	tracker, done, err := open(ctx, dsn)
	if err != nil {
		return err
	}
	defer done() //nolint:errcheck // what is written is committed
	for i := 0; ; i++ {
		worst := usage.Estimate{TenantID: "acme", Provider: usage.OpenAI, Model: "gpt-4", InputTokens: 500, OutputTokens: 500}
		reservation, err := tracker.Reserve(ctx, worst)
		if errors.Is(err, usage.ErrQuotaExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = tracker.LogOpenAI(ctx, usage.OpenAICall{ // the call to the provider comes before this
			TenantID: "acme", ID: fmt.Sprint(name, "-", i), Model: "gpt-4", InputTokens: 500, OutputTokens: 400, Status: 200,
			ReservationID: reservation.ID,
		})
		if err != nil {
			return err
		}
	}
}

func report(ctx context.Context, tracker *usage.Tracker, out io.Writer) error {
	month, err := tracker.GetCurrentUsage(ctx, "acme")
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%d calls, $%s of $%s, $%s still held\n", month.Calls, month.Cost, month.Limits[0].Limit.Max, month.Limits[0].Held)
	alerts, err := tracker.Alerts(ctx, usage.AlertFilter{TenantID: "acme"})
	if err != nil {
		return err
	}
	for _, a := range alerts {
		text += fmt.Sprintf("alert: %s, %d%% reached\n", a.Kind, a.Percent)
	}
	_, err = io.WriteString(out, text)
	return err
}

func open(ctx context.Context, dsn string) (*usage.Tracker, func() error, error) {
	st, err := storepostgres.OpenConfig(ctx, dsn, storepostgres.Config{Schema: "usage_example"})
	if err != nil {
		return nil, nil, err
	}
	tracker, err := usage.New(st, usage.Config{})
	return tracker, st.Close, err
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
