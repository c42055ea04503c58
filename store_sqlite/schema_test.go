package storesqlite

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/acf68eca/usage/internal/sqlsource"
)

// dump is the schema of a database as it is after migrating.
func dump(t testing.TB, db *sqlx.DB) string {
	t.Helper()
	var rows []struct{ Type, Name, Table, SQL string }
	err := db.SelectContext(t.Context(), &rows, `
SELECT type, name, tbl_name AS "table", COALESCE(sql, '') AS sql
FROM sqlite_master
ORDER BY tbl_name, type DESC, name`)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "-- %s %s of %s\n", r.Type, r.Name, r.Table)
		if r.SQL != "" {
			b.WriteString(r.SQL + ";\n")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestSchema(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	h := open(t, path)
	t.Run("is the golden one", func(t *testing.T) {
		t.Parallel()
		golden(t, "schema.golden", dump(t, h.reader))
	})
	t.Run("prefixes every table of its own", func(t *testing.T) {
		t.Parallel()
		var names []string
		err := h.reader.SelectContext(t.Context(), &names,
			`SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'usage\_%' ESCAPE '\' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'`)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "tables without the prefix", names, nil)
	})
}

// scans are the plan steps that read a table or index from end to end, and why that is right.
var scans = map[string]string{
	"selectWanted: SCAN 64 CONSTANT ROWS":      "they are the list of what is wanted",
	"selectWanted: SCAN wanted":                "it is that list",
	"selectPlainWanted: SCAN 64 CONSTANT ROWS": "they are the same list",
	"selectPlainWanted: SCAN wanted":           "it is that list",
	"selectHoldsAfter: SCAN page":              "it is as many holds as are looked at",
	"claimAlerts: SCAN a USING INDEX usage_alerts_pending": "" +
		"the index has pending alerts only, in the order wanted but for those raised at once, and LIMIT ends it",
}

func TestPlans(t *testing.T) {
	t.Parallel()
	statements := sqlsource.Statements(t)
	db := open(t, newFile(t)).reader
	var b strings.Builder
	found := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(statements)) {
		fmt.Fprintf(&b, "%s\n", name)
		for _, step := range plan(t, db, statements[name]) {
			fmt.Fprintf(&b, "\t%s\n", step)
			key := name + ": " + strings.TrimSpace(step)
			if _, explained := scans[key]; explained {
				found[key] = true
			} else if strings.HasPrefix(strings.TrimSpace(step), "SCAN") {
				t.Errorf("%s reads from end to end; explain it in scans or give it an index", key)
			}
		}
	}
	for key := range scans {
		if !found[key] {
			t.Errorf("%s is explained and does not happen", key)
		}
	}
	golden(t, "plans.golden", b.String())
}

var numbered = regexp.MustCompile(`\?(\d+)`)

// plan is how SQLite runs a statement, one step in each line, indented by depth.
func plan(t *testing.T, db *sqlx.DB, statement string) (steps []string) {
	t.Helper()
	parameters := strings.Count(statement, "?")
	for _, match := range numbered.FindAllStringSubmatch(statement, -1) {
		n, err := strconv.Atoi(match[1])
		if err != nil {
			t.Fatal(err)
		}
		parameters = max(parameters, n)
	}
	var rows []struct {
		ID, Parent, NotUsed int64
		Detail              string
	}
	if err := db.SelectContext(t.Context(), &rows, "EXPLAIN QUERY PLAN "+statement, make([]any, parameters)...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	depth := make(map[int64]int)
	for _, r := range rows {
		depth[r.ID] = depth[r.Parent] + 1
		steps = append(steps, strings.Repeat("  ", depth[r.ID]-1)+r.Detail)
	}
	return steps
}
