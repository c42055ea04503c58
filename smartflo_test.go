package usage

import (
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
)

func TestSmartfloDirections(t *testing.T) {
	t.Parallel()
	for reported, want := range map[string]string{
		"": "", "inbound": "direction=inbound", "Outbound": "direction=outbound", "clicktocall": "direction=outbound",
		"click_to_call": "direction=outbound", "ClickToCall": "direction=outbound",
	} {
		d, err := SmartfloCall{TenantID: "acme", Duration: 66 * time.Second, Direction: reported}.draft()
		if err != nil {
			t.Fatal(err)
		}
		if d.record.Conditions != want {
			t.Errorf("%q is %q, want %q", reported, d.record.Conditions, want)
		}
		if diff := lineDiff([]store.Line{billed(CallTime, 66_000)}, d.record.Lines); diff != "" {
			t.Errorf("lines (-want +got):\n%s", diff)
		}
	}
}

func TestSmartfloMissedCallHasNoLines(t *testing.T) {
	t.Parallel()
	d, err := SmartfloCall{TenantID: "acme", Direction: "inbound"}.draft()
	if err != nil || len(d.record.Lines) != 0 || d.record.Unpriced != "" {
		t.Errorf("draft is %+v (%v)", d.record, err)
	}
}

func TestSmartfloFaultsAreAllNamed(t *testing.T) {
	t.Parallel()
	_, err := SmartfloCall{Duration: -1, Direction: "a=b"}.draft()
	wantFaults(t, err, "TenantID", "Duration", "Direction")
}
