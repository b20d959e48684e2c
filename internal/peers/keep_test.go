package peers

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ward/internal/format/pcr"
)

// kept is the folder of one small input for each disagreement.
const kept = "testdata/disagreements"

// maxKept is how long a kept input may be; the corpus has what is longer.
const maxKept = 4 << 10

type key struct {
	class string
	peer  int
	kind  kind
}

// found are the disagreements among the answers, with an input for each: the
// first that is small, for the logs that are made here come first. A peer that disagrees about the unchanged log is heard about that alone.
func found(all []asked) map[key]*asked {
	base := make(map[string][programs]Answer)
	for _, a := range all {
		if a.class.name == "unchanged" {
			base[a.log] = a.answers
		}
	}
	examples := make(map[key]*asked)
	for i := range all {
		a := &all[i]
		for p := range programs {
			k := key{a.class.name, p, otherwise(a.answers[ward], a.answers[p])}
			if p == ward || k.kind == "" || a.class.name != "unchanged" && base[a.log][p] != Follows {
				continue
			}
			if old := examples[k]; old == nil || len(old.bytes) > maxKept && len(a.bytes) < len(old.bytes) {
				examples[k] = a
			}
		}
	}
	return examples
}

// reasoned wants the disagreements to be those that are listed.
func reasoned(t *testing.T, all []asked) {
	t.Helper()
	examples := found(all)
	for k, a := range examples {
		if reasonOf(k.class, k.peer, k.kind) == "" {
			t.Errorf("%s %s %q (of %s, %d bytes, Ward %s, it %s): no reason is listed", programNames[k.peer], k.kind, k.class, a.log, len(a.bytes), a.answers[ward], a.answers[k.peer])
		}
	}
	for _, d := range disagreements {
		for _, c := range d.classes {
			if examples[key{c, d.peer, d.kind}] == nil {
				t.Errorf("%s no longer %s %q: strike it from the list", programNames[d.peer], d.kind, c)
			}
		}
	}
}

const readme = `# Where peers answer otherwise

One small input for each class of changes that a peer takes otherwise than Ward,
written by ` + "`go test -run TestEventLogs -update`" + `. The registers that each was held
against stand in registers.json. A peer takes what Ward does not pass, refuses
what Ward passes, or breaks. Logs named paper are made by logs.go, the others are
real ones, published as test data by google/go-attestation (Apache-2.0).

| file | log | change | Ward | go-attestation | tcglog-parser | tpm2_eventlog | reason |
|---|---|---|---|---|---|---|---|
`

// keep writes the inputs, their registers and the list of reasons.
func keep(t *testing.T, all []asked) {
	t.Helper()
	removeInputs(t, kept)
	reasons := make(map[*asked][]string)
	var list []*asked
	examples := found(all)
	for _, d := range disagreements {
		for _, c := range d.classes {
			a := examples[key{c, d.peer, d.kind}]
			if a == nil {
				continue
			}
			if reasons[a] == nil {
				list = append(list, a)
			}
			reasons[a] = append(reasons[a], fmt.Sprintf("%s %s it: %s", programNames[d.peer], d.kind, d.reason))
		}
	}
	order := func(a *asked) int {
		return slices.IndexFunc(classes, func(c class) bool { return c.name == a.class.name })
	}
	slices.SortStableFunc(list, func(a, b *asked) int { return cmp.Compare(order(a), order(b)) })
	text := bytes.NewBufferString(readme)
	values := make(map[string]map[pcr.Algorithm]pcr.Values)
	used := make(map[string]int)
	for _, a := range list {
		name := "-"
		if len(a.bytes) <= maxKept {
			slug := slugOf(a.class.name)
			if used[slug]++; used[slug] > 1 {
				slug = fmt.Sprintf("%s-%d", slug, used[slug])
			}
			name = slug + ".bin"
			writeFile(t, filepath.Join(kept, name), a.bytes)
			values[name] = map[pcr.Algorithm]pcr.Values{a.machine.Bank: registers(a.machine)}
		}
		fmt.Fprintf(text, "| %s | %s | %s |", name, a.log, a.class.name)
		for _, answer := range a.answers {
			fmt.Fprintf(text, " %s |", answer)
		}
		fmt.Fprintf(text, " %s |\n", strings.Join(reasons[a], "; "))
	}
	b, err := json.MarshalIndent(values, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(kept, "registers.json"), append(b, '\n'))
	writeFile(t, filepath.Join(kept, "README.md"), text.Bytes())
}

// slugOf makes a file's name of a class's name.
func slugOf(class string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(strings.ReplaceAll(class, "'", "")), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	}), "-")
}

// removeInputs takes the inputs of an earlier run away.
func removeInputs(t *testing.T, dir string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.bin"))
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// tableRows are the cells of a table in a text, without its head.
func tableRows(text []byte) [][]string {
	var rows [][]string
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if strings.HasPrefix(line, "| ") && cells[0] != "file" {
			rows = append(rows, cells)
		}
	}
	return rows
}

// Each kept input is answered as its row says, with the registers that lie
// beside it.
//
// Verifies: SR-002 SR-003
func TestKeptDisagreements(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(kept, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(kept, "registers.json"))
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]map[pcr.Algorithm]pcr.Values)
	if err := json.Unmarshal(b, &values); err != nil {
		t.Fatal(err)
	}
	logs, _ := Logs() // a log that is missing is found missing below
	_, stated := expected(t, answersFile, programNames[:])
	tool := usable(version("tpm2_eventlog"), stated) != ""
	rows := tableRows(text)
	for _, cells := range rows {
		if cells[0] == "-" {
			continue
		}
		t.Run(strings.TrimSuffix(cells[0], ".bin"), func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join(kept, cells[0]))
			if err != nil {
				t.Fatal(err)
			}
			a := asked{input: input{bytes: raw}}
			if i := slices.IndexFunc(classes, func(c class) bool { return c.name == cells[2] }); i >= 0 {
				a.class = &classes[i]
			} else {
				t.Fatalf("there is no class %q", cells[2])
			}
			i := slices.IndexFunc(logs, func(l Log) bool { return l.Name == cells[1] })
			if i < 0 {
				Missing(t, "the log %s, from which this one was made, is not there", cells[1])
			}
			if a.machine = Boot(t, logs[i].Bytes); a.class.holds {
				a.machine = a.machine.Holding(t, raw)
			}
			if got, want := registers(a.machine), values[cells[0]][a.machine.Bank]; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("registers %v, registers.json has %v", got, want)
			}
			if err := a.ask(filepath.Join(t.TempDir(), "log"), tool); err != nil {
				t.Fatal(err)
			}
			for p, answer := range a.answers {
				if want := Answer(cells[3+p]); answer != want && answer != "" {
					t.Errorf("%s answers %q, the list says %q; Ward's findings: %q", programNames[p], answer, want, a.findings)
				}
			}
		})
	}
	if files, err := filepath.Glob(filepath.Join(kept, "*.bin")); err != nil || len(files) != len(values) || len(rows) < len(files) || len(files) == 0 {
		t.Errorf("%d files, %d sets of registers, %d rows: %v", len(files), len(values), len(rows), err)
	}
}

// The inputs of the repository stay small.
func TestKeptInputsAreSmall(t *testing.T) {
	total := int64(0)
	err := filepath.WalkDir("testdata", func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		total += info.Size()
		return errors.Join(err)
	})
	if err != nil || total > 256<<10 {
		t.Errorf("testdata has %d bytes: %v", total, err)
	}
}
