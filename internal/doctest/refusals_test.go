package doctest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// testName is a test as the tables of what is refused name it: function, and
// after a slash the row of its table.
var testName = regexp.MustCompile("`(Test[A-Za-z0-9_]+)(?:/([^`]+))?`")

// Verifies: SR-043
func TestEveryRefusalNamesItsTest(t *testing.T) {
	everyRowNamesItsTest(t, "identity.md", "What is refused", 25)
}

// Verifies: SR-068
func TestEveryRotationNamesItsTest(t *testing.T) {
	everyRowNamesItsTest(t, "fleet-keys.md", "What a device does", 12)
}

func everyRowNamesItsTest(t *testing.T, page, section string, least int) {
	b, err := os.ReadFile("../../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(b), "\n## "+section+"\n")
	if !ok {
		t.Fatalf("docs/%s has no section %q", page, section)
	}
	table, _, _ = strings.Cut(table, "\n## ")
	source := testSources(t)
	rows := 0
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| what ") || strings.HasPrefix(line, "|--") {
			continue
		}
		rows++
		named := testName.FindAllStringSubmatch(line, -1)
		if len(named) == 0 {
			t.Errorf("no test is named in the row: %s", line)
		}
		for _, m := range named {
			var file string
			for name, text := range source {
				if strings.Contains(text, "\nfunc "+m[1]+"(") && strings.Contains(text, m[2]) {
					file = name
				}
			}
			if file == "" {
				t.Errorf("there is no test %s with the row %q", m[1], m[2])
			}
		}
	}
	if rows < least {
		t.Errorf("only %d rows", rows)
	}
}

// testSources reads every test file of the repository.
func testSources(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
