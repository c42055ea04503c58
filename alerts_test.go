package usage_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acf68eca/usage"
)

// raised are the alerts of acme as "percent of max", in the order in which they were raised.
func (b *bench) raised(t testing.TB) (texts []string) {
	t.Helper()
	for _, alert := range b.alerts(t, usage.AlertFilter{TenantID: "acme"}) {
		text := fmt.Sprint(alert.Percent, " of ", alert.Max)
		if alert.Preexisting {
			text += ", preexisting"
		}
		texts = append(texts, text)
	}
	return texts
}

func TestThresholds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		before int64 // used before the quota is there
		steps  []int64
		want   []string
	}{
		{"0 to 49", 0, []int64{49}, nil},
		{"0 to 50", 0, []int64{50}, []string{"50 of 100"}},
		{"70 to 96", 0, []int64{70, 26}, []string{"50 of 100", "80 of 100"}},
		{"0 to 130 in one call", 0, []int64{130}, []string{"50 of 100", "80 of 100", "100 of 100"}},
		{"85 to 85", 0, []int64{85, 0}, []string{"50 of 100", "80 of 100"}},
		{"one by one", 0, []int64{49, 1, 29, 1, 19, 1, 1}, []string{"50 of 100", "80 of 100", "100 of 100"}},
		{"already past when the quota is set", 85, nil, []string{"50 of 100, preexisting", "80 of 100, preexisting"}},
		{"and once more later", 85, []int64{15}, []string{"50 of 100, preexisting", "80 of 100, preexisting", "100 of 100"}},
		{"not past when the quota is set", 49, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, usage.Config{})
			if test.before > 0 {
				b.log(t, request("acme", "before", test.before))
			}
			b.limited(t, "acme", 100, 50, 80, 100)
			for i, n := range test.steps {
				b.clock.advance(time.Second)
				b.log(t, request("acme", fmt.Sprint(i), n))
			}
			equal(t, "alerts", test.want, b.raised(t))
		})
	}
}

func TestANewMaximumStartsAfresh(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.limited(t, "acme", 100, 50, 80, 100)
	b.log(t, request("acme", "1", 90))
	b.limited(t, "acme", 200, 50, 80, 100)
	equal(t, "at 90 of 200", []string{"50 of 100", "80 of 100"}, b.raised(t))
	b.log(t, request("acme", "2", 10))
	equal(t, "at 100 of 200", []string{"50 of 100", "80 of 100", "50 of 200"}, b.raised(t))
	b.log(t, request("acme", "3", 60))
	want := []string{"50 of 100", "80 of 100", "50 of 200", "80 of 200"}
	equal(t, "at 160 of 200", want, b.raised(t))
	b.limited(t, "acme", 200, 50, 80, 100) // the same again
	equal(t, "the same quota again", want, b.raised(t))
}

func TestManyThresholdsAreEachAlertedOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	quota := usage.Quota{TenantID: "acme", AlertPercents: []int{50, 80, 100}}
	for i := range 20 {
		quota.Limits = append(quota.Limits, usage.Limit{Meter: usage.Requests, Provider: fmt.Sprint("api", i), Max: usd("10")})
	}
	b.quota(t, quota)
	for i := range 20 {
		for n := range 2 {
			call := request("acme", fmt.Sprint(i, "-", n), 8)
			call.Provider = fmt.Sprint("api", i)
			b.log(t, call)
		}
	}
	count := make(map[int]int)
	for _, a := range b.alerts(t, usage.AlertFilter{TenantID: "acme"}) {
		if a.Kind != usage.AlertUnpriced {
			count[a.Percent]++
		}
	}
	equal(t, "alerts by percent", map[int]int{50: 20, 80: 20, 100: 20}, count)
}

func TestALateCallIntoAClosedPeriodReachesNoThreshold(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.limited(t, "acme", 100, 50)
	b.log(t, happened(request("acme", "late", 90), instant(t, "2026-04-30")))
	equal(t, "alerts", []string{}, b.raised(t))
}

