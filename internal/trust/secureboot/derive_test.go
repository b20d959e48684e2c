package secureboot_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ward/internal/format/bootevent"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/trust/finding"
	"ward/internal/trust/secureboot"
)

var update = flag.Bool("update", false, "rewrite the golden states")

// corpus is the folder of real machines' logs beside the repository, captures
// the logs of the virtual device.
const (
	corpus   = "../../../../shared/corpus/eventlog"
	captures = "../../format/eventlog/testdata"
)

func readLog(t testing.TB, file string) *eventlog.Log {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return mustParse(t, b)
}

func mustParse(t testing.TB, b []byte) *eventlog.Log {
	t.Helper()
	log, err := eventlog.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// strongest is the last bank of a log that can be computed.
func strongest(log *eventlog.Log) pcr.Algorithm {
	return log.Algorithms[len(log.Algorithms)-1].Algorithm
}

// summary writes a state for a golden file: what a reader can compare by hand.
func summary(s secureboot.State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "secureboot %s, setup %s, audit %s, deployed %s, debugger %s\n", s.Enabled, s.SetupMode, s.AuditMode, s.DeployedMode, s.Debugger)
	for _, v := range []struct {
		name string
		k    secureboot.Keys
	}{{"PK", s.PK}, {"KEK", s.KEK}, {"db", s.DB}, {"dbx", s.DBX}, {"dbt", s.DBT}, {"dbr", s.DBR}} {
		if !v.k.Measured {
			fmt.Fprintf(&b, "%s unknown\n", v.name)
			continue
		}
		fmt.Fprintf(&b, "%s in event %d, keys %d\n", v.name, v.k.Event, len(v.k.Keys))
		for i, k := range v.k.Keys {
			if i == 4 {
				fmt.Fprintf(&b, "  ... last %s %s\n", v.k.Keys[len(v.k.Keys)-1].List.Name(), v.k.Keys[len(v.k.Keys)-1].Digest)
				break
			}
			fmt.Fprintf(&b, "  %s %s\n", k.List.Name(), keyText(k))
		}
	}
	for _, a := range s.Authorities {
		fmt.Fprintf(&b, "authority in event %d, %s, driver %v: %s\n", a.Event, a.Variable, a.Driver, keyText(a.Key))
	}
	fmt.Fprintf(&b, "shim insecure %s, list trusted %s, SBAT %q\n", s.Shim.Insecure, s.Shim.ListTrusted, s.Shim.SBAT.Date)
	for _, p := range s.Problems {
		fmt.Fprintf(&b, "problem in event %d: %s\n", p.Event, p.Detail)
	}
	fmt.Fprintf(&b, "unexplained %v\n", s.Unexplained)
	return b.String()
}

func keyText(k bootevent.Key) string {
	if c := k.Certificate(); c != nil {
		return fmt.Sprintf("%s (%s, serial %s, by %s, %s to %s)", k.Digest, c.Subject, c.Serial, c.Issuer, c.NotBefore.Format("2006-01-02"), c.NotAfter.Format("2006-01-02"))
	}
	return k.Digest.String()
}

// Secure Boot of real machines and of the virtual device, as golden files. The
// policy that is learned from a state accepts it, in every bank of the log.
//
// Verifies: SR-003
func TestDeriveMachines(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(captures, "*.bin"))
	if len(files) == 0 {
		t.Fatalf("no captured logs in %s", captures)
	}
	machines, _ := filepath.Glob(filepath.Join(corpus, "*.bin"))
	for _, file := range append(files, machines...) {
		name := strings.TrimSuffix(filepath.Base(file), ".bin")
		t.Run(name, func(t *testing.T) {
			log := readLog(t, file)
			s := secureboot.Derive(log, strongest(log))
			golden := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(summary(s)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got := summary(s); got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			for _, a := range log.Algorithms {
				if other := secureboot.Derive(log, a.Algorithm); a.Algorithm.Size() > 0 && summary(other) != summary(s) {
					t.Errorf("bank %s tells otherwise:\n%s", a.Algorithm, summary(other))
				}
			}
			if fs := secureboot.Judge(s, secureboot.PolicyOf(s)); len(fs) > 0 && len(s.Problems) == 0 {
				t.Errorf("the learned policy refuses its own state: %+v", fs)
			}
		})
	}
	if len(machines) == 0 {
		t.Skipf("no event logs of real machines in %s", corpus)
	}
}

// The zero value knows nothing, and nothing that is demanded passes by it.
//
// Verifies: SR-007
func TestNothingIsKnown(t *testing.T) {
	for name, s := range map[string]secureboot.State{
		"zero value":  {},
		"no log":      secureboot.Derive(nil, pcr.SHA256),
		"empty log":   secureboot.Derive(&eventlog.Log{}, pcr.SHA256),
		"other bank":  secureboot.Derive(mustParse(t, logOf(good()...)), pcr.SHA384),
		"no such alg": secureboot.Derive(mustParse(t, logOf(good()...)), 0x27),
	} {
		if s.Enabled.Measured || s.PK.Measured || s.DBX.Measured || len(s.Authorities) > 0 {
			t.Errorf("%s: %+v", name, s)
		}
		if fs := secureboot.Judge(s, secureboot.Policy{}); len(fs) > 0 {
			t.Errorf("%s: a policy that demands nothing finds %+v", name, fs)
		}
		for _, p := range []secureboot.Policy{
			{Required: true}, {Deployed: true}, {PK: []pcr.Digest{{1}}}, {KEK: []pcr.Digest{{1}}}, {DB: []pcr.Digest{{1}}},
			{MinimumDBX: []pcr.Digest{{1}}}, {MinimumSBAT: "2022052400"},
		} {
			fs := secureboot.Judge(s, p)
			if !slices.ContainsFunc(fs, func(f finding.Finding) bool { return f.Code == finding.SecureBootUnknown }) {
				t.Errorf("%s: policy %+v finds %+v", name, p, fs)
			}
		}
	}
}

func TestStateInJSON(t *testing.T) {
	b, err := json.Marshal(secureboot.Derive(mustParse(t, logOf(good()...)), pcr.SHA256))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"secureBoot":{"measured":true,"on":true,"event":1}`, `"auditMode":{"measured":false`, `"type":"sha256"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
}
