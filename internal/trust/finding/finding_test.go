package finding

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	wellFormed = regexp.MustCompile(`^[a-z]+(\.[a-z]+(-[a-z]+)*)$`)
	clause     = regexp.MustCompile(`^(IEC 62443-4-2 (CR|EDR|CCSC) \d+(\.\d+)?( RE\d)?|FDA App\. 1 [A-H])$`)
	technique  = regexp.MustCompile(`^T[01]\d{3}(\.\d{3})?$`)
	// areas are the first words that a code may have.
	areas = []string{"access", "boot", "daemon", "file", "files", "identity", "ima", "journal", "link", "posture", "scan", "tpm", "update", "usb"}
)

// Verifies: SR-019
func TestCatalogue(t *testing.T) {
	all := All()
	if len(all) < 40 {
		t.Fatalf("%d codes: too few to be the whole catalogue", len(all))
	}
	titles := map[string]Code{}
	for i, d := range all {
		if i > 0 && all[i-1].Code >= d.Code {
			t.Errorf("%s does not stand behind %s", d.Code, all[i-1].Code)
		}
		if !wellFormed.MatchString(string(d.Code)) {
			t.Errorf("%q is not of the form area.what-is-wrong", d.Code)
		}
		if !slices.Contains(areas, d.Code.Area()) {
			t.Errorf("%s: area %q is not one of %v", d.Code, d.Code.Area(), areas)
		}
		if _, err := d.Severity.MarshalText(); err != nil {
			t.Errorf("%s: %v", d.Code, err)
		}
		if d.Kind != Condition && d.Kind != Incident {
			t.Errorf("%s: kind %q", d.Code, d.Kind)
		}
		if d.Title == "" || strings.HasSuffix(d.Title, ".") || len(d.Title) > 76 {
			t.Errorf("%s: title %q is not a short line without a full stop", d.Code, d.Title)
		}
		for _, text := range []string{d.Meaning, d.Remedy} {
			if len(text) < 10 || !strings.HasSuffix(text, ".") {
				t.Errorf("%s: %q is not a sentence", d.Code, text)
			}
		}
		for _, source := range []string{"IEC 62443-4-2 ", "FDA App. 1 "} {
			if !slices.ContainsFunc(d.Clauses, func(c string) bool { return strings.HasPrefix(c, source) }) {
				t.Errorf("%s names no clause of %s", d.Code, source)
			}
		}
		for _, c := range d.Clauses {
			if !clause.MatchString(c) {
				t.Errorf("%s: %q is not a clause", d.Code, c)
			}
		}
		if other, twice := titles[d.Title]; twice {
			t.Errorf("%s and %s have one title", other, d.Code)
		}
		titles[d.Title] = d.Code
		if got, ok := Lookup(d.Code); !ok || got.Code != d.Code {
			t.Errorf("%s cannot be looked up", d.Code)
		}
		if f := New(d.Code, "x"); f.Code != d.Code || f.Severity != d.Severity || f.Remedy != d.Remedy || f.Detail != "x" {
			t.Errorf("%s gives %+v", d.Code, f)
		}
	}
}

// Every constant of type Code is in the catalogue, once.
//
// Verifies: SR-019
func TestEveryCodeIsCatalogued(t *testing.T) {
	names, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if kind, ok := v.Type.(*ast.Ident); !ok || kind.Name != "Code" {
				return true
			}
			for i, value := range v.Values {
				code, err := strconv.Unquote(value.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				if _, ok := Lookup(Code(code)); !ok {
					t.Errorf("%s: %s (%q) is not in the catalogue", name, v.Names[i].Name, code)
				}
				if seen[code] {
					t.Errorf("%s: %q stands twice", name, code)
				}
				seen[code] = true
			}
			return true
		})
	}
	if len(seen) != len(All()) {
		t.Errorf("%d constants and %d entries", len(seen), len(All()))
	}
}

