package usage_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/acf68eca/usage"
)

// reserve is what a host writes by hand: one transaction that adds up what is used and held, and adds a hold.
func (a alternative) reserve(ctx context.Context, id int, tenant string, cost int64) error {
	return a.transact(ctx, func(tx *sqlx.Tx) error {
		var taken, limit int64
		if err := tx.GetContext(ctx, &taken, `SELECT held FROM held WHERE tenant = ?`, tenant); err != nil {
			return err
		}
		if err := tx.GetContext(ctx, &limit, `SELECT max FROM quotas WHERE tenant = ?`, tenant); err != nil {
			return err
		}
		if taken+cost > limit {
			return usage.ErrQuotaExceeded
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO holds VALUES (?, ?, ?)`, id, tenant, cost); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE held SET held = held + ? WHERE tenant = ?`, cost, tenant)
		return err
	})
}

// settle logs a call and takes back what was reserved for it.
func (a alternative) settle(ctx context.Context, c usage.OpenAICall, id int, cost int64) error {
	return a.transact(ctx, func(tx *sqlx.Tx) error {
		if err := insertCall(ctx, tx, c); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM holds WHERE id = ?`, id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE held SET held = held - ? WHERE tenant = ?`, cost, c.TenantID)
		return err
	})
}

func newHolds(b *testing.B, db *sqlx.DB, tenants int) {
	b.Helper()
	db.MustExec(`
CREATE TABLE held (tenant TEXT PRIMARY KEY, held INTEGER NOT NULL) STRICT;
CREATE TABLE holds (id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, cost INTEGER NOT NULL) STRICT;`)
	for i := range tenants {
		db.MustExec(`INSERT INTO held VALUES (?, 0)`, benchTenant(i, tenants))
	}
}

func benchEstimate(i, tenants int) usage.Estimate {
	return usage.Estimate{
		TenantID: benchTenant(i, tenants), Provider: usage.OpenAI, Model: benchModels[i/tenants%len(benchModels)],
		InputTokens: 2_006, OutputTokens: 500,
	}
}

// BenchmarkReserve is a durable reservation, beside the alternative. At the start each tenant has as many live reservations as
// live says, and some that have expired.
func BenchmarkReserve(b *testing.B) {
	for _, load := range []struct {
		name          string
		tenants, live int
	}{{"tenants=1000", 1000, 0}, {"hot", 1, 0}, {"hot/live=10000", 1, 10_000}} {
		for _, callers := range []int{1, 64} {
			name := fmt.Sprintf("%s/callers=%d", load.name, callers)
			b.Run(name+"/alternative", func(b *testing.B) {
				alt := newAlternative(b, filepath.Join(b.TempDir(), "alt.db"), load.tenants)
				newHolds(b, alt.db, load.tenants)
				steadily(b, callers, 8_000, func(i int) error {
					return alt.reserve(context.Background(), i, benchTenant(i, load.tenants), 1_000_000)
				})
			})
			b.Run(name+"/usage", func(b *testing.B) {
				tracker := benchTracker(b, filepath.Join(b.TempDir(), "usage.db"), load.tenants)
				reserve := func(expiresIn time.Duration) func(int) error {
					return func(i int) error {
						e := benchEstimate(i, load.tenants)
						e.ExpiresIn = expiresIn
						_, err := tracker.Reserve(context.Background(), e)
						return err
					}
				}
				warm(b, callers, warmUp(callers), reserve(time.Millisecond))
				fill(b, 64, load.live*load.tenants, reserve(time.Hour))
				closedLoop(b, callers, reserve(time.Hour))
			})
		}
	}
}

// BenchmarkReserveAndLog is what a call under a hard limit takes: a reservation before it, and after it the log that settles that.
func BenchmarkReserveAndLog(b *testing.B) {
	for _, load := range []struct {
		name    string
		tenants int
	}{{"tenants=1000", 1000}, {"hot", 1}} {
		const callers, cost = 64, 1_000_000
		b.Run(load.name+"/alternative", func(b *testing.B) {
			alt := newAlternative(b, filepath.Join(b.TempDir(), "alt.db"), load.tenants)
			newHolds(b, alt.db, load.tenants)
			steadily(b, callers, 8_000, func(i int) error {
				if err := alt.reserve(context.Background(), i, benchTenant(i, load.tenants), cost); err != nil {
					return err
				}
				return alt.settle(context.Background(), benchCall(i, load.tenants), i, cost)
			})
		})
		b.Run(load.name+"/usage", func(b *testing.B) {
			tracker := benchTracker(b, filepath.Join(b.TempDir(), "usage.db"), load.tenants)
			steadily(b, callers, warmUp(callers)/2, func(i int) error { // of two commits each
				hold, err := tracker.Reserve(context.Background(), benchEstimate(i, load.tenants))
				if err != nil {
					return err
				}
				call := benchCall(i, load.tenants)
				call.ReservationID = hold.ID
				_, err = tracker.LogOpenAI(context.Background(), call)
				return err
			})
		})
	}
}
