package storesqlite

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
)

// BenchmarkBareInserts is what the write path can be at the most: the same rows with a unique index and one by tenant and
// time, from one goroutine, by one prepared statement in one transaction, and nothing else.
func BenchmarkBareInserts(b *testing.B) {
	for _, tenants := range []int{1000, 1} {
		b.Run(fmt.Sprintf("tenants=%d", tenants), func(b *testing.B) {
			s, err := Open(b.Context(), filepath.Join(b.TempDir(), "usage.db"))
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			s.writer.MustExec("CREATE INDEX usage_records_at ON usage_records (tenant, at)")
			tx := s.writer.MustBegin()
			defer tx.Rollback()
			insert, err := tx.Prepare(insertRecordSQL)
			if err != nil {
				b.Fatal(err)
			}
			defer insert.Close()
			lines := []byte{1, 0xd6, 0x0f, 4, 0xc8, 0x87, 0xa3, 3, 2, 0x80, 8, 6, 0xc8, 0x87, 0xa3, 3, 3, 0xac, 2, 8, 0xc8, 0x87, 0xa3, 3}
			for i := 0; b.Loop(); i++ {
				id, err := uuid.NewV7()
				if err != nil {
					b.Fatal(err)
				}
				now := time.Now().UnixMicro()
				_, err = insert.Exec(int64(i*7919%tenants), id.String(), now, now, false, int64(i%8), lines,
					int64(1_234_567_890), nil, int64(1), int64(2), int64(3), int64(200), int64(820_000),
					nil, nil, nil, nil, nil, nil, int64(0))
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
