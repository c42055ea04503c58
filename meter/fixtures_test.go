package meter_test

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/meter"
	"github.com/acf68eca/usage/prices"
	storesqlite "github.com/acf68eca/usage/store_sqlite"
)

// A manifest lists payloads of providers, what usage they carry, and what that costs to the last digit.
type manifest struct {
	Cases []fixture `json:"cases"`
}

type fixture struct {
	ID, Provider, File, Kind, Headers string
	OccurredAt                        time.Time `json:"occurred_at"`
	Request                           struct {
		Model, URL, Method, Path string
		Body                     json.RawMessage
	}
	Expect expectation
}

type expectation struct {
	ModelReturned string                 `json:"model_returned"`
	Model         string                 `json:"model"`
	ObjectID      string                 `json:"provider_request_object_id"`
	RequestID     string                 `json:"provider_request_id"`
	Meters        map[string]json.Number `json:"meters"`
	TotalInput    *int64                 `json:"total_input"`
	ServiceTier   *string                `json:"service_tier"`
	Outcome       string
	ErrorCode     string `json:"error_code"`
	Reason        string
	PriceModel    string `json:"price_model"`
	Conditions    []string
	Lines         []struct {
		Meter    string
		PricedAs string `json:"priced_as"`
		Quantity json.Number
		Cost     json.Number `json:"cost_usd"`
	}
	Cost                    json.Number            `json:"cost_usd"`
	PlanCost                json.Number            `json:"cost_usd_by_credits_scale_plan"`
	Totals                  map[string]json.Number `json:"totals"`
	CallID                  string                 `json:"call_id"`
	UUID, Status, Direction string
	AnsweredSeconds         *int64    `json:"answered_seconds"`
	BilledSeconds           *int64    `json:"billed_seconds"`
	PulseSeconds            int64     `json:"pulse_seconds"`
	StartUTC                time.Time `json:"start_utc"`
}

// The fixtures are those of testdata, or of the folder that USAGE_FIXTURES names.
func TestFixtures(t *testing.T) {
	t.Parallel()
	dir := cmp.Or(os.Getenv("USAGE_FIXTURES"), filepath.Join("testdata", "fixtures"))
	encoded, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m manifest
	if err := json.Unmarshal(encoded, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Cases) == 0 {
		t.Fatal("the manifest has no cases")
	}
	book := fixtureBook(t)
	for _, c := range m.Cases {
		t.Run(c.ID, func(t *testing.T) {
			t.Parallel()
			r := runner{t: t, dir: dir, c: c, book: book}
			r.run()
		})
	}
}

// fixtureBook is the default book with Smartflo's rates of an example, which Smartflo publishes none of.
func fixtureBook(t *testing.T) *usage.PriceBook {
	t.Helper()
	rows, err := prices.Load(os.DirFS(filepath.Join("..", "prices", "testdata")))
	if err != nil {
		t.Fatal(err)
	}
	var rates []usage.Price
	for _, row := range rows {
		pulse, err := time.ParseDuration(row.Conditions["pulse_seconds"] + "s")
		if err != nil {
			t.Fatal(err)
		}
		rates = append(rates, usage.Price{
			Provider: row.Provider, Meter: usage.CallTime, Amount: row.Amount, Per: row.Per * usage.PerMinute,
			RoundUpTo: pulse.Milliseconds(), Conditions: usage.Conditions{usage.Direction: row.Conditions["direction"]},
			From: row.From, Until: row.Until,
		})
	}
	book, err := usage.DefaultPrices().With(rates...)
	if err != nil {
		t.Fatal(err)
	}
	return book
}

type runner struct {
	t    *testing.T
	dir  string
	c    fixture
	book *usage.PriceBook
	plan string
}

func (r *runner) run() {
	r.t.Helper()
	is := func(words ...string) bool {
		return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(r.c.Kind, word) })
	}
	switch {
	case r.c.Provider == usage.Smartflo:
		r.smartflo()
	case is("report", "subscription", "stats"):
		r.report()
	case is("batch"):
		r.batch()
	case is("realtime"):
		r.realtime()
	case is("convai", "conversation", "agent"):
		r.conversation()
	case is("ws", "websocket"):
		r.socket()
	default:
		r.exchange()
	}
}

