// Quickstart logs a few calls, one of them twice, and prints what they cost. It needs no network and leaves no file.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/acf68eca/usage"
	storesqlite "github.com/acf68eca/usage/store_sqlite"
	"github.com/shopspring/decimal"
)

func main() {
	ctx := context.Background()
	st, err := storesqlite.Open(ctx, ":memory:") // or a file: "usage.db"
	check(err)
	defer st.Close()
	tracker, err := usage.New(st, usage.Config{})
	check(err)
	budget := usage.Limit{Meter: usage.Cost, Max: decimal.RequireFromString("0.05")}
	check(tracker.SetQuota(ctx, usage.Quota{TenantID: "acme", Limits: []usage.Limit{budget}, AlertPercents: []int{80}}))

	for _, id := range []string{"chatcmpl-1", "chatcmpl-2", "chatcmpl-2"} { // the last one is a retry
		rec, err := tracker.LogOpenAI(ctx, usage.OpenAICall{
			TenantID: "acme", ID: id, Model: "gpt-4", InputTokens: 150, OutputTokens: 300, Status: 200,
		})
		check(err)
		fmt.Printf("%s costs $%s, duplicate %t\n", rec.ID, rec.Cost, rec.Duplicate)
	}

	month, err := tracker.GetCurrentUsage(ctx, "acme")
	check(err)
	fmt.Printf("this month: %d calls, %d tokens, $%s of $%s\n", month.Calls, month.Tokens, month.Cost, budget.Max)
	alerts, err := tracker.Alerts(ctx, usage.AlertFilter{TenantID: "acme"})
	check(err)
	for _, a := range alerts {
		fmt.Printf("alert: %s, %d%% of $%s reached with $%s\n", a.Kind, a.Percent, a.Max, a.Used)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
