package storesqlite

import (
	"context"
	"database/sql/driver"
)

// Records are filed by time (usage_times) not one by one but fileAt at a time, in one statement and in the order of the
// index. With many tenants each record of a commit is on a page of the index of its own; among a few thousand records each
// page has several, and most commits write none. So many that fewer than one call in a hundred waits for it, among callers that
// share commits. Who reads looks at the end of the ledger too: that is a scan of at most fileAt rows and a batch, less than a
// millisecond.
const fileAt = 8192

const selectFiled = `
SELECT value
FROM usage_watermarks
WHERE name = 'filed'`

// OR FAIL spares SQLite the copies of pages with which it would take one half-done statement back: when this one fails, the
// whole transaction is rolled back.
const fileRecords = `
INSERT OR FAIL INTO usage_times (tenant, at, record)
SELECT tenant, at, record
FROM usage_records
WHERE record > ?
ORDER BY tenant, at, record`

// The watermark is that of a record that exists: the number of one that was taken back is given to the next.
const updateFiled = `
UPDATE usage_watermarks
SET value = (SELECT COALESCE(MAX(record), 0) FROM usage_records)
WHERE name = 'filed'
RETURNING value`

// file files the records by time, up to the last one that was added, when enough of them are not yet.
func (t *tx) file(ctx context.Context) error {
	if t.lastRecord == 0 {
		return nil
	}
	cache := t.store.cache
	if !cache.filedKnown {
		values := make([]driver.Value, 1)
		if err := t.row(selectFiledRow, values); err != nil {
			return dangling(err)
		}
		cache.filed, cache.filedKnown = values[0].(int64), true
	}
	if t.lastRecord-cache.filed < t.store.fileAt {
		return nil
	}
	if _, err := t.ExecContext(ctx, fileRecords, cache.filed); err != nil {
		return err
	}
	return t.GetContext(ctx, &cache.filed, updateFiled)
}
