// Smartflo records telephone calls by webhook and, for those whose webhook was lost, by the pages of call records. Both
// tell of the same calls, which count once. It runs offline: fake.go plays Smartflo.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/meter"
	storesqlite "github.com/acf68eca/usage/store_sqlite"
)

// The secret stands in the address that Smartflo is given: it signs nothing.
const secret = "an example of a secret"

func main() {
	ctx := context.Background()
	st, err := storesqlite.Open(ctx, ":memory:") // or a file: "usage.db"
	check(err)
	defer st.Close()
	tracker, err := usage.New(st, usage.Config{Prices: contract()})
	check(err)

	// The tenant is what the host gave as custom_identifier when it placed the call.
	webhook, err := meter.NewSmartfloWebhook(tracker, meter.SmartfloConfig{Secret: secret})
	check(err)
	server := httptest.NewServer(webhook) // a host mounts it in its own
	defer server.Close()
	fmt.Println("answered:", send(server.URL+"?secret=wrong", hangup))
	fmt.Println("answered:", send(server.URL+"?secret="+strings.ReplaceAll(secret, " ", "+"), answered)) // no hang-up
	for range 2 {
		fmt.Println("answered:", send(server.URL+"?secret="+strings.ReplaceAll(secret, " ", "+"), hangup))
	}

	done, err := meter.ImportSmartflo(ctx, tracker, strings.NewReader(page), meter.SmartfloConfig{})
	check(err)
	fmt.Printf("imported: %d new, %d known\n", done.Recorded, done.Known)
	for rec, err := range tracker.Records(ctx, usage.RecordFilter{TenantID: "acme"}) {
		check(err)
		fmt.Println(rec.ID, rec.At.Format(time.RFC3339), rec.Conditions, time.Duration(rec.Lines[0].Quantity)*time.Millisecond, "$"+rec.Cost.String())
	}
}

// contract is the default price book with a host's own rate, in rupees and by the minute begun: Smartflo publishes none.
func contract() *usage.PriceBook {
	prices, err := usage.DefaultPrices().With(usage.Price{
		Provider: usage.Smartflo, Meter: usage.CallTime, Amount: decimal.RequireFromString("0.70"), Currency: "INR",
		Per: usage.PerMinute, RoundUpTo: usage.PerMinute,
	})
	check(err)
	prices, err = prices.WithExchangeRates(usage.ExchangeRate{Currency: "INR", USD: decimal.RequireFromString("0.012")})
	check(err)
	return prices
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