// A technique stands once, is of the form of its ids, and names codes of the
// catalogue; each code's are sorted.
//
// Verifies: SR-061
func TestTechniques(t *testing.T) {
	seen, with := map[string]bool{}, 0
	for _, row := range techniques {
		if !technique.MatchString(row.id) || row.name == "" || len(row.codes) == 0 || seen[row.id] {
			t.Errorf("technique %q %q stands twice, or has no name, no code or another form", row.id, row.name)
		}
		seen[row.id] = true
		for i, c := range row.codes {
			if _, ok := Lookup(c); !ok {
				t.Errorf("%s names %s, which is not in the catalogue", row.id, c)
			}
			if slices.Contains(row.codes[:i], c) {
				t.Errorf("%s names %s twice", row.id, c)
			}
		}
	}
	for _, d := range All() {
		ids := Techniques(d.Code)
		if len(ids) > 0 {
			with++
		}
		if !slices.IsSortedFunc(ids, func(a, b Technique) int { return strings.Compare(a.ID, b.ID) }) {
			t.Errorf("%s: %v is not sorted", d.Code, ids)
		}
	}
	if with < 50 {
		t.Errorf("%d codes have a technique: too few to be the whole table", with)
	}
	if got := Techniques(LinkServerNotYetValid); len(got) != 0 {
		t.Errorf("a clock that is wrong is no attack: %v", got)
	}
	if got := (Technique{ID: "T1562.010"}).Address(); got != "https://attack.mitre.org/techniques/T1562/010/" {
		t.Errorf("address %s", got)
	}
}

func TestTwiceInTheCatalogue(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a code that stands twice is accepted")
		}
	}()
	merge(bootCodes, bootCodes[:1])
}

func TestUnknownCode(t *testing.T) {
	if _, ok := Lookup("boot.nonsense"); ok {
		t.Error("an unknown code is found")
	}
	defer func() {
		if recover() == nil {
			t.Error("New accepts a code that is not in the catalogue")
		}
	}()
	New("boot.nonsense", "")
}

func TestSeverityText(t *testing.T) {
	names := map[Severity]string{Info: "info", Low: "low", Medium: "medium", High: "high", Critical: "critical"}
	for s, name := range names {
		b, err := s.MarshalText()
		if err != nil || string(b) != name || s.String() != name {
			t.Errorf("%d is written %q, %v; want %q", s, b, err, name)
		}
		var back Severity
		if err := back.UnmarshalText(b); err != nil || back != s {
			t.Errorf("%q is read as %d, %v; want %d", b, back, err, s)
		}
	}
	for _, s := range []Severity{0, Critical + 1} {
		if b, err := s.MarshalText(); err == nil {
			t.Errorf("severity %d is written %q", s, b)
		}
		if s.String() != "none" {
			t.Errorf("severity %d reads %q", s, s)
		}
	}
	for _, text := range []string{"", "HIGH", "none", "fatal"} {
		s := Low
		if err := s.UnmarshalText([]byte(text)); err == nil || s != Low {
			t.Errorf("%q is read as %s", text, s)
		}
	}
	if !(Info < Low && Low < Medium && Medium < High && High < Critical) {
		t.Error("severities are not in order")
	}
}

func TestWorst(t *testing.T) {
	if got := Worst(nil); got != 0 {
		t.Errorf("nothing is %s", got)
	}
	fs := []Finding{New(LinkDown, ""), New(BootPCRDiffers, ""), New(JournalTorn, "")}
	if got := Worst(fs); got != Critical {
		t.Errorf("worst is %s, want critical", got)
	}
	if got := Worst(fs[:1]); got != Medium {
		t.Errorf("worst is %s, want medium", got)
	}
}

// What a finding is about is a copy's: one finding may be told of many places.
func TestPlaces(t *testing.T) {
	plain := New(BootPCRDiffers, "d")
	full := plain.At(0).AtIndex(3).AtOffset(128).On("/boot").Want("aa", "bb")
	if plain.PCR != nil || plain.Index != nil || plain.Offset != nil || plain.Path != "" {
		t.Errorf("the first finding was changed: %+v", plain)
	}
	b, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"code":"boot.pcr-differs","severity":"critical","pcr":0,"index":3,"offset":128,"path":"/boot","expected":"aa","found":"bb","detail":"d","remedy":`
	if !strings.HasPrefix(string(b), want) {
		t.Errorf("encoded %s, want %s...", b, want)
	}
	if _, err := json.Marshal(Finding{Code: BootPCRDiffers}); err == nil {
		t.Error("a finding without severity is written")
	}
}