func (r *runner) read(name string) []byte {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, filepath.FromSlash(name)))
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// exchange sends the case through a Transport, with a provider in between that answers as the file says.
func (r *runner) exchange() {
	r.t.Helper()
	status, header, response, request := r.wire()
	base := roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.Body != nil {
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return nil, err
			}
		}
		return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(bytes.NewReader(response)), Request: req}, nil
	})
	tracker, records := r.tracker()
	transport, err := meter.NewTransport(tracker, meter.Config{
		TenantID: "acme", Base: base, ElevenLabsPlan: r.plan, Now: func() time.Time { return r.c.OccurredAt },
		OnError: func(e *meter.LogError) { r.t.Error(e) },
	})
	if err != nil {
		r.t.Fatal(err)
	}
	res, err := transport.RoundTrip(request)
	if err != nil {
		r.t.Fatal(err)
	}
	got, err := io.ReadAll(res.Body)
	if err != nil || !bytes.Equal(got, response) {
		r.t.Errorf("the response is not what was sent: %v", err)
	}
	if err := errors.Join(res.Body.Close(), transport.Flush(r.t.Context())); err != nil {
		r.t.Fatal(err)
	}
	if all := records(); len(all) != 1 {
		r.t.Fatalf("%d records", len(all))
	} else {
		r.check(all[0])
	}
}

// wire returns what goes over the wire in a case. A file of a request has no response but its head.
func (r *runner) wire() (status int, header http.Header, response []byte, request *http.Request) {
	r.t.Helper()
	file := r.read(r.c.File)
	status, header = http.StatusOK, http.Header{}
	if r.c.Headers != "" {
		status, header = r.head(r.read(r.c.Headers))
	}
	method, address, body := r.request()
	if strings.Contains(r.c.File, "_request.") {
		var asked struct {
			Method, Path string
			Body         json.RawMessage
		}
		if err := json.Unmarshal(file, &asked); err != nil {
			r.t.Fatal(err)
		}
		if asked.Path != "" {
			address, body = "https://api.elevenlabs.io"+asked.Path, asked.Body
		} else {
			body = file
		}
	} else {
		response = file
	}
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/json")
		if strings.HasSuffix(r.c.File, ".sse") {
			header.Set("Content-Type", "text/event-stream; charset=utf-8")
		}
	}
	if strings.Contains(r.c.Kind, "error") && status < 400 {
		status = http.StatusTooManyRequests
	}
	request, err := http.NewRequest(method, address, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	return status, header, response, request
}

func (r *runner) head(b []byte) (status int, header http.Header) {
	r.t.Helper()
	lines := textproto.NewReader(bufio.NewReader(bytes.NewReader(b)))
	first, err := lines.ReadLine()
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := fmt.Sscanf(first, "HTTP/2 %d", &status); err != nil {
		if _, err := fmt.Sscanf(first, "HTTP/1.1 %d", &status); err != nil {
			r.t.Fatal(err)
		}
	}
	fields, err := lines.ReadMIMEHeader()
	if err != nil {
		r.t.Fatal(err)
	}
	return status, http.Header(fields)
}

