package peers

import (
	"bytes"
	"runtime"
	"slices"
	"sync"
	"testing"

	"ward/internal/format/pcr"
)

// listAnswersFile says what Ward and evmctl answer to changed IMA lists.
const listAnswersFile = "testdata/ima.txt"

// A listClass is one way to change a list, with the answers that Ward may give.
type listClass struct {
	name  string
	holds bool // PCR 10 is what the changed list gives
	make  func(list []byte, entries []entry, add func(changed []byte, want ...Answer))
}

// eachEntry changes one entry at a time; a nil change does not apply.
func eachEntry(change func(list []byte, e entry) []byte, want ...Answer) func([]byte, []entry, func([]byte, ...Answer)) {
	return func(list []byte, entries []entry, add func([]byte, ...Answer)) {
		for _, e := range entries {
			if b := change(bytes.Clone(list[e.start:e.end]), e); b != nil {
				add(slices.Concat(list[:e.start], b, list[e.end:]), want...)
			}
		}
	}
}

func violate(b []byte, e entry) []byte {
	clear(b[4:24])
	return b
}

// listClasses are all ways, in the order of the table.
func listClasses(bank pcr.Algorithm) []listClass {
	hash := []Answer{Passes, Warns} // the SHA-1 hash in the list was not extended in this bank
	data := []Answer{Alarms}
	if bank == pcr.SHA1 {
		hash, data = []Answer{Alarms}, []Answer{Warns} // the data are not what was extended, the hash is
	}
	return []listClass{
		{"unchanged", false, func(list []byte, _ []entry, add func([]byte, ...Answer)) { add(list, Passes) }},
		{"entry dropped", false, eachEntry(func([]byte, entry) []byte { return []byte{} }, Alarms)},
		{"entry doubled", false, func(list []byte, entries []entry, add func([]byte, ...Answer)) {
			for i, e := range entries {
				want := Alarms
				if i+1 == len(entries) {
					want = Passes // one more behind the prefix that fits
				}
				add(slices.Concat(list[:e.end], list[e.start:e.end], list[e.end:]), want)
			}
		}},
		{"neighbours swapped", false, func(list []byte, entries []entry, add func([]byte, ...Answer)) {
			for i := 1; i < len(entries); i++ {
				a, b := entries[i-1], entries[i]
				add(slices.Concat(list[:a.start], list[b.start:b.end], list[a.start:a.end], list[b.end:]), Alarms)
			}
		}},
		{"bit of the template hash", false, eachEntry(func(b []byte, e entry) []byte { b[9] ^= 4; return b }, hash...)},
		{"bit of the template data", false, eachEntry(func(b []byte, e entry) []byte {
			at := e.dataAt - e.start + 10 // in the file's digest
			if !e.old {
				at += 4 + len("ima:sha256:\x00")
			}
			b[at] ^= 1
			return b
		}, data...)},
		{"bit of the PCR index", false, eachEntry(func(b []byte, e entry) []byte { b[0] ^= 1; return b }, Alarms)},
		{"made a violation", false, eachEntry(violate, Alarms)},
		{"made a violation, PCR 10 too", true, eachEntry(violate, Warns)},
		{"entry of another file behind", false, func(list []byte, _ []entry, add func([]byte, ...Answer)) {
			add(slices.Concat(list, newEntry("ima-ng", "/usr/bin/later")), Passes)
		}},
		{"cut between entries", false, func(list []byte, entries []entry, add func([]byte, ...Answer)) {
			for _, e := range entries[1:] {
				add(list[:e.start], Alarms)
			}
		}},
		{"cut inside an entry", false, func(list []byte, entries []entry, add func([]byte, ...Answer)) {
			for _, e := range entries[1:] {
				add(list[:e.start+10], Undecided)
				add(list[:e.end-1], Undecided)
			}
		}},
		{"name of 4 GiB", false, eachEntry(func(b []byte, e entry) []byte { le.PutUint32(b[e.nameAt-e.start:], 0xffffffff); return b }, Undecided)},
		{"data of 4 GiB", false, eachEntry(func(b []byte, e entry) []byte {
			if e.old {
				return nil
			}
			le.PutUint32(b[e.dataAt-e.start-4:], 0xffffffff)
			return b
		}, Undecided)},
	}
}

// Every class of changes to every list, in two banks: Ward answers what it must,
// and evmctl what is stated.
//
// Verifies: SR-004 SR-007
func TestIMALists(t *testing.T) {
	lists, err := Lists()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"Ward", "evmctl"}
	want, stated := expected(t, listAnswersFile, names)
	tool := usable(evmctlVersion(), stated)
	got := &answers{names: names}
	for _, c := range listClasses(pcr.SHA256) {
		got.classes = append(got.classes, c.name)
	}
	var all []askedList
	for _, bank := range []pcr.Algorithm{pcr.SHA1, pcr.SHA256} {
		for _, list := range lists {
			name := list.Name + "/" + bank.String()
			t.Run(name, func(t *testing.T) {
				asked := askLists(t, list.Bytes, bank, tool != "")
				for i := range asked {
					a := &asked[i]
					a.list = name
					got.row(name, a.class).add(a.answers)
					if !slices.Contains(a.want, a.answers[0]) {
						t.Errorf("%s: Ward %s with %q, want %q", a.class, a.answers[0], a.findings, a.want)
					}
				}
				all = append(all, asked...)
				for _, r := range got.rows {
					if r.log == name && !*update {
						compare(t, got, r, want.find(r.log, r.class))
					}
				}
			})
		}
	}
	publish(t, got)
	if *update {
		if tool == "" || testing.Short() {
			t.Fatal("the answers can be written only with evmctl")
		}
		state(t, listAnswersFile, "evmctl "+tool, got)
		keepLists(t, all)
	}
	if tool != "" && !testing.Short() {
		reasonedLists(t, all)
	}
	if tool == "" {
		t.Run("evmctl", func(t *testing.T) {
			Missing(t, "evmctl %s was not asked: install ima-evm-utils of this version, or another and write the answers anew", stated)
		})
	}
}

type askedList struct {
	list, class string
	bytes       []byte
	want        []Answer
	machine     *ListMachine
	findings    []string
	answers     []Answer
}

func askLists(t *testing.T, list []byte, bank pcr.Algorithm, tool bool) []askedList {
	t.Helper()
	machine := Measure(t, list, bank)
	entries, err := splitList(list)
	if err != nil {
		t.Fatal(err)
	}
	var all []askedList
	for _, c := range listClasses(bank) {
		var some []askedList
		c.make(list, entries, func(b []byte, want ...Answer) {
			some = append(some, askedList{class: c.name, bytes: bytes.Clone(b), want: want, machine: machine, answers: make([]Answer, 2)})
		})
		some = spread(some, most)
		if c.holds {
			for i := range some {
				held := Measure(t, some[i].bytes, bank)
				held.honest = machine.honest
				some[i].machine = held
			}
		}
		all = append(all, some...)
	}
	if testing.Short() {
		var some []askedList
		for i := 0; i < len(all); i += strideShort {
			some = append(some, all[i])
		}
		all = some
	}
	dir := t.TempDir()
	var workers sync.WaitGroup
	for w := range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := w; i < len(all); i += runtime.GOMAXPROCS(0) {
				a := &all[i]
				a.answers[0], a.findings = a.machine.Ward(a.bytes)
				if !tool {
					continue
				}
				var err error
				if a.answers[1], err = Evmctl(scratch(dir, w), a.bytes, a.machine); err != nil {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	return all
}
