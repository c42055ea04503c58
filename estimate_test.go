package usage

import (
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
	"github.com/google/go-cmp/cmp"
)

func TestEstimateBecomesAHold(t *testing.T) {
	t.Parallel()
	given := Conditions{Quality: "hd", ServiceTier: "default"}
	hold, query, err := Estimate{
		TenantID: "acme", ID: "res-1", Provider: OpenAI, Model: "gpt-4", ServiceTier: "Flex", Batch: true,
		InputTokens: 10, OutputTokens: 20, Characters: 30, Audio: time.Second, CallTime: time.Minute,
		Quantities: Quantities{WebSearches: 2, Images: 1, Requests: 0}, Conditions: given, Owner: "worker 7",
	}.hold()
	if err != nil {
		t.Fatal(err)
	}
	want := store.Hold{
		TenantID: "acme", ID: "res-1", Provider: OpenAI, Model: "gpt-4", Owner: "worker 7",
		Lines: []store.Line{
			billed(InputTokens, 10), billed(OutputTokens, 20), billed(Characters, 30), billed(AudioTime, 1_000),
			billed(CallTime, 60_000), billed(Images, 1), billed(WebSearches, 2),
		},
	}
	if diff := cmp.Diff(want, hold); diff != "" {
		t.Errorf("hold (-want +got):\n%s", diff)
	}
	wantQuery := PriceQuery{
		Provider: OpenAI, Model: "gpt-4", PromptTokens: 10,
		Conditions: Conditions{Quality: "hd", ServiceTier: "flex", Batch: "true"},
	}
	if diff := cmp.Diff(wantQuery, query); diff != "" {
		t.Errorf("query (-want +got):\n%s", diff)
	}
	if given[ServiceTier] != "default" {
		t.Error("the host's conditions were changed")
	}
}

func TestEstimateOfNothing(t *testing.T) {
	t.Parallel()
	hold, query, err := Estimate{TenantID: "acme", Provider: Smartflo}.hold()
	if err != nil || hold.Lines != nil || query.Conditions != nil {
		t.Errorf("hold is %+v, query %+v (%v)", hold, query, err)
	}
}

func TestEstimateFaultsAreAllNamed(t *testing.T) {
	t.Parallel()
	_, _, err := Estimate{
		ID: "\x00", Provider: "a b", Model: " ", ServiceTier: ";", InputTokens: -1, OutputTokens: -1, Characters: -1,
		Audio: -1, CallTime: -1, ExpiresIn: -1, Owner: "\xff", Quantities: Quantities{InputTokens: 1, Cost: 1},
		Conditions: Conditions{"": "x"},
	}.hold()
	wantFaults(t, err, "TenantID", "ID", "Provider", "Model", "ExpiresIn", "Owner", "InputTokens", "OutputTokens",
		"Characters", "Audio", "CallTime", `Quantities["cost"]`, `Quantities["input_tokens"]`, "ServiceTier", `Conditions[""]`)
}