func TestALateCallWithoutAPriceIsAlertedInTheMonthInWhichItCame(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	for _, id := range []string{"a", "b"} {
		late := request("acme", id, 1)
		late.Model = "unlisted"
		b.log(t, happened(late, instant(t, "2026-04-30")))
	}
	alerts := b.alerts(t, usage.AlertFilter{})
	if len(alerts) != 1 || alerts[0].Kind != usage.AlertUnpriced || alerts[0].Model != "unlisted" {
		t.Errorf("got %+v, want one for the model", alerts)
	}
}

func TestEachPeriodHasItsOwnAlerts(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.quota(t, usage.Quota{TenantID: "acme", AlertPercents: []int{50}, Limits: []usage.Limit{
		{Meter: usage.Cost, Max: usd("1000"), Per: usage.Month}, {Meter: usage.Cost, Max: usd("10"), Per: usage.Day},
	}})
	b.log(t, request("acme", "1", 5))
	b.clock.advance(24 * time.Hour)
	b.log(t, request("acme", "2", 5))
	alerts := b.alerts(t, usage.AlertFilter{})
	if len(alerts) != 2 || alerts[0].Period != period(t, "2026-05-20", "2026-05-21") || alerts[1].Period != period(t, "2026-05-21", "2026-05-22") {
		t.Errorf("got %+v", alerts)
	}
}

func TestKindsOfAlerts(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.quota(t, usage.Quota{TenantID: "acme", AlertPercents: []int{80, 100, 150}, Limits: []usage.Limit{
		{Meter: usage.Cost, Max: usd("10")}, {Meter: usage.Requests, Max: usd("10")},
	}})
	b.log(t, request("acme", "1", 15))
	got := map[string]usage.AlertKind{}
	for _, alert := range b.alerts(t, usage.AlertFilter{}) {
		got[fmt.Sprint(alert.Meter, " ", alert.Percent)] = alert.Kind
	}
	equal(t, "kinds", map[string]usage.AlertKind{
		"cost 80": usage.AlertCostWarning, "cost 100": usage.AlertQuotaExceeded, "cost 150": usage.AlertQuotaExceeded,
		"requests 80": usage.AlertQuotaWarning, "requests 100": usage.AlertQuotaExceeded, "requests 150": usage.AlertQuotaExceeded,
	}, got)
	equal(t, "warnings of cost", 1, len(b.alerts(t, usage.AlertFilter{Kind: usage.AlertCostWarning})))
}

func TestAlertsSayWhatWasReached(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.quota(t, usage.Quota{TenantID: "acme", AlertPercents: []int{50}, Limits: []usage.Limit{
		{Provider: "api", Model: model, Meter: usage.Minutes, Max: usd("1"), Per: usage.Day},
	}})
	call := request("acme", "1", 0)
	call.Quantities = usage.Quantities{usage.CallTime: 45_000}
	b.log(t, call)
	alert := b.alerts(t, usage.AlertFilter{})[0]
	wantDollars(t, "maximum", "1", alert.Max)
	wantDollars(t, "used", "0.75", alert.Used)
	if alert.Provider != "api" || alert.Model != model || alert.Meter != usage.Minutes || alert.Per != usage.Day ||
		alert.Percent != 50 || alert.Status != usage.AlertPending || !alert.RaisedAt.Equal(b.clock.now()) {
		t.Errorf("got %+v", alert)
	}
}

func TestAThresholdThatManyCrossAtOnceIsOneAlert(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "usage.db")
	var told sync.Map
	cfg := usage.Config{OnAlert: func(alert usage.Alert) {
		if _, twice := told.LoadOrStore(alert.ID, true); twice {
			t.Errorf("told twice of %+v", alert)
		}
	}}
	b := benchOn(t, openStore(t, path), cfg)
	trackers := []*bench{b, b.another(t, path, cfg)}
	b.limited(t, "acme", 64, 50, 100)
	together(64, func(i int) {
		if _, err := trackers[i%2].Log(t.Context(), request("acme", fmt.Sprint(i), 1)); err != nil {
			t.Error(err)
		}
	})
	equal(t, "alerts", []string{"50 of 64", "100 of 64"}, b.raised(t))
}

