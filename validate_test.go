package usage

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/acf68eca/usage/store"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// wantFaults fails unless err is an *InvalidError on exactly these fields, in this order.
func wantFaults(t *testing.T, err error, fields ...string) {
	t.Helper()
	var invalid *InvalidError
	if !errors.Is(err, ErrInvalid) || !errors.As(err, &invalid) {
		t.Fatalf("error is %v, want an *InvalidError", err)
	}
	var got []string
	for _, fault := range invalid.Faults {
		got = append(got, fault.Field)
	}
	if diff := cmp.Diff(fields, got); diff != "" {
		t.Errorf("fields at fault (-want +got):\n%s%v", diff, err)
	}
	if text := err.Error(); strings.ContainsAny(text, "\n\x00") || !utf8.ValidString(text) {
		t.Errorf("error is not one clean line: %q", text)
	}
}

// lineDiff compares the meters, quantities and flags of lines, in their order.
func lineDiff(want, got []store.Line) string { return cmp.Diff(want, got, cmpopts.EquateEmpty()) }

func billed(m Meter, n int64) store.Line { return store.Line{Meter: m, Quantity: n} }

func counted(m Meter, n int64) store.Line { return store.Line{Meter: m, Quantity: n, Unbilled: true} }

func TestBadFieldsAreNamed(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 256)
	for _, tt := range []struct {
		name   string
		change func(*Call)
		fields []string
	}{
		{"an empty tenant", func(c *Call) { c.TenantID = "" }, []string{"TenantID"}},
		{"a tenant over 255 bytes", func(c *Call) { c.TenantID = long }, []string{"TenantID"}},
		{"a tenant with invalid UTF-8", func(c *Call) { c.TenantID = "a\xff" }, []string{"TenantID"}},
		{"a tenant with NUL", func(c *Call) { c.TenantID = "a\x00b" }, []string{"TenantID"}},
		{"an id over 255 bytes", func(c *Call) { c.ID = long }, []string{"ID"}},
		{"an id over 255 bytes in few runes", func(c *Call) { c.ID = strings.Repeat("é", 128) }, []string{"ID"}},
		{"an id with a newline", func(c *Call) { c.ID = "a\nb" }, []string{"ID"}},
		{"an id with DEL", func(c *Call) { c.ID = "a\x7f" }, []string{"ID"}},
		{"an id with a control character past ASCII", func(c *Call) { c.ID = "é\u0085" }, []string{"ID"}},
		{"no provider", func(c *Call) { c.Provider = "" }, []string{"Provider"}},
		{"a provider with a space", func(c *Call) { c.Provider = "my provider" }, []string{"Provider"}},
		{"a provider in upper case", func(c *Call) { c.Provider = "OpenAI" }, []string{"Provider"}},
		{"a provider over 64 bytes", func(c *Call) { c.Provider = long[:65] }, []string{"Provider"}},
		{"a model over 255 bytes", func(c *Call) { c.Model = long }, []string{"Model"}},
		{"a model with a space around it", func(c *Call) { c.Model = "gpt-4 " }, []string{"Model"}},
		{"a model with a tab", func(c *Call) { c.Model = "gpt\t4" }, []string{"Model"}},
		{"a time before 2000", func(c *Call) { c.At = time.Unix(0, 0) }, []string{"At"}},
		{"a time after 2200", func(c *Call) { c.At = time.Date(2201, 1, 1, 0, 0, 0, 0, time.UTC) }, []string{"At"}},
		{"a reservation over 255 bytes", func(c *Call) { c.ReservationID = long }, []string{"ReservationID"}},
		{"an endpoint over 1,024 bytes", func(c *Call) { c.Endpoint = "/" + strings.Repeat("x", 1024) }, []string{"Endpoint"}},
		{"an endpoint with NUL", func(c *Call) { c.Endpoint = "/\x00" }, []string{"Endpoint"}},
		{"a status of 99", func(c *Call) { c.Status = 99 }, []string{"Status"}},
		{"a status of 600", func(c *Call) { c.Status = 600 }, []string{"Status"}},
		{"a negative status", func(c *Call) { c.Status = -1 }, []string{"Status"}},
		{"a negative latency", func(c *Call) { c.Latency = -1 }, []string{"Latency"}},
		{"a user over 255 bytes", func(c *Call) { c.User = long }, []string{"User"}},
		{"an address that is none", func(c *Call) { c.IP = "10.0.0.256" }, []string{"IP"}},
		{"too many tags", func(c *Call) { c.Tags = manyTags(33) }, []string{"Tags"}},
		{"an empty tag", func(c *Call) { c.Tags = map[string]string{"": "x"} }, []string{`Tags[""]`}},
		{"a tag over 64 bytes", func(c *Call) { c.Tags = map[string]string{long[:65]: ""} }, []string{`Tags["` + long[:64] + `"…]`}},
		{"bad tags, in one order", func(c *Call) { c.Tags = map[string]string{"b": "\x00", "a": long, "c": "ok"} },
			[]string{`Tags["a"]`, `Tags["b"]`}},
		{"a negative quantity", func(c *Call) { c.Quantities = Quantities{Images: -1} }, []string{`Quantities["images"]`}},
		{"the largest quantity", func(c *Call) { c.Quantities = Quantities{Images: 1<<63 - 1} }, []string{`Quantities["images"]`}},
		{"a sum as a meter", func(c *Call) { c.Quantities = Quantities{Tokens: 1} }, []string{`Quantities["tokens"]`}},
		{"a meter with a space", func(c *Call) { c.Unbilled = Quantities{"my meter": 1} }, []string{`Unbilled["my meter"]`}},
		{"a meter without a name", func(c *Call) { c.Quantities = Quantities{"": 1} }, []string{`Quantities[""]`}},
		{"a meter that is charged and not", func(c *Call) { c.Quantities, c.Unbilled = Quantities{Images: 1}, Quantities{Images: 1} },
			[]string{`Unbilled["images"]`}},
		{"a condition that breaks the list", func(c *Call) { c.Conditions = Conditions{"a": "x;b=y"} }, []string{`Conditions["a"]`}},
		{"a condition with a bad name", func(c *Call) { c.Conditions = Conditions{"a=b": "x"} }, []string{`Conditions["a=b"]`}},
		{"unknown usage with quantities", func(c *Call) { c.UsageUnknown, c.Quantities = "cut", Quantities{Images: 1} }, []string{"UsageUnknown"}},
		{"everything at once", func(c *Call) { *c = Call{Provider: " ", Status: 1, Latency: -1, IP: "x"} },
			[]string{"TenantID", "Provider", "Status", "Latency", "IP"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			call := Call{TenantID: "acme", Provider: "deepgram"}
			tt.change(&call)
			_, err := call.draft()
			wantFaults(t, err, tt.fields...)
		})
	}
}

