package peers

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ward/internal/format/pcr"
)

// keptLists is the folder of one small list for each class that evmctl takes
// otherwise.
const keptLists = "testdata/disagreements/ima"

// A listDisagreement is a class of changes to lists that evmctl takes otherwise,
// and why.
type listDisagreement struct {
	class  string
	kind   kind
	reason string
}

// listDisagreements are all of them, as disagreements are.
var listDisagreements = []listDisagreement{
	{"bit of the template hash", refuses, "it always holds the data against the hash in the list; in another bank than SHA-1 that hash was not extended"},
	{"cut between entries", takes, "in the SHA-1 bank a list of one entry is good, whatever PCR 10 holds"},
	{"cut inside an entry", takes, "an entry that ends inside its header is taken for the list's end, and in the SHA-1 bank a list of one entry is good"},
	{"data of 4 GiB", takes, "reading ends at the second entry, and in the SHA-1 bank a list of one entry is good"},
}

// foundLists are the disagreements among the answers, with the shortest list of
// each.
func foundLists(all []askedList) map[listDisagreement]*askedList {
	examples := make(map[listDisagreement]*askedList)
	for i := range all {
		a := &all[i]
		k := listDisagreement{class: a.class, kind: otherwise(a.answers[0], a.answers[1])}
		if old := examples[k]; k.kind != "" && (old == nil || len(a.bytes) < len(old.bytes)) {
			examples[k] = a
		}
	}
	return examples
}

// reasonedLists wants the disagreements to be those that are listed.
func reasonedLists(t *testing.T, all []askedList) {
	t.Helper()
	examples := foundLists(all)
	for k, a := range examples {
		if !slices.ContainsFunc(listDisagreements, func(d listDisagreement) bool { return d.class == k.class && d.kind == k.kind }) {
			t.Errorf("evmctl %s %q (%s, %d bytes, Ward %s, it %s): no reason is listed", k.kind, k.class, a.list, len(a.bytes), a.answers[0], a.answers[1])
		}
	}
	for _, d := range listDisagreements {
		if examples[listDisagreement{class: d.class, kind: d.kind}] == nil {
			t.Errorf("evmctl no longer %s %q: strike it from the list", d.kind, d.class)
		}
	}
}

const listReadme = `# Where evmctl answers otherwise

One short IMA list for each class of changes that evmctl takes otherwise than
Ward, written by ` + "`go test -run TestIMALists -update`" + `. PCR 10 is what the unchanged
list gives.

| file | bank | PCR 10 | change | Ward | evmctl | reason |
|---|---|---|---|---|---|---|
`

// keepLists writes the lists and the reasons.
func keepLists(t *testing.T, all []askedList) {
	t.Helper()
	removeInputs(t, keptLists)
	text := bytes.NewBufferString(listReadme)
	examples := foundLists(all)
	for _, d := range listDisagreements {
		a := examples[listDisagreement{class: d.class, kind: d.kind}]
		if a == nil {
			continue
		}
		name := slugOf(d.class) + ".bin"
		writeFile(t, filepath.Join(keptLists, name), a.bytes)
		fmt.Fprintf(text, "| %s | %s | %s | %s | %s | %s | %s |\n", name, a.machine.Bank, a.machine.PCR10, d.class, a.answers[0], a.answers[1], d.reason)
	}
	writeFile(t, filepath.Join(keptLists, "README.md"), text.Bytes())
}

// Each kept list is answered as its row says.
//
// Verifies: SR-004
func TestKeptLists(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(keptLists, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := tableRows(text)
	if len(rows) != len(listDisagreements) {
		t.Errorf("%d rows, %d disagreements", len(rows), len(listDisagreements))
	}
	_, stated := expected(t, listAnswersFile, []string{"Ward", "evmctl"})
	tool := usable(evmctlVersion(), stated) != ""
	for _, cells := range rows {
		t.Run(strings.TrimSuffix(cells[0], ".bin"), func(t *testing.T) {
			list, err := os.ReadFile(filepath.Join(keptLists, cells[0]))
			if err != nil {
				t.Fatal(err)
			}
			m := &ListMachine{}
			if m.Bank, err = pcr.ParseAlgorithm(cells[1]); err != nil {
				t.Fatal(err)
			}
			if err := m.PCR10.UnmarshalText([]byte(cells[2])); err != nil {
				t.Fatal(err)
			}
			if got, findings := m.Ward(list); got != Answer(cells[4]) {
				t.Errorf("Ward %s with %q, the row says %s", got, findings, cells[4])
			}
			if !tool {
				Missing(t, "evmctl %s was not asked", stated)
			}
			got, err := Evmctl(filepath.Join(t.TempDir(), "list"), list, m)
			if err != nil || got != Answer(cells[5]) {
				t.Errorf("evmctl %s, the row says %s: %v", got, cells[5], err)
			}
		})
	}
}
