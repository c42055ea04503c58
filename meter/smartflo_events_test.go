package meter_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/meter"
)

// A record that is none does not hold up the others of its page.
func TestOneBadRecordDoesNotEndThePage(t *testing.T) {
	t.Parallel()
	record := func(id string) string {
		return `{"call_id":"` + id + `","answered_seconds":10,"date":"2026-05-08","time":"12:00:00","direction":"inbound","custom_identifier":"acme"}`
	}
	for _, bad := range []string{`{}`, `null`, `"x"`, `{"a":[1]}`, `[]`, `1`} {
		page := `{"results":[` + record("1") + `,` + bad + `,` + record("2") + `]}`
		w := newWebhook(t, meter.SmartfloConfig{})
		var told []*meter.LogError
		done, err := meter.ImportSmartflo(t.Context(), w.tracker, strings.NewReader(page), meter.SmartfloConfig{OnError: func(e *meter.LogError) { told = append(told, e) }})
		if want := (meter.SmartfloImport{Recorded: 2, Failed: 1}); err != nil || done != want || len(told) != 1 || !errors.Is(told[0], meter.ErrMalformed) {
			t.Errorf("%s: %+v, %v, told of %v", bad, done, err, told)
		}
		events, faults := 0, 0
		for event, err := range meter.ParseSmartfloPage(strings.NewReader(page)) {
			switch {
			case errors.Is(err, meter.ErrMalformed):
				faults++
			case err == nil && event.IsHangup():
				events++
			}
		}
		if events != 2 || faults != 1 {
			t.Errorf("%s: %d events, %d faults", bad, events, faults)
		}
	}
}

// A webhook's template may name its seconds answered_seconds, whatever the webhook is about.
func TestOnlyAHangUpEndsACallOfAWebhook(t *testing.T) {
	t.Parallel()
	w := newWebhook(t, meter.SmartfloConfig{})
	answered := hangup("end_stamp", "", "answered_seconds", "0", "call_status", "Answered by agent")
	for _, body := range []string{answered, hangup("answered_seconds", "125", "billsec", "")} {
		if code := w.send(http.MethodPost, "application/json", body, webhookSecret); code != http.StatusNoContent {
			t.Errorf("answered %d", code)
		}
	}
	if all := w.records(); len(all) != 1 || all[0].Lines[0].Quantity != 125_000 || len(w.failed) != 0 {
		t.Errorf("recorded %+v, %v", all, w.failed)
	}
}

func TestAFieldIsTheSameEachTime(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"billsec ":"5"," billsec":"500"}`:           "500",
		`{"billsec ":"5","billsec":"$billsec"}`:       "5",
		`{"billsec ":"$billsec","billsec":"6"}`:       "6",
		`{"billsec ":"5","billsec":"6"}`:              "6",
		`{" billsec":"$billsec","billsec ":"7"}`:      "7",
		`{"billsec ":"5","billsec":""," billsec":""}`: "5",
	} {
		for range 50 {
			event, err := meter.ParseSmartfloWebhook("application/json", []byte(body))
			if got := event.Field("billsec"); got != want || err != nil {
				t.Fatalf("%s is %q, want %q, %v", body, got, want, err)
			}
		}
	}
}

// What panics in the host's function reaches neither Smartflo nor the other records, and nobody else pays for the call.
func TestATenantFunctionThatPanics(t *testing.T) {
	t.Parallel()
	cfg := meter.SmartfloConfig{FallbackTenantID: "acme", Tenant: func(_ context.Context, e meter.SmartfloEvent) (string, bool) {
		if e.CallID() == "1.3" {
			panic("host")
		}
		return "acme", true
	}}
	w := newWebhook(t, cfg)
	if code := w.send(http.MethodPost, "application/json", hangup("call_id", "1.3"), webhookSecret); code != http.StatusServiceUnavailable {
		t.Errorf("answered %d", code)
	}
	done, err := meter.ImportSmartflo(t.Context(), w.tracker, strings.NewReader(callPage), cfg)
	if want := (meter.SmartfloImport{Recorded: 1, Failed: 2}); err != nil || done != want {
		t.Errorf("%+v, %v", done, err)
	}
	if all := w.records(); len(all) != 1 {
		t.Errorf("recorded %+v", all)
	}
}

// A call of a time that was pruned may have been counted. It is told of, not asked for again, and holds up no other.
func TestACallOfATimeThatWasPruned(t *testing.T) {
	t.Parallel()
	cfg := meter.SmartfloConfig{FallbackTenantID: "acme"}
	w := newWebhook(t, cfg)
	if code := w.send(http.MethodPost, "application/json", hangup(), webhookSecret); code != http.StatusNoContent {
		t.Fatalf("answered %d", code)
	}
	if _, err := w.tracker.Prune(t.Context(), time.Date(2026, 5, 8, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	late := hangup("call_id", "0.1", "start_stamp", "2026-05-07 12:34:53", "end_stamp", "2026-05-07 12:36:04")
	if code := w.send(http.MethodPost, "application/json", late, webhookSecret); code != http.StatusBadRequest {
		t.Errorf("answered %d", code)
	}
	if len(w.failed) != 1 || !errors.Is(w.failed[0], usage.ErrPruned) {
		t.Errorf("told of %v", w.failed)
	}
	done, err := meter.ImportSmartflo(t.Context(), w.tracker, strings.NewReader(callPage), cfg)
	if want := (meter.SmartfloImport{Known: 1, Failed: 2}); err != nil || done != want { // one was pruned, one has no length
		t.Errorf("imported %+v, %v", done, err)
	}
}

// A record of a page that nobody answered has no seconds either.
func TestAMissedRecordWithoutSecondsIsFree(t *testing.T) {
	t.Parallel()
	page := `{"results":[{"call_id":"1","answered_seconds":null,"status":"missed","date":"2026-05-08","time":"12:00:00"}]}`
	for event, err := range meter.ParseSmartfloPage(strings.NewReader(page)) {
		if err != nil {
			t.Fatal(err)
		}
		want := usage.SmartfloCall{ID: "1", At: time.Date(2026, 5, 8, 6, 30, 0, 0, time.UTC)}
		if call, err := event.Call(); err != nil || call.Duration != want.Duration || call.ID != want.ID || !call.At.Equal(want.At) {
			t.Errorf("%+v, %v", call, err)
		}
	}
}
