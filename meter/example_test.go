package meter_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/meter"
	storesqlite "github.com/acf68eca/usage/store_sqlite"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// cannedOpenAI stands for the way to OpenAI.
func cannedOpenAI(req *http.Request) (*http.Response, error) {
	const body = `{"id":"chatcmpl-1","model":"gpt-4o-2024-08-06","choices":[],"service_tier":"default",
		"usage":{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,"prompt_tokens_details":{"cached_tokens":1920}}}`
	header := http.Header{"Content-Type": {"application/json"}}
	return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
}

func ExampleNewTransport() {
	ctx := context.Background()
	st, err := storesqlite.Open(ctx, ":memory:")
	check(err)
	defer st.Close()
	tracker, err := usage.New(st, usage.Config{})
	check(err)

	transport, err := meter.NewTransport(tracker, meter.Config{TenantID: "acme", Base: roundTripper(cannedOpenAI)})
	check(err)
	client := &http.Client{Transport: transport} // and this goes into the SDK
	res, err := client.Post("https://api.openai.com/v1/chat/completions", "application/json", strings.NewReader(`{"model":"gpt-4o"}`))
	check(err)
	_, err = io.Copy(io.Discard, res.Body)
	check(err)
	check(res.Body.Close())
	check(transport.Flush(ctx))

	rec, err := tracker.Record(ctx, "acme", "chatcmpl-1")
	check(err)
	for _, line := range rec.Lines {
		fmt.Println(line.Meter, line.Quantity, line.Cost)
	}
	// Output:
	// input_tokens 86 0.000215
	// input_cached_tokens 1920 0.0024
	// output_tokens 300 0.003
}
