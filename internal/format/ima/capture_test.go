package ima_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ward/internal/format/eventlog"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
)

// Lists captured from a machine: NAME.bin and NAME.ascii are the same list. The
// event log and the registers of the same boot are NAME.bin and NAME.pcrs.json
// among the captures of package eventlog.
//
// Verifies: SR-004
func TestCaptures(t *testing.T) {
	names, err := filepath.Glob("testdata/*.bin")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		t.Skip("testdata holds no captured list: NAME.bin, NAME.ascii")
	}
	for _, name := range names {
		name = strings.TrimSuffix(name, ".bin")
		t.Run(filepath.Base(name), func(t *testing.T) {
			entries := decodeAll(t, readFile(t, name+".bin"))
			if len(entries) == 0 || !entries[0].IsBootAggregate() {
				t.Fatal("the list does not begin with boot_aggregate")
			}
			values := replayAll(t, entries)
			for _, e := range entries {
				if !e.Rehashes() {
					t.Errorf("entry %d, %s: template data do not give the kernel's hash", e.Index, e.Path)
				}
			}
			checkASCII(t, name+".ascii", entries)
			checkRegister(t, sameBoot(filepath.Base(name)+".pcrs.json"), values)
			checkBootAggregate(t, filepath.Base(name), entries[0])
		})
	}
}

func sameBoot(file string) string { return filepath.Join("..", "eventlog", "testdata", file) }

func replayAll(t *testing.T, entries []ima.Entry) map[pcr.Algorithm]pcr.Digest {
	t.Helper()
	values := make(map[pcr.Algorithm]pcr.Digest)
	for _, a := range []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512} {
		replay, err := ima.NewReplay(a)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := replay.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		values[a] = replay.Value()
	}
	return values
}

func checkASCII(t *testing.T, name string, want []ima.Entry) {
	t.Helper()
	list, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	got := decodeAll(t, list)
	if len(got) != len(want) {
		t.Fatalf("%s: %d entries, the binary list has %d", name, len(got), len(want))
	}
	for i := range got {
		if got[i].Path != want[i].Path || !bytes.Equal(got[i].Data, want[i].Data) || !bytes.Equal(got[i].TemplateHash, want[i].TemplateHash) {
			t.Errorf("%s: entry %d differs from the binary list", name, i)
		}
	}
}

// checkRegister compares PCR 10 of each bank that was read.
func checkRegister(t *testing.T, name string, values map[pcr.Algorithm]pcr.Digest) {
	t.Helper()
	for a, measured := range readRegisters(t, name) {
		if want := measured[ima.Register]; want != nil && !bytes.Equal(values[a], want) {
			t.Errorf("%s: PCR 10 replays to %s, the TPM held %s", a, values[a], want)
		}
	}
}

// checkBootAggregate compares the first entry with the event log of the same
// boot.
func checkBootAggregate(t *testing.T, base string, first ima.Entry) {
	t.Helper()
	b, err := os.ReadFile(sameBoot(base + ".bin"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Logf("no event log of the same boot: boot_aggregate was not compared")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	a, err := pcr.ParseAlgorithm(first.Digest.Algorithm)
	if err != nil {
		t.Fatal(err)
	}
	measured := readRegisters(t, sameBoot(base+".pcrs.json"))[a]
	if measured == nil {
		log, err := eventlog.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		bank, err := log.Replay(a)
		if err != nil {
			t.Fatal(err)
		}
		measured = bank.Values()
	}
	if want := ima.BootAggregate(a, measured); !bytes.Equal(first.Digest.Digest, want) {
		t.Errorf("boot_aggregate is %s, the event log gives %s", first.Digest.Digest, want)
	}
}

func readRegisters(t *testing.T, name string) map[pcr.Algorithm]pcr.Values {
	t.Helper()
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var file map[pcr.Algorithm]pcr.Values
	if err := json.Unmarshal(b, &file); err != nil {
		var one pcr.Values
		if json.Unmarshal(b, &one) != nil {
			t.Fatalf("%s: %v", name, err)
		}
		file = map[pcr.Algorithm]pcr.Values{pcr.SHA256: one}
	}
	return file
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