// request returns what was asked for: what the manifest says, and what the kind stands for.
func (r *runner) request() (method, address string, body []byte) {
	paths := []struct{ word, path string }{
		{"chat", "/v1/chat/completions"}, {"responses", "/v1/responses"}, {"completion", "/v1/completions"},
		{"embedding", "/v1/embeddings"}, {"transcri", "/v1/audio/transcriptions"}, {"translat", "/v1/audio/translations"},
		{"image", "/v1/images/generations"}, {"tts", "/v1/audio/speech"}, {"speech", "/v1/audio/speech"},
		{"error", "/v1/chat/completions"},
	}
	host := "https://api.openai.com"
	if r.c.Provider == usage.ElevenLabs {
		host = "https://api.elevenlabs.io"
		paths = []struct{ word, path string }{
			{"stt", "/v1/speech-to-text"}, {"transcri", "/v1/speech-to-text"}, {"sfx", "/v1/sound-generation"},
			{"sound", "/v1/sound-generation"}, {"music", "/v1/music"}, {"dub", "/v1/dubbing"},
			{"timestamps", "/v1/text-to-speech/voice/with-timestamps"}, {"tts", "/v1/text-to-speech/voice"},
			{"error", "/v1/text-to-speech/voice"},
		}
	}
	i := slices.IndexFunc(paths, func(p struct{ word, path string }) bool { return strings.Contains(r.c.Kind, p.word) })
	if i < 0 {
		r.t.Fatalf("no way to run a case of kind %q", r.c.Kind)
	}
	address = cmp.Or(r.c.Request.URL, host+cmp.Or(r.c.Request.Path, paths[i].path))
	asked := map[string]any{"stream": strings.Contains(r.c.Kind, "sse")}
	if r.c.Request.Model != "" {
		asked["model"], asked["model_id"] = r.c.Request.Model, r.c.Request.Model
	}
	body, err := json.Marshal(asked)
	if err != nil {
		r.t.Fatal(err)
	}
	if len(r.c.Request.Body) > 0 {
		body = r.c.Request.Body
	}
	return cmp.Or(r.c.Request.Method, http.MethodPost), address, body
}

// tracker returns one on an empty ledger, and what reads it.
func (r *runner) tracker() (*usage.Tracker, func() []usage.Record) {
	return newTracker(r.t, usage.Config{Prices: r.book, Now: func() time.Time { return r.c.OccurredAt }})
}

func newTracker(t testing.TB, cfg usage.Config) (*usage.Tracker, func() []usage.Record) {
	t.Helper()
	st, err := storesqlite.Open(t.Context(), ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	cfg.CommitTimeout = 5 * time.Minute // a machine that is busy with other things makes no record fail
	tracker, err := usage.New(st, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tracker, func() (all []usage.Record) {
		t.Helper()
		for record, err := range tracker.Records(t.Context(), usage.RecordFilter{TenantID: "acme"}) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, record)
		}
		return all
	}
}

// check compares a record with what the case expects.
func (r *runner) check(rec usage.Record) {
	r.t.Helper()
	want := r.c.Expect
	if got := outcomeOf(rec); got != want.Outcome {
		r.t.Errorf("outcome %s (%s), want %s", got, rec.Unpriced, want.Outcome)
	}
	r.same("model", rec.Model, cmp.Or(want.ModelReturned, want.Model))
	r.same("id", rec.ID, cmp.Or(want.ObjectID, want.RequestID))
	if want.ServiceTier != nil {
		got := rec.Conditions[usage.ServiceTier]
		r.equal("service tier", got, *want.ServiceTier)
	}
	switch want.Outcome {
	case "no_price":
		r.same("reason", rec.Unpriced, want.Reason)
	case "api_error":
		r.same("error", rec.Error, want.ErrorCode)
	}
	r.checkMeters(rec)
	r.checkLines(rec)
	r.checkPriceModel(rec)
	if want.Cost != "" {
		r.equal("cost", rec.Cost.String(), decimalOf(r.t, want.Cost).String())
	}
	if want.PlanCost != "" && r.plan == "" {
		r.checkPlan()
	}
}

// same compares what the case says something about.
func (r *runner) same(what, got, want string) {
	r.t.Helper()
	if want != "" {
		r.equal(what, got, want)
	}
}

func (r *runner) equal(what, got, want string) {
	r.t.Helper()
	if got != want {
		r.t.Errorf("%s is %q, want %q", what, got, want)
	}
}

func outcomeOf(rec usage.Record) string {
	switch {
	case rec.Unpriced == "" && rec.Status >= 400:
		return "api_error"
	case rec.Unpriced == "":
		return "ok"
	case rec.Unpriced == meter.UsageMissing:
		return "usage_missing"
	case rec.Unpriced == meter.UsageCut:
		return "truncated"
	case rec.Unpriced == meter.UsageMalformed:
		return "malformed"
	case strings.HasPrefix(rec.Unpriced, meter.UsageInvalid):
		return "invalid_usage"
	}
	return "no_price"
}

