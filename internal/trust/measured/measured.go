// Package measured judges what a device measured while it ran: the kernel's IMA
// list against PCR 10, the boot that it must belong to, and the files of the
// release (the kernel's IMA templates; boot_aggregate as in ima_crypto.c). The same
// rules serve the appraisal of a whole list and a watch over its newest entry.
package measured

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/baseline"
	"ward/internal/trust/finding"
)

// maxFindings bounds the findings of one code, so that a list full of strangers
// does not fill the memory; what is beyond it is counted.
const maxFindings = 256

// Against is what a list is judged against. A field that is nil is not known,
// and what depends on it is left out.
type Against struct {
	Bank     pcr.Algorithm
	PCR10    pcr.Digest      // as measured, before the list was read
	Boot     []pcr.Values    // PCRs 0 to 9 as measured or replayed: either may stand behind boot_aggregate
	Baseline *baseline.Index // the release's files
	From     ima.Checkpoint  // where the list begins, as an earlier replay of this boot gave it
	Cut      func() bool     // asked at the list's end: whether its reader ended it early
}

// Summary is what was read of a list.
type Summary struct {
	Entries    int
	Violations int
	Fits       bool           // a prefix of the list gives PCR10
	FitsAt     ima.Checkpoint // after that prefix
	FitsOffset int64          // bytes of it in this list
	Replayed   pcr.Digest     // PCR 10 after that prefix, or after the whole list
	Whole      bool           // the list was read to its own end
	Unjudged   int            // files that could not be compared with the baseline
}

// judge goes through a list once, in constant memory.
type judge struct {
	against  Against
	replay   *ima.Replay
	sum      Summary
	findings []finding.Finding
	counts   map[finding.Code]int
	foreign  int              // entries that extend another PCR
	begun    int              // boot_aggregate entries
	handed   bool             // the kernel's last record before it started another one was seen
	lost     *finding.Finding // it was not seen where it should be
}

// Judge reads a list to its end and returns what it holds and the findings
// about it:
//
//  1. it can be read to a clean end;
//  2. it begins with boot_aggregate, and each of these holds the hash over PCR 0
//     to 9 of this boot;
//  3. a prefix of it gives PCR 10: entries that came after PCR 10 was read are
//     accepted, missing ones are not;
//  4. no entry is a violation, and each file is in the baseline.
func Judge(list io.Reader, against Against) (Summary, []finding.Finding) {
	j := &judge{against: against, counts: make(map[finding.Code]int)}
	var err error
	if j.replay, err = ima.ReplayFrom(against.Bank, against.From); err != nil {
		j.find(finding.New(finding.IMAUnreadable, err.Error()))
		return j.sum, j.findings
	}
	if err := j.read(list); err != nil {
		j.find(unreadable(err))
	} else if against.Cut != nil && against.Cut() {
		j.find(finding.New(finding.IMATruncated, "the list goes on beyond what is read of it"))
	} else {
		j.sum.Whole = true
	}
	j.end()
	return j.sum, j.findings
}

func unreadable(err error) finding.Finding {
	var cut *ima.TruncatedError
	if errors.As(err, &cut) {
		return finding.New(finding.IMATruncated, err.Error()).AtIndex(cut.Index).AtOffset(cut.Offset)
	}
	f := finding.New(finding.IMAUnreadable, err.Error())
	var bad *ima.MalformedError
	if errors.As(err, &bad) {
		f = f.AtIndex(bad.Index).AtOffset(bad.Offset)
	}
	return f
}

func (j *judge) read(list io.Reader) error {
	dec, err := ima.NewDecoderAt(list, j.against.From.Entries, 0)
	if err != nil {
		return err
	}
	for {
		e, err := dec.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := j.add(e); err != nil {
			return err
		}
		if j.sum.Fits && j.sum.FitsAt.Entries == 0 {
			j.sum.FitsAt = ima.Checkpoint{PCR: j.sum.Replayed}
			j.sum.FitsAt.Entries, j.sum.FitsOffset = dec.Position()
		}
	}
}