func manyTags(n int) map[string]string {
	tags := map[string]string{}
	for i := range n {
		tags["tag"+strconv.Itoa(i)] = "x"
	}
	return tags
}

func TestGoodFieldsAtTheirBoundsAreTaken(t *testing.T) {
	t.Parallel()
	id := strings.Repeat("é", 127) + "x" // 255 bytes
	call := Call{
		TenantID: id, ID: id, Provider: strings.Repeat("a-_.0", 12) + "abcd", Model: id, ReservationID: id, User: id,
		Endpoint: strings.Repeat("/", 1024), Status: 599, Tags: manyTags(32),
		At:         time.Date(2200, 12, 31, 23, 59, 59, 0, time.UTC),
		Quantities: Quantities{Images: maxQuantity},
	}
	if _, err := call.draft(); err != nil {
		t.Fatal(err)
	}
}

func TestTheDraftIsWhatTheLedgerKeeps(t *testing.T) {
	t.Parallel()
	kolkata := time.FixedZone("IST", 19800)
	tags := map[string]string{"team": "search"}
	call := Call{
		TenantID: "acme", ID: "dg-1", Provider: "deepgram", Model: "nova-3",
		Quantities: Quantities{Requests: 1, AudioTime: 90_000, Images: 0}, Unbilled: Quantities{Characters: 5},
		Conditions: Conditions{"mode": "live", "codec": "opus", "none": ""},
		At:         time.Date(2026, 3, 31, 23, 59, 0, 1_999, kolkata), ReservationID: "res-1",
		Endpoint: "https://api.example.com/v1/listen?key=secret", Status: 200, Latency: 820*time.Millisecond + 1,
		Error: "cut\x00 here", User: "ann", IP: "::FFFF:10.0.0.1", Tags: tags,
	}
	at := time.Date(2026, 3, 31, 18, 29, 0, 1_000, time.UTC)
	want := &draft{
		record: store.Record{
			TenantID: "acme", ID: "dg-1", Provider: "deepgram", Model: "nova-3", At: at, AtGiven: true,
			Lines:      []store.Line{billed(AudioTime, 90_000), billed(Requests, 1), counted(Characters, 5)},
			Conditions: "codec=opus;mode=live", Endpoint: "https://api.example.com/v1/listen", Status: 200,
			Latency: 820 * time.Millisecond, Error: "cut  here", User: "ann", IP: "10.0.0.1",
			Tags: map[string]string{"team": "search"}, HoldID: "res-1",
		},
		query: PriceQuery{
			Provider: "deepgram", Model: "nova-3", At: at, Conditions: Conditions{"mode": "live", "codec": "opus"},
		},
	}
	got, err := call.draft()
	if err != nil {
		t.Fatal(err)
	}
	tags["team"], call.Conditions["mode"] = "changed", "changed" // the host's maps are its own
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(draft{})); diff != "" {
		t.Errorf("draft (-want +got):\n%s", diff)
	}
}

