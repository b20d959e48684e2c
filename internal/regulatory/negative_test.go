package regulatory

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const two = `requirements:
  - {id: SR-001, text: One., sources: [FDA App. 1 D]}
  - {id: SR-002, text: Two., sources: [IEC 62443-4-2 CR 3.4 RE2]}
`

func TestGapsAreFound(t *testing.T) {
	const goHead = "package x\n\nimport \"testing\"\n\n"
	for _, row := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"all verified", map[string]string{
			"a/a_test.go":             goHead + "// What it shows.\n//\n// Verifies: SR-001, SR-002\nfunc TestA(t *testing.T) {}\n",
			"b/testdata/status.txtar": "# Verifies: SR-002\nexec x\n-- file --\n# Verifies: SR-009\n",
		}, nil},
		{"an id without test", map[string]string{
			"a/a_test.go": goHead + "// Verifies: SR-001\nfunc TestA(t *testing.T) {}\n",
		}, []string{"SR-002 is verified by no test: Two."}},
		{"an unknown id", map[string]string{
			"a/a_test.go": goHead + "// Verifies: SR-001 SR-002 SR-900\nfunc FuzzA(f *testing.F) {}\n",
		}, []string{"a/a_test.go:5: FuzzA claims SR-900, which is not in requirements.yaml"}},
		{"a claim on no test", map[string]string{
			"a/a_test.go": goHead + "// Verifies: SR-001 SR-002\nfunc TestA(t *testing.T) {}\n\n// Verifies: SR-001\nfunc assist() {}\n",
		}, []string{"a/a_test.go:8: SR-001 is claimed by no test: put the line into the comment of a test function"}},
		{"a claim in shipped code counts for nothing", map[string]string{
			"a/a.go":      "package x\n\n// Verifies: SR-002\nfunc F() {}\n",
			"a/a_test.go": goHead + "// Verifies: SR-001\nfunc TestA(t *testing.T) {}\n",
		}, []string{"SR-002 is verified by no test: Two."}},
		{"a hidden folder counts for nothing", map[string]string{
			"a/a_test.go":      goHead + "// Verifies: SR-001\nfunc TestA(t *testing.T) {}\n",
			".lab/a/a_test.go": goHead + "// Verifies: SR-002\nfunc TestA(t *testing.T) {}\n",
		}, []string{"SR-002 is verified by no test: Two."}},
	} {
		t.Run(row.name, func(t *testing.T) {
			tree := make(fstest.MapFS)
			for name, text := range row.files {
				tree[name] = &fstest.MapFile{Data: []byte(text)}
			}
			requirements, err := parse([]byte(two))
			if err != nil {
				t.Fatal(err)
			}
			claims, err := collect(tree)
			if err != nil {
				t.Fatal(err)
			}
			if got := gaps(requirements, claims); !slices.Equal(got, row.want) {
				t.Errorf("got %q\nwant %q", got, row.want)
			}
		})
	}
}

func TestBadRequirementsAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"none":          "requirements: []\n",
		"no YAML":       "requirements: [\n",
		"unknown field": strings.Replace(two, "text: One.", "texts: One.", 1),
		"form of an id": strings.Replace(two, "SR-001", "SR-1", 1),
		"twice":         strings.Replace(two, "SR-001", "SR-002", 1),
		"no text":       strings.Replace(two, "text: One.", "text: ''", 1),
		"no source":     strings.Replace(two, "[FDA App. 1 D]", "[]", 1),
		"no clause":     strings.Replace(two, "FDA App. 1 D", "The FDA says so", 1),
	} {
		if got, err := parse([]byte(text)); err == nil {
			t.Errorf("%s: accepted as %v", name, got)
		}
	}
}
