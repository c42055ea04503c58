package prices_test

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/acf68eca/usage/prices"
	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"
)

const (
	header      = "provider,model,meter,unit,unit_price_usd,per,effective_from,effective_to,tier_condition,source,fact_date\n"
	rulesHeader = "provider,model,meter,rule,value,effective_from,effective_to,source,fact_date\n"
	good        = "openai,m,input,token,2.5,1000000,2026-01-01,2026-02-01,input_tokens>272000;batch,page,2026-01-02\n"
)

func load(files ...string) ([]prices.Row, error) {
	fsys := fstest.MapFS{}
	for i, text := range files {
		fsys[string(rune('a'+i))+".csv"] = &fstest.MapFile{Data: []byte(text)}
	}
	return prices.Load(fsys)
}

func TestDefault(t *testing.T) {
	t.Parallel()
	rows, err := prices.Default()
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, row := range rows {
		count[row.File]++
	}
	want := map[string]int{"elevenlabs.csv": 43, "openai.csv": 1034, "rules.csv": 21}
	if diff := cmp.Diff(want, count); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	for _, row := range rows {
		if row.FactDate.Format(time.DateOnly) > prices.Date {
			t.Errorf("%s:%d: a fact of %s is newer than the table's date", row.File, row.Line, row.FactDate)
		}
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	got, err := load(header+good, rulesHeader+"openai,p,input_cached,billed_as,input,2026-01-01,,page,2026-01-02\n")
	want := []prices.Row{
		{
			File: "a.csv", Line: 2, Provider: "openai", Model: "m", Meter: "input", Unit: "token", Per: 1_000_000,
			Amount: decimal.RequireFromString("2.5"), From: date("2026-01-01"), Until: date("2026-02-01"),
			Conditions: map[string]string{"batch": "true"}, AboveInputTokens: 272_000, Source: "page", FactDate: date("2026-01-02"),
		},
		{
			File: "b.csv", Line: 2, Provider: "openai", Model: "p", Meter: "input_cached", Rule: prices.BilledAs, Value: "input",
			From: date("2026-01-01"), Source: "page", FactDate: date("2026-01-02"),
		},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("error %v, rows (-want +got):\n%s", err, diff)
	}
}

func date(s string) time.Time {
	t, _ := time.Parse(time.DateOnly, s)
	return t
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	row := func(from, to string) string { return header + strings.Replace(good, from, to, 1) }
	tests := []struct{ promise, file, want string }{
		{"an unknown column", "provider,cost\nopenai,1\n", `a.csv:1: unknown columns "provider,cost"`},
		{"no header", "", "a.csv: header: EOF"},
		{"an unknown meter", row(",input,", ",inputs,"), `a.csv:2: meter: unknown meter "inputs"`},
		{"an unknown unit", row(",token,", ",tokens,"), `a.csv:2: unit: "tokens" is not a unit of input`},
		{"a unit of another meter", row(",token,", ",minute,"), `a.csv:2: unit: "minute" is not a unit of input`},
		{"an odd per", row(",1000000,", ",999,"), `a.csv:2: per: "999" is none of 1, 1000, 1000000`},
		{"an absurd scale", row(",1000000,", ",1,"), "a.csv:2: unit_price_usd: 2.5 per 1 is more than 1 for one token"},
		{"a negative amount", row("2.5", "-2.5"), `a.csv:2: unit_price_usd: "-2.5" is not a plain decimal`},
		{"an exponent", row("2.5", "1e50000000"), `a.csv:2: unit_price_usd: "1e50000000" is not a plain decimal`},
		{"not a number", row("2.5", "NaN"), `a.csv:2: unit_price_usd: "NaN" is not a plain decimal`},
		{"an empty interval", row("2026-02-01", "2026-01-01"), "a.csv:2: effective_from 2026-01-01 is not before effective_to 2026-01-01"},
		{"not a date", row("2026-02-01", "2026-02-30"), `a.csv:2: effective_to: "2026-02-30" is not a date`},
		{"an unknown condition", row("batch", "night"), `a.csv:2: tier_condition: unknown condition "night"`},
		{"a condition twice", row("batch", "batch;batch"), "a.csv:2: tier_condition: batch is given twice"},
		{"a threshold that is no number", row("272000", "x"), `a.csv:2: tier_condition: "x" is not a positive number`},
		{"no source", row("page", ""), "a.csv:2: source is missing"},
		{"a control character", row("page", "pa\tge"), `a.csv:2: source: "pa\tge" is not printable ASCII`},
		{"an overlap", header + good + strings.Replace(good, "2026-01-01", "2026-01-31", 1), "a.csv:3: overlaps a.csv:2"},
		{"an unknown rule", rulesHeader + "openai,p,input_cached,free,input,2026-01-01,,page,2026-01-02\n", `a.csv:2: rule: unknown rule "free"`},
		{"a meter billed as itself", rulesHeader + "openai,p,input,billed_as,input,2026-01-01,,page,2026-01-02\n", `a.csv:2: value: "input" is no other meter`},
		{"a missing field", header + "openai,m\n", "a.csv: record on line 2: wrong number of fields"},
	}
	for _, tt := range tests {
		t.Run(tt.promise, func(t *testing.T) {
			t.Parallel()
			rows, err := load(tt.file)
			if err == nil || err.Error() != tt.want || rows != nil {
				t.Errorf("%d rows, error %q, want %q", len(rows), err, tt.want)
			}
		})
	}
	t.Run("every fault of every file is named", func(t *testing.T) {
		t.Parallel()
		_, err := load(row("2.5", "x"), row("page", ""), header+good)
		want := "a.csv:2: unit_price_usd: \"x\" is not a plain decimal\nb.csv:2: source is missing\n" +
			"b.csv:2: overlaps a.csv:2\nc.csv:2: overlaps b.csv:2"
		if err == nil || err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
	})
}

func FuzzLoad(f *testing.F) {
	for _, name := range []string{"openai.csv", "elevenlabs.csv", "rules.csv"} {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		lines := strings.SplitAfterN(string(text), "\n", 5)
		f.Add(strings.Join(lines[:4], ""))
	}
	f.Add(header + good)
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := load(text)
		if err != nil && rows != nil {
			t.Errorf("%d rows with error %v", len(rows), err)
		}
		for _, row := range rows {
			if row.Amount.IsNegative() || row.From.IsZero() || row.Rule == "" && row.Per <= 0 {
				t.Errorf("accepted %+v", row)
			}
		}
	})
}