func TestUnknownUsageIsUnpriced(t *testing.T) {
	t.Parallel()
	d, err := OpenAICall{TenantID: "acme", Model: "gpt-4", UsageUnknown: "the stream\nwas cut"}.draft()
	if err != nil {
		t.Fatal(err)
	}
	if d.record.Unpriced != "the stream was cut" || len(d.record.Lines) != 0 {
		t.Errorf("unpriced %q with lines %v", d.record.Unpriced, d.record.Lines)
	}
}

func TestAddressesHaveOneForm(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "192.0.2.1": "192.0.2.1", "2001:DB8:0:0::1": "2001:db8::1", "::ffff:192.0.2.1": "192.0.2.1",
		"fe80::1%eth0": "fe80::1",
	} {
		var f faults
		if got := f.ip("IP", in); got != want || f != nil {
			t.Errorf("%q is %q (%v), want %q", in, got, f, want)
		}
	}
}

func TestFreeTextIsNeverRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, in, want string }{
		{"clean text stays", "größer", "größer"},
		{"control characters become spaces", "a\r\n\x00b\u0085", "a   b "},
		{"invalid bytes are replaced", "a\xff\xfeb", "a��b"},
		{"it is cut between characters", strings.Repeat("é", 600), strings.Repeat("é", 512)},
		{"it is cut before a character that does not fit", "x" + strings.Repeat("é", 600), "x" + strings.Repeat("é", 511)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := freeText(tt.in, maxErrorText); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzFreeText(f *testing.F) {
	f.Add("plain", 10)
	f.Add("\xff\x00é", 3)
	f.Fuzz(func(t *testing.T, in string, limit int) {
		limit = max(0, limit%maxErrorText)
		got := freeText(in, limit)
		if len(got) > limit || !isClean(got) {
			t.Errorf("freeText(%q, %d) is %q", in, limit, got)
		}
		if again := freeText(got, limit); again != got {
			t.Errorf("%q is cleaned again to %q", got, again)
		}
	})
}

func TestAStartedMillisecondCounts(t *testing.T) {
	t.Parallel()
	for in, want := range map[time.Duration]int64{
		0: 0, 1: 1, time.Millisecond: 1, time.Millisecond + 1: 2, 15500 * time.Millisecond: 15_500, 1<<63 - 1: 9_223_372_036_855,
	} {
		if got := milliseconds(in); got != want {
			t.Errorf("%v is %d ms, want %d", in, got, want)
		}
	}
}

func TestFaultsQuoteLittle(t *testing.T) {
	t.Parallel()
	secret := "sk-" + strings.Repeat("s", 4000)
	_, err := OpenAICall{
		TenantID: secret, ID: secret + "\n", Model: secret, ServiceTier: secret, User: secret, IP: secret,
		Endpoint: secret, ReservationID: secret, InputTokens: -1,
	}.draft()
	wantFaults(t, err, "TenantID", "ID", "Model", "ReservationID", "Endpoint", "User", "IP", "InputTokens", "ServiceTier")
	if strings.Contains(err.Error(), "sk-") {
		t.Errorf("the error repeats a value: %v", err)
	}
	_, err = Call{TenantID: "a", Provider: "p", Quantities: Quantities{Meter(secret): 1}}.draft()
	if len(err.Error()) > 300 {
		t.Errorf("the error is %d bytes long", len(err.Error()))
	}
}

func TestQuoteCutsBetweenCharacters(t *testing.T) {
	t.Parallel()
	if got, want := quote("x"+strings.Repeat("é", 40)), `"x`+strings.Repeat("é", 31)+`"…`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := quote(strings.Repeat("\x80", 100)); len(got) > 4*maxQuoted+len(`""…`) {
		t.Errorf("got %s", got)
	}
}

func TestConditionsRoundTrip(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text       string
		conditions Conditions
	}{
		{"", nil},
		{"batch=true", Conditions{Batch: "true"}},
		{"batch=true;service_tier=flex", Conditions{ServiceTier: "flex", Batch: "true"}},
	} {
		if got := conditionText(tt.conditions); got != tt.text {
			t.Errorf("%v is %q, want %q", maps.Clone(tt.conditions), got, tt.text)
		}
		if diff := cmp.Diff(tt.conditions, parseConditions(tt.text)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.text, diff)
		}
	}
	if got := parseConditions("torn;=x;a="); len(slices.Collect(maps.Keys(got))) != 1 {
		t.Errorf("torn text is %v", got)
	}
}

// What is clean is said of each character alone; eight are looked at together.
func TestCleanTextIsSoAtEveryPlace(t *testing.T) {
	t.Parallel()
	for b := range 256 {
		for length := range 19 {
			for at := range length {
				text := []byte(strings.Repeat("~ ", 10)[:length])
				text[at] = byte(b)
				if got, want := isClean(string(text)), b >= ' ' && b < 0x7f; got != want {
					t.Fatalf("%q is clean: %v", text, got)
				}
			}
		}
	}
	for text, want := range map[string]bool{"12345678é": true, "1234567é ": true, "12345678\u0085": false, "éééé\x01": false} {
		if isClean(text) != want {
			t.Errorf("%q is clean: %v", text, !want)
		}
	}
}
