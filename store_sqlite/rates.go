package storesqlite

import (
	"context"
	"slices"

	"github.com/acf68eca/usage/store"
)

type arrivalRow struct {
	Provider string
	Model    string
	Meter    string
	Per      string
	At       int64
	Rest     int64
	Taken    int64
}

func (r *arrivalRow) arrival() store.Arrival {
	return store.Arrival{
		RateKey: store.RateKey{Provider: r.Provider, Model: r.Model, Meter: store.Meter(r.Meter), Per: store.Window(r.Per)},
		At:      instant(r.At), Rest: r.Rest, Taken: r.Taken,
	}
}

const selectTenantArrivals = `
SELECT provider, model, meter, per, at, rest, taken
FROM usage_arrivals
WHERE tenant = ?
ORDER BY provider, model, meter, per`

// selectArrivals reads the arrivals of a tenant, if its quota has rates.
func selectArrivals(ctx context.Context, q queryer, n *tenant) ([]store.Arrival, error) {
	if !n.quota.HasRates() {
		return nil, nil
	}
	var rows []arrivalRow
	if err := q.SelectContext(ctx, &rows, selectTenantArrivals, n.number); err != nil {
		return nil, err
	}
	arrivals := make([]store.Arrival, len(rows))
	for i := range rows {
		arrivals[i] = rows[i].arrival()
	}
	return arrivals, nil
}

// arrivals are those of the tenant from the cache.
func (t *tx) arrivals(ctx context.Context, n *tenant) ([]store.Arrival, error) {
	if !n.quota.HasRates() {
		return nil, nil
	}
	if !n.read.arrivals {
		arrivals, err := selectArrivals(ctx, t, n)
		if err != nil {
			return nil, err
		}
		n.arrivals, n.read.arrivals = arrivals, true
	}
	return n.arrivals, nil
}

const upsertArrival = `
INSERT INTO usage_arrivals (tenant, provider, model, meter, per, at, rest, taken)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, provider, model, meter, per) DO UPDATE
SET at = excluded.at,
    rest = excluded.rest,
    taken = excluded.taken`

// setArrivals replaces the tenant's arrivals of the same keys.
func (t *tx) setArrivals(n *tenant, arrivals []store.Arrival) error {
	for _, a := range arrivals {
		_, err := t.exec(upsertArrivalRow, n.number, a.Provider, a.Model, string(a.Meter), string(a.Per), micros(a.At), a.Rest, a.Taken)
		if err != nil {
			return err
		}
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
	return nil
}