func decimalOf(t *testing.T, n json.Number) decimal.Decimal {
	t.Helper()
	d, err := decimal.NewFromString(n.String())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// meterOf is the ledger's name and unit for a meter of the manifest. Those that nobody charges by are none.
func meterOf(name string) (usage.Meter, int64, bool) {
	switch name {
	case "input_characters":
		return usage.Characters, 1, true
	case "credits_header", "credits":
		return usage.Credits, 1, true
	case "audio_duration", "audio_seconds":
		return usage.AudioTime, 1000, true
	case "call_duration", "call_seconds", "billable_duration":
		return usage.CallTime, 1000, true
	case "generation", "generations":
		return usage.Generations, 1, true
	case "image", "images":
		return usage.Images, 1, true
	case "tool_web_search_calls":
		return usage.WebSearches, 1, true
	case "tool_file_search_calls":
		return usage.FileSearches, 1, true
	case "reasoning", "output_reasoning":
		return usage.ReasoningTokens, 1, true
	case "utf8_bytes", "utf16_units":
		return "", 0, false
	}
	return usage.Meter(strings.TrimSuffix(name, "_tokens") + "_tokens"), 1, true
}

func (r *runner) checkMeters(rec usage.Record) {
	r.t.Helper()
	if r.c.Expect.Meters == nil {
		return
	}
	got := map[usage.Meter]string{}
	for _, line := range rec.Lines {
		got[line.Meter] = fmt.Sprint(line.Quantity)
	}
	for m, n := range rec.Unbilled {
		got[m] = fmt.Sprint(n)
	}
	want := map[usage.Meter]string{}
	for name, n := range r.c.Expect.Meters {
		if m, unit, ok := meterOf(name); ok {
			want[m] = decimalOf(r.t, n).Mul(decimal.NewFromInt(unit)).String()
		}
	}
	maps.DeleteFunc(want, func(_ usage.Meter, n string) bool { return n == "0" })
	if _, said := want[usage.ReasoningTokens]; !said {
		delete(got, usage.ReasoningTokens)
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		r.t.Errorf("meters (-want +got):\n%s", diff)
	}
	if total := r.c.Expect.TotalInput; total != nil {
		var sum int64
		for _, line := range rec.Lines {
			if strings.HasPrefix(string(line.Meter), "input_") && strings.HasSuffix(string(line.Meter), "_tokens") {
				sum += line.Quantity
			}
		}
		r.equal("total input", fmt.Sprint(sum), fmt.Sprint(*total))
	}
}

func (r *runner) checkLines(rec usage.Record) {
	r.t.Helper()
	if r.c.Expect.Lines == nil {
		return
	}
	want, got := map[usage.Meter]string{}, map[usage.Meter]string{}
	for _, line := range r.c.Expect.Lines {
		m, unit, _ := meterOf(line.Meter)
		want[m] = decimalOf(r.t, line.Quantity).Mul(decimal.NewFromInt(unit)).String() + " cost " + decimalOf(r.t, line.Cost).String()
	}
	for _, line := range rec.Lines {
		got[line.Meter] = fmt.Sprint(line.Quantity, " cost ", line.Cost.String())
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		r.t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// checkPriceModel wants the entry of the price book that the record was priced by, and the conditions under which.
func (r *runner) checkPriceModel(rec usage.Record) {
	r.t.Helper()
	if r.c.Expect.PriceModel == "" {
		return
	}
	entry, _ := r.book.Model(rec.Provider, rec.Model)
	r.equal("price model", strings.TrimSuffix(entry, ":*"), r.c.Expect.PriceModel)
	if want := r.c.Expect.Conditions; want != nil {
		if diff := gocmp.Diff(append([]string{}, slices.Sorted(slices.Values(want))...), r.conditions(rec, entry)); diff != "" {
			r.t.Errorf("conditions (-want +got):\n%s", diff)
		}
	}
}

// conditions are those of the prices that the record was charged by, as the manifest writes them.
func (r *runner) conditions(rec usage.Record, entry string) []string {
	conditions := []string{}
	for key, value := range rec.Conditions {
		switch {
		case key == usage.Batch:
			conditions = append(conditions, "batch")
		case key != usage.ServiceTier || value != "default" && value != "auto":
			conditions = append(conditions, key+"="+value)
		}
	}
	var prompt, above int64
	for _, line := range rec.Lines {
		if strings.HasPrefix(string(line.Meter), "input_") {
			prompt += line.Quantity
		}
	}
	for p := range r.book.Prices() {
		if p.Provider == rec.Provider && p.Model == entry && p.AboveInputTokens < prompt {
			above = max(above, p.AboveInputTokens)
		}
	}
	if above > 0 {
		conditions = append(conditions, fmt.Sprintf("input_tokens>%d", above))
	}
	slices.Sort(conditions)
	return conditions
}

// checkPlan runs the case again for a subscriber, who is charged what the header says.
func (r *runner) checkPlan() {
	r.t.Helper()
	again := *r
	again.plan = "scale"
	again.c.Expect.Cost, again.c.Expect.Lines = r.c.Expect.PlanCost, nil
	again.exchange()
}

func (r *runner) report() {
	r.t.Helper()
	r.equal("outcome", "not_billable_report", r.c.Expect.Outcome)
	file, got := r.read(r.c.File), map[string]string{}
	if stats, err := meter.ParseCharacterStats(file); err == nil && len(stats) > 0 {
		for label, n := range stats {
			got[label] = n.String()
		}
	} else {
		s, err := meter.ParseSubscription(file)
		if err != nil {
			r.t.Fatal(err)
		}
		got["character_count"], got["character_limit"] = fmt.Sprint(s.CharacterCount), fmt.Sprint(s.CharacterLimit)
	}
	want := map[string]string{}
	for label, n := range r.c.Expect.Totals {
		want[label] = n.String()
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		r.t.Errorf("totals (-want +got):\n%s", diff)
	}
}

// batch logs all lines of a file and compares them together.
func (r *runner) batch() {
	r.t.Helper()
	tracker, records := r.tracker()
	for line, err := range meter.ParseBatch(bytes.NewReader(r.read(r.c.File))) {
		if err != nil {
			r.t.Fatal(err)
		}
		line.Call.TenantID = "acme"
		if _, err := tracker.LogOpenAI(r.t.Context(), line.Call); err != nil {
			r.t.Fatal(err)
		}
	}
	sum := records()
	if len(sum) == 1 {
		r.check(sum[0])
		return
	}
	var cost decimal.Decimal
	for _, rec := range sum {
		cost = cost.Add(rec.Cost)
	}
	if r.c.Expect.Cost != "" {
		r.equal("cost", cost.String(), decimalOf(r.t, r.c.Expect.Cost).String())
	}
}

func (r *runner) realtime() {
	r.t.Helper()
	for line := range bytes.Lines(r.compact(r.read(r.c.File))) {
		if call, ok := meter.ParseRealtime(cmp.Or(r.c.Request.Model, r.c.Expect.ModelReturned), line); ok {
			r.log(call)
		}
	}
}

// compact puts a document that is one on one line.
func (r *runner) compact(file []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, file) != nil {
		return file
	}
	return b.Bytes()
}

func (r *runner) log(call usage.OpenAICall) {
	r.t.Helper()
	tracker, _ := r.tracker()
	call.TenantID = "acme"
	rec, err := tracker.LogOpenAI(r.t.Context(), call)
	if err != nil {
		r.t.Fatal(err)
	}
	r.check(rec)
}

func (r *runner) conversation() {
	r.t.Helper()
	call, err := meter.ParseElevenLabsConversation(bytes.NewReader(r.read(r.c.File)))
	if err != nil {
		r.t.Fatal(err)
	}
	r.logElevenLabs(call)
}

func (r *runner) logElevenLabs(call usage.ElevenLabsCall) {
	r.t.Helper()
	tracker, _ := r.tracker()
	call.TenantID = "acme"
	rec, err := tracker.LogElevenLabs(r.t.Context(), call)
	if err != nil {
		r.t.Fatal(err)
	}
	r.check(rec)
}

// socket counts the frames of a capture of a websocket.
func (r *runner) socket() {
	r.t.Helper()
	var socket meter.ElevenLabsSocket
	address := new(url.URL)
	for line := range bytes.Lines(r.read(r.c.File)) {
		var captured struct {
			Dir, URL string
			Frame    json.RawMessage
		}
		if err := json.Unmarshal(line, &captured); err != nil {
			r.t.Fatal(err)
		}
		switch {
		case captured.URL != "":
			var err error
			if address, err = url.Parse(captured.URL); err != nil {
				r.t.Fatal(err)
			}
		case captured.Dir == "send":
			socket.Sent(captured.Frame)
		}
	}
	r.logElevenLabs(socket.Call(address))
}

// smartflo runs a webhook, or a page of call records.
func (r *runner) smartflo() {
	r.t.Helper()
	file := r.read(r.c.File)
	var found []meter.SmartfloEvent
	if event, err := meter.ParseSmartfloWebhook(formType(r.c), file); err == nil && event.CallID() != "" || !strings.Contains(string(file), `"results"`) {
		if err != nil {
			r.t.Fatal(err)
		}
		found = append(found, event)
	} else {
		for event, err := range meter.ParseSmartfloPage(bytes.NewReader(file)) {
			if err != nil {
				r.t.Fatal(err)
			}
			found = append(found, event)
		}
	}
	var cost decimal.Decimal
	for _, event := range found {
		cost = cost.Add(r.telephone(event))
	}
	if r.c.Expect.Cost != "" {
		r.equal("cost", cost.String(), decimalOf(r.t, r.c.Expect.Cost).String())
	}
}

func formType(c fixture) string {
	if strings.Contains(c.Kind, "form") || strings.HasSuffix(c.File, ".form") || strings.HasSuffix(c.File, ".txt") {
		return "application/x-www-form-urlencoded"
	}
	return "application/json"
}

func (r *runner) telephone(event meter.SmartfloEvent) decimal.Decimal {
	r.t.Helper()
	want := r.c.Expect
	if !event.IsHangup() {
		r.equal("outcome", "not_billable_report", want.Outcome)
		return decimal.Decimal{}
	}
	call, err := event.Call()
	if err != nil {
		r.equal("outcome", "malformed", want.Outcome)
		if !errors.Is(err, meter.ErrMalformed) || !strings.Contains(err.Error(), want.Reason) {
			r.t.Errorf("error %v, want one of %q", err, want.Reason)
		}
		return decimal.Decimal{}
	}
	tracker, _ := r.tracker()
	call.TenantID = "acme"
	rec, err := tracker.LogSmartflo(r.t.Context(), call)
	if err != nil {
		r.t.Fatal(err)
	}
	r.equal("outcome", outcomeOf(rec), want.Outcome)
	r.same("call id", rec.ID, want.CallID)
	r.same("uuid", event.Field("uuid"), want.UUID)
	r.same("status", event.Field("status"), want.Status)
	r.same("direction", rec.Conditions[usage.Direction], want.Direction)
	if want.AnsweredSeconds != nil {
		r.equal("answered", call.Duration.String(), (time.Duration(*want.AnsweredSeconds) * time.Second).String())
	}
	if !want.StartUTC.IsZero() {
		r.equal("start", rec.At.String(), want.StartUTC.UTC().String())
	}
	for _, line := range rec.Lines {
		pulse := line.Rate.RoundUpTo
		billed := (line.Quantity + pulse - 1) / pulse * pulse
		r.equal("pulse", fmt.Sprint(pulse/1000), fmt.Sprint(want.PulseSeconds))
		if want.BilledSeconds != nil {
			r.equal("billed", fmt.Sprint(billed/1000), fmt.Sprint(*want.BilledSeconds))
		}
	}
	return rec.Cost
}

// roundTripper is a function as a transport.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
