package appraisal_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"testing"

	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/baseline"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/measured"
	"ward/internal/trust/release"
)

// The list is read after the registers: entries that came in between are
// accepted and judged, missing ones are not accepted.
//
// Verifies: SR-004
func TestPitfall7QuoteFirstListSecond(t *testing.T) {
	d := appraisaltest.New(t)
	tail := appraisaltest.Program("/usr/bin/pump")
	e := d.Evidence()
	e.IMA = slices.Concat(d.List, tail.Bytes())
	r := appraise(t, d, e)
	wantVerdict(t, r, appraisal.Affirming)
	if r.IMAEntries != 4 || !bytes.Equal(r.PCRs[10].Replayed, d.PCRs[10]) {
		t.Errorf("%d entries, PCR 10 replayed %s", r.IMAEntries, r.PCRs[10].Replayed)
	}
	stranger := appraisaltest.Program("/tmp/stranger")
	e.IMA = slices.Concat(d.List, stranger.Bytes())
	wantVerdict(t, appraise(t, d, e), appraisal.Warning, finding.IMAUnknownFile)

	last := appraisaltest.Program("/usr/bin/pump")
	e.IMA = d.List[:len(d.List)-len(last.Bytes())]
	r = appraise(t, d, e)
	wantVerdict(t, r, appraisal.Contraindicated, finding.IMAPCRDiffers)
	if r.PCRs[10].State != appraisal.Unexplained {
		t.Errorf("PCR 10 %s", r.PCRs[10].State)
	}
}

// Verifies: SR-004
func TestEveryChangedEntryBreaksPCR10(t *testing.T) {
	d := appraisaltest.New(t)
	dec, err := ima.NewDecoder(bytes.NewReader(d.List))
	if err != nil {
		t.Fatal(err)
	}
	var offsets []int64
	for {
		e, err := dec.Next()
		if err != nil {
			break
		}
		offsets = append(offsets, e.Offset)
	}
	offsets = append(offsets, int64(len(d.List)))
	for i := range len(offsets) - 1 {
		start, end := offsets[i], offsets[i+1]
		e := d.Evidence()
		e.IMA = slices.Concat(d.List[:start], d.List[end:])
		wantCode(t, fmt.Sprintf("entry %d deleted", i), appraise(t, d, e), finding.IMAPCRDiffers)
		e.IMA = bytes.Clone(d.List)
		e.IMA[end-2] ^= 1
		r := appraise(t, d, e)
		if r.Verdict == appraisal.Affirming {
			t.Errorf("entry %d altered: affirming", i)
		}
	}
}

// A violation's hash is zero in the list and all ones in the register: always a
// finding with its path, never skipped, never an error.
//
// Verifies: SR-004
func TestPitfall5ViolationIsAFindingWithItsPath(t *testing.T) {
	d := appraisaltest.New(t)
	broken := appraisaltest.Program("/usr/bin/pump")
	broken.Violation = true
	d.SetList(t, appraisaltest.Program("/usr/sbin/wardd"), broken)
	r := appraise(t, d, d.Evidence())
	wantVerdict(t, r, appraisal.Warning, finding.IMAViolation)
	if f := r.Findings[0]; f.Path != "/usr/bin/pump" || *f.Index != 2 {
		t.Errorf("%+v", f)
	}
	if r.PCRs[10].State != appraisal.Recorded {
		t.Errorf("PCR 10 %s", r.PCRs[10].State)
	}
}

// boot_aggregate ties the list to the boot: PCR 0 to 9 for SHA-256.
//
// Verifies: SR-004
func TestPitfall14BootAggregate(t *testing.T) {
	d := appraisaltest.New(t)
	other := appraisaltest.Measured{Path: "boot_aggregate", Digest: sha256.Sum256([]byte("another boot"))}
	for name, list := range map[string][]byte{
		"of another boot": appraisaltest.List(other),
		"missing":         appraisaltest.List(appraisaltest.Program("/usr/bin/pump")),
		"of PCR 0 to 7":   appraisaltest.List(appraisaltest.Measured{Path: "boot_aggregate", Digest: firstEight(d.PCRs)}),
	} {
		e := d.Evidence()
		e.IMA = list
		e.PCRs[10] = appraisaltest.ReplayList(t, list)
		r := appraise(t, d, e)
		if r.Verdict != appraisal.Contraindicated || !slices.Equal(codes(r), []finding.Code{finding.IMABootAggregate}) {
			t.Errorf("%s: %s with %v", name, r.Verdict, codes(r))
		}
	}
}

