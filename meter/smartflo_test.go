package meter_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/meter"
)

const webhookSecret = "correct horse battery staple"

func hangup(changes ...string) string {
	fields := map[string]any{
		"call_id": "h3.08-1778223893.2156835", "uuid": "u1", "start_stamp": "2026-05-08 12:34:53", "end_stamp": "2026-05-08 12:36:04",
		"billsec": "66", "direction": "clicktocall", "custom_identifier": "acme", "recording_name": "$recording_name",
	}
	for i := 0; i < len(changes); i += 2 {
		fields[changes[i]] = changes[i+1]
	}
	b, _ := json.Marshal(fields)
	return string(b)
}

func TestSmartfloFields(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 5, 8, 7, 4, 53, 0, time.UTC)
	for _, tt := range []struct {
		name, body string
		want       usage.SmartfloCall
		fault      string
	}{
		{"a hang-up", hangup(), usage.SmartfloCall{ID: "h3.08-1778223893.2156835", Duration: 66 * time.Second, Direction: "outbound", At: start}, ""},
		{"a length as a clock shows it", hangup("billsec", "1:01:06"), usage.SmartfloCall{ID: "h3.08-1778223893.2156835", Duration: 3666 * time.Second, Direction: "outbound", At: start}, ""},
		{"minutes and seconds", hangup("billsec", "01:06"), usage.SmartfloCall{ID: "h3.08-1778223893.2156835", Duration: 66 * time.Second, Direction: "outbound", At: start}, ""},
		{"a stamp with an offset", hangup("start_stamp", "2026-05-08T07:04:53Z"), usage.SmartfloCall{ID: "h3.08-1778223893.2156835", Duration: 66 * time.Second, Direction: "outbound", At: start}, ""},
		{"a stamp in ISO 8601 without one", hangup("start_stamp", "2026-05-08T12:34:53"), usage.SmartfloCall{ID: "h3.08-1778223893.2156835", Duration: 66 * time.Second, Direction: "outbound", At: start}, ""},
		{"a stamp in seconds", hangup("start_stamp", fmt.Sprint(start.Unix())), usage.SmartfloCall{ID: "h3.08-1778223893.2156835", Duration: 66 * time.Second, Direction: "outbound", At: start}, ""},
		{"a stamp in milliseconds", hangup("start_stamp", fmt.Sprint(start.UnixMilli())), usage.SmartfloCall{ID: "h3.08-1778223893.2156835", Duration: 66 * time.Second, Direction: "outbound", At: start}, ""},
		{"a stamp in seconds with a fraction", hangup("start_stamp", fmt.Sprint(start.Unix())+".129662"), usage.SmartfloCall{ID: "h3.08-1778223893.2156835", Duration: 66 * time.Second, Direction: "outbound", At: start}, ""},
		{"a stamp in milliseconds with a fraction", hangup("start_stamp", fmt.Sprint(start.UnixMilli()+129)+".662"), usage.SmartfloCall{ID: "h3.08-1778223893.2156835", Duration: 66 * time.Second, Direction: "outbound", At: start}, ""},
		{"a stamp in seconds that has two points", hangup("start_stamp", fmt.Sprint(start.Unix())+".1.2"), usage.SmartfloCall{}, "start_stamp is not a time"},
		{"a stamp in seconds that ends with its point", hangup("start_stamp", fmt.Sprint(start.Unix())+"."), usage.SmartfloCall{}, "start_stamp is not a time"},
		{"a stamp of too few seconds", hangup("start_stamp", "20260508"), usage.SmartfloCall{}, "start_stamp is not a time"},
		{"an id that was not set gives way to the uuid", hangup("call_id", "$call_id"), usage.SmartfloCall{ID: "u1", Duration: 66 * time.Second, Direction: "outbound", At: start}, ""},
		{"a direction that was not set is unknown", hangup("direction", "$direction"), usage.SmartfloCall{ID: "h3.08-1778223893.2156835", Duration: 66 * time.Second, At: start}, ""},
		{"a length that was not set", hangup("billsec", "$billsec"), usage.SmartfloCall{}, "unresolved template variable in billsec"},
		{"a call that was missed and has no length", hangup("billsec", "", "call_status", "missed"), usage.SmartfloCall{ID: "h3.08-1778223893.2156835", Direction: "outbound", At: start}, ""},
		{"a call that was missed and has no length set", hangup("billsec", "$billsec", "status", "Missed"), usage.SmartfloCall{ID: "h3.08-1778223893.2156835", Direction: "outbound", At: start}, ""},
		{"a call that was answered and has no length", hangup("billsec", "$billsec", "status", "answered"), usage.SmartfloCall{}, "unresolved template variable in billsec"},
		{"a call that was missed by one and answered by another", hangup("billsec", "", "status", "missed", "answer_stamp", "2026-05-08 12:34:58"), usage.SmartfloCall{}, "billsec is missing"},
		{"no length", hangup("billsec", ""), usage.SmartfloCall{}, "billsec is missing"},
		{"no start", hangup("start_stamp", ""), usage.SmartfloCall{}, "start_stamp is missing"},
		{"a start that is none", hangup("start_stamp", "yesterday"), usage.SmartfloCall{}, "start_stamp is not a time"},
		{"a length that is none", hangup("billsec", "-1"), usage.SmartfloCall{}, "billsec"},
		{"a length of hostile size", hangup("billsec", "1e50000000"), usage.SmartfloCall{}, "billsec"},
		{"a clock that is none", hangup("billsec", "1:99:00"), usage.SmartfloCall{}, "billsec"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			event, err := meter.ParseSmartfloWebhook("application/json", []byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			got, err := event.Call()
			if tt.fault != "" {
				if !errors.Is(err, meter.ErrMalformed) || !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("error %v, want %q", err, tt.fault)
				}
				return
			}
			if err != nil || got.ID != tt.want.ID || got.Duration != tt.want.Duration || got.Direction != tt.want.Direction || !got.At.Equal(tt.want.At) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// All of these are the same second, whichever way an account writes its stamps.
func TestSmartfloStampsWithAZone(t *testing.T) {
	t.Parallel()
	want := time.Date(2026, 5, 8, 7, 4, 53, 0, time.UTC)
	for _, clock := range []string{"2026-05-08T12:34:53", "2026-05-08 12:34:53", "2026-05-08T12:34:53.129662", "2026-05-08 12:34:53.5"} {
		for _, zone := range []string{"", "+05:30", "+0530", " +05:30", " +0530", " 05:30", " 0530"} {
			event, err := meter.ParseSmartfloWebhook("application/json", []byte(hangup("start_stamp", clock+zone)))
			if err != nil {
				t.Fatal(err)
			}
			if call, err := event.Call(); err != nil || !call.At.Equal(want) {
				t.Errorf("%s%s is %s, %v", clock, zone, call.At, err)
			}
		}
	}
	for stamp, want := range map[string]time.Time{
		"2026-05-08T12:34:53+05":    time.Date(2026, 5, 8, 7, 34, 53, 0, time.UTC),
		"2026-05-08 12:34:53 -03":   time.Date(2026, 5, 8, 15, 34, 53, 0, time.UTC),
		"2026-05-08T12:34:53Z":      time.Date(2026, 5, 8, 12, 34, 53, 0, time.UTC),
		"2026-05-08T12:34:53 x":     {},
		"2026-05-08T12:34:53+5":     {},
		"2026-05-08T12:34:53+0530x": {},
		"2026-05-08":                {},
		"2026-05-08 12:34":          {},
		"2026-05-08 12:34:531":      {},
	} {
		event, err := meter.ParseSmartfloWebhook("application/json", []byte(hangup("start_stamp", stamp)))
		if err != nil {
			t.Fatal(err)
		}
		call, err := event.Call()
		if isTime := !want.IsZero(); isTime != (err == nil) || !call.At.Equal(want) {
			t.Errorf("%s is %s, %v", stamp, call.At, err)
		}
	}
}

func TestAWebhookOfAnotherContentTypeIsRefused(t *testing.T) {
	t.Parallel()
	form := url.Values{"call_id": {"1.9"}, "billsec": {"66"}, "start_stamp": {"2026-05-08 12:34:53"}, "end_stamp": {"x"}, "custom_identifier": {"acme"}}.Encode()
	for _, tt := range []struct {
		contentType, body string
		want              int
	}{
		{"application/x-www-form-urlencoded", form, http.StatusNoContent},
		{"Application/X-WWW-Form-URLEncoded; Charset=UTF-8", form, http.StatusNoContent},
		{"application/x-www-form-urlencoded;", form, http.StatusNoContent},
		{"application/json", hangup(), http.StatusNoContent},
		{"Application/JSON; charset=utf-8", hangup(), http.StatusNoContent},
		{"application/problem+json", hangup(), http.StatusNoContent},
		{"", hangup(), http.StatusNoContent},
		{"text/plain", hangup(), http.StatusUnsupportedMediaType},
		{"application/xml", hangup(), http.StatusUnsupportedMediaType},
		{"multipart/form-data; boundary=b", hangup(), http.StatusUnsupportedMediaType},
		{"application/x-www-form-urlencoded-not", form, http.StatusUnsupportedMediaType},
		{"json", hangup(), http.StatusUnsupportedMediaType},
	} {
		w := newWebhook(t, meter.SmartfloConfig{})
		if code := w.send(http.MethodPost, tt.contentType, tt.body, webhookSecret); code != tt.want {
			t.Errorf("%q: answered %d, want %d", tt.contentType, code, tt.want)
		}
		if n := len(w.records()); (n == 1) != (tt.want == http.StatusNoContent) {
			t.Errorf("%q: %d records", tt.contentType, n)
		}
	}
}

func TestANameWithSpacesAroundIsTheName(t *testing.T) {
	t.Parallel()
	for contentType, body := range map[string]string{
		"application/json": `{"customer_no_with_prefix ":"+91"}`, "application/x-www-form-urlencoded": "customer_no_with_prefix+=%2B91",
	} {
		event, err := meter.ParseSmartfloWebhook(contentType, []byte(body))
		if err != nil || event.Field("customer_no_with_prefix") != "+91" {
			t.Errorf("%v, %v", event, err)
		}
	}
}

// webhook sends requests to a handler on a ledger of its own.
type webhook struct {
	t       *testing.T
	handler http.Handler
	tracker *usage.Tracker
	records func() []usage.Record
	failed  []*meter.LogError
}

func newWebhook(t *testing.T, cfg meter.SmartfloConfig) *webhook {
	t.Helper()
	w := &webhook{t: t}
	w.tracker, w.records = newTracker(t, usage.Config{Prices: fixtureBook(t)})
	cfg.Secret = webhookSecret
	cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	cfg.OnError = func(e *meter.LogError) { w.failed = append(w.failed, e) }
	var err error
	if w.handler, err = meter.NewSmartfloWebhook(w.tracker, cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *webhook) send(method, contentType, body, secret string) int {
	req := httptest.NewRequestWithContext(w.t.Context(), method, "/smartflo?secret="+url.QueryEscape(secret), strings.NewReader(body))
	req.Header.Set("Content-Type", contentType)
	res := httptest.NewRecorder()
	w.handler.ServeHTTP(res, req)
	return res.Code
}

func TestSmartfloWebhook(t *testing.T) {
	t.Parallel()
	t.Run("records a hang-up, once however often it comes", func(t *testing.T) {
		t.Parallel()
		w := newWebhook(t, meter.SmartfloConfig{})
		form := url.Values{"call_id": {"h3.08-1778223893.2156835"}, "start_stamp": {"1778223893"}, "billsec": {"66"}, "hangup_cause_key": {"NORMAL_CLEARING"}, "direction": {"outbound"}, "custom_identifier": {"acme"}}
		for range 2 {
			for contentType, body := range map[string]string{"application/json": hangup(), "application/x-www-form-urlencoded": form.Encode()} {
				if code := w.send(http.MethodPost, contentType, body, webhookSecret); code != http.StatusNoContent {
					t.Errorf("answered %d", code)
				}
			}
		}
		all := w.records()
		if len(all) != 1 || all[0].Cost.String() != "0.0168" || len(w.failed) != 0 {
			t.Errorf("%d records %+v, %v", len(all), all, w.failed)
		}
	})
	t.Run("takes a GET and a secret in a header", func(t *testing.T) {
		t.Parallel()
		w := newWebhook(t, meter.SmartfloConfig{})
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/smartflo?call_id=1.2&start_stamp=1778223893&billsec=0&end_stamp=1778223899&direction=inbound&custom_identifier=acme", nil)
		req.Header.Set("X-Webhook-Secret", webhookSecret)
		res := httptest.NewRecorder()
		w.handler.ServeHTTP(res, req)
		if all := w.records(); res.Code != http.StatusNoContent || len(all) != 1 || !all[0].Cost.IsZero() || all[0].Unpriced != "" {
			t.Errorf("answered %d, recorded %+v", res.Code, all)
		}
	})
	t.Run("passes over what is no hang-up", func(t *testing.T) {
		t.Parallel()
		w := newWebhook(t, meter.SmartfloConfig{})
		for _, body := range []string{hangup("end_stamp", ""), hangup("end_stamp", "$end_stamp", "billsec", "$billsec")} {
			if code := w.send(http.MethodPost, "application/json", body, webhookSecret); code != http.StatusNoContent {
				t.Errorf("answered %d", code)
			}
		}
		if len(w.records()) != 0 {
			t.Error("recorded")
		}
	})
	t.Run("refuses what it must", func(t *testing.T) {
		t.Parallel()
		w := newWebhook(t, meter.SmartfloConfig{})
		for _, tt := range []struct {
			name, method, body, secret string
			want                       int
		}{
			{"no secret", http.MethodPost, hangup(), "", http.StatusUnauthorized},
			{"the beginning of the secret", http.MethodPost, hangup(), webhookSecret[:20], http.StatusUnauthorized},
			{"another method", http.MethodPut, hangup(), webhookSecret, http.StatusMethodNotAllowed},
			{"no JSON", http.MethodPost, "{", webhookSecret, http.StatusBadRequest},
			{"an array", http.MethodPost, "[]", webhookSecret, http.StatusBadRequest},
			{"nothing", http.MethodPost, "", webhookSecret, http.StatusBadRequest},
			{"too much", http.MethodPost, hangup("x", strings.Repeat("x", 1<<20)), webhookSecret, http.StatusRequestEntityTooLarge},
			{"a call that is nobody's", http.MethodPost, hangup("custom_identifier", "$custom_identifier"), webhookSecret, http.StatusBadRequest},
			{"a call without a length", http.MethodPost, hangup("billsec", "$billsec"), webhookSecret, http.StatusBadRequest},
		} {
			if code := w.send(tt.method, "application/json", tt.body, tt.secret); code != tt.want {
				t.Errorf("%s is answered %d, want %d", tt.name, code, tt.want)
			}
		}
		if len(w.records()) != 0 || len(w.failed) != 2 {
			t.Errorf("%d records, told of %v", len(w.records()), w.failed)
		}
	})
	t.Run("asks the host whose call it is", func(t *testing.T) {
		t.Parallel()
		w := newWebhook(t, meter.SmartfloConfig{
			FallbackTenantID: "acme",
			Tenant: func(_ context.Context, e meter.SmartfloEvent) (string, bool) {
				return "globex", e.Field("call_to_number") == "+918000000000"
			},
		})
		w.send(http.MethodPost, "application/json", hangup("call_to_number", "+918000000000", "call_id", "1"), webhookSecret)
		w.send(http.MethodPost, "application/json", hangup("call_id", "2"), webhookSecret)
		if all := w.records(); len(all) != 1 || all[0].ID != "2" {
			t.Errorf("recorded %+v", all)
		}
		if _, err := w.tracker.Record(t.Context(), "globex", "1"); err != nil {
			t.Error(err)
		}
	})
	t.Run("lets the first of two that differ stand", func(t *testing.T) {
		t.Parallel()
		w := newWebhook(t, meter.SmartfloConfig{})
		w.send(http.MethodPost, "application/json", hangup(), webhookSecret)
		if code := w.send(http.MethodPost, "application/json", hangup("billsec", "67"), webhookSecret); code != http.StatusNoContent {
			t.Errorf("answered %d", code)
		}
		if all := w.records(); len(all) != 1 || all[0].Lines[0].Quantity != 66_000 || len(w.failed) != 1 {
			t.Errorf("recorded %+v", all)
		}
	})
	t.Run("wants a secret of some length", func(t *testing.T) {
		t.Parallel()
		tracker, _ := newTracker(t, usage.Config{})
		if _, err := meter.NewSmartfloWebhook(tracker, meter.SmartfloConfig{Secret: "short"}); !errors.As(err, new(*meter.ConfigError)) {
			t.Errorf("error %v", err)
		}
		if _, err := meter.NewSmartfloWebhook(nil, meter.SmartfloConfig{Secret: webhookSecret}); err == nil {
			t.Error("takes no tracker")
		}
	})
}

const callPage = `{"count":3,"limit":20,"results":[
	{"id":"1","call_id":"h3.08-1778223893.2156835","uuid":"u1","date":"2026-05-08","time":"12:34:53","answered_seconds":66,"call_duration":71,"direction":"outbound","status":"answered","charges":"12.5","custom_identifier":"acme","call_flow":[{"type":"init"}]},
	{"id":"2","call_id":"1.3","date":"2026-05-08","time":"00:10:00","answered_seconds":"0:01:01","direction":"inbound","status":"answered","custom_identifier":"acme"},
	{"id":"3","call_id":"1.4","date":"2026-05-08","time":"12:34:53","answered_seconds":null,"direction":"inbound","custom_identifier":"acme"}
],"page":1}`

func TestImportSmartflo(t *testing.T) {
	t.Parallel()
	w := newWebhook(t, meter.SmartfloConfig{})
	w.send(http.MethodPost, "application/json", hangup(), webhookSecret) // one of the page's calls, told of before
	cfg := meter.SmartfloConfig{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	for i, want := range []meter.SmartfloImport{{Recorded: 1, Known: 1, Failed: 1}, {Known: 2, Failed: 1}} {
		got, err := meter.ImportSmartflo(t.Context(), w.tracker, iotest.OneByteReader(strings.NewReader(callPage)), cfg)
		if err != nil || got != want {
			t.Errorf("import %d: %+v, %v", i, got, err)
		}
	}
	all := w.records()
	if len(all) != 2 || !all[0].At.Equal(time.Date(2026, 5, 7, 18, 40, 0, 0, time.UTC)) || all[0].Cost.String() != "0.0072" || all[1].Cost.String() != "0.0168" {
		t.Errorf("recorded %+v", all)
	}
}

func TestImportSmartfloOfWhatIsNoPage(t *testing.T) {
	t.Parallel()
	tracker, _ := newTracker(t, usage.Config{})
	for _, page := range []string{"", "[]", "{}", `{"results":{}}`, callPage[:300], `{"results":[{"a":1}`, `{"results":[{"x":"` + strings.Repeat("x", 5<<20) + `"}]}`} {
		_, err := meter.ImportSmartflo(t.Context(), tracker, strings.NewReader(page), meter.SmartfloConfig{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if !errors.Is(err, meter.ErrMalformed) {
			t.Errorf("%.40s: %v", page, err)
		}
	}
	broken := errors.New("broken")
	_, err := meter.ImportSmartflo(t.Context(), tracker, iotest.ErrReader(broken), meter.SmartfloConfig{})
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}
