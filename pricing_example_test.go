package usage_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/acf68eca/usage"
	"github.com/shopspring/decimal"
)

func ExamplePriceBook_Price() {
	lines := []usage.Line{
		{Meter: usage.InputTokens, Quantity: 86},
		{Meter: usage.InputCachedTokens, Quantity: 1_920},
		{Meter: usage.OutputTokens, Quantity: 300},
	}
	call := usage.PriceQuery{
		Provider: usage.OpenAI, Model: "gpt-4.1-2025-04-14", At: time.Date(2025, 6, 15, 0, 0, 0, 0, time.UTC),
	}
	cost, err := usage.DefaultPrices().Price(call, lines)
	fmt.Println(cost, err)
	for _, l := range lines {
		fmt.Println(l.Meter, l.Quantity, "at", l.Rate.Amount, "per", l.Rate.Per, "is", l.Cost)
	}

	call.Model = "gpt-unheard-of"
	_, err = usage.DefaultPrices().Price(call, lines)
	fmt.Println(err, errors.Is(err, usage.ErrUnpriced))
	// Output:
	// 0.003532 <nil>
	// input_tokens 86 at 2 per 1000000 is 0.000172
	// input_cached_tokens 1920 at 0.5 per 1000000 is 0.00096
	// output_tokens 300 at 8 per 1000000 is 0.0024
	// unpriced: unknown model gpt-unheard-of true
}

func ExamplePriceBook_With() {
	// A contract in rupees, charged by the started minute.
	prices, err := usage.DefaultPrices().With(usage.Price{
		Provider: usage.Smartflo, Meter: usage.CallTime, Currency: "INR",
		Amount: decimal.RequireFromString("0.60"), Per: usage.PerMinute, RoundUpTo: usage.PerMinute,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	prices, err = prices.WithExchangeRates(usage.ExchangeRate{Currency: "INR", USD: decimal.RequireFromString("0.012")})
	if err != nil {
		fmt.Println(err)
		return
	}
	call := usage.PriceQuery{Provider: usage.Smartflo, At: time.Date(2026, 5, 8, 0, 0, 0, 0, time.UTC)}
	fmt.Println(prices.Price(call, []usage.Line{{Meter: usage.CallTime, Quantity: 185_000}}))
	// Output: 0.0288 <nil>
}