func firstEight(values pcr.Values) [32]byte {
	h := sha256.New()
	for i := range 8 {
		h.Write(values[i])
	}
	return [32]byte(h.Sum(nil))
}

// User space extends PCR 9 after the kernel took boot_aggregate: the log still
// gives the value of that moment.
func TestBootAggregateBeforeUserspaceExtends(t *testing.T) {
	d := appraisaltest.New(t)
	d.Manifest.Boot.PCRs[9] = release.Reference{Mode: release.Recorded, Reason: "boot loader"}
	d.PCRs[9] = bytes.Repeat([]byte{9}, 32)
	wantVerdict(t, appraise(t, d, d.Evidence()), appraisal.Affirming)
}

// Pitfall 9. After a kexec the list goes on with another boot_aggregate of the
// same boot: the firmware has not measured the kernel that runs. Records are lost
// where the old kernel's last record is missing and PCR 10 is not explained.
func TestPitfall9Kexec(t *testing.T) {
	last := appraisaltest.Measured{Path: "kexec_execute", Buffer: []byte("kexec_segment_size=4096;ima_binary_runtime_size=512;")}
	d := appraisaltest.New(t)
	d.SetList(t, appraisaltest.Program("/usr/bin/pump"), last, appraisaltest.Aggregate(d.PCRs))
	wantVerdict(t, appraise(t, d, d.Evidence()), appraisal.Warning, finding.IMAKexec)

	d.SetList(t, appraisaltest.Program("/usr/bin/pump"), appraisaltest.Aggregate(d.PCRs))
	wantVerdict(t, appraise(t, d, d.Evidence()), appraisal.Warning, finding.IMAKexec)

	whole := d.PCRs[ima.Register]
	d.SetList(t, appraisaltest.Aggregate(d.PCRs))
	d.PCRs[ima.Register] = whole
	wantVerdict(t, appraise(t, d, d.Evidence()), appraisal.Contraindicated, finding.IMAKexec, finding.IMAPCRDiffers, finding.IMARecordsLost)

	d.SetList(t, appraisaltest.Measured{Path: "boot_aggregate", Digest: sha256.Sum256([]byte("x"))})
	wantVerdict(t, appraise(t, d, d.Evidence()), appraisal.Contraindicated, finding.IMAKexec, finding.IMABootAggregate)
}

