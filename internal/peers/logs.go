package peers

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ward/internal/format/efi"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal/appraisaltest"
)

// Log is an event log to start from.
type Log struct {
	Name  string
	Bytes []byte
}

// corpus is the folder of real machines' logs beside the repository.
var corpus = filepath.Join("..", "shared", "corpus", "eventlog")

// captures are the folders with captured logs inside the repository.
var captures = []string{"internal/format/eventlog/testdata", "internal/trust/profile/testdata"}

// Logs returns the logs of the repository, a few that are made here, and those of
// the corpus. What is not there is the error; the logs that are, are returned
// with it.
func Logs() ([]Log, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	logs, err := papers()
	if err != nil {
		return nil, err
	}
	seen := make(map[string]bool)
	for _, dir := range append(captures, corpus) {
		names, err := filepath.Glob(filepath.Join(root, dir, "*.bin"))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			short := strings.TrimSuffix(filepath.Base(name), ".bin")
			if !seen[short] {
				logs = append(logs, Log{short, b})
			}
			seen[short] = true
		}
		if len(names) == 0 {
			return logs, fmt.Errorf("there are no event logs *.bin in %s", filepath.Join(root, dir))
		}
	}
	return logs, nil
}

// papers are logs of one short boot: with one bank, with a startup locality,
// with a second bank, and in the older form.
func papers() ([]Log, error) {
	one := appraisaltest.Log(paper()...)
	l, err := takeApart(one, pcr.SHA256)
	if err != nil {
		return nil, err
	}
	two := l.withAlgorithm(uint16(pcr.SHA1), uint16(pcr.SHA1.Size()), func(data []byte) []byte { return pcr.SHA1.Sum(data) })
	locality := appraisaltest.Log(append([]appraisaltest.Event{appraisaltest.Locality(3)}, paper()...)...)
	return []Log{{"paper", one}, {"paper-locality", locality}, {"paper-banks", two}, {"paper-old", oldPaper()}}, nil
}

// paper are the events of a short boot that every program takes. Their data have
// the form that their types ask for: a peer believes what they announce.
func paper() []appraisaltest.Event {
	var events []appraisaltest.Event
	for _, e := range appraisaltest.Events() {
		switch e.Type {
		case eventlog.EVNoAction:
			continue // some versions of tpm2_eventlog extend it
		case eventlog.EVEventTag:
			e.Data = append(le.AppendUint32(le.AppendUint32(nil, 0x8f3b22ed), uint32(len(e.Data))), e.Data...)
		case eventlog.EVEFIVariableConfig:
			events = append(events, secureBoot()...)
			continue
		case eventlog.EVEFIBootApplication:
			e.Data = make([]byte, 32) // where the image lay; no device path
		}
		events = append(events, e)
	}
	return events
}

// secureBoot are the variables that say how Secure Boot stands, in the order in
// which firmware measures them (Firmware Profile, 3.3.4.8): it is on, and one
// hash is enrolled in each list.
func secureBoot() []appraisaltest.Event {
	variable := func(vendor efi.GUID, name string, data []byte) appraisaltest.Event {
		return appraisaltest.Event{PCR: 7, Type: eventlog.EVEFIVariableConfig, Data: efi.Variable{Vendor: vendor, Name: name, Data: data}.Bytes()}
	}
	list := func(vendor efi.GUID, name string) appraisaltest.Event {
		entry := efi.Signature{Owner: efi.GlobalVariable, Data: pcr.SHA256.Sum([]byte(name))}.Bytes()
		b := append([]byte(nil), efi.CertSHA256[:]...)
		b = le.AppendUint32(b, uint32(28+len(entry))) // the list with its head
		b = le.AppendUint32(le.AppendUint32(b, 0), uint32(len(entry)))
		return variable(vendor, name, append(b, entry...))
	}
	return []appraisaltest.Event{
		variable(efi.GlobalVariable, "SecureBoot", []byte{1}),
		list(efi.GlobalVariable, "PK"), list(efi.GlobalVariable, "KEK"),
		list(efi.ImageSecurity, "db"), list(efi.ImageSecurity, "dbx"),
	}
}

// oldPaper is the log of the same boot in the form that has only SHA-1 digests.
func oldPaper() []byte {
	var b []byte
	for _, e := range paper() {
		b = append(b, sha1Event(uint32(e.PCR), uint32(e.Type), e.Data)...)
	}
	return b
}

// Root is the folder of the product's module.
func Root() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		b, readErr := os.ReadFile(filepath.Join(dir, "go.mod"))
		if readErr == nil && bytes.HasPrefix(b, []byte("module ward\n")) {
			return dir, nil
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		err = errors.New("find the module ward: no go.mod above names it")
	}
	return "", err
}

// Missing ends a test that lacks a tool or file: by name on a developer's
// machine, as a failure where CI=true says that all must be there.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI=true: "+format, args...)
	}
	t.Skipf(format, args...)
}
