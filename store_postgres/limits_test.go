package storepostgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/shopspring/decimal"

	"github.com/acf68eca/usage"
	"github.com/acf68eca/usage/internal/proctest"
	"github.com/acf68eca/usage/store"
	storepostgres "github.com/acf68eca/usage/store_postgres"
)

const (
	spenders = "spenders" // the tenant
	// A reservation takes so many tokens at 2.50 dollars for a million, and its call uses fewer.
	reservedTokens, usedTokens = 1000, 100
	// spenderLimit is the hard limit: room for 2,000 calls, and for 200 reservations at once.
	spenderLimit = "0.5"
	holdsLast    = time.Minute
)

// Amounts of the history, in what a hundred tokens cost.
const (
	reservedUnits = reservedTokens / usedTokens
	limitUnits    = 2000
)

// killed is how many processes of a test are killed in the middle of it: the first ones, which go on until then.
const killed = 4

func spenderEstimate(id string) usage.Estimate {
	return usage.Estimate{
		TenantID: spenders, ID: id, Provider: usage.OpenAI, Model: "gpt-4o-2024-08-06", InputTokens: reservedTokens, ExpiresIn: holdsLast,
	}
}

func spenderCall(id string) usage.OpenAICall {
	return usage.OpenAICall{
		TenantID: spenders, ID: "call-" + id, Model: "gpt-4o-2024-08-06", InputTokens: usedTokens, Status: 200, ReservationID: id,
	}
}

// playSpender reserves and settles until there is no room several times in a row, or it is killed. It says what it does before
// it does it and what became of it, with the time, so that the history can be checked; some reservations it releases.
func playSpender(ctx context.Context, tracker *usage.Tracker, number int) error {
	var mu sync.Mutex
	refused := 0
	full := func(is bool) bool {
		mu.Lock()
		defer mu.Unlock()
		if refused++; !is {
			refused = 0
		}
		return refused > 20
	}
	return byGoroutines(2, 100_000, func(i int) error {
		if mu.Lock(); refused > 20 && number > killed {
			mu.Unlock()
			return nil
		}
		mu.Unlock()
		id := fmt.Sprintf("%d-%d", number, i)
		proctest.Say("begin reserve %s %d", id, time.Now().UnixNano())
		reservation, err := tracker.Reserve(ctx, spenderEstimate(id))
		if errors.Is(err, usage.ErrQuotaExceeded) {
			proctest.Say("end reserve %s %d full", id, time.Now().UnixNano())
			full(true)
			return nil
		}
		if err != nil {
			return err
		}
		proctest.Say("end reserve %s %d ok", id, time.Now().UnixNano())
		full(false)
		if i%10 == 0 {
			proctest.Say("begin release %s %d", id, time.Now().UnixNano())
			if err := reservation.Release(ctx); err != nil {
				return err
			}
			proctest.Say("end release %s %d ok", id, time.Now().UnixNano())
			return nil
		}
		proctest.Say("begin settle %s %d", id, time.Now().UnixNano())
		record, err := tracker.LogOpenAI(ctx, spenderCall(id))
		if err != nil {
			return err
		}
		proctest.Say("end settle %s %d %s", id, time.Now().UnixNano(), record.Settlement)
		return nil
	})
}

// operation is what a process did or tried.
type operation struct {
	kind, id string
	number   int
	from, to int64
	result   string // empty when the process did not live to tell
}

// history collects what processes say. It is safe for concurrent use.
type history struct {
	mu         sync.Mutex
	operations map[string]*operation
	died       map[int]int64 // when a process was gone for the server too
}

func newHistory() *history {
	return &history{operations: make(map[string]*operation), died: make(map[int]int64)}
}

// follow notes what a process says until it ends. It kills the process when it has said so many lines, unless that is 0.
func (h *history) follow(t testing.TB, dsn, schema string, p *proctest.Process, number, lines int) {
	t.Helper()
	for n := 0; lines == 0 || n < lines; n++ {
		line, ok := p.Next()
		if !ok {
			break
		}
		h.note(t, number, line)
	}
	rest := p.End
	if lines > 0 {
		rest = p.Kill
	}
	for _, line := range rest() {
		h.note(t, number, line)
	}
	gone(t, dsn, schema, number+1)
	h.dead(number)
}

func (h *history) note(t testing.TB, number int, line string) {
	words := strings.Fields(line)
	if len(words) < 4 {
		return // of a process that was killed while it wrote
	}
	at, err := strconv.ParseInt(words[3], 10, 64)
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	key := words[1] + " " + words[2]
	switch {
	case words[0] == "begin":
		h.operations[key] = &operation{kind: words[1], id: words[2], number: number, from: at}
	case len(words) == 5:
		h.operations[key].to, h.operations[key].result = at, words[4]
	default:
		t.Logf("not understood: %s", line)
	}
}

func (h *history) dead(number int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.died[number] = time.Now().UnixNano()
}

// spending is the model: how much of the limit is taken, as used or held. It is nondeterministic in what a process that
// was killed did not tell.
func spending(taken int) porcupine.Model {
	step := func(state, input, output any) []any {
		taken, kind, result := state.(int), input.(string), output.(string)
		after := map[string]int{
			"reserve": taken + reservedUnits, "release": taken - reservedUnits, "settle": taken - reservedUnits + 1,
		}[kind]
		fits := kind != "reserve" || after <= limitUnits
		switch {
		case result == "" && fits:
			return []any{taken, after}
		case result == "" || result == "full" && !fits:
			return []any{taken}
		case result != "full" && fits:
			return []any{after}
		}
		return nil
	}
	model := porcupine.NondeterministicModel{
		Init: func() []any { return []any{taken} }, Step: step, Equal: func(a, b any) bool { return a == b },
	}
	return model.ToModel()
}

