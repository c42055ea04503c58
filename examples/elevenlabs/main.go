// Elevenlabs meters speech and an agent's conversation. ElevenLabs has no client for Go, so the host makes its requests
// itself; what it is charged stands in their headers. It runs offline, against a fake of ElevenLabs in fake.go; a host
// leaves out Hosts.
package main

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

func main() {
	ctx := context.Background()
	st, err := storesqlite.Open(ctx, ":memory:") // or a file: "usage.db"
	check(err)
	defer st.Close()
	tracker, err := usage.New(st, usage.Config{})
	check(err)
	fake := newFake()
	defer fake.Close()

	transport, err := meter.NewTransport(tracker, meter.Config{
		TenantID: "acme", Hosts: []meter.Host{{BaseURL: fake.URL, API: meter.ElevenLabs}},
	})
	check(err)
	client := &http.Client{Transport: transport}
	speak := `{"text":"Your order has shipped.","model_id":"eleven_flash_v2_5"}`
	audio, err := client.Post(fake.URL+"/v1/text-to-speech/voice/stream", "application/json", strings.NewReader(speak))
	check(err)
	n, err := io.Copy(io.Discard, audio.Body)
	check(err)
	check(audio.Body.Close())
	fmt.Println("spoken:", n, "bytes")
	check(transport.Flush(ctx))

	// A conversation happens elsewhere. It is read when it has ended, or delivered by a webhook, and logged as it is.
	conversation, err := client.Get(fake.URL + "/v1/convai/conversations/conv_1")
	check(err)
	call, err := meter.ParseElevenLabsConversation(conversation.Body)
	check(err)
	check(conversation.Body.Close())
	call.TenantID = "acme"
	_, err = tracker.LogElevenLabs(ctx, call)
	check(err)

	for rec, err := range tracker.Records(ctx, usage.RecordFilter{TenantID: "acme", NewestFirst: true}) {
		check(err)
		fmt.Println(rec.ID, rec.Model, rec.Lines[0].Meter, rec.Lines[0].Quantity, "$"+rec.Cost.String(), rec.Unbilled)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
