package storepostgres

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/acf68eca/usage/internal/sqlsource"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, path, got, string(want))
}

// described are the columns, constraints and indexes of our tables, in an order of their own.
const described = `
SELECT line FROM (
SELECT format('%s.%s %s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN ' not null' ELSE '' END)
	|| COALESCE(' collate ' || (SELECT collname FROM pg_collation WHERE oid = a.attcollation AND collname <> 'default'), '') AS line
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
UNION ALL
SELECT format('%s: %s', conrelid::regclass, pg_get_constraintdef(oid))
FROM pg_constraint
WHERE connamespace = current_schema()::regnamespace
UNION ALL
SELECT pg_get_indexdef(indexrelid)
FROM pg_index
WHERE indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = current_schema()::regnamespace)
UNION ALL
SELECT format('%s with %s', relname, array_to_string(reloptions, ', '))
FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND reloptions IS NOT NULL
UNION ALL
SELECT format('%s partitioned by %s', partrelid::regclass, pg_get_partkeydef(partrelid))
FROM pg_partitioned_table
WHERE partrelid IN (SELECT oid FROM pg_class WHERE relnamespace = current_schema()::regnamespace)
) AS lines
ORDER BY line COLLATE "C"`

// filled is a database in which the ledger has two partitions.
func filled(t *testing.T) *sqlx.DB {
	t.Helper()
	dsn := Server.Database(t)
	h := openStore(t, dsn, Config{})
	h.add(call(acme, "a", noon(), 1))
	return foreign(t, dsn, "")
}

func TestSchema(t *testing.T) {
	t.Parallel()
	db := filled(t)
	t.Run("is the golden one", func(t *testing.T) {
		t.Parallel()
		var lines []string
		if err := db.SelectContext(t.Context(), &lines, described); err != nil {
			t.Fatal(err)
		}
		golden(t, "schema.golden", strings.Join(lines, "\n")+"\n")
	})
	t.Run("prefixes every table of its own", func(t *testing.T) {
		t.Parallel()
		var names []string
		err := db.SelectContext(t.Context(), &names, `
SELECT relname
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'usage\_%'`)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "names without the prefix", names, nil)
	})
	t.Run("begins the key of whatever has a tenant with it", func(t *testing.T) {
		t.Parallel()
		var names []string
		err := db.SelectContext(t.Context(), &names, `
SELECT i.indexrelid::regclass
FROM pg_index AS i
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname = 'tenant'
WHERE i.indisunique AND i.indkey[0] <> a.attnum AND i.indrelid::regclass::text LIKE 'usage%'`)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "unique indexes that begin with something else", names, nil)
	})
	t.Run("holds no money that is not a number of picodollars", func(t *testing.T) {
		t.Parallel()
		for _, amount := range []string{"NaN", "Infinity", "-Infinity", "9223372.036854775808", "1e20"} {
			for _, statement := range []string{
				"UPDATE usage_records SET cost = '%s'", "UPDATE usage_records SET overage = '%s'", "UPDATE usage_months SET cost = '%s'",
				"UPDATE usage_months SET day_cost = '%s'", "INSERT INTO usage_holds VALUES ('a', 'b', 1, '', '%s', '', now(), now(), false, NULL, NULL, NULL)",
				"INSERT INTO usage_days VALUES (now(), 0, 0, 0, 1, 'a', '%s', '')", "INSERT INTO usage_carried VALUES (now(), 0, 0, 0, 1, 'a', '%s', '')",
			} {
				_, err := db.ExecContext(t.Context(), fmt.Sprintf(statement, amount))
				if code := sqlState(err); code != "23514" && code != "22003" {
					t.Errorf(statement+": %v", amount, err)
				}
			}
		}
	})
}

// scans are the steps that read a table from end to end, and why that is right.
var scans = map[string]string{}

// TestPlans has the server plan each statement with sequential scans made as dear as can be, for the tables are empty: a
// step that is one all the same has no index to go by.
func TestPlans(t *testing.T) {
	t.Parallel()
	statements := sqlsource.Statements(t)
	db := filled(t)
	db.SetMaxOpenConns(1)
	exec(t, db, "SET enable_seqscan = off", "SET plan_cache_mode = force_generic_plan")
	var b strings.Builder
	found := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(statements)) {
		fmt.Fprintf(&b, "%s\n", name)
		for _, step := range plan(t, db, statements[name]) {
			fmt.Fprintf(&b, "\t%s\n", step)
			key := name + ": " + strings.TrimSpace(step)
			if _, explained := scans[key]; explained {
				found[key] = true
			} else if strings.Contains(step, "Seq Scan") {
				t.Errorf("%s reads from end to end; explain it in scans or give it an index", key)
			}
		}
	}
	for key := range scans {
		if !found[key] {
			t.Errorf("%s is explained and does not happen", key)
		}
	}
	// Servers of other versions plan in other steps; what is explained above holds for all of them.
	var version int
	if err := db.Get(&version, "SELECT current_setting('server_version_num')::integer / 10000"); err != nil {
		t.Fatal(err)
	}
	if version == 15 {
		golden(t, "plans.golden", b.String())
	}
}

type node struct {
	Type     string `json:"Node Type"`
	Relation string `json:"Relation Name"`
	Index    string `json:"Index Name"`
	Subplan  string `json:"Subplan Name"`
	Cond     string `json:"Index Cond"`
	Plans    []node
}

// plan is how the server runs a statement, one step in each line, indented by depth. Of the steps on partitions it tells
// those on the first.
func plan(t *testing.T, db *sqlx.DB, statement string) (steps []string) {
	t.Helper()
	exec(t, db, "PREPARE planned AS "+statement)
	defer exec(t, db, "DEALLOCATE planned")
	var parameters int
	if err := db.Get(&parameters, "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = 'planned'"); err != nil {
		t.Fatal(err)
	}
	execute := "EXPLAIN (FORMAT JSON) EXECUTE planned"
	if parameters > 0 {
		execute += "(" + strings.TrimSuffix(strings.Repeat("NULL, ", parameters), ", ") + ")"
	}
	var text []byte
	if err := db.GetContext(t.Context(), &text, execute); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	var plans []struct{ Plan node }
	if err := json.Unmarshal(text, &plans); err != nil {
		t.Fatal(err)
	}
	return plans[0].Plan.steps(0)
}

func (n *node) steps(depth int) (steps []string) {
	step := strings.Repeat("  ", depth) + n.Type
	for _, detail := range []string{n.Relation, n.Index, n.Subplan, n.Cond} {
		if detail != "" {
			step += " " + detail
		}
	}
	steps = append(steps, step)
	for i := range n.Plans {
		if i > 0 && strings.HasPrefix(n.Plans[i].Relation, "usage_records_2") && strings.HasPrefix(n.Plans[i-1].Relation, "usage_records_2") {
			continue
		}
		steps = append(steps, n.Plans[i].steps(depth+1)...)
	}
	return steps
}
