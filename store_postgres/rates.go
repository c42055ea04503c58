package storepostgres

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/acf68eca/usage/store"
)

type arrivalRow struct {
	Tenant   string
	Provider string
	Model    string
	Meter    string
	Per      string
	At       time.Time
	Rest     int64
	Taken    int64
}

func (r *arrivalRow) arrival() store.Arrival {
	return store.Arrival{
		RateKey: store.RateKey{Provider: r.Provider, Model: r.Model, Meter: store.Meter(r.Meter), Per: store.Window(r.Per)},
		At:      r.At.UTC(), Rest: r.Rest, Taken: r.Taken,
	}
}

const selectTenantArrivals = `
SELECT a.tenant, a.provider, a.model, a.meter, a.per, a.at, a.rest, a.taken
FROM unnest($1::text[]) AS g (tenant)
CROSS JOIN LATERAL (
	SELECT tenant, provider, model, meter, per, at, rest, taken
	FROM usage_arrivals
	WHERE tenant = g.tenant
	OFFSET 0) AS a
ORDER BY a.tenant, a.provider, a.model, a.meter, a.per`

// selectArrivals reads the arrivals of tenants.
func selectArrivals(ctx context.Context, q queryer, tenants []string) ([]arrivalRow, error) {
	var rows []arrivalRow
	err := q.SelectContext(ctx, &rows, selectTenantArrivals, tenants)
	return rows, err
}

// missingArrivals are the tenants whose quota has rates and whose arrivals are not remembered.
func missingArrivals(of map[string]*tenant) (tenants []string) {
	for id, n := range of {
		if n.quota.HasRates() && !n.read.arrivals {
			n.arrivals, n.read.arrivals = nil, true
			tenants = append(tenants, id)
		}
	}
	return tenants
}

// rateArrivals are those of the tenant, which load has read, if its quota has rates.
func (n *tenant) rateArrivals() []store.Arrival {
	if !n.quota.HasRates() {
		return nil
	}
	return n.arrivals
}

// arrivalKey is the identity of an arrival.
type arrivalKey struct {
	tenantID string
	store.RateKey
}

// setArrivals replaces the tenant's arrivals of the same keys. They are stored when the transaction ends.
func (t *tx) setArrivals(n *tenant, arrivals []store.Arrival) {
	for _, a := range arrivals {
		if t.writes.arrivals == nil {
			t.writes.arrivals = make(map[arrivalKey]store.Arrival)
		}
		t.writes.arrivals[arrivalKey{n.row.ID, a.RateKey}] = a
		if !n.read.arrivals {
			continue
		}
		i := slices.IndexFunc(n.arrivals, func(old store.Arrival) bool { return old.RateKey == a.RateKey })
		if i < 0 {
			n.arrivals = append(n.arrivals, a)
		} else {
			n.arrivals[i] = a
		}
	}
}

const upsertArrivals = `
INSERT INTO usage_arrivals (tenant, provider, model, meter, per, at, rest, taken)
SELECT g.tenant, g.provider, g.model, g.meter, g.per, g.at, g.rest, g.taken
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::bigint[], $8::bigint[])
	AS g (tenant, provider, model, meter, per, at, rest, taken)
WHERE ` + ifDone + `
ON CONFLICT (tenant, provider, model, meter, per) DO UPDATE
SET at = excluded.at,
    rest = excluded.rest,
    taken = excluded.taken`

// queueArrivals stores the arrivals that were set, each once however often it was, in the order of their keys.
func (t *tx) queueArrivals() {
	if len(t.writes.arrivals) == 0 {
		return
	}
	var texts [5][]string // tenant, provider, model, meter, per
	var ats []time.Time
	var rests, taken []int64
	for _, key := range slices.SortedFunc(maps.Keys(t.writes.arrivals), compareArrivals) {
		a := t.writes.arrivals[key]
		for i, text := range [len(texts)]string{key.tenantID, a.Provider, a.Model, string(a.Meter), string(a.Per)} {
			texts[i] = append(texts[i], text)
		}
		ats, rests, taken = append(ats, a.At), append(rests, a.Rest), append(taken, a.Taken)
	}
	t.queue(nil, upsertArrivals, texts[0], texts[1], texts[2], texts[3], texts[4], ats, rests, taken)
}

func compareArrivals(a, b arrivalKey) int {
	return cmp.Or(cmp.Compare(a.tenantID, b.tenantID), cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Model, b.Model),
		cmp.Compare(a.Meter, b.Meter), cmp.Compare(a.Per, b.Per))
}
