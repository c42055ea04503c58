package usage_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// The rules of the house that a compiler does not see: who may import whom, no floats, no state in packages, a comment
// on every exported name, and documents that say what the code does.

const module = "github.com/acf68eca/usage"

// listed is what the tests need of a package as the go command lists it.
type listed struct {
	ImportPath, Name string
	Standard         bool
	Imports          []string
}

func goList(t *testing.T, args ...string) (packages []listed) {
	t.Helper()
	var stderr bytes.Buffer
	command := exec.CommandContext(t.Context(), "go", append([]string{"list", "-buildvcs=false", "-json"}, args...)...)
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// deps returns the import paths that a package links: the standard library's, and all others without itself.
func deps(t *testing.T, path string) (standard, others []string) {
	t.Helper()
	for _, p := range goList(t, "-deps", path) {
		switch {
		case p.Standard:
			standard = append(standard, p.ImportPath)
		case p.ImportPath != path:
			others = append(others, p.ImportPath)
		}
	}
	slices.Sort(others)
	return standard, others
}

func TestPackagesLinkOnlyWhatTheyMay(t *testing.T) {
	t.Parallel()
	const decimal, uuid = "github.com/shopspring/decimal", "github.com/google/uuid"
	for _, tt := range []struct {
		path string
		want []string
	}{
		{module, []string{module + "/internal/group", module + "/prices", module + "/store", uuid, decimal}},
		{module + "/store", []string{decimal}},
		{module + "/prices", []string{decimal}},
		{module + "/internal/group", nil},
		{module + "/meter", []string{module, module + "/internal/group", module + "/prices", module + "/store", uuid, decimal}},
	} {
		t.Run(cmp.Or(strings.TrimPrefix(tt.path, module+"/"), "usage"), func(t *testing.T) {
			t.Parallel()
			standard, others := deps(t, tt.path)
			if diff := gocmp.Diff(tt.want, others); diff != "" {
				t.Errorf("what it links (-want +got):\n%s", diff)
			}
			if slices.Contains(standard, "net/http") && tt.path != module+"/meter" {
				t.Error("links net/http")
			}
		})
	}
}

func TestStoresDoNotKnowTheTracker(t *testing.T) {
	t.Parallel()
	for _, path := range []string{module + "/store_sqlite", module + "/store_postgres", module + "/store/storetest"} {
		if _, others := deps(t, path); slices.Contains(others, module) {
			t.Errorf("%s links %s", path, module)
		}
	}
}

func TestOnlyProgramsImportAStore(t *testing.T) {
	t.Parallel()
	for _, p := range goList(t, "./...") {
		for _, path := range p.Imports {
			if strings.HasPrefix(path, module+"/store_") && p.Name != "main" {
				t.Errorf("%s imports %s", p.ImportPath, path)
			}
		}
	}
}

// source is the code of one package without its tests.
type source struct {
	dir   string
	set   *token.FileSet
	files []*ast.File
}

// sources parses all code of the module, all but tests.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		if name := entry.Name(); path != "." && strings.HasPrefix(name, ".") || name == "bin" {
			return filepath.SkipDir
		}
		s := source{dir: path, set: token.NewFileSet()}
		paths, err := filepath.Glob(filepath.Join(path, "*.go"))
		if err != nil {
			return err
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(s.set, path, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			s.files = append(s.files, file)
		}
		if len(s.files) > 0 {
			all = append(all, s)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestNoFloats(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		for _, file := range s.files {
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.Ident:
					name := strings.ToLower(n.Name)
					if strings.Contains(name, "float32") || strings.Contains(name, "float64") {
						t.Errorf("%s: %s", s.set.Position(n.Pos()), n.Name)
					}
				case *ast.BasicLit:
					// The suite writes picodollars as 2e10, which is an integer there.
					if n.Kind == token.FLOAT && s.dir != filepath.Join("store", "storetest") {
						t.Errorf("%s: %s", s.set.Position(n.Pos()), n.Value)
					}
				}
				return true
			})
		}
	}
}

