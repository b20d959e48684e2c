package floors

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// parserNames begin the names of functions that turn bytes from outside into
// values.
var parserNames = []string{"Parse", "Decode", "NewDecoder", "Read", "Load", "Open", "Verify"}

// unfuzzedPackages are the format packages without a target.
var unfuzzedPackages = map[string]string{
	"format/chain": "it hashes records and reads none",
	"format/sm3":   "it hashes bytes and reads none",
	"format/pcr":   "it computes registers; the names that it reads come from flags and signed manifests",
}

// unfuzzedParsers are the parsers that no target of their package calls.
var unfuzzedParsers = map[string]string{
	"format/ima.NewDecoderAt": "NewDecoder is the same at the list's begin",
	"trust/release.Open":      "it joins dsse's Keyring.Open and Parse, which are fuzzed each",
}

// The fuzz targets reach every parser of bytes from outside: each package of
// internal/format has one, and each exported parser there and in internal/trust
// is called by one in its own package.
//
// Verifies: SR-003
func TestEveryParserIsFuzzed(t *testing.T) {
	root := moduleRoot(t)
	parsers := 0
	for _, floor := range []string{"format", "trust"} {
		dirs, err := os.ReadDir(filepath.Join(root, "internal", floor))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range dirs {
			unit := floor + "/" + d.Name()
			parse, targets, called := fuzzed(t, filepath.Join(root, "internal", unit))
			reason, excepted := unfuzzedPackages[unit]
			switch {
			case floor == "format" && targets == 0 && !excepted:
				t.Errorf("internal/%s has no fuzz target", unit)
			case targets > 0 && excepted:
				t.Errorf("internal/%s has a fuzz target, and is excepted because %q", unit, reason)
			}
			for _, name := range parse {
				parsers++
				reason, excepted := unfuzzedParsers[unit+"."+name]
				switch {
				case !called[name] && !excepted:
					t.Errorf("internal/%s: no fuzz target calls %s", unit, name)
				case called[name] && excepted:
					t.Errorf("internal/%s: a fuzz target calls %s, which is excepted because %q", unit, name, reason)
				}
			}
		}
	}
	if parsers < 10 {
		t.Errorf("%d parsers: too few to be all", parsers)
	}
}

// fuzzed returns the exported parsers of a folder's package, how many fuzz
// targets its tests have, and which functions those call, also through functions
// of the tests.
func fuzzed(t *testing.T, dir string) (parsers []string, targets int, called map[string]bool) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	tests := make(map[string]*ast.FuncDecl)
	var open []*ast.FuncDecl
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil {
				continue
			}
			switch test := strings.HasSuffix(name, "_test.go"); {
			case test && strings.HasPrefix(f.Name.Name, "Fuzz"):
				targets++
				open = append(open, f)
			case test:
				tests[f.Name.Name] = f
			case takesBytes(f):
				parsers = append(parsers, f.Name.Name)
			}
		}
	}
	called = make(map[string]bool)
	for len(open) > 0 {
		f := open[0]
		open = open[1:]
		ast.Inspect(f, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok || called[id.Name] {
				return true
			}
			called[id.Name] = true
			if next := tests[id.Name]; next != nil {
				open = append(open, next)
			}
			return true
		})
	}
	return parsers, targets, called
}

// takesBytes tells an exported parser: by its name, and by an argument that is
// []byte, one of several, or a reader.
func takesBytes(f *ast.FuncDecl) bool {
	if !slices.ContainsFunc(parserNames, func(p string) bool { return strings.HasPrefix(f.Name.Name, p) }) {
		return false
	}
	return slices.ContainsFunc(f.Type.Params.List, func(field *ast.Field) bool {
		kind := field.Type
		if e, ok := kind.(*ast.Ellipsis); ok {
			kind = e.Elt
		}
		switch x := kind.(type) {
		case *ast.ArrayType:
			elem, ok := x.Elt.(*ast.Ident)
			return ok && x.Len == nil && elem.Name == "byte"
		case *ast.SelectorExpr:
			return x.Sel.Name == "Reader"
		}
		return false
	})
}
