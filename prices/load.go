package prices

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

const (
	priceColumns = "provider,model,meter,unit,unit_price_usd,per,effective_from,effective_to,tier_condition,source,fact_date"
	ruleColumns  = "provider,model,meter,rule,value,effective_from,effective_to,source,fact_date"
)

// Load reads every *.csv at the root of fsys. It returns all rows or, naming file and line of every fault, none: an
// unknown column, meter, unit or condition, an amount that is not a plain decimal or is absurd for its unit (the usual
// slip is a factor of 1,000), an interval that is empty or overlaps another of the same price, a missing source.
func Load(fsys fs.FS) ([]Row, error) {
	names, err := fs.Glob(fsys, "*.csv")
	if err != nil {
		return nil, err
	}
	var rows []Row
	var faults []error
	for _, name := range names {
		found, err := loadFile(fsys, name)
		rows = append(rows, found...)
		faults = append(faults, err)
	}
	if err := errors.Join(append(faults, overlaps(rows)...)...); err != nil {
		return nil, err
	}
	return rows, nil
}

func loadFile(fsys fs.FS, name string) ([]Row, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := csv.NewReader(f)
	header, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%s: header: %w", name, err)
	}
	columns := strings.Join(header, ",")
	if columns != priceColumns && columns != ruleColumns {
		return nil, fmt.Errorf("%s:1: unknown columns %q", name, columns)
	}
	return readRows(r, name, header)
}

// readRows reads on after a row that is wrong, but not after text that is no CSV.
func readRows(r *csv.Reader, name string, header []string) ([]Row, error) {
	var rows []Row
	var faults []error
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows, errors.Join(faults...)
		}
		if err != nil {
			return rows, errors.Join(append(faults, fmt.Errorf("%s: %w", name, err))...)
		}
		p := parser{fields: make(map[string]string, len(header))}
		for i, column := range header {
			p.fields[column] = p.text(column, record[i])
		}
		row := p.row()
		row.File = name
		row.Line, _ = r.FieldPos(0)
		rows = append(rows, row)
		for _, fault := range p.faults {
			faults = append(faults, fmt.Errorf("%s:%d: %w", name, row.Line, fault))
		}
	}
}

// parser turns the fields of one row into a Row and collects what is wrong with them.
type parser struct {
	fields map[string]string
	faults []error
}

func (p *parser) fault(format string, args ...any) {
	p.faults = append(p.faults, fmt.Errorf(format, args...))
}

func (p *parser) text(column, s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		p.fault("%s: %q is not printable ASCII", column, s)
	}
	return s
}

func (p *parser) required(column string) string {
	s := p.fields[column]
	if s == "" {
		p.fault("%s is missing", column)
	}
	return s
}

func (p *parser) row() Row {
	row := Row{
		Provider: p.required("provider"), Model: p.required("model"), Meter: p.required("meter"),
		From: p.date("effective_from", p.required("effective_from")), Until: p.date("effective_to", p.fields["effective_to"]),
		Source: p.required("source"), FactDate: p.date("fact_date", p.required("fact_date")),
	}
	if !row.Until.IsZero() && !row.From.Before(row.Until) {
		p.fault("effective_from %s is not before effective_to %s", p.fields["effective_from"], p.fields["effective_to"])
	}
	if _, ok := p.fields["rule"]; ok {
		p.rule(&row)
	} else {
		p.price(&row)
	}
	return row
}

func (p *parser) date(column, s string) time.Time {
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		p.fault("%s: %q is not a date", column, s)
	}
	return t
}

func (p *parser) price(row *Row) {
	row.Unit, row.Amount = p.fields["unit"], p.amount(p.fields["unit_price_usd"])
	per, err := strconv.ParseInt(p.fields["per"], 10, 64)
	if err != nil || per != 1 && per != 1_000 && per != 1_000_000 {
		p.fault("per: %q is none of 1, 1000, 1000000", p.fields["per"])
		per = 1_000_000 // so that the amount is not said to be absurd as well
	}
	row.Per = per
	p.conditions(row, p.fields["tier_condition"])
	p.unit(row)
}

func (p *parser) rule(row *Row) {
	row.Rule, row.Value = p.fields["rule"], p.required("value")
	if !slices.ContainsFunc(meters, func(m meter) bool { return m.name == row.Meter }) {
		p.fault("meter: unknown meter %q", row.Meter)
	}
	switch row.Rule {
	case BilledAs:
		if row.Value == row.Meter || !slices.ContainsFunc(meters, func(m meter) bool { return m.name == row.Value }) {
			p.fault("value: %q is no other meter", row.Value)
		}
	case AlsoWith:
		p.conditions(row, row.Value)
	default:
		p.fault("rule: unknown rule %q", row.Rule)
	}
}

// amount takes digits with at most one point: no sign, no exponent, so that nothing of the table can be negative or
// expand to a gigabyte.
func (p *parser) amount(s string) decimal.Decimal {
	whole, fraction, point := strings.Cut(s, ".")
	if !digits(whole, 9) || point && !digits(fraction, 9) {
		p.fault("unit_price_usd: %q is not a plain decimal", s)
		return decimal.Decimal{}
	}
	d, err := decimal.NewFromString(s)
	if err != nil {
		p.fault("unit_price_usd: %w", err)
	}
	return d
}

func digits(s string, most int) bool {
	return s != "" && len(s) <= most && strings.Trim(s, "0123456789") == ""
}

// conditionKeys are the keys that a row may ask for, besides "batch" alone and "input_tokens>N".
var conditionKeys = []string{
	"service_tier", "plan", "direction", "pulse_seconds", "size", "quality", "regional_processing", "watermark",
}

func (p *parser) conditions(row *Row, s string) {
	if s == "" {
		return
	}
	row.Conditions = map[string]string{}
	for part := range strings.SplitSeq(s, ";") {
		key, value, _ := strings.Cut(part, "=")
		above, threshold := strings.CutPrefix(part, "input_tokens>")
		if part == "batch" {
			key, value = "batch", "true"
		}
		switch {
		case threshold:
			row.AboveInputTokens = p.count(above)
		case row.Conditions[key] != "":
			p.fault("tier_condition: %s is given twice", key)
		case value != "" && (key == "batch" || slices.Contains(conditionKeys, key)):
			row.Conditions[key] = value
		default:
			p.fault("tier_condition: unknown condition %q", part)
		}
	}
}

func (p *parser) count(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 {
		p.fault("tier_condition: %q is not a positive number", s)
	}
	return n
}
