// Openai-go meters OpenAI's own client: a transport under it is all that a host adds. It runs offline, against a fake of
// OpenAI in fake.go; a host leaves out WithBaseURL and Hosts.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

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

	// The whole of it: the transport goes under the client, and the context says whose call it is.
	transport, err := meter.NewTransport(tracker, meter.Config{
		AskForUsage: true, // so that streams end with their usage
		Hosts:       []meter.Host{{BaseURL: fake.URL}},
	})
	check(err)
	client := openai.NewClient(
		option.WithHTTPClient(&http.Client{Transport: transport}), option.WithAPIKey("sk-example"), option.WithBaseURL(fake.URL+"/v1"),
	)
	ctx = usage.WithTenant(ctx, "acme")

	question := openai.ChatCompletionNewParams{
		Model: "gpt-4o", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Say hello")},
	}
	answer, err := client.Chat.Completions.New(ctx, question) // the fake is overloaded at first, and the client tries again
	check(err)
	fmt.Println(answer.Choices[0].Message.Content)
	stream := client.Chat.Completions.NewStreaming(ctx, question)
	for stream.Next() {
		for _, choice := range stream.Current().Choices {
			fmt.Print(choice.Delta.Content)
		}
	}
	check(stream.Err())
	check(stream.Close())
	fmt.Println()

	check(transport.Flush(ctx)) // before the program ends: records are written beside the calls
	for rec, err := range tracker.Records(ctx, usage.RecordFilter{TenantID: "acme"}) {
		check(err)
		fmt.Println(rec.Status, rec.ID, rec.Model, "$"+rec.Cost.String())
	}
	month, err := tracker.GetCurrentUsage(ctx, "acme")
	check(err)
	fmt.Printf("%d calls, %d of them failed, %d tokens, $%s\n", month.Calls, month.Errors, month.Tokens, month.Cost)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
