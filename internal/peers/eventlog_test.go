package peers

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"ward/internal/format/pcr"
)

var (
	update = flag.Bool("update", false, "write the expected answers and the kept inputs anew")
	table  = flag.String("table", "", "write the table for people to this file")
)

// Inputs of each class and log: enough that every kind of event is met. The
// short form takes every strideShort'th of the same inputs.
const (
	most        = 12
	strideShort = 7
)

// answersFile is the table that says, for each log and class, what each program
// answers and how often. It holds for the version of the tool named in its
// first line and for the libraries in go.mod.
const answersFile = "testdata/answers.txt"

// input is one changed log.
type input struct {
	class *class
	bytes []byte
	want  []Answer
}

// inputs makes the changed logs of a log, the same in every run.
func inputs(t *testing.T, l layout) []input {
	t.Helper()
	var all []input
	for i := range classes {
		c := &classes[i]
		var some []input
		err := c.make(l, func(b []byte, want ...Answer) { some = append(some, input{c, b, want}) })
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		all = append(all, spread(some, most)...)
	}
	return all
}

// spread takes at most n of a list, from all over it.
func spread(list []input, n int) []input {
	if len(list) <= n {
		return list
	}
	var some []input
	for i := range n {
		some = append(some, list[i*(len(list)-1)/(n-1)])
	}
	return some
}

// asked are the answers to one input.
type asked struct {
	input
	machine  *Machine
	log      string
	findings []string
	answers  [programs]Answer
}

// Every class of changes to every log: Ward answers what it must, whatever the
// peers answer, and all answer as the table says.
//
// Verifies: SR-001 SR-002 SR-003 SR-007
func TestEventLogs(t *testing.T) {
	logs, incomplete := Logs()
	want, stated := expected(t)
	tool := toolVersion(t, stated)
	var rows []*row
	var all []asked
	for _, log := range logs {
		t.Run(log.Name, func(t *testing.T) {
			answers := ask(t, log, tool != "")
			sums := make(map[string]*row)
			for _, a := range answers {
				sum := sums[a.class.name]
				if sum == nil {
					sum = newRow(a.class.name, log.Name)
					sums[a.class.name] = sum
					rows = append(rows, sum)
				}
				sum.inputs++
				for i, answer := range a.answers {
					if answer != "" {
						sum.answers[i][answer]++
					}
				}
				if !slices.Contains(a.want, a.answers[ward]) {
					t.Errorf("%s: Ward %s with %q, want %q", a.class.name, a.answers[ward], a.findings, a.want)
				}
			}
			if !*update {
				for _, sum := range sums {
					compare(t, sum, want[[2]string{log.Name, sum.class}])
				}
			}
			all = append(all, answers...)
		})
	}
	if *table != "" {
		var b bytes.Buffer
		if err := printTable(&b, rows); err != nil {
			t.Fatal(err)
		}
		writeFile(t, *table, b.Bytes())
	}
	if *update {
		if tool == "" || incomplete != nil || testing.Short() {
			t.Fatalf("the answers can be written only with all logs and tools: tool %q, %v", tool, incomplete)
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, "# tpm2_eventlog %s\n# log | class | inputs | %s\n", tool, strings.Join(programNames[:], " | "))
		if err := writeRows(&b, rows); err != nil {
			t.Fatal(err)
		}
		writeFile(t, answersFile, b.Bytes())
		keep(t, all)
	}
	if !testing.Short() && incomplete == nil && tool != "" {
		reasoned(t, all)
	}
	if incomplete != nil {
		t.Run("corpus", func(t *testing.T) { Missing(t, "not all logs were changed: %v", incomplete) })
	}
	if tool == "" {
		t.Run("tpm2_eventlog", func(t *testing.T) {
			Missing(t, "tpm2_eventlog %s was not asked: install tpm2-tools of this version, or another and write the answers anew", stated)
		})
	}
}

// ask puts the changed logs of a log to all programs, a few at a time.
func ask(t *testing.T, log Log, tool bool) []asked {
	t.Helper()
	machine := Boot(t, log.Bytes)
	l, err := takeApart(log.Bytes, machine.Bank)
	if err != nil {
		t.Fatal(err)
	}
	var list []asked
	for i, in := range inputs(t, l) {
		if testing.Short() && i%strideShort != 0 {
			continue
		}
		m := machine
		if in.class.holds {
			m = machine.Holding(t, in.bytes)
		}
		list = append(list, asked{input: in, machine: m, log: log.Name})
	}
	dir := t.TempDir()
	var workers sync.WaitGroup
	for w := range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := w; i < len(list); i += runtime.GOMAXPROCS(0) {
				if err := list[i].ask(scratch(dir, w), tool); err != nil {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	return list
}

func (a *asked) ask(file string, tool bool) error {
	m := a.machine
	a.answers[ward], a.findings = m.Ward(a.bytes)
	a.answers[goAttestationColumn] = goAttestation(a.bytes, m.Bank, m.Values)
	var err error
	if a.class.greedy {
		a.answers[tcglogColumn], err = boundedTCGLog(a.bytes, m)
	} else {
		a.answers[tcglogColumn] = tcglogParser(a.bytes, m.Bank, m.Values)
	}
	if !tool || err != nil {
		return err
	}
	a.answers[tpm2Column], err = tpm2EventLog(file, a.bytes, m.Bank, m.Values)
	return err
}

// compare wants the answers that the table states; in the short form, which
// sees fewer inputs, no answer that it does not state.
func compare(t *testing.T, got, want *row) {
	t.Helper()
	if want == nil {
		t.Errorf("%s: the table has no such class of this log", got.class)
		return
	}
	if !testing.Short() && got.inputs != want.inputs {
		t.Errorf("%s: %d inputs, the table has %d", got.class, got.inputs, want.inputs)
	}
	for i, name := range programNames {
		if len(got.answers[i]) == 0 {
			continue // the tool is not there
		}
		same := got.answers[i].String() == want.answers[i].String()
		if testing.Short() {
			same = true
			for a := range got.answers[i] {
				same = same && want.answers[i][a] > 0
			}
		}
		if !same {
			t.Errorf("%s: %s answers: %s; the table says: %s", got.class, name, got.answers[i], want.answers[i])
		}
	}
}

// expected reads the table and the version of the tool that it holds for.
func expected(t *testing.T) (map[[2]string]*row, string) {
	t.Helper()
	b, err := os.ReadFile(answersFile)
	if err != nil && *update {
		return nil, ""
	}
	if err != nil {
		t.Fatal(err)
	}
	rows, err := readRows(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return rows, strings.TrimPrefix(line, "# tpm2_eventlog ")
}

// toolVersion is the tool's version, "" where it is not the stated one.
func toolVersion(t *testing.T, stated string) string {
	t.Helper()
	v := version("tpm2_eventlog")
	if v != stated && !*update {
		return ""
	}
	return v
}

func writeFile(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// registers are values that are worth writing down: those that are not at reset.
func registers(m *Machine) pcr.Values {
	values := make(pcr.Values)
	for i, v := range m.Values {
		if !pcr.IsReset(m.Bank, i, v) {
			values[i] = v
		}
	}
	return values
}