func (j *judge) add(e ima.Entry) error {
	if j.sum.Entries == 0 && j.against.From.Entries == 0 && !e.IsBootAggregate() {
		j.find(finding.New(finding.IMABootAggregate, "the list does not begin with boot_aggregate").AtIndex(e.Index).AtOffset(e.Offset))
	}
	j.sum.Entries++
	switch {
	case e.PCR != ima.Register:
		j.foreign++
	case !j.sum.Fits:
		if err := j.replay.Add(e); err != nil {
			return err
		}
		j.fit()
	}
	if len(e.TemplateHash) == j.against.Bank.Size() && !e.Rehashes() {
		j.find(finding.New(finding.IMAPCRDiffers, "the entry's content does not hash to what was extended").AtIndex(e.Index).AtOffset(e.Offset))
	}
	if e.IsBootAggregate() {
		j.kexec(e)
		j.aggregate(e)
	}
	j.handed = j.handed || isBuffer(e) && e.Path == ima.KexecExecute
	standing, f := JudgeEntry(e, j.against.Baseline)
	switch standing {
	case NotJudged:
		j.sum.Unjudged++
	case Violated:
		j.sum.Violations++
		j.find(f)
	case Unknown, Changed:
		j.find(f)
	}
	return nil
}

// fit notes the first prefix that gives PCR 10.
func (j *judge) fit() {
	j.sum.Replayed = j.replay.Value()
	if j.against.PCR10 != nil && bytes.Equal(j.sum.Replayed, j.against.PCR10) {
		j.sum.Fits = true
	}
}

// kexec tells of a second boot_aggregate: another kernel was started without the
// firmware.
func (j *judge) kexec(e ima.Entry) {
	j.begun++
	if j.begun == 1 && j.against.From.Entries == 0 {
		return
	}
	j.find(finding.New(finding.IMAKexec, "boot_aggregate stands in the list again").AtIndex(e.Index).AtOffset(e.Offset))
	if !j.handed {
		lost := finding.New(finding.IMARecordsLost, "no "+ima.KexecExecute+" stands before the new kernel's boot_aggregate").AtIndex(e.Index).AtOffset(e.Offset)
		j.lost = &lost
	}
	j.handed = false
}

// aggregate compares a boot_aggregate with this boot. One of another algorithm
// than the bank's cannot be compared, nor can a boot whose PCRs are not known.
func (j *judge) aggregate(e ima.Entry) {
	if e.Digest.Algorithm != j.against.Bank.String() || len(j.against.Boot) == 0 {
		return
	}
	var want pcr.Digest
	for _, values := range j.against.Boot {
		want = ima.BootAggregate(j.against.Bank, values)
		if bytes.Equal(want, e.Digest.Digest) {
			return
		}
	}
	j.find(finding.New(finding.IMABootAggregate, "boot_aggregate is not the hash over this boot's PCR 0 to 9").
		AtIndex(e.Index).AtOffset(e.Offset).Want(want.String(), e.Digest.Digest.String()))
}

// end draws what only the whole list tells. A list with entries beside a
// PCR 10 that was never extended does not fit: the kernel extends before it
// shows.
func (j *judge) end() {
	if !j.sum.Fits && j.against.PCR10 != nil && j.against.From.Entries > 0 && bytes.Equal(j.against.From.PCR, j.against.PCR10) {
		j.sum.Fits, j.sum.FitsAt, j.sum.Replayed = true, j.against.From, j.against.From.PCR // nothing was added
	}
	never := j.against.PCR10 == nil || pcr.IsReset(j.against.Bank, ima.Register, j.against.PCR10)
	switch {
	case !j.sum.Whole || j.sum.Fits:
	case j.sum.Entries == 0 && never:
		j.find(finding.New(finding.IMAAbsent, "the list has no entry"))
	case j.against.PCR10 != nil:
		detail := fmt.Sprintf("no prefix of the list's %d entries gives PCR 10", j.sum.Entries)
		if never {
			detail = fmt.Sprintf("PCR 10 was never extended, and the list has %d entries: the kernel had no TPM when it began to measure, or the TPM was reset", j.sum.Entries)
		}
		j.find(finding.New(finding.IMAPCRDiffers, detail).At(ima.Register).Want(j.sum.Replayed.String(), j.against.PCR10.String()))
	}
	if j.lost != nil && j.sum.Whole && !j.sum.Fits && j.against.PCR10 != nil {
		j.find(*j.lost) // where the list gives PCR 10, nothing was lost
	}
	if j.foreign > 0 {
		j.find(finding.New(finding.IMANotJudged, fmt.Sprintf("%d entries extend another register than PCR 10", j.foreign)))
	}
	for _, code := range slices.Sorted(maps.Keys(j.counts)) {
		if more := j.counts[code] - maxFindings; more > 0 {
			j.findings = append(j.findings, finding.New(code, fmt.Sprintf("%d more are not listed", more)))
		}
	}
}

// find keeps a finding; beyond maxFindings of one code they are counted.
func (j *judge) find(f finding.Finding) {
	j.counts[f.Code]++
	if j.counts[f.Code] <= maxFindings {
		j.findings = append(j.findings, f)
	}
}
