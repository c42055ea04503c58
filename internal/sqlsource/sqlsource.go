// Package sqlsource finds the statements of a package in its source, for tests that look at each of them.
package sqlsource

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var dml = regexp.MustCompile(`^\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE|WITH)(\s|$)`)

// Statements are all statements that read or change data, by the names of their constants, of the package in the test's
// folder. A statement that is no constant fails the test, for it would be forgotten; one that is a part of others is none.
func Statements(t *testing.T) map[string]string {
	t.Helper()
	constants, literals := make(map[string]ast.Expr), make(map[token.Pos]bool)
	parts := make(map[string]bool) // of other constants
	for _, file := range sources(t) {
		ast.Inspect(file, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING && dml.MatchString(unquote(t, l)) {
				literals[l.Pos()] = true
			}
			return true
		})
		for _, decl := range file.Decls {
			if d, ok := decl.(*ast.GenDecl); ok && d.Tok == token.CONST {
				for _, spec := range d.Specs {
					for i, value := range spec.(*ast.ValueSpec).Values {
						constants[spec.(*ast.ValueSpec).Names[i].Name] = value
						ast.Inspect(value, func(n ast.Node) bool {
							if part, ok := n.(*ast.Ident); ok {
								parts[part.Name] = true
							}
							return true
						})
					}
				}
			}
		}
	}
	statements := make(map[string]string)
	for name, value := range constants {
		if text, ok := evaluate(t, constants, value, literals); ok && dml.MatchString(text) && !parts[name] {
			statements[name] = text
		}
	}
	for range literals {
		t.Error("a statement is not a constant of the package, so no test looks at it")
	}
	if len(statements) < 20 {
		t.Errorf("found %d statements; are they still constants?", len(statements))
	}
	return statements
}

func sources(t *testing.T) (files []*ast.File) {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet() // one for all: positions tell literals apart
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// evaluate is the text of a constant expression; the literals it is made of are taken off the list.
func evaluate(t *testing.T, constants map[string]ast.Expr, e ast.Expr, literals map[token.Pos]bool) (string, bool) {
	t.Helper()
	switch e := e.(type) {
	case *ast.BasicLit:
		delete(literals, e.Pos())
		if e.Kind == token.STRING {
			return unquote(t, e), true
		}
	case *ast.Ident:
		if value, ok := constants[e.Name]; ok {
			return evaluate(t, constants, value, literals)
		}
	case *ast.BinaryExpr:
		left, okLeft := evaluate(t, constants, e.X, literals)
		right, okRight := evaluate(t, constants, e.Y, literals)
		return left + right, okLeft && okRight
	}
	return "", false
}

func unquote(t *testing.T, l *ast.BasicLit) string {
	t.Helper()
	text, err := strconv.Unquote(l.Value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
