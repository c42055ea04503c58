-- +goose Up

-- Tenants are numbered: the number stands in every other key, which keeps rows and indexes small.
CREATE TABLE usage_tenants (
	tenant      INTEGER PRIMARY KEY,
	id          TEXT    NOT NULL UNIQUE,
	name        TEXT    NOT NULL,
	time_zone   TEXT    NOT NULL,
	billing_day INTEGER NOT NULL CHECK (billing_day BETWEEN 1 AND 31),
	contacts    TEXT    NOT NULL,            -- JSON array of strings
	suspended   TEXT    NOT NULL,            -- why; empty when it is not
	quota       TEXT    NOT NULL,            -- JSON of the limits and percents; empty when it has none
	horizon     INTEGER NOT NULL DEFAULT 0,  -- records before it were dropped
	created_at  INTEGER NOT NULL             -- microseconds UTC, as all times
) STRICT;

-- Texts that repeat from row to row: meters, rates, endpoints, price versions, conditions.
CREATE TABLE usage_texts (
	text  INTEGER PRIMARY KEY,
	value TEXT NOT NULL UNIQUE
) STRICT;

-- The providers' models.
CREATE TABLE usage_models (
	model    INTEGER PRIMARY KEY,
	provider TEXT NOT NULL,
	name     TEXT NOT NULL,
	UNIQUE (provider, name)
) STRICT;

-- The ledger: one row for each call, numbered in the order of their commits. A call's identity is its (id, tenant), in
-- that order: ids that are made in the order of time, such as the library's own, are then added at the index's end whatever
-- their tenant, which is one dirty page for a commit instead of one for each tenant in it.
CREATE TABLE usage_records (
	record      INTEGER PRIMARY KEY,
	tenant      INTEGER NOT NULL,
	id          TEXT    NOT NULL,
	at          INTEGER NOT NULL,
	recorded_at INTEGER NOT NULL,
	at_given    INTEGER NOT NULL,
	model       INTEGER NOT NULL,
	lines       BLOB    NOT NULL,            -- see internal/pack
	cost        INTEGER,                     -- picodollars; NULL when unpriced
	unpriced    TEXT,                        -- why; NULL when priced. Texts that most rows lack are NULL: cheaper to bind
	prices      INTEGER NOT NULL,            -- text: version of the price book; 0 is the empty text, here and below
	conditions  INTEGER NOT NULL,            -- text
	endpoint    INTEGER NOT NULL,            -- text
	status      INTEGER NOT NULL,
	latency     INTEGER NOT NULL,            -- microseconds
	error       TEXT,
	user        TEXT,
	ip          TEXT,
	tags        TEXT,                        -- JSON object
	hold        TEXT,
	settlement  TEXT,
	overage     INTEGER NOT NULL,
	CHECK ((cost IS NULL) = (unpriced IS NOT NULL))
) STRICT;

CREATE UNIQUE INDEX usage_records_id ON usage_records (id, tenant);

-- The records by time. It is an index, but one that is filled a few thousand records at a time: those after the watermark
-- "filed" are not in it yet, and are found at the end of usage_records. Kept with each record it would cost a dirty page for
-- each tenant of a commit. See times.go.
CREATE TABLE usage_times (
	tenant INTEGER NOT NULL,
	at     INTEGER NOT NULL,
	record INTEGER NOT NULL,
	PRIMARY KEY (tenant, at, record)
) STRICT, WITHOUT ROWID;

