package peers

import (
	"runtime"
	"slices"
	"sync"
	"testing"

	"ward/internal/format/pcr"
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
const answersFile = "testdata/eventlog.txt"

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
func spread[T any](list []T, n int) []T {
	if len(list) <= n {
		return list
	}
	var some []T
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
	want, stated := expected(t, answersFile, programNames[:])
	tool := usable(version("tpm2_eventlog"), stated)
	got := &answers{names: programNames[:]}
	for _, c := range classes {
		got.classes = append(got.classes, c.name)
	}
	var all []asked
	for _, log := range logs {
		t.Run(log.Name, func(t *testing.T) {
			list := ask(t, log, tool != "")
			for _, a := range list {
				got.row(log.Name, a.class.name).add(a.answers[:])
				if !slices.Contains(a.want, a.answers[ward]) {
					t.Errorf("%s: Ward %s with %q, want %q", a.class.name, a.answers[ward], a.findings, a.want)
				}
				if a.answers[ward] != Passes && !a.machine.finds(a.findings, a.class.finds) {
					t.Errorf("%s: Ward finds %q, want one of %q", a.class.name, a.findings, a.class.finds)
				}
			}
			for _, r := range got.rows {
				if r.log == log.Name && !*update {
					compare(t, got, r, want.find(r.log, r.class))
				}
			}
			all = append(all, list...)
		})
	}
	publish(t, got)
	if *update {
		if tool == "" || incomplete != nil || testing.Short() {
			t.Fatalf("the answers can be written only with all logs and tools: tool %q, %v", tool, incomplete)
		}
		state(t, answersFile, "tpm2_eventlog "+tool, got)
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