// Pitfalls 7 and 10. A list that begins behind entries that were verified before
// is judged from there; one whose begin nobody here has verified is not judged.
//
// Verifies: SR-004 SR-007
func TestPitfall10ListFromACheckpoint(t *testing.T) {
	d := appraisaltest.New(t)
	first := appraise(t, d, d.Evidence())
	known := first.Next
	if known == nil || known.List.Entries != 3 || !bytes.Equal(known.List.PCR, d.PCRs[ima.Register]) || known.Boot != "boot-1" {
		t.Fatalf("an affirming appraisal establishes %+v", known)
	}
	seen := len(d.List)
	entries := []appraisaltest.Measured{appraisaltest.Program("/usr/sbin/wardd"), appraisaltest.Program("/usr/bin/pump")}
	judge := func(since *appraisal.Since, more ...appraisaltest.Measured) appraisal.Result {
		d.SetList(t, append(slices.Clone(entries), more...)...)
		e := d.Evidence()
		e.From, e.IMA = known.List, d.List[seen:]
		d.Quote(t, &e)
		policy := d.Policy(t)
		policy.Since = since
		return appraisal.Appraise(e, d.Verified(t), policy, now)
	}
	r := judge(known)
	wantVerdict(t, r, appraisal.Affirming)
	if r.IMAEntries != 3 || r.Next == nil || r.Next.List.Entries != 3 {
		t.Errorf("nothing was added: %d entries, %+v", r.IMAEntries, r.Next)
	}
	r = judge(known, appraisaltest.Program("/usr/bin/pump"))
	wantVerdict(t, r, appraisal.Affirming)
	if r.IMAEntries != 4 || r.Next.List.Entries != 4 || !bytes.Equal(r.Next.List.PCR, d.PCRs[ima.Register]) {
		t.Errorf("one entry more: %d entries, %+v", r.IMAEntries, r.Next)
	}
	r = judge(known, appraisaltest.Program("/tmp/stranger"))
	wantVerdict(t, r, appraisal.Warning, finding.IMAUnknownFile)
	if *r.Findings[0].Index != 3 {
		t.Errorf("the stranger is entry %d of the list, want 3", *r.Findings[0].Index)
	}
	for name, since := range map[string]*appraisal.Since{
		"nothing known":   nil,
		"another boot":    {Boot: "boot-0", Clock: known.Clock, List: known.List},
		"another place":   {Boot: "boot-1", Clock: known.Clock, List: ima.Checkpoint{Entries: 2, PCR: known.List.PCR}},
		"another content": {Boot: "boot-1", Clock: known.Clock, List: ima.Checkpoint{Entries: 3, PCR: make(pcr.Digest, 32)}},
	} {
		if r := judge(since, appraisaltest.Program("/usr/bin/pump")); r.Verdict != appraisal.None || !slices.Equal(codes(r), []finding.Code{finding.IMACheckpoint}) {
			t.Errorf("%s: %s with %v", name, r.Verdict, codes(r))
		}
	}
	// An entry taken out behind the checkpoint.
	d.SetList(t, append(entries, appraisaltest.Program("/tmp/stranger"), appraisaltest.Program("/usr/bin/pump"))...)
	e := d.Evidence()
	e.From, e.IMA = known.List, appraisaltest.Program("/usr/bin/pump").Bytes()
	d.Quote(t, &e)
	policy := d.Policy(t)
	policy.Since = known
	wantVerdict(t, appraisal.Appraise(e, d.Verified(t), policy, now), appraisal.Contraindicated, finding.IMAPCRDiffers)
}

// The per-bank list of newer kernels carries the very hash that was extended: an
// entry whose content is not what was hashed must not pass on its hash.
//
// Verifies: SR-004
func TestPerBankListWithForgedContent(t *testing.T) {
	d := appraisaltest.New(t)
	honest := slices.Concat(appraisaltest.Aggregate(d.PCRs).PerBank(), appraisaltest.Program("/usr/bin/pump").PerBank(), appraisaltest.Program("/tmp/evil").PerBank())
	d.PCRs[10] = appraisaltest.ReplayList(t, honest)
	e := d.Evidence()
	e.IMA = honest
	wantVerdict(t, appraise(t, d, e), appraisal.Warning, finding.IMAUnknownFile)
	evil, pump := sha256.Sum256([]byte("/tmp/evil")), sha256.Sum256([]byte("/usr/bin/pump"))
	e.IMA = bytes.Replace(honest, evil[:], pump[:], 1)
	wantVerdict(t, appraise(t, d, e), appraisal.Contraindicated, finding.IMAPCRDiffers)
}

// A kernel without a TPM, or a TPM that was reset under a running system.
func TestListBesideARegisterThatWasNeverExtended(t *testing.T) {
	d := appraisaltest.New(t)
	d.PCRs[10] = make([]byte, 32)
	wantVerdict(t, appraise(t, d, d.Evidence()), appraisal.Contraindicated, finding.IMAPCRDiffers)
}

// Verifies: SR-007
func TestEmptyList(t *testing.T) {
	d := appraisaltest.New(t)
	e := d.Evidence()
	e.IMA = nil
	wantVerdict(t, appraise(t, d, e), appraisal.Contraindicated, finding.IMAPCRDiffers)
	e.PCRs[10] = make([]byte, 32)
	wantVerdict(t, appraise(t, d, e), appraisal.None, finding.IMAAbsent)
}