CREATE TABLE usage_watermarks (
	name  TEXT    NOT NULL PRIMARY KEY,
	value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO usage_watermarks (name, value)
VALUES ('filed', 0);

-- Totals: one row for each model that a tenant used on a day, and one for each that it used in a month. The month's has what
-- is before the last of those days: a call then writes one row of totals and not two, and one that is small. Days keep their
-- rowid: the writer knows it from its cache, and to overwrite a row by rowid takes half the time it takes by key.
CREATE TABLE usage_months (
	tenant  INTEGER NOT NULL,
	start   INTEGER NOT NULL,
	model   INTEGER NOT NULL,
	earlier BLOB    NOT NULL,                -- sums of the days before the last one, see internal/pack
	day     INTEGER NOT NULL,                -- start of the last day
	PRIMARY KEY (tenant, start, model)
) STRICT, WITHOUT ROWID;

CREATE TABLE usage_days (
	tenant INTEGER NOT NULL,
	start  INTEGER NOT NULL,
	model  INTEGER NOT NULL,
	sums   BLOB    NOT NULL,
	PRIMARY KEY (tenant, start, model)
) STRICT;

-- What records that were dropped counted for, by the instant that stands for their day: its middle, by the calendar that the
-- tenant had. The totals can then be verified and made anew, by another calendar too.
CREATE TABLE usage_carried (
	tenant INTEGER NOT NULL,
	at     INTEGER NOT NULL,
	model  INTEGER NOT NULL,
	sums   BLOB    NOT NULL,
	PRIMARY KEY (tenant, at, model)
) STRICT, WITHOUT ROWID;

CREATE TABLE usage_holds (
	tenant     INTEGER NOT NULL,
	id         TEXT    NOT NULL,
	model      INTEGER NOT NULL,
	lines      BLOB    NOT NULL,
	cost       INTEGER NOT NULL,
	owner      TEXT    NOT NULL,
	created_at INTEGER NOT NULL,
	expires_at INTEGER NOT NULL,
	released   INTEGER NOT NULL DEFAULT 0,
	record     TEXT    NOT NULL DEFAULT '',  -- id of the record that settled it
	arrivals   TEXT,                         -- JSON of the arrivals that it set; NULL when it set none
	PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX usage_holds_open ON usage_holds (tenant, expires_at) WHERE released = 0 AND record = '';

-- How far the limits per minute and second are taken: one theoretical arrival time for each thing that a rate counts.
CREATE TABLE usage_arrivals (
	tenant   INTEGER NOT NULL,
	provider TEXT    NOT NULL,               -- of the limit; empty is all
	model    TEXT    NOT NULL,
	meter    TEXT    NOT NULL,
	per      TEXT    NOT NULL,
	at       INTEGER NOT NULL,
	rest     INTEGER NOT NULL,               -- part of a microsecond, in the rule's own unit
	taken    INTEGER NOT NULL,               -- units ever taken
	PRIMARY KEY (tenant, provider, model, meter, per)
) STRICT, WITHOUT ROWID;

-- The id of an alert is made from what makes it the same alert, so the primary key keeps it to one.
CREATE TABLE usage_alerts (
	tenant          INTEGER NOT NULL,
	id              TEXT    NOT NULL,
	number          INTEGER NOT NULL,
	kind            TEXT    NOT NULL,
	provider        TEXT    NOT NULL,
	model           TEXT    NOT NULL,
	meter           TEXT    NOT NULL,
	per             TEXT    NOT NULL,
	max             INTEGER NOT NULL,
	percent         INTEGER NOT NULL,
	period_start    INTEGER NOT NULL,
	period_end      INTEGER NOT NULL,
	used            INTEGER NOT NULL,
	preexisting     INTEGER NOT NULL,
	reason          TEXT    NOT NULL,
	status          TEXT    NOT NULL,
	raised_at       INTEGER NOT NULL,
	sent_at         INTEGER NOT NULL DEFAULT 0,
	acknowledged_at INTEGER NOT NULL DEFAULT 0,
	resolved_at     INTEGER NOT NULL DEFAULT 0,
	claimed_until   INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX usage_alerts_period ON usage_alerts (tenant, period_end);
CREATE INDEX usage_alerts_raised ON usage_alerts (raised_at);
CREATE INDEX usage_alerts_pending ON usage_alerts (raised_at) WHERE status = 'pending';
