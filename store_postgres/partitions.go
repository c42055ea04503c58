package storepostgres

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/acf68eca/usage/store"
)

// partitions remembers which months of the ledger have a partition. It is safe for concurrent use.
type partitions struct {
	mu    sync.RWMutex
	known map[time.Time]bool
}

func (p *partitions) has(month time.Time) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.known[month]
}

func (p *partitions) put(month time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil {
		p.known = make(map[time.Time]bool)
	}
	p.known[month] = true
}

// forget makes all months be looked for again: somebody has taken one away.
func (p *partitions) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = nil
}

// monthOf is the month of a partition: in UTC, whatever the tenant's calendar.
func monthOf(at time.Time) time.Time {
	at = at.UTC()
	return time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// makePartitions sees to it that the records have partitions to go to, and so that nobody has to wait for one when the
// month changes, that the months of now and after it have theirs.
func (s *Store) makePartitions(ctx context.Context, now time.Time, records []*store.Record) error {
	var missing []time.Time
	need := func(month time.Time) {
		if !s.partitions.has(month) && !slices.Contains(missing, month) {
			missing = append(missing, month)
		}
	}
	for i := range records {
		need(monthOf(records[i].At))
	}
	need(monthOf(now))
	need(monthOf(now).AddDate(0, 1, 0))
	for _, month := range missing {
		if err := s.makePartition(ctx, month); err != nil {
			return err
		}
		s.partitions.put(month)
	}
	return nil
}

const selectTable = `
SELECT to_regclass($1) IS NOT NULL`

// makePartition makes the partition of one month, unless it is there. It is made as a table and then attached, which
// keeps nobody from reading and writing the others meanwhile.
func (s *Store) makePartition(ctx context.Context, month time.Time) error {
	name := s.names.qualify(fmt.Sprintf("usage_records_%04d_%02d", month.Year(), int(month.Month())))
	ledger := s.names.qualify("usage_records")
	from, to := month.Format(time.RFC3339), month.AddDate(0, 1, 0).Format(time.RFC3339)
	return s.ddl(ctx, func(tx *sql.Tx) error {
		var exists bool
		if err := tx.QueryRowContext(ctx, selectTable, name).Scan(&exists); err != nil || exists {
			return err
		}
		for _, statement := range []string{
			"CREATE TABLE " + name + " (LIKE " + ledger + " INCLUDING ALL)",
			"ALTER TABLE " + ledger + " ATTACH PARTITION " + name + " FOR VALUES FROM ('" + from + "') TO ('" + to + "')",
		} {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}
