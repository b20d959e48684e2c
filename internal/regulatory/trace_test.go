package regulatory

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// requirement is one entry of requirements.yaml.
type requirement struct {
	ID      string   `yaml:"id"`
	Text    string   `yaml:"text"`
	Sources []string `yaml:"sources"`
}

// claim is a test that says that it verifies a requirement.
type claim struct {
	id    string
	place string // file:line
	test  string // empty: the comment belongs to no test
}

var (
	idForm     = regexp.MustCompile(`^SR-[0-9]{3}$`)
	sourceForm = regexp.MustCompile(`^(FDA (App\. 1 [A-H]|section 524B|V\.A\.[0-9]|F-[0-9]{2})|IEC 62443-4-2 (CR|EDR|CCSC) [0-9.]+( RE[0-9])?|IEC 62304 [0-9.]+|ISO 14971 [0-9.]+|NIST SP 800-193)$`)
	// comments of Go, of txtar scripts and of shell scripts
	verifies = regexp.MustCompile(`^\s*(?://|#)\s*Verifies:(.*)$`)
)

func TestEveryRequirementIsVerifiedByATest(t *testing.T) {
	tree := os.DirFS("../..")
	text, err := fs.ReadFile(tree, "docs/regulatory/requirements.yaml")
	if err != nil {
		t.Fatal(err)
	}
	requirements, err := parse(text)
	if err != nil {
		t.Fatalf("parse requirements.yaml: %v", err)
	}
	claims, err := collect(tree)
	if err != nil {
		t.Fatal(err)
	}
	for _, gap := range gaps(requirements, claims) {
		t.Error(gap)
	}
}

// parse reads requirements.yaml strictly.
func parse(text []byte) ([]requirement, error) {
	var file struct {
		Requirements []requirement `yaml:"requirements"`
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil {
		return nil, err
	}
	seen := make(map[string]bool)
	for _, r := range file.Requirements {
		switch {
		case !idForm.MatchString(r.ID):
			return nil, fmt.Errorf("id %q is not of the form SR-001", r.ID)
		case seen[r.ID]:
			return nil, fmt.Errorf("%s stands twice", r.ID)
		case r.Text == "" || len(r.Sources) == 0:
			return nil, fmt.Errorf("%s has no text or no source", r.ID)
		}
		for _, s := range r.Sources {
			if !sourceForm.MatchString(s) {
				return nil, fmt.Errorf("%s: source %q is not a standard and a clause number", r.ID, s)
			}
		}
		seen[r.ID] = true
	}
	if len(seen) == 0 {
		return nil, fmt.Errorf("there is no requirement")
	}
	return file.Requirements, nil
}

// gaps says what is missing between requirements and tests.
func gaps(requirements []requirement, claims []claim) []string {
	var found []string
	for _, r := range requirements {
		if !slices.ContainsFunc(claims, func(c claim) bool { return c.id == r.ID && c.test != "" }) {
			found = append(found, fmt.Sprintf("%s is verified by no test: %s", r.ID, r.Text))
		}
	}
	for _, c := range claims {
		switch {
		case c.test == "":
			found = append(found, fmt.Sprintf("%s: %s is claimed by no test: put the line into the comment of a test function", c.place, c.id))
		case !slices.ContainsFunc(requirements, func(r requirement) bool { return r.ID == c.id }):
			found = append(found, fmt.Sprintf("%s: %s claims %s, which is not in requirements.yaml", c.place, c.test, c.id))
		}
	}
	return found
}

// collect finds the claims in the tree's tests: Go tests and scripts.
func collect(tree fs.FS) ([]claim, error) {
	var claims []claim
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		var some []claim
		switch {
		case strings.HasSuffix(name, "_test.go"):
			some, err = inGo(tree, name)
		case path.Ext(name) == ".txtar":
			some, err = inScript(tree, name)
		}
		claims = append(claims, some...)
		return err
	})
	return claims, err
}

func inGo(tree fs.FS, name string) ([]claim, error) {
	text, err := fs.ReadFile(tree, name)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	tests := make(map[*ast.CommentGroup]string)
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Doc != nil && f.Recv == nil && isTest(f.Name.Name) {
			tests[f.Doc] = f.Name.Name
		}
	}
	var claims []claim
	for _, group := range file.Comments {
		for _, comment := range group.List {
			place := fmt.Sprintf("%s:%d", name, fset.Position(comment.Pos()).Line)
			claims = append(claims, inLine(comment.Text, place, tests[group])...)
		}
	}
	return claims, nil
}

func isTest(name string) bool {
	return strings.HasPrefix(name, "Test") && name != "TestMain" || strings.HasPrefix(name, "Fuzz")
}

func inScript(tree fs.FS, name string) ([]claim, error) {
	text, err := fs.ReadFile(tree, name)
	if err != nil {
		return nil, err
	}
	var claims []claim
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		if strings.HasPrefix(line, "-- ") {
			break // the script ends, its files begin
		}
		claims = append(claims, inLine(line, fmt.Sprintf("%s:%d", name, number), path.Base(name))...)
	}
	return claims, nil
}

// inLine reads one comment line; ids stand apart by spaces or commas.
func inLine(line, place, test string) []claim {
	m := verifies.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
	if m == nil {
		return nil
	}
	var claims []claim
	for _, id := range strings.FieldsFunc(m[1], func(r rune) bool { return r == ' ' || r == ',' || r == '\t' }) {
		claims = append(claims, claim{id: strings.TrimRight(id, "."), place: place, test: test})
	}
	return claims
}
