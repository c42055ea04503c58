-- +goose Up

-- Processes that start at once take turns; the one that comes second finds the tables made.
SELECT pg_advisory_xact_lock(7598231467210053);

-- Money is numeric(38,12) dollars that fit an int64 of picodollars: the checks bar what does not, NaN among it, and the
-- type bars infinity. Ids compare by their bytes.

-- A writer locks the rows of its tenants first, in the order of their ids, so writers never deadlock.
CREATE TABLE usage_tenants (
	tenant      text COLLATE "C" PRIMARY KEY,
	name        text        NOT NULL,
	time_zone   text        NOT NULL,
	billing_day smallint    NOT NULL CHECK (billing_day BETWEEN 1 AND 31),
	contacts    jsonb,                       -- array of strings
	suspended   text        NOT NULL,        -- why; empty when it is not
	quota       jsonb,                       -- the limits and percents; NULL when it has none
	horizon     timestamptz,                 -- records before it were dropped; NULL when none were
	created_at  timestamptz NOT NULL,
	version     bigint      NOT NULL,        -- a random number of the last transaction that may have changed what a store
	previous    bigint      NOT NULL,        -- remembers, and of the one before: whether what another remembers is still so
	settings    bigint      NOT NULL,        -- the version under which the columns above were last changed, or the totals made anew
	revision    bigint      NOT NULL,        -- how many versions there were: rows say under which they were last written, so
	                                         -- that a store which remembers one reads only what others wrote after it
	untraced    bigint      NOT NULL         -- the last revision under which holds may have been written that do not say so
) WITH (fillfactor = 50);

-- Texts that repeat from row to row (meters, rates, price versions, conditions) and the providers' models, under the
-- numbers that stand in other rows. They are nobody's: they have no tenant, and are never changed.
CREATE TABLE usage_texts (
	text  integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	value text COLLATE "C" NOT NULL UNIQUE
);

CREATE TABLE usage_models (
	model    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	provider text COLLATE "C" NOT NULL,
	name     text COLLATE "C" NOT NULL,
	UNIQUE (provider, name)
);

-- The ids of all calls. The ledger is in parts by time, and a unique index of it has to contain the time; but the same
-- call may be sent again with another default time, in another month.
CREATE TABLE usage_keys (
	at     timestamptz      NOT NULL,        -- of the call: where to find it
	tenant text COLLATE "C" NOT NULL,
	id     text COLLATE "C" NOT NULL,
	PRIMARY KEY (tenant, id)
);

-- The ledger: one row for each call, in one partition for each month (UTC) of at, made by the store. It has no key of its
-- own: a row is added in the statement that adds its key above, or not at all.
CREATE TABLE usage_records (
	at          timestamptz NOT NULL,
	recorded_at timestamptz NOT NULL,
	latency     bigint      NOT NULL,        -- microseconds
	model       integer     NOT NULL,
	prices      integer     NOT NULL,        -- text: version of the price book; 0 is the empty text, here and below
	conditions  integer     NOT NULL,        -- text
	status      integer     NOT NULL,
	at_given    boolean,                     -- NULL when it is not
	tenant      text COLLATE "C" NOT NULL,
	id          text COLLATE "C" NOT NULL,
	lines       bytea       NOT NULL,        -- see internal/pack
	cost        numeric(38,12) CHECK (cost BETWEEN -9223372.036854775807 AND 9223372.036854775807), -- NULL when unpriced
	unpriced    text,                        -- why; NULL when priced. Texts that most rows lack are NULL
	endpoint    text,
	error       text,
	user_id     text,
	ip          text,
	tags        jsonb,                       -- object of strings
	hold        text,
	settlement  text,
	overage     numeric(38,12) CHECK (overage BETWEEN 0 AND 9223372.036854775807),                  -- NULL when none
	CHECK ((cost IS NULL) = (unpriced IS NOT NULL))
) PARTITION BY RANGE (at);

CREATE INDEX usage_records_at ON usage_records (tenant, at);

-- Totals: one row for each model that a tenant used in a month, and in the same row the last day of that month on which
-- it was used: a call then writes one row of totals and not two. When a later day begins, the day before it gets a row of
-- its own in usage_days. Half of each page is left free, so that a row that is written again stays on its page and its
-- index is left alone.
CREATE TABLE usage_months (
	start        timestamptz NOT NULL,
	calls        bigint      NOT NULL,
	errors       bigint      NOT NULL,
	unpriced     bigint      NOT NULL,
	day          timestamptz NOT NULL,       -- start of the last day
	day_calls    bigint      NOT NULL,
	day_errors   bigint      NOT NULL,
	day_unpriced bigint      NOT NULL,
	revision     bigint      NOT NULL,       -- of the tenant, when the row was last written
	model        integer     NOT NULL,
	tenant       text COLLATE "C" NOT NULL,
	cost         numeric(38,12) NOT NULL CHECK (cost BETWEEN -9223372.036854775807 AND 9223372.036854775807),
	day_cost     numeric(38,12) NOT NULL CHECK (day_cost BETWEEN -9223372.036854775807 AND 9223372.036854775807),
	meters       bytea       NOT NULL,       -- see internal/pack
	day_meters   bytea       NOT NULL,
	PRIMARY KEY (tenant, start, model)
) WITH (fillfactor = 50);

