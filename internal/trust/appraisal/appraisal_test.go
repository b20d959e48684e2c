package appraisal_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ward/internal/format/eventlog"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
)

var now = time.Unix(1_700_000_000, 0)

// appraise judges a device on paper by its own release and baseline.
func appraise(t *testing.T, d *appraisaltest.Device, e evidence.Evidence) appraisal.Result {
	t.Helper()
	d.Quote(t, &e)
	return appraisal.Appraise(e, d.Verified(t), d.Policy(t), now)
}

func codes(r appraisal.Result) []finding.Code {
	var list []finding.Code
	for _, f := range r.Findings {
		list = append(list, f.Code)
	}
	return list
}

func wantVerdict(t *testing.T, r appraisal.Result, verdict appraisal.Tier, want ...finding.Code) {
	t.Helper()
	if got := codes(r); r.Verdict != verdict || !slices.Equal(got, want) {
		t.Errorf("verdict %s with %v, want %s with %v; findings: %+v", r.Verdict, got, verdict, want, r.Findings)
	}
}

// Verifies: SR-001 SR-002
func TestHonestBootIsAffirming(t *testing.T) {
	d := appraisaltest.New(t)
	r := appraise(t, d, d.Evidence())
	wantVerdict(t, r, appraisal.Affirming)
	for _, c := range []appraisal.Claim{appraisal.ClaimRelease, appraisal.ClaimQuote, appraisal.ClaimEventLog, appraisal.ClaimPCRs, appraisal.ClaimBoot, appraisal.ClaimRuntime} {
		if r.Claims[c] != appraisal.Affirming {
			t.Errorf("claim %s is %s", c, r.Claims[c])
		}
	}
	for i, want := range map[int]appraisal.State{0: appraisal.Matches, 4: appraisal.Matches, 11: appraisal.Matches, 10: appraisal.Recorded, 14: appraisal.Reset} {
		if got := r.PCRs[i].State; got != want {
			t.Errorf("PCR %d: %s, want %s", i, got, want)
		}
	}
	if r.Events != len(appraisaltest.Events())+1 || r.IMAEntries != 3 {
		t.Errorf("%d events, %d entries", r.Events, r.IMAEntries)
	}
}

// logs are the event logs of real machines that have a sha256 bank: those in the
// tree and, where they lie beside it, those of the shared corpus.
func logs(t *testing.T) map[string][]byte {
	t.Helper()
	found := map[string][]byte{"paper": appraisaltest.Log(appraisaltest.Events()...)}
	for _, pattern := range []string{"../../format/eventlog/testdata/*.bin", "../../../../shared/corpus/eventlog/*.bin"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			log, err := eventlog.Parse(b)
			if err != nil {
				continue
			}
			if bank, err := log.Replay(pcr.SHA256); err != nil || len(bank.Values()) == 0 {
				continue
			}
			found[strings.TrimSuffix(filepath.Base(name), ".bin")] = b
		}
	}
	return found
}

// Honest oddities of real firmware pass: padded localities, long separators,
// vendor data, unknown event types and algorithms.
//
// Verifies: SR-001 SR-003
func TestRealLogsAreAffirming(t *testing.T) {
	for name, log := range logs(t) {
		d := appraisaltest.Booted(t, log, appraisaltest.Program("/init"))
		r := appraise(t, d, d.Evidence())
		want := appraisal.Affirming
		if name == "sb_cert" { // its PCR 0 to 6 were cut out by hand
			want = appraisal.Warning
		}
		if r.Verdict != want {
			t.Errorf("%s: %s, want %s: %+v", name, r.Verdict, want, r.Findings)
		}
	}
}

// The log, list and registers of one boot of the virtual device.
//
// Verifies: SR-001 SR-002 SR-004
func TestCapturedDeviceIsAffirming(t *testing.T) {
	log, list := readFile(t, "../../format/eventlog/testdata/qemu-x86_64.bin"), readFile(t, "../../format/ima/testdata/qemu-x86_64.bin")
	var registers struct {
		SHA256 pcr.Values `json:"sha256"`
	}
	if err := json.Unmarshal(readFile(t, "../../format/eventlog/testdata/qemu-x86_64.pcrs.json"), &registers); err != nil {
		t.Fatal(err)
	}
	var programs []appraisaltest.Measured
	dec, err := ima.NewDecoder(bytes.NewReader(list))
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, err := dec.Next()
		if err != nil {
			break
		}
		if strings.HasPrefix(e.Path, "/") {
			programs = append(programs, appraisaltest.Measured{Path: e.Path, Digest: [32]byte(e.Digest.Digest)})
		}
	}
	d := appraisaltest.Booted(t, log, programs...)
	e := d.Evidence()
	e.PCRs, e.IMA = registers.SHA256, list
	wantVerdict(t, appraise(t, d, e), appraisal.Affirming)
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Verifies: SR-008
func TestBringUpJudgesNothingAndReportsAll(t *testing.T) {
	d := appraisaltest.New(t)
	policy := d.Policy(t)
	policy.BringUp = true
	r := appraisal.Appraise(d.Quoted(t, nil, evidence.Record{}), d.Verified(t), policy, now)
	wantVerdict(t, r, appraisal.None, finding.DaemonBringUp)
	if !r.BringUp {
		t.Error("the result does not say that it is of bring-up mode")
	}
	e := d.Quoted(t, nil, evidence.Record{})
	e.EventLog = appraisaltest.Log()
	r = appraisal.Appraise(e, d.Verified(t), policy, now)
	if got := codes(r); r.Verdict != appraisal.None || !slices.Contains(got, finding.BootPCRUnexplained) || !slices.Contains(got, finding.DaemonBringUp) {
		t.Errorf("%s with %v", r.Verdict, got)
	}
}

func TestZeroResultIsNoPass(t *testing.T) {
	var r appraisal.Result
	if r.Verdict != appraisal.None || r.Verdict.String() != "none" {
		t.Errorf("zero verdict is %s", r.Verdict)
	}
	r = appraisal.Appraise(evidence.Evidence{}, nil, appraisal.Policy{}, now)
	if r.Verdict != appraisal.None || len(r.Findings) == 0 {
		t.Errorf("no evidence: %s with %v", r.Verdict, codes(r))
	}
}

// The JSON is part of the local API and of events.
func TestResultAsJSON(t *testing.T) {
	d := appraisaltest.New(t)
	b, err := json.Marshal(appraise(t, d, d.Evidence()))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Verdict string            `json:"verdict"`
		Claims  map[string]string `json:"claims"`
		PCRs    map[string]struct {
			Measured  string   `json:"measured"`
			Reference []string `json:"reference"`
			State     string   `json:"state"`
		} `json:"pcrs"`
		IMAEntries int `json:"imaEntries"`
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	four := got.PCRs["4"]
	if got.Verdict != "affirming" || got.Claims["runtime"] != "affirming" || got.IMAEntries != 3 ||
		four.State != "matches" || four.Measured != d.PCRs[4].String() || len(four.Reference) != 1 || four.Reference[0] != four.Measured {
		t.Errorf("%s", b)
	}
}