// Verifies: SR-005
func TestFilesOfTheListAndTheBaseline(t *testing.T) {
	pump := appraisaltest.Program("/usr/bin/pump")
	changed := appraisaltest.Measured{Path: "/usr/bin/pump", Digest: sha256.Sum256([]byte("another pump"))}
	for name, c := range map[string]struct {
		entry   appraisaltest.Measured
		verdict appraisal.Tier
		want    []finding.Code
	}{
		"released":                     {pump, appraisal.Affirming, nil},
		"released, of the initramfs":   {appraisaltest.Measured{Path: "/bbin/bb", Digest: pump.Digest}, appraisal.Affirming, nil},
		"released, under another path": {appraisaltest.Measured{Path: "/usr/sbin/wardd", Digest: pump.Digest}, appraisal.Affirming, nil},
		"unknown":                      {appraisaltest.Program("/tmp/x"), appraisal.Warning, []finding.Code{finding.IMAUnknownFile}},
		"unknown, without a path":      {appraisaltest.Program("memfd:x"), appraisal.Warning, []finding.Code{finding.IMAUnknownFile}},
		"changed":                      {changed, appraisal.Contraindicated, []finding.Code{finding.IMAChangedFile}},
		"a buffer":                     {appraisaltest.Measured{Path: "kexec-cmdline", Buffer: []byte("quiet")}, appraisal.Affirming, nil},
		"a key":                        {appraisaltest.Measured{Path: ".ima", Buffer: []byte{1, 2, 3}}, appraisal.Affirming, nil},
	} {
		d := appraisaltest.New(t)
		d.SetList(t, c.entry)
		r := appraise(t, d, d.Evidence())
		if r.Verdict != c.verdict || !slices.Equal(codes(r), c.want) {
			t.Errorf("%s: %s with %v", name, r.Verdict, codes(r))
		}
		if len(c.want) > 0 && r.Findings[0].Path != c.entry.Path {
			t.Errorf("%s: path %q", name, r.Findings[0].Path)
		}
	}
}

// A file that the release lets change is known by its path, unless it is a
// program.
//
// Verifies: SR-077
func TestMutableFilesOfTheList(t *testing.T) {
	var text bytes.Buffer
	w, err := baseline.NewWriter(&text)
	for _, e := range []baseline.Entry{
		{Path: "/etc/state", Flags: baseline.Config | baseline.Mutable},
		{Path: "/run/pid", Flags: baseline.Volatile},
		{Path: "/usr/bin/tool", Flags: baseline.Exec | baseline.Mutable},
		{Path: "/usr/share/table"},
	} {
		e.Type, e.SHA256 = baseline.File, sha256.Sum256([]byte(e.Path))
		if err == nil {
			err = w.Write(e)
		}
	}
	if err == nil {
		_, err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	index, err := baseline.LoadIndex(bytes.NewReader(text.Bytes()), int64(text.Len()), sha256.Sum256(text.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]measured.Standing{
		"/etc/state": measured.Known, "/run/pid": measured.Known, "/usr/bin/tool": measured.Changed, "/usr/share/table": measured.Changed,
	} {
		e := ima.Entry{Path: path, Template: "ima-ng"}
		other := sha256.Sum256([]byte("other"))
		e.Digest.Algorithm, e.Digest.Digest = measured.BaselineDigest, other[:]
		if got, _ := measured.JudgeEntry(e, index); got != want {
			t.Errorf("%s: standing %d, want %d", path, got, want)
		}
	}
}

// spoiled is a file that can be read while it is verified, and not afterwards.
type spoiled struct {
	*bytes.Reader
	now bool
}

func (s *spoiled) ReadAt(p []byte, offset int64) (int, error) {
	if s.now {
		return 0, io.ErrClosedPipe
	}
	return s.Reader.ReadAt(p, offset)
}

// A baseline that cannot be read again gives neither a pass nor an alarm about
// the files.
//
// Verifies: SR-076
func TestBaselineThatIsSpoiledLater(t *testing.T) {
	for _, path := range []string{"/usr/bin/pump", "/tmp/stranger"} {
		d := appraisaltest.New(t)
		d.SetList(t, appraisaltest.Program(path))
		file := &spoiled{Reader: bytes.NewReader(d.Baseline)}
		index, err := baseline.LoadIndex(file, int64(len(d.Baseline)), sha256.Sum256(d.Baseline))
		if err != nil {
			t.Fatal(err)
		}
		file.now = true
		p := d.Policy(t)
		p.Baseline = index
		r := appraisal.Appraise(d.Quoted(t, nil, evidence.Record{}), d.Verified(t), p, now)
		wantVerdict(t, r, appraisal.None, finding.IMANotJudged)
	}
}
