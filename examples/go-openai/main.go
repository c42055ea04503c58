// Go-openai meters the community's client, which has the usage of embeddings and not that of transcriptions: the meter
// reads both from the wire. A reservation keeps the tenant within its budget. It runs offline, against a fake of OpenAI in
// fake.go; a host leaves out BaseURL and Hosts.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"strings"

	"github.com/sashabaranov/go-openai"
	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/meter"
	storesqlite "github.com/acf68eca/usage/store_sqlite"
)

func main() {
	ctx := context.Background()
	st, err := storesqlite.Open(ctx, ":memory:") // or a file: "usage.db"
	check(err)
	defer st.Close()
	tracker, err := usage.New(st, usage.Config{})
	check(err)
	fake := newFake()
	defer fake.Close()
	budget := usage.Limit{Meter: usage.Cost, Max: decimal.RequireFromString("0.01")}
	check(tracker.SetQuota(ctx, usage.Quota{TenantID: "acme", Limits: []usage.Limit{budget}}))

	transport, err := meter.NewTransport(tracker, meter.Config{
		TenantID: "acme", Reserve: true, Hosts: []meter.Host{{BaseURL: fake.URL}},
	})
	check(err)
	config := openai.DefaultConfig("sk-example")
	config.BaseURL = fake.URL + "/v1"
	config.HTTPClient = &http.Client{Transport: transport}
	client := openai.NewClientWithConfig(config)

	_, err = client.CreateEmbeddings(ctx, openai.EmbeddingRequest{Model: openai.SmallEmbedding3, Input: []string{"hello"}})
	check(err)
	_, err = client.CreateTranscription(ctx, openai.AudioRequest{
		Model: openai.Whisper1, FilePath: "call.mp3", Reader: strings.NewReader("not really audio"),
	})
	check(err)
	question := openai.ChatCompletionRequest{
		Model: openai.GPT4o, MaxCompletionTokens: 100, Messages: []openai.ChatCompletionMessage{{Role: "user", Content: "Say hello"}},
	}
	_, err = client.CreateChatCompletion(ctx, question)
	check(err)
	check(transport.Flush(ctx))

	question.MaxCompletionTokens = 4_000 // might cost $0.04: the call is not made
	_, err = client.CreateChatCompletion(ctx, question)
	fmt.Println("refused:", errors.Is(err, usage.ErrQuotaExceeded))
	for rec, err := range tracker.Records(ctx, usage.RecordFilter{TenantID: "acme"}) {
		check(err)
		fmt.Println(rec.Endpoint, rec.Model, rec.Lines[0].Meter, rec.Lines[0].Quantity, "$"+rec.Cost.String())
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
