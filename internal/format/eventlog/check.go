package eventlog

import (
	"bytes"

	"ward/internal/format/pcr"
)

// LocalitySignature begins the data of the event that states the locality at
// which the TPM was started (Firmware Profile, 10.4.5.3). Firmware may pad the
// event behind the locality (coreboot does, to 50 bytes).
const LocalitySignature = "StartupLocality\x00"

// checkLocality takes the startup locality. What is checked: it stands before
// the first extend of PCR 0 and names PCR 0, stands once, and is 0, 3 or 4.
// What breaks a rule is ignored, so that PCR 0 is left unexplained if it counted.
func (p *parser) checkLocality() {
	extended := false
	for _, e := range p.log.Events {
		extended = extended || e.PCR == 0 && e.Extends()
		if e.Type != EVNoAction || !bytes.HasPrefix(e.Data, []byte(LocalitySignature)) {
			continue
		}
		switch {
		case len(e.Data) == len(LocalitySignature):
			p.anomaly(LocalityUnknown, e, "the event ends before the locality")
		case e.PCR != 0:
			p.anomaly(LocalityMisplaced, e, "it names PCR %d instead of 0", e.PCR)
		case extended:
			p.anomaly(LocalityMisplaced, e, "PCR 0 was already extended")
		case p.log.StartupLocality != nil:
			p.anomaly(LocalityRepeated, e, "the locality was already stated")
		default:
			l := e.Data[len(LocalitySignature)]
			if l != 0 && l != 3 && l != 4 {
				p.anomaly(LocalityUnknown, e, "locality %d, want 0, 3 or 4", l)
				continue
			}
			p.log.StartupLocality = &l
		}
	}
}

// lastFirmwarePCR is the last of the registers that belong to the firmware
// (Firmware Profile, 3.3.4): each gets one separator.
const lastFirmwarePCR = 7

// checkSeparators checks that each of PCR 0 to 7 has exactly one separator and
// not the one that reports an error (Firmware Profile, 10.4.1, EV_SEPARATOR). A
// log that was cut is not blamed for separators that it no longer holds.
func (p *parser) checkSeparators(whole bool) {
	var seen [lastFirmwarePCR + 1]bool
	for _, e := range p.log.Events {
		if e.PCR < 0 || e.PCR > lastFirmwarePCR || e.Type != EVSeparator {
			continue
		}
		switch e.Separator() {
		case SeparatorFailure:
			p.anomaly(SeparatorError, e, "the firmware reports an error")
		case SeparatorOther:
			p.anomaly(SeparatorUnknown, e, "its digest is of no separator")
			continue
		}
		if seen[e.PCR] {
			p.anomaly(SeparatorRepeated, e, "PCR %d already has a separator", e.PCR)
		}
		seen[e.PCR] = true
	}
	if !whole {
		return
	}
	for i, ok := range seen {
		if !ok {
			p.anomaly(SeparatorMissing, Event{Index: -1, PCR: i, Offset: int64(len(p.b))}, "PCR %d has no separator", i)
		}
	}
}

// SeparatorClass says what an EV_SEPARATOR event reports, by what was extended.
type SeparatorClass uint8

// Classes of separators.
const (
	SeparatorNormal  SeparatorClass = iota
	SeparatorFailure                // the firmware reports an error
	SeparatorOther                  // no separator: another event under this name
)

// Separator judges an EV_SEPARATOR event by the digests alone where this build can compute one,
// else by the data. Data longer than four bytes pass where they hash to the
// digest and say nothing else than the four do.
func (e Event) Separator() SeparatorClass {
	judged := false
	class := SeparatorNormal
	for _, d := range e.Digests {
		k, ok := separators[d.Algorithm]
		if !ok {
			continue
		}
		judged = true
		switch {
		case bytes.Equal(d.Digest, k.zeros), bytes.Equal(d.Digest, k.ones):
		case bytes.Equal(d.Digest, k.failed):
			class = max(class, SeparatorFailure)
		case len(e.Data) > 4 && (isZero(e.Data) || isOnes(e.Data)) && e.Rehashes(d.Algorithm):
		default:
			class = SeparatorOther
		}
	}
	if !judged && !isZero(e.Data) && !isOnes(e.Data) {
		return SeparatorOther
	}
	return class
}

func isOnes(b []byte) bool {
	return len(bytes.TrimLeft(b, "\xff")) == 0
}

// separators are the digests of the three values that a separator may have.
var separators = func() map[pcr.Algorithm]separatorDigests {
	m := make(map[pcr.Algorithm]separatorDigests)
	for _, a := range []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512, pcr.SM3256} {
		m[a] = separatorDigests{
			zeros:  a.Sum([]byte{0, 0, 0, 0}),
			ones:   a.Sum([]byte{0xff, 0xff, 0xff, 0xff}),
			failed: a.Sum([]byte{1, 0, 0, 0}),
		}
	}
	return m
}()

type separatorDigests struct{ zeros, ones, failed pcr.Digest }

// checkDigests checks that each event has one digest of every announced
// algorithm, that it names a register that exists, and that an event that names
// one but extends nothing has no digest (Firmware Profile, 10.2.2 and 10.4.1).
// Windows writes EV_NO_ACTION events with a digest and without a register.
func (p *parser) checkDigests() {
	for i, e := range p.log.Events {
		switch {
		case e.Type != EVNoAction && !e.Extends():
			p.anomaly(PCROutOfRange, e, "it names PCR %d", uint32(e.PCR))
		case e.Type == EVNoAction && e.PCR >= 0 && hasDigest(e):
			p.anomaly(NoActionDigest, e, "an event that extends nothing has a digest")
		}
		if !p.log.CryptoAgile || i == 0 {
			continue
		}
		for _, a := range p.log.Algorithms {
			switch n := count(e.Digests, a.Algorithm); {
			case n == 0:
				p.anomaly(DigestMissing, e, "no %s digest", a.Algorithm)
			case n > 1:
				p.anomaly(DigestRepeated, e, "%d digests of %s", n, a.Algorithm)
			}
		}
	}
}

func count(digests []TaggedDigest, a pcr.Algorithm) int {
	n := 0
	for _, d := range digests {
		if d.Algorithm == a {
			n++
		}
	}
	return n
}

func hasDigest(e Event) bool {
	for _, d := range e.Digests {
		if !isZero(d.Digest) {
			return true
		}
	}
	return false
}