// linearizable checks that the operations can be put into an order that a single thread could have made, when so much is taken
// before.
func (h *history) linearizable(t testing.TB, taken int) {
	t.Helper()
	var operations []porcupine.Operation
	for _, o := range h.operations {
		if o.result == "" {
			o.to = h.died[o.number] // it may have come into effect at any time until then
		}
		operations = append(operations, porcupine.Operation{
			ClientId: o.number, Input: o.kind, Call: o.from, Output: o.result, Return: o.to,
		})
	}
	if result := porcupine.CheckOperationsTimeout(spending(taken), operations, proctest.Limit); result != porcupine.Ok {
		t.Errorf("the history of %d operations is %s", len(operations), result)
	}
	t.Logf("%d operations", len(operations))
}

// Eight processes reserve and settle under one hard limit, and half of them are killed in the middle of it.
func TestProcessesNeverPassAHardLimitTogether(t *testing.T) {
	t.Parallel()
	for _, others := range []int{0, 100} { // so many that they are read by the difference
		t.Run(fmt.Sprintf("beside %d live reservations", others), func(t *testing.T) {
			t.Parallel()
			spendTogether(t, others)
		})
	}
}

func spendTogether(t *testing.T, others int) {
	t.Helper()
	const processes = 8
	room := limitUnits - others*reservedUnits
	dsn, schema := storepostgres.Schema(t)
	tracker := newTracker(t, dsn, schema, crashClock)
	limit := decimal.RequireFromString(spenderLimit)
	err := tracker.SetQuota(t.Context(), usage.Quota{
		TenantID: spenders, Limits: []usage.Limit{{Meter: usage.Cost, Max: limit}}, AlertPercents: []int{50, 100},
	})
	if err != nil {
		t.Fatal(err)
	}
	for range others {
		if _, err := tracker.Reserve(t.Context(), spenderEstimate("")); err != nil {
			t.Fatal(err)
		}
	}
	running := make([]*proctest.Process, processes)
	for i := range running {
		running[i] = start(t, "spender", dsn, schema, i+1)
	}
	stop, observed := make(chan struct{}), make(chan error, 1)
	go func() { observed <- watchLimit(t.Context(), tracker, limit, stop) }()
	h := newHistory()
	var wg sync.WaitGroup
	for i, p := range running {
		p.Begin()
		lines := 0
		if i < killed {
			lines = room/10*(1+i) + rand.IntN(room/20)
		}
		wg.Go(func() { h.follow(t, dsn, schema, p, i, lines) })
	}
	wg.Wait()
	close(stop)
	if err := <-observed; err != nil {
		t.Error(err)
	}
	h.linearizable(t, limitUnits-room)
	h.kept(t, tracker)
	usableAfterExpiry(t, newTracker(t, dsn, schema, func() time.Time { return crashClock().Add(holdsLast) }), limit)
	noDeadlocks(t, dsn)
}

// kept checks that what was acknowledged is there, once, and that nothing is there that nobody asked for.
func (h *history) kept(t testing.TB, tracker *usage.Tracker) {
	t.Helper()
	ids := ledgerIDs(t, tracker)
	for _, o := range h.operations {
		key := spenders + " call-" + o.id
		if o.kind != "settle" {
			continue
		}
		if ids[key] > 1 || o.result != "" && ids[key] != 1 || o.result != "" && o.result != string(store.Settled) {
			t.Errorf("%s settled as %q and in the ledger %d times", o.id, o.result, ids[key])
		}
		delete(ids, key)
	}
	if len(ids) > 0 {
		t.Errorf("calls that nobody made: %v", ids)
	}
}

func standOf(ctx context.Context, tracker *usage.Tracker) (usage.LimitUsage, error) {
	current, err := tracker.GetCurrentUsage(ctx, spenders)
	if err != nil {
		return usage.LimitUsage{}, err
	}
	return current.Limits[0], nil
}

// watchLimit looks all the time whether the limit is passed.
func watchLimit(ctx context.Context, tracker *usage.Tracker, limit decimal.Decimal, stop <-chan struct{}) error {
	for looks := 0; ; looks++ {
		now, err := standOf(ctx, tracker)
		if err != nil {
			return err
		}
		if sum := now.Used.Add(now.Held); sum.GreaterThan(limit) {
			return fmt.Errorf("used %s and held %s passed %s", now.Used, now.Held, limit)
		}
		select {
		case <-stop:
			if looks < 10 {
				return errors.New("hardly anything was observed")
			}
			return nil
		default:
		}
	}
}

// usableAfterExpiry checks that nothing is held any more, and takes the room that is left, to within one estimate.
func usableAfterExpiry(t testing.TB, tracker *usage.Tracker, limit decimal.Decimal) {
	t.Helper()
	now, err := standOf(t.Context(), tracker)
	if err != nil || !now.Held.IsZero() {
		t.Fatalf("held after expiry: %s, %v", now.Held, err)
	}
	estimate := decimal.RequireFromString("0.0025")
	for room := limit.Sub(now.Used); room.GreaterThanOrEqual(estimate); room = room.Sub(estimate) {
		if _, err := tracker.Reserve(t.Context(), spenderEstimate("")); err != nil {
			t.Fatalf("with room for %s: %v", room, err)
		}
	}
	if _, err := tracker.Reserve(t.Context(), spenderEstimate("")); !errors.Is(err, usage.ErrQuotaExceeded) {
		t.Errorf("one reservation too many: %v", err)
	}
}