func TestEveryExportedNameHasAComment(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		packageDoc := false
		for _, file := range s.files {
			packageDoc = packageDoc || file.Doc != nil
			for _, decl := range file.Decls {
				for _, name := range uncommented(decl) {
					t.Errorf("%s: %s has no comment", s.set.Position(name.Pos()), name.Name)
				}
			}
		}
		if !packageDoc {
			t.Errorf("%s: package has no comment", s.dir)
		}
	}
}

// uncommented returns the exported names of a declaration that have no comment: of their own, of their block, or, for
// constants and fields that follow each other without a blank line, of the first one.
func uncommented(decl ast.Decl) (names []*ast.Ident) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		isPublic := decl.Name.IsExported() && (decl.Recv == nil || ast.IsExported(receiver(decl)))
		if isPublic && decl.Doc == nil {
			names = append(names, decl.Name)
		}
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.IsExported() && decl.Doc == nil && spec.Doc == nil {
					names = append(names, spec.Name)
				}
				if methods, ok := spec.Type.(*ast.InterfaceType); ok && spec.Name.IsExported() {
					for _, method := range methods.Methods.List {
						if method.Doc == nil {
							names = append(names, method.Names...)
						}
					}
				}
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					if name.IsExported() && decl.Doc == nil && spec.Doc == nil && spec.Comment == nil {
						names = append(names, name)
					}
				}
			}
		}
	}
	return names
}

// A package has no state: no init, and no variable that anything changes or takes the address of.
func TestPackagesHaveNoState(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		uses := make(map[*ast.Ident]types.Object)
		// The imports are left unresolved, and the errors that this makes are not looked at: names of the package itself
		// are found all the same.
		config := types.Config{Importer: noImporter{}, Error: func(error) {}}
		pkg, _ := config.Check(s.dir, s.set, s.files, &types.Info{Uses: uses})
		isGlobal := func(e ast.Expr) bool {
			v, ok := uses[root(e)].(*types.Var)
			return ok && v.Parent() == pkg.Scope()
		}
		for _, file := range s.files {
			ast.Inspect(file, func(n ast.Node) bool {
				for _, e := range changed(n) {
					if isGlobal(e) {
						t.Errorf("%s: a package's variable is changed", s.set.Position(e.Pos()))
					}
				}
				if fn, ok := n.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s: init", s.set.Position(fn.Pos()))
				}
				return true
			})
		}
	}
}

type noImporter struct{}

func (noImporter) Import(path string) (*types.Package, error) {
	return nil, errors.New("not imported: " + path)
}

// changed returns what a node assigns to, counts up or takes the address of.
func changed(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	case *ast.UnaryExpr:
		if n.Op == token.AND {
			return []ast.Expr{n.X}
		}
	}
	return nil
}

// root returns the name that an expression such as (*a).b[0] starts with, nil if it starts with none.
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.ParenExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// block is a fenced block of a document, with the comment above it that says where it comes from.
type block struct {
	language, from, text string
}

var fenced = regexp.MustCompile("(?ms)(?:^<!-- ([^\n]*) -->\n)?^```([a-z]+)\n(.*?)^```$")

