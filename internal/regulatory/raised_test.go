package regulatory

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"ward/internal/trust/finding"
)

// A finding is raised by a test when that test fails as soon as the product no
// longer raises it. docs/regulatory/findings.yaml names one such test for each
// code. That the table is whole, that its tests exist and that the product uses
// each code is checked at every run of the tests; that each test fails without its
// code is proved by "make raised", which takes it away (see muted_test.go).
var (
	prove   = flag.Bool("prove", false, "prove that each test of docs/regulatory/findings.yaml fails without its finding")
	propose = flag.Bool("propose", false, "look for a test for each finding that has none in docs/regulatory/findings.yaml, and print it")
)

const root = "../.."

// raiser is a test by its package's folder and its name.
type raiser struct{ folder, test string }

func (r raiser) String() string { return r.folder + " " + r.test }

// raisers reads findings.yaml strictly.
func raisers(t *testing.T) map[finding.Code]raiser {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs/regulatory/findings.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Findings map[string]string `yaml:"findings"`
	}
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil {
		t.Fatalf("findings.yaml: %v", err)
	}
	out := make(map[finding.Code]raiser)
	for code, at := range file.Findings {
		folder, test, ok := strings.Cut(at, " ")
		if !ok || !strings.HasPrefix(test, "Test") {
			t.Fatalf("findings.yaml: %s: %q is not a folder and a test", code, at)
		}
		out[finding.Code(code)] = raiser{folder, test}
	}
	return out
}

// Verifies: SR-061
func TestEveryFindingHasATest(t *testing.T) {
	table := raisers(t)
	for _, d := range finding.All() {
		r, ok := table[d.Code]
		if !ok {
			t.Errorf("%s has no test in docs/regulatory/findings.yaml: name one that fails when it is not raised, and prove it with make raised", d.Code)
			continue
		}
		if !declares(t, r) {
			t.Errorf("%s: there is no %s in %s", d.Code, r.test, r.folder)
		}
	}
	for code := range table {
		if _, ok := finding.Lookup(code); !ok {
			t.Errorf("findings.yaml: %s is not in the catalogue", code)
		}
	}
}

func declares(t *testing.T, r raiser) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, r.folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == r.test {
				return true
			}
		}
	}
	return false
}

// neverShipped are folders whose use of a code raises nothing on a device or at a
// fleet.
var neverShipped = []string{"internal/lab", "internal/peers", "internal/trust/finding"}

// A code that the product uses nowhere is dead: it goes, or is raised.
//
// Verifies: SR-061
func TestNoFindingIsDead(t *testing.T) {
	used, names := map[string]bool{}, constantsOfCodes(t)
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || strings.HasSuffix(d.Name(), "test") || slices.Contains(neverShipped, name)):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if p, ok := s.X.(*ast.Ident); ok && p.Name == "finding" {
					used[s.Sel.Name] = true
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !used[name] {
			t.Errorf("%s (%s) is used by no program", name, names[name])
		}
	}
}

// constantsOfCodes are the codes by the name of their constant.
func constantsOfCodes(t *testing.T) map[string]finding.Code {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "internal/trust/finding/*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	out := make(map[string]finding.Code)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			for i, value := range v.Values {
				lit, ok := value.(*ast.BasicLit)
				if kind, isName := v.Type.(*ast.Ident); !ok || !isName || kind.Name != "Code" {
					continue
				}
				if text, err := strconv.Unquote(lit.Value); err == nil {
					out[v.Names[i].Name] = finding.Code(text)
				}
			}
			return true
		})
	}
	if len(out) != len(finding.All()) {
		t.Fatalf("%d constants, %d codes", len(out), len(finding.All()))
	}
	return out
}

// likeness is another code of the same kind and, where there is one, the same
// severity, so that a test that tells a finding from others fails, and one that only
// counts does not.
func likeness(code finding.Code) (finding.Code, error) {
	d, _ := finding.Lookup(code)
	var found finding.Code
	for _, other := range finding.All() {
		switch {
		case other.Code == code || other.Kind != d.Kind:
		case other.Severity == d.Severity:
			return other.Code, nil
		case found == "":
			found = other.Code
		}
	}
	if found == "" {
		return "", fmt.Errorf("no other finding is of the kind %s", d.Kind)
	}
	return found, nil
}