func TestAnUnpricedModelIsOneAlertAMonth(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	log := func(tenantID, provider, model, id string) {
		t.Helper()
		call := request(tenantID, id, 1)
		call.Provider, call.Model = provider, model
		b.log(t, call)
	}
	count := func(want int) {
		t.Helper()
		equal(t, "alerts", want, len(b.alerts(t, usage.AlertFilter{Kind: usage.AlertUnpriced})))
	}
	log("acme", "api", "unlisted", "1")
	log("acme", "api", "unlisted", "2")
	log("acme", "api", "unlisted", "2")
	count(1)
	log("acme", "api", "unlisted2", "3")
	count(2)
	log("acme", "api2", "unlisted", "4")
	count(3)
	log("globex", "api", "unlisted", "1")
	count(4)
	b.clock.set(instant(t, "2026-06-01"))
	log("acme", "api", "unlisted", "5")
	log("acme", "api", "unlisted", "6")
	count(5)
	alert := b.alerts(t, usage.AlertFilter{TenantID: "acme"})[0]
	if alert.Provider != "api" || alert.Model != "unlisted" || !strings.Contains(alert.Reason, "unlisted") ||
		alert.Period != period(t, "2026-05-01", "2026-06-01") {
		t.Errorf("got %+v", alert)
	}
}

// logs is what a logger wrote.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// tell starts a bench in a synctest bubble, whose OnAlert is tell.
func tell(t *testing.T, tell func(usage.Alert)) (*bench, *logs) {
	l := new(logs)
	b := newBench(t, usage.Config{OnAlert: tell, Logger: l.logger()})
	return b, l
}

func TestTheHostIsToldOfEachAlertOnceAfterItsCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []string
		var b *bench
		b, _ = tell(t, func(alert usage.Alert) {
			told = append(told, fmt.Sprint(alert.Percent))
			found := false
			for _, stored := range b.alerts(t, usage.AlertFilter{TenantID: alert.TenantID}) {
				found = found || stored.ID == alert.ID
			}
			if !found {
				t.Errorf("told of %+v before it was in the ledger", alert)
			}
		})
		b.limited(t, "acme", 100, 50, 80, 100)
		b.log(t, request("acme", "1", 85))
		b.log(t, request("acme", "1", 85))
		b.log(t, request("acme", "2", 1))
		synctest.Wait()
		equal(t, "told", []string{"50", "80"}, told)
		b.limited(t, "acme", 86, 100) // reached by what is there
		synctest.Wait()
		equal(t, "told", []string{"50", "80", "100"}, told)
		b.store.Close()
	})
}

func TestAPanicOfTheHostIsLoggedAndTheNextAlertTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []int
		b, logged := tell(t, func(alert usage.Alert) {
			if told = append(told, alert.Percent); alert.Percent == 50 {
				panic("host is down")
			}
		})
		b.limited(t, "acme", 100, 50, 80)
		b.log(t, request("acme", "1", 90))
		synctest.Wait()
		equal(t, "told", []int{50, 80}, told)
		if logged.count("host is down") != 1 || logged.count("level=ERROR") != 1 {
			t.Errorf("logged %s", &logged.text)
		}
		b.store.Close()
	})
}

func TestAHostThatBlocksHoldsUpNoCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		through, told := make(chan struct{}), 0
		b, _ := tell(t, func(usage.Alert) {
			<-through
			told++
		})
		b.limited(t, "acme", 100, 10, 20, 30)
		for i := range 10 {
			b.log(t, request("acme", fmt.Sprint(i), 5))
		}
		equal(t, "told", 0, told)
		equal(t, "calls", int64(10), b.current(t, "acme").Calls)
		close(through)
		synctest.Wait()
		equal(t, "told", 3, told)
		b.store.Close()
	})
}

func TestAlertsPastTheQueueAreLoggedAndStayPending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const more = 3
		through, told := make(chan struct{}), 0
		b, logged := tell(t, func(usage.Alert) {
			<-through
			told++
		})
		unlisted := func(i int) {
			call := request(fmt.Sprint("tenant-", i), "1", 1)
			call.Model = "unlisted"
			b.log(t, call)
		}
		unlisted(0)
		synctest.Wait() // the host has it, and the queue is empty
		for i := range 1024 + more {
			unlisted(1 + i)
		}
		equal(t, "logged", more, logged.count("OnAlert is behind"))
		close(through)
		synctest.Wait()
		equal(t, "told", 1+1024, told)
		equal(t, "pending", more, 1+1024+more-told)
		last, err := b.Alerts(t.Context(), usage.AlertFilter{TenantID: fmt.Sprint("tenant-", 1024+more), Status: usage.AlertPending})
		if err != nil || len(last) != 1 {
			t.Errorf("the last alert is not pending: %v, %v", last, err)
		}
		b.store.Close()
	})
}

func TestAlertsMoveForwardOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.limited(t, "acme", 10, 50)
	b.log(t, request("acme", "1", 5))
	id := b.alerts(t, usage.AlertFilter{})[0].ID
	start := b.clock.now()
	mark := map[string]func() (usage.Alert, error){
		"sent":         func() (usage.Alert, error) { return b.MarkAlertSent(t.Context(), "acme", id) },
		"acknowledged": func() (usage.Alert, error) { return b.AcknowledgeAlert(t.Context(), "acme", id) },
		"resolved":     func() (usage.Alert, error) { return b.ResolveAlert(t.Context(), "acme", id) },
	}
	for _, step := range []struct {
		do           string
		want         usage.AlertStatus
		sent, solved time.Duration // after the start; zero is never
	}{
		{"sent", usage.AlertSent, time.Minute, 0},
		{"sent", usage.AlertSent, time.Minute, 0},
		{"resolved", usage.AlertResolved, time.Minute, 3 * time.Minute},
		{"acknowledged", usage.AlertResolved, time.Minute, 3 * time.Minute},
		{"sent", usage.AlertResolved, time.Minute, 3 * time.Minute},
	} {
		b.clock.advance(time.Minute)
		alert, err := mark[step.do]()
		if err != nil {
			t.Fatal(err)
		}
		var solved time.Time
		if step.solved > 0 {
			solved = start.Add(step.solved)
		}
		if alert.Status != step.want || !alert.SentAt.Equal(start.Add(step.sent)) || !alert.ResolvedAt.Equal(solved) ||
			!alert.AcknowledgedAt.IsZero() {
			t.Errorf("%s: got %+v", step.do, alert)
		}
	}
	_, err := b.MarkAlertSent(t.Context(), "acme", "unknown")
	wantError(t, err, usage.ErrNotFound)
	_, err = b.MarkAlertSent(t.Context(), "", "")
	wantError(t, err, usage.ErrInvalid)
}

func TestAClaimedAlertComesUpAgainWhenItsLeaseEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	b.limited(t, "acme", 10, 50, 80)
	b.log(t, request("acme", "1", 9))
	claim := func(want int) []usage.Alert {
		t.Helper()
		claimed, err := b.ClaimAlerts(t.Context(), 10, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "claimed", want, len(claimed))
		return claimed
	}
	first := claim(2)
	claim(0)
	if _, err := b.MarkAlertSent(t.Context(), "acme", first[0].ID); err != nil {
		t.Fatal(err)
	}
	b.clock.advance(time.Minute)
	claim(1)
	for _, bad := range []struct {
		limit int
		lease time.Duration
	}{{0, 1}, {1001, 1}, {1, 0}, {1, -1}} {
		_, err := b.ClaimAlerts(t.Context(), bad.limit, bad.lease)
		wantError(t, err, usage.ErrInvalid)
	}
}

func TestAlertsInPages(t *testing.T) {
	t.Parallel()
	b := newBench(t, usage.Config{})
	for i := range 5 {
		tenantID := fmt.Sprint("tenant ", i) // with a space, as the cursor has
		b.limited(t, tenantID, 10, 50, 80)
		b.log(t, request(tenantID, "1", 9))
	}
	all := b.alerts(t, usage.AlertFilter{})
	var paged []string
	filter := usage.AlertFilter{Limit: 3}
	for {
		page := b.alerts(t, filter)
		for _, alert := range page {
			paged = append(paged, alert.ID)
		}
		if len(page) < filter.Limit {
			break
		}
		filter.After = page[len(page)-1].Cursor()
	}
	var want []string
	for _, alert := range all {
		want = append(want, alert.ID)
	}
	equal(t, "ids in pages", want, paged)
	equal(t, "alerts", 10, len(all))
	for _, filter := range []usage.AlertFilter{{Kind: "x"}, {Status: "x"}, {After: "x"}, {After: "MSAy"}, {TenantID: "\xff"}} {
		_, err := b.Alerts(t.Context(), filter)
		wantError(t, err, usage.ErrInvalid)
	}
}