func blocks(t *testing.T, path string) (found []block) {
	t.Helper()
	for _, match := range fenced.FindAllStringSubmatch(read(t, path), -1) {
		found = append(found, block{from: match[1], language: match[2], text: match[3]})
	}
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Every block of README's code is a file or the body of an example, and every block of its output an example's.
func TestREADMEShowsTheExamples(t *testing.T) {
	t.Parallel()
	shown := blocks(t, "README.md")
	if len(shown) == 0 {
		t.Fatal("README.md shows nothing")
	}
	for _, b := range shown {
		if b.language == "sh" {
			continue // TestDocumentsNameCommandsThatExist
		}
		path, example, _ := strings.Cut(b.from, " ")
		var want string
		switch {
		case path == "":
			t.Errorf("a block does not say where it comes from:\n%s", b.text)
			continue
		case b.language == "text":
			want = output(t, path)
		case example == "":
			want = read(t, path)
		default:
			want = body(t, path, example)
		}
		if diff := gocmp.Diff(want, b.text); diff != "" {
			t.Errorf("%s (-want +got):\n%s", b.from, diff)
		}
	}
}

// body returns the statements of a function, not indented.
func body(t *testing.T, path, function string) string {
	t.Helper()
	src := read(t, path)
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Name.Name == function {
			start, end := set.Position(fn.Body.Lbrace).Offset, set.Position(fn.Body.Rbrace).Offset
			lines := strings.TrimPrefix(src[start+1:end], "\n")
			return strings.ReplaceAll("\n"+lines, "\n\t", "\n")[1:]
		}
	}
	t.Errorf("%s has no function %s", path, function)
	return ""
}

// output returns what the one example of a test file prints.
func output(t *testing.T, path string) string {
	t.Helper()
	_, comment, found := strings.Cut(read(t, path), "\t// Output:\n")
	if !found {
		t.Errorf("%s has no output", path)
	}
	comment, _, _ = strings.Cut(comment, "}\n")
	return strings.ReplaceAll(comment, "\t// ", "")
}

// A command that a document names is a make target, or a program of this module.
func TestDocumentsNameCommandsThatExist(t *testing.T) {
	t.Parallel()
	targets := makeTargets(t)
	paths, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(paths, "README.md") {
		for _, b := range blocks(t, path) {
			if b.language != "sh" {
				continue
			}
			for line := range strings.Lines(b.text) {
				command, _, _ := strings.Cut(strings.TrimSpace(line), " #")
				if !isCommand(strings.Fields(command), targets) {
					t.Errorf("%s: no such command: %s", path, line)
				}
			}
		}
	}
}

func isCommand(words []string, targets map[string]string) bool {
	if len(words) < 2 {
		return false
	}
	switch words[0] + " " + words[1] {
	case "go -C": // a program of a module of its own
		if len(words) != 5 || words[3] != "run" || words[4] != "." {
			return false
		}
		_, err := os.Stat(filepath.Join(words[2], "main.go"))
		return err == nil
	case "go get":
		return len(words) == 3 && words[2] == module
	case "go run":
		info, err := os.Stat(words[2])
		return err == nil && info.IsDir()
	case "go test":
		return true
	}
	_, ok := targets[words[1]]
	return words[0] == "make" && ok
}

// makeTargets returns the Makefile's targets with their comments.
func makeTargets(t *testing.T) map[string]string {
	t.Helper()
	targets := make(map[string]string)
	rule := regexp.MustCompile(`(?m)^([a-z][a-z-]*):[^=\n]*?(?:## (.*))?$`)
	for _, match := range rule.FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets[match[1]] = match[2]
	}
	return targets
}

func TestEveryMakeTargetSaysWhatItDoes(t *testing.T) {
	t.Parallel()
	targets := makeTargets(t)
	for _, name := range []string{"help", "check", "test", "bench", "fuzz", "lint", "tools"} {
		if _, ok := targets[name]; !ok {
			t.Errorf("no target %s", name)
		}
	}
	for name, comment := range targets {
		if comment == "" {
			t.Errorf("target %s has no ## comment", name)
		}
	}
}

// Every linter that is on stands with its reason.
func TestEveryLinterHasAReason(t *testing.T) {
	t.Parallel()
	_, list, found := strings.Cut(read(t, ".golangci.yml"), "  enable:\n")
	if !found {
		t.Fatal("no list of linters")
	}
	enabled := regexp.MustCompile(`^    - ([a-z]+)( # .+)?\n$`)
	n := 0
	for line := range strings.Lines(list) {
		match := enabled.FindStringSubmatch(line)
		if match == nil {
			break
		}
		if n++; match[2] == "" {
			t.Errorf("%s has no reason", match[1])
		}
	}
	if n == 0 {
		t.Error("no linter is on")
	}
}