CREATE TABLE usage_days (
	start    timestamptz NOT NULL,
	calls    bigint      NOT NULL,
	errors   bigint      NOT NULL,
	unpriced bigint      NOT NULL,
	model    integer     NOT NULL,
	tenant   text COLLATE "C" NOT NULL,
	cost     numeric(38,12) NOT NULL CHECK (cost BETWEEN -9223372.036854775807 AND 9223372.036854775807),
	meters   bytea       NOT NULL,
	PRIMARY KEY (tenant, start, model)
);

-- What records that were dropped counted for, by the instant that stands for their day: its middle, by the calendar that the
-- tenant had. The totals can then be verified and made anew, by another calendar too.
CREATE TABLE usage_carried (
	at       timestamptz NOT NULL,
	calls    bigint      NOT NULL,
	errors   bigint      NOT NULL,
	unpriced bigint      NOT NULL,
	model    integer     NOT NULL,
	tenant   text COLLATE "C" NOT NULL,
	cost     numeric(38,12) NOT NULL CHECK (cost BETWEEN -9223372.036854775807 AND 9223372.036854775807),
	meters   bytea       NOT NULL,           -- see internal/pack
	PRIMARY KEY (tenant, at, model)
);

CREATE TABLE usage_holds (
	tenant     text COLLATE "C" NOT NULL,
	id         text COLLATE "C" NOT NULL,
	model      integer     NOT NULL,
	lines      bytea       NOT NULL,
	cost       numeric(38,12) NOT NULL CHECK (cost BETWEEN 0 AND 9223372.036854775807),
	owner      text        NOT NULL,
	created_at timestamptz NOT NULL,
	expires_at timestamptz NOT NULL,
	released   boolean     NOT NULL DEFAULT false,
	record     text COLLATE "C",             -- id of the record that settled it
	arrivals   jsonb,                        -- array of those that it set; NULL when it set none
	revision   bigint,                       -- of the tenant, when the row was last written; NULL when it is not said
	PRIMARY KEY (tenant, id)
);

CREATE INDEX usage_holds_open ON usage_holds (tenant, expires_at) WHERE NOT released AND record IS NULL;
CREATE INDEX usage_holds_revision ON usage_holds (tenant, revision) WHERE revision IS NOT NULL;

-- How far the limits per minute and second are taken: one theoretical arrival time for each thing that a rate counts. The
-- rows are written again and again, and half of each page is left free for that, as in usage_months.
CREATE TABLE usage_arrivals (
	at       timestamptz NOT NULL,
	rest     bigint      NOT NULL,           -- part of a microsecond, in the rule's own unit
	taken    bigint      NOT NULL,           -- units ever taken
	tenant   text COLLATE "C" NOT NULL,
	provider text COLLATE "C" NOT NULL,      -- of the limit; empty is all
	model    text COLLATE "C" NOT NULL,
	meter    text COLLATE "C" NOT NULL,
	per      text COLLATE "C" NOT NULL,
	PRIMARY KEY (tenant, provider, model, meter, per)
) WITH (fillfactor = 50);

-- The id of an alert is made from what makes it the same alert, so the primary key keeps it to one.
CREATE TABLE usage_alerts (
	tenant          text COLLATE "C" NOT NULL,
	id              text COLLATE "C" NOT NULL,
	number          bigint      NOT NULL,
	kind            text        NOT NULL,
	provider        text        NOT NULL,
	model           text        NOT NULL,
	meter           text        NOT NULL,
	per             text        NOT NULL,
	max             bigint      NOT NULL,
	percent         integer     NOT NULL,
	period_start    timestamptz NOT NULL,
	period_end      timestamptz NOT NULL,
	used            bigint      NOT NULL,
	preexisting     boolean     NOT NULL,
	reason          text        NOT NULL,
	status          text        NOT NULL,
	raised_at       timestamptz NOT NULL,
	sent_at         timestamptz,
	acknowledged_at timestamptz,
	resolved_at     timestamptz,
	claimed_until   timestamptz,
	PRIMARY KEY (tenant, id)
);

CREATE INDEX usage_alerts_period ON usage_alerts (tenant, period_end);
CREATE INDEX usage_alerts_raised ON usage_alerts (raised_at);
CREATE INDEX usage_alerts_pending ON usage_alerts (raised_at) WHERE status = 'pending';
