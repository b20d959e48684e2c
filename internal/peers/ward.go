package peers

import (
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/release"
)

// Everything that this module asks of Ward about event logs stands in this file;
// about IMA lists in list.go.

// Answer is what a program says of a log, given registers.
type Answer string

// Ward's answers.
const (
	Passes    Answer = "passes"    // nothing is found that was not found in the unchanged log
	Warns     Answer = "warns"     // the registers follow, and something is wrong
	Alarms    Answer = "alarms"    // the registers do not follow
	Undecided Answer = "undecided" // the log cannot tell
)

// Machine is a machine that booted a log: its registers, a TPM that quotes them,
// and the release that was learned from it.
type Machine struct {
	Bank   pcr.Algorithm
	Values pcr.Values // all 24, as the log leaves them

	device   *appraisaltest.Device // nil: the log has no digests of the judged bank, so only log and registers are judged
	evidence evidence.Evidence
	verified *release.Verified
	policy   appraisal.Policy
	honest   judgement
}

type judgement struct {
	verdict  appraisal.Tier
	findings []string
}

// Boot makes the machine that booted a log. Its bank is sha256, or sha1 where
// the log has no other.
func Boot(t testing.TB, raw []byte) *Machine {
	t.Helper()
	m := &Machine{Bank: pcr.SHA256}
	if _, err := Replay(raw, pcr.SHA256); err != nil {
		m.Bank = pcr.SHA1
	} else {
		m.device = appraisaltest.Booted(t, raw, program)
		m.verified, m.policy = m.device.Verified(t), m.device.Policy(t)
	}
	m.hold(t, raw)
	m.honest = m.judge(raw)
	if v := m.honest.verdict; v != appraisal.Affirming && v != appraisal.Warning {
		t.Fatalf("the unchanged log gives %s: %q", v, m.honest.findings)
	}
	return m
}

var program = appraisaltest.Program("/usr/sbin/wardd")

// hold gives the machine the registers of a log, quoted by its TPM. PCR 10 is the
// IMA list's, which peers do not see: for them it stays as the log leaves it.
func (m *Machine) hold(t testing.TB, raw []byte) {
	t.Helper()
	bank, err := Replay(raw, m.Bank)
	if err != nil {
		t.Fatal(err)
	}
	m.Values = make(pcr.Values)
	for i := range pcr.Count {
		m.Values[i] = bank.Value(i)
	}
	if m.device != nil {
		d := *m.device
		d.Log, d.PCRs = raw, maps.Clone(m.Values)
		d.SetList(t, program)
		m.evidence = d.Quoted(t, nil, evidence.Record{})
	}
}

// Replay parses a log and replays one bank of it.
func Replay(raw []byte, a pcr.Algorithm) (*pcr.Bank, error) {
	log, err := eventlog.Parse(raw)
	if err != nil {
		return nil, err
	}
	return log.Replay(a)
}

// Holding returns the same machine and release with the registers that another
// log gives: what changed, changed in the firmware.
func (m *Machine) Holding(t testing.TB, raw []byte) *Machine {
	t.Helper()
	other := *m
	other.hold(t, raw)
	return &other
}

// Ward appraises a log as this machine's.
func (m *Machine) Ward(raw []byte) (Answer, []string) {
	j := m.judge(raw)
	switch {
	case j.verdict == m.honest.verdict && slices.Equal(j.findings, m.honest.findings):
		return Passes, nil
	case j.verdict == appraisal.Contraindicated:
		return Alarms, j.findings
	case j.verdict == appraisal.None:
		return Undecided, j.findings
	}
	return Warns, j.findings
}

// judge is a whole appraisal, or, where the release cannot name this bank, what
// it says of log and registers.
func (m *Machine) judge(raw []byte) judgement {
	if m.device != nil {
		e := m.evidence
		e.EventLog = raw
		r := appraisal.Appraise(e, m.verified, m.policy, time.Unix(1_750_000_000, 0))
		return judgement{r.Verdict, texts(r.Findings)}
	}
	log, err := eventlog.Parse(raw)
	if err != nil {
		return judgement{appraisal.None, texts([]finding.Finding{appraisal.EventLogProblem(err)})}
	}
	bank, err := log.Replay(m.Bank)
	if err != nil {
		return judgement{appraisal.None, []string{err.Error()}}
	}
	j := judgement{appraisal.Affirming, texts(appraisal.EventLogFindings(log))}
	ended := slices.ContainsFunc(log.Anomalies, func(a eventlog.Anomaly) bool {
		return a.Kind == eventlog.Truncated || a.Kind == eventlog.TrailingData || a.Kind == eventlog.Malformed
	})
	if len(j.findings) > 0 {
		j.verdict = appraisal.Warning
	}
	for i := range pcr.Count {
		switch {
		case slices.Equal(bank.Value(i), m.Values[i]):
		case ended:
			return judgement{appraisal.None, j.findings}
		default:
			return judgement{appraisal.Contraindicated, append(j.findings, string(finding.BootPCRUnexplained))}
		}
	}
	return j
}

