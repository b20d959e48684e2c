package peers

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/measured"
)

// Everything that this module asks of Ward about IMA lists stands in this file.

// ListMachine is a machine whose kernel measured a list.
type ListMachine struct {
	Bank   pcr.Algorithm
	PCR10  pcr.Digest
	honest []string
}

// Measure makes the machine that measured a list.
func Measure(t testing.TB, list []byte, bank pcr.Algorithm) *ListMachine {
	t.Helper()
	r, err := ReplayList(list, bank)
	if err != nil {
		t.Fatal(err)
	}
	m := &ListMachine{Bank: bank, PCR10: r.Value()}
	_, m.honest = m.judge(list)
	return m
}

// ReplayList replays a whole list.
func ReplayList(list []byte, bank pcr.Algorithm) (*ima.Replay, error) {
	r, err := ima.NewReplay(bank)
	if err != nil {
		return nil, err
	}
	d, err := ima.NewDecoder(bytes.NewReader(list))
	for err == nil {
		var e ima.Entry
		if e, err = d.Next(); err == nil {
			err = r.Add(e)
		}
	}
	if errors.Is(err, io.EOF) {
		return r, nil
	}
	return nil, err
}

func (m *ListMachine) judge(list []byte) (measured.Summary, []string) {
	sum, fs := measured.Judge(bytes.NewReader(list), measured.Against{Bank: m.Bank, PCR10: m.PCR10})
	return sum, texts(fs)
}

// Ward appraises a list as this machine's.
func (m *ListMachine) Ward(list []byte) (Answer, []string) {
	sum, findings := m.judge(list)
	switch {
	case sum.Whole && sum.Fits && slices.Equal(findings, m.honest):
		return Passes, nil
	case !sum.Whole:
		return Undecided, findings
	case !sum.Fits:
		return Alarms, findings
	}
	return Warns, findings
}

// List is a list of measurements to start from.
type List struct {
	Name  string
	Bytes []byte
}

// Lists returns the list of the virtual device and one made here for each
// template of the kernel.
func Lists() ([]List, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	captured, err := os.ReadFile(filepath.Join(root, "internal/format/ima/testdata/qemu-x86_64.bin"))
	if err != nil {
		return nil, err
	}
	lists := []List{{"qemu-x86_64", captured}}
	for _, template := range []string{"ima", "ima-ng", "ima-ngv2", "ima-sig", "ima-sigv2", "ima-buf", "ima-modsig"} {
		lists = append(lists, List{template, Generate(template, 12)})
	}
	return lists, nil
}

// Generate writes a list of entries of one template; the first is boot_aggregate.
func Generate(template string, entries int) []byte {
	var list []byte
	for i := range entries {
		path := fmt.Sprintf("/usr/lib/x86_64-linux-gnu/package-%d/libexample.so.%d", i%997, i)
		if i == 0 {
			path = "boot_aggregate"
		}
		list = append(list, newEntry(template, path)...)
	}
	return list
}

// newEntry writes an entry as ima_measurements_show of the kernel does
// (ima_fs.c), with the SHA-1 template hash of the common list.
func newEntry(template, path string) []byte {
	b := le.AppendUint32(nil, ima.Register)
	if template == "ima" {
		content := sha1.Sum([]byte(path))
		var name [256]byte
		copy(name[:], path)
		hash := sha1.Sum(append(content[:], name[:]...))
		b = append(b, hash[:]...)
		b = append(le.AppendUint32(b, uint32(len(template))), template...)
		b = append(b, content[:]...)
		return append(le.AppendUint32(b, uint32(len(path))), path...)
	}
	content := sha256.Sum256([]byte(path))
	prefix := "sha256:\x00"
	if strings.HasSuffix(template, "v2") {
		prefix = "ima:" + prefix
	}
	fields := [][]byte{append([]byte(prefix), content[:]...), append([]byte(path), 0)}
	switch template {
	case "ima-sig", "ima-sigv2":
		fields = append(fields, bytes.Repeat([]byte{3}, 72))
	case "ima-buf":
		fields = append(fields, []byte("a buffer of the kernel"))
	case "ima-modsig":
		fields = append(fields, nil, append([]byte("sha512:\x00"), make([]byte, 64)...), bytes.Repeat([]byte{0x30}, 90))
	}
	var data []byte
	for _, f := range fields {
		data = append(le.AppendUint32(data, uint32(len(f))), f...)
	}
	hash := sha1.Sum(data)
	b = append(b, hash[:]...)
	b = append(le.AppendUint32(b, uint32(len(template))), template...)
	return append(le.AppendUint32(b, uint32(len(data))), data...)
}

// entry is where an entry of an unchanged list lies, in bytes.
type entry struct {
	start, end int
	nameAt     int // of the length of the template's name
	dataAt     int // of the template data: their length stands before them, but in the template ima
	old        bool
}

// splitList reads where the entries of an unchanged list lie.
func splitList(list []byte) ([]entry, error) {
	d, err := ima.NewDecoder(bytes.NewReader(list))
	if err != nil {
		return nil, err
	}
	var entries []entry
	for {
		e, err := d.Next()
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if n := len(entries); n > 0 {
			entries[n-1].end = len(list)
			if err == nil {
				entries[n-1].end = int(e.Offset)
			}
		}
		if err != nil {
			return entries, nil
		}
		x := entry{start: int(e.Offset), nameAt: int(e.Offset) + 24, old: e.Template == "ima"}
		x.dataAt = x.nameAt + 4 + len(e.Template)
		if !x.old {
			x.dataAt += 4
		}
		entries = append(entries, x)
	}
}

// Evmctl asks evmctl to find PCR 10 in a list. Files of this name are written
// anew.
func Evmctl(file string, list []byte, m *ListMachine) (Answer, error) {
	var registers bytes.Buffer
	for i := range pcr.Count {
		v := pcr.ResetValue(m.Bank, i)
		if i == ima.Register {
			v = m.PCR10
		}
		fmt.Fprintf(&registers, "PCR-%02d: % X\n", i, []byte(v))
	}
	if err := errors.Join(os.WriteFile(file, list, 0o600), os.WriteFile(file+".pcrs", registers.Bytes(), 0o600)); err != nil {
		return "", err
	}
	out, a, err := run("evmctl", "ima_measurement", "--pcrs", m.Bank.String()+","+file+".pcrs", file)
	if a == Refuses && strings.Contains(string(out), "Failed to match") {
		a = Differs
	}
	return a, err
}

// evmctlVersion is evmctl's version, "" without it.
func evmctlVersion() string {
	out, _, err := run("evmctl", "--version")
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "evmctl ")
}
