package storetest

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/acf68eca/usage/store"
)

// The tenants of most tests.
const (
	acme   = "acme"
	globex = "globex"
)

// errRefused is what the suite's own rules refuse a hold with.
var errRefused = errors.New("refused by the test")

// instant reads a fixed time.
func instant(text string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return at.UTC()
}

// noon is when most tests take place: a Tuesday in the middle of a month.
func noon() time.Time { return instant("2026-03-10T12:00:00Z") }

// march and april are the months around noon of a tenant with the defaults.
func march() time.Time { return instant("2026-03-01T00:00:00Z") }
func april() time.Time { return instant("2026-04-01T00:00:00Z") }

// call is a record of as many tokens as it costs picodollars.
func call(tenant, id string, at time.Time, cost int64) store.Record {
	return store.Record{
		TenantID: tenant, ID: id, Provider: "openai", Model: "gpt-4", At: at, RecordedAt: at,
		Lines:        []store.Line{{Meter: "input_tokens", Quantity: cost, Rate: store.Rate{Amount: 1, Per: 1}, Cost: store.Money(cost)}},
		Cost:         store.Money(cost),
		PriceVersion: "2026-01", Endpoint: "/v1/chat/completions", Status: 200, Latency: 820 * time.Millisecond,
	}
}

// with returns a record with a change.
func with(r store.Record, change func(*store.Record)) store.Record {
	r.Lines = slices.Clone(r.Lines)
	change(&r)
	return r
}

// settling is a call that names a hold.
func settling(hold string, r store.Record) store.Record {
	r.HoldID = hold
	return r
}

// unpriced is a call of a model without a price.
func unpriced(tenant, id string, at time.Time, quantity int64) store.Record {
	return with(call(tenant, id, at, 0), func(r *store.Record) {
		r.Model, r.Unpriced = "unheard-of", "model has no price"
		r.Lines = []store.Line{{Meter: "input_tokens", Quantity: quantity}}
	})
}

// priced is an unpriced record with a price of one picodollar for each unit.
func priced(r store.Record) store.Record {
	return with(r, func(r *store.Record) {
		r.Cost, r.Unpriced, r.PriceVersion = 0, "", "2026-02"
		for i := range r.Lines {
			r.Lines[i].Rate = store.Rate{Amount: 1, Per: 1}
			r.Lines[i].Cost = store.Money(r.Lines[i].Quantity)
			r.Cost += r.Lines[i].Cost
		}
	})
}

// hold is a reservation of an amount for some time.
func hold(tenant, id string, from time.Time, lasts time.Duration, cost int64) store.Hold {
	return store.Hold{
		TenantID: tenant, ID: id, Provider: "openai", Model: "gpt-4", Owner: "host-1",
		Lines:     []store.Line{{Meter: "input_tokens", Quantity: cost, Rate: store.Rate{Amount: 1, Per: 1}, Cost: store.Money(cost)}},
		Cost:      store.Money(cost),
		CreatedAt: from, ExpiresAt: from.Add(lasts),
	}
}

// reached is an alert of March for a tenant with the defaults.
func reached(percent int, limit int64) store.Alert {
	return store.Alert{
		AlertKey: store.AlertKey{
			Kind: store.QuotaWarning, Provider: "openai", Meter: "tokens", Per: store.Month,
			Max: limit, Percent: percent, PeriodStart: march(),
		},
		PeriodEnd: april(), Used: limit,
	}
}

// quiet is a Judge that raises nothing, admit a Decide that refuses nothing, and keep a Refund that gives nothing back.
func quiet(*store.Standing, []*store.Record) store.Judgement { return store.Judgement{} }
func admit(*store.Standing, *store.Hold) store.Verdict       { return store.Verdict{} }
func keep(*store.Standing, *store.Hold) []store.Arrival      { return nil }

// refusing is a Decide that does nothing but refuse.
func refusing(rule func(*store.Standing, *store.Hold) error) store.Decide {
	return func(s *store.Standing, h *store.Hold) store.Verdict { return store.Verdict{Refusal: rule(s, h)} }
}

// raise is a Judge that always raises the same alerts.
func raise(alerts ...store.Alert) store.Judge {
	return func(*store.Standing, []*store.Record) store.Judgement {
		return store.Judgement{Alerts: slices.Clone(alerts)}
	}
}

// capped is a Decide that keeps what is settled and held at a limit or below.
func capped(limit store.Money) store.Decide {
	return refusing(func(s *store.Standing, h *store.Hold) error {
		if spent(s)+heldCost(s)+h.Cost > limit {
			return errRefused
		}
		return nil
	})
}

// spent is a standing's cost of the month.
func spent(s *store.Standing) (sum store.Money) {
	for _, t := range s.MonthTotals {
		sum += t.Cost
	}
	return sum
}

func heldCost(s *store.Standing) (sum store.Money) {
	for _, held := range s.Held {
		sum += held.Cost
	}
	return sum
}

func heldIDs(s store.Standing) (ids []string) {
	for _, h := range s.Holds {
		ids = append(ids, h.ID)
	}
	return ids
}

func recordIDs(records []store.Record) (ids []string) {
	for _, r := range records {
		ids = append(ids, r.ID)
	}
	return ids
}

// heldUp adds holds up by the suite's own arithmetic, and says when the first of them expires.
func heldUp(holds []*store.Hold) (totals []*store.Total, until time.Time) {
	var records []store.Record
	for _, h := range holds {
		records = append(records, store.Record{TenantID: h.TenantID, Provider: h.Provider, Model: h.Model, Lines: h.Lines, Cost: h.Cost})
		if until.IsZero() || h.ExpiresAt.Before(until) {
			until = h.ExpiresAt
		}
	}
	totals = pointers(totalled(store.Calendar{}, store.Month, records))
	for _, total := range totals {
		total.Window, total.Start = "", time.Time{}
	}
	return totals, until
}

// totalled adds records up by the suite's own arithmetic, which shares nothing with store.Total's methods.
func totalled(c store.Calendar, w store.Window, records []store.Record) (totals []store.Total) {
	for _, r := range records {
		start := c.Period(w, r.At).Start
		i := slices.IndexFunc(totals, func(t store.Total) bool {
			return t.Start.Equal(start) && t.Provider == r.Provider && t.Model == r.Model
		})
		if i < 0 {
			i = len(totals)
			totals = append(totals, store.Total{TenantID: r.TenantID, Window: w, Start: start, Provider: r.Provider, Model: r.Model})
		}
		count(&totals[i], r)
	}
	slices.SortFunc(totals, byModel)
	return totals
}

func count(t *store.Total, r store.Record) {
	t.Calls++
	if r.Status >= 400 || r.Error != "" {
		t.Errors++
	}
	if r.Unpriced != "" {
		t.Unpriced++
	}
	t.Cost += r.Cost
	for _, line := range r.Lines {
		i := slices.IndexFunc(t.Meters, func(m store.MeterTotal) bool { return m.Meter == line.Meter })
		if i < 0 {
			i = len(t.Meters)
			t.Meters = append(t.Meters, store.MeterTotal{Meter: line.Meter})
		}
		t.Meters[i].Quantity += line.Quantity
		t.Meters[i].Cost += line.Cost
	}
	slices.SortFunc(t.Meters, func(a, b store.MeterTotal) int { return cmp.Compare(a.Meter, b.Meter) })
}