// texts says which findings there are, without offsets and event numbers.
func texts(fs []finding.Finding) []string {
	var list []string
	for _, f := range fs {
		kind, _, _ := strings.Cut(f.Detail, ":")
		list = append(list, fmt.Sprintf("%s (%s)", f.Code, kind))
	}
	slices.Sort(list)
	return list
}

// finds tells whether the findings have one of these codes that the unchanged
// log did not give, or gave less often.
func (m *Machine) finds(findings []string, want []finding.Code) bool {
	known := slices.Clone(m.honest.findings)
	for _, f := range findings {
		if i := slices.Index(known, f); i >= 0 {
			known = slices.Delete(known, i, i+1)
			continue
		}
		if code, _, _ := strings.Cut(f, " "); slices.Contains(want, finding.Code(code)) {
			return true
		}
	}
	return false
}

// event is where an event of an unchanged log lies, in bytes.
type event struct {
	start, end     int
	pcr            int
	kind           eventlog.EventType
	extends        bool
	vouched        bool // its data hash to its digest
	locality       bool
	judged, others []int // offsets of digests: of the machine's bank, of other banks
	sizeAt, dataAt int
}

// layout is a log taken apart.
type layout struct {
	raw    []byte
	agile  bool
	events []event // without the header
	first  int     // offset of the first event behind the header
	last   int     // end of the last event: padding begins here
}

// takeApart reads where the parts of an unchanged log lie.
func takeApart(raw []byte, bank pcr.Algorithm) (layout, error) {
	log, err := eventlog.Parse(raw)
	if err != nil {
		return layout{}, err
	}
	l := layout{raw: raw, agile: log.CryptoAgile, last: len(raw)}
	for i, e := range log.Events {
		at := int(e.Offset) + 8
		x := event{start: int(e.Offset), pcr: e.PCR, kind: e.Type, extends: e.Extends(), vouched: e.Vouched()}
		x.locality = e.Type == eventlog.EVNoAction && strings.HasPrefix(string(e.Data), eventlog.LocalitySignature)
		if l.agile && i > 0 {
			at += 4
		}
		for _, d := range e.Digests {
			if l.agile && i > 0 {
				at += 2
			}
			if d.Algorithm == bank {
				x.judged = append(x.judged, at)
			} else {
				x.others = append(x.others, at)
			}
			at += len(d.Digest)
		}
		x.sizeAt, x.dataAt = at, at+4
		x.end = x.dataAt + len(e.Data)
		if got := binary.LittleEndian.Uint32(raw[at:]); int(got) != len(e.Data) {
			return layout{}, fmt.Errorf("event %d: its size %d does not lie at %d", i, got, at)
		}
		l.last = x.end
		if i == 0 && log.Spec.Signature != "" {
			l.first = x.end
			continue
		}
		l.events = append(l.events, x)
	}
	return l, nil
}

// sha1Event writes an event of the SHA-1 form that hashes its data.
func sha1Event(pcr, kind uint32, data []byte) []byte {
	b := le.AppendUint32(le.AppendUint32(nil, pcr), kind)
	sum := sha1.Sum(data)
	if eventlog.EventType(kind) == eventlog.EVNoAction {
		clear(sum[:])
	}
	b = le.AppendUint32(append(b, sum[:]...), uint32(len(data)))
	return append(b, data...)
}

// newEvent writes an event in the form of a log that hashes its data into every
// bank; an event that extends nothing has digests of zeros.
func (l layout) newEvent(index uint32, kind eventlog.EventType, data []byte) ([]byte, error) {
	if !l.agile {
		return sha1Event(index, uint32(kind), data), nil
	}
	log, err := eventlog.Parse(l.raw)
	if err != nil {
		return nil, err
	}
	b := le.AppendUint32(le.AppendUint32(nil, index), uint32(kind))
	b = le.AppendUint32(b, uint32(len(log.Algorithms)))
	for _, a := range log.Algorithms {
		digest := make([]byte, a.Size)
		if kind != eventlog.EVNoAction {
			copy(digest, a.Algorithm.Sum(data))
		}
		b = append(le.AppendUint16(b, uint16(a.Algorithm)), digest...)
	}
	return append(le.AppendUint32(b, uint32(len(data))), data...), nil
}

var le = binary.LittleEndian
