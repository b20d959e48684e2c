package eventlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"ward/internal/format/pcr"
)

// Bounds. What a log announces beyond them is malformed; nothing is allocated
// on the word of a length field.
const (
	maxAlgorithms = 16      // a TPM has up to 5 banks (PC Client Platform TPM Profile, 4.6.2: at least 1)
	maxDigestSize = 128     // twice the longest digest that has a TPM_ALG_ID
	maxEventData  = 1 << 30 // far above any log buffer; below it a size that runs over the end is a cut log
	maxAnomalies  = 64      // of one kind; more are counted in the last one's words
)

// Sizes of the fixed parts of events (Firmware Profile, 10.2.1 and 10.2.2).
const (
	sha1EventHeader  = 32 // PCRIndex, EventType, 20 bytes of digest, EventDataSize
	agileEventHeader = 8  // PCRIndex, EventType
)

// zeroPCR is how many zero bytes at the end of a log may still be the begin of
// an event in PCR 0 that was cut: its PCRIndex. More are padding, as no event of
// type 0 is written today.
const zeroPCR = 4

// Parse reads a whole log; the log keeps parts of b. The errors are ErrEmpty for
// no bytes and one that wraps ErrHeader when the first event cannot be read or
// the Spec ID in it contradicts itself. Everything else that is wrong stands in
// Log.Anomalies. Memory is bounded by 16 bytes for each byte of input.
func Parse(b []byte) (*Log, error) {
	if len(b) == 0 {
		return nil, ErrEmpty
	}
	p := &parser{log: &Log{}, reader: reader{b: b}}
	if err := p.header(); err != nil {
		return nil, fmt.Errorf("parse event log: %w", err)
	}
	whole := p.events()
	p.checkLocality()
	p.checkSeparators(whole)
	p.checkDigests()
	return p.log, nil
}

type parser struct {
	reader
	log    *Log
	arena  []TaggedDigest // digests are handed out from here
	counts [math.MaxUint8 + 1]int
}

// reader takes little-endian fields from bytes; ok turns false for good when
// they run out.
type reader struct {
	b      []byte
	at     int
	failed bool
}

func (r *reader) take(n int) []byte {
	if r.failed || n < 0 || n > len(r.b)-r.at {
		r.failed = true
		return nil
	}
	field := r.b[r.at : r.at+n : r.at+n]
	r.at += n
	return field
}

func (r *reader) u8() uint8 {
	if f := r.take(1); f != nil {
		return f[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if f := r.take(2); f != nil {
		return binary.LittleEndian.Uint16(f)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if f := r.take(4); f != nil {
		return binary.LittleEndian.Uint32(f)
	}
	return 0
}

// anomaly keeps what is wrong with an event.
func (p *parser) anomaly(k AnomalyKind, e Event, format string, args ...any) {
	p.counts[k]++
	switch n := p.counts[k]; {
	case n < maxAnomalies:
		p.log.Anomalies = append(p.log.Anomalies, Anomaly{k, e.Index, e.PCR, e.Offset, fmt.Sprintf(format, args...)})
	case n == maxAnomalies:
		p.log.Anomalies = append(p.log.Anomalies, Anomaly{k, e.Index, e.PCR, e.Offset, "here and in later events, which are not listed"})
	}
}

// usualEvent is about how many bytes an event takes in the logs of real machines;
// room is made for so many. A log of shorter ones makes more.
const usualEvent = 256

// header reads the first event, which is of the SHA-1 form in every log, and
// learns from it which form the others have.
func (p *parser) header() error {
	e, end := p.sha1Event()
	switch {
	case end != 0:
		return fmt.Errorf("%w: %d bytes hold no whole first event", ErrHeader, len(p.b))
	case e.Type != EVNoAction && (e.PCR < 0 || e.PCR >= pcr.Count):
		return fmt.Errorf("%w: the first event names PCR %d", ErrHeader, uint32(e.PCR))
	case isZero(p.b[:sha1EventHeader]):
		return fmt.Errorf("%w: the log begins with zeros", ErrHeader)
	}
	p.log.Events = append(make([]Event, 0, 1+len(p.b)/usualEvent), e)
	p.log.Algorithms = []AlgorithmSize{{pcr.SHA1, pcr.SHA1.Size()}}
	if e.Type != EVNoAction || !bytes.HasPrefix(e.Data, []byte("Spec ID Event")) {
		return nil
	}
	return p.specID(e)
}

// Signatures of the Spec ID event (Firmware Profile, 10.4.5.1; EFI Platform
// Specification 1.2 and PC Client Implementation 1.2 for the older two).
const (
	specAgile = "Spec ID Event03\x00"
	specEFI   = "Spec ID Event02\x00"
	specBIOS  = "Spec ID Event00\x00"
)

func (p *parser) specID(e Event) error {
	r := reader{b: e.Data}
	signature := string(r.take(len(specAgile)))
	r.take(4) // platformClass
	s := SpecID{Signature: trimZero(signature), Minor: r.u8(), Major: r.u8(), Errata: r.u8(), UintnSize: r.u8()}
	switch signature {
	case specAgile:
		algorithms, err := algorithmSizes(&r)
		if err != nil {
			return err
		}
		p.log.CryptoAgile, p.log.Algorithms = true, algorithms
	case specEFI, specBIOS:
	default:
		return fmt.Errorf("%w: unknown signature %q", ErrHeader, trimZero(signature))
	}
	s.VendorInfo = r.take(int(r.u8()))
	if r.failed && p.log.CryptoAgile {
		return fmt.Errorf("%w: the Spec ID event has %d bytes, too few for its vendor data", ErrHeader, len(e.Data))
	}
	p.log.Spec = s
	for _, a := range p.log.Algorithms {
		if a.Algorithm.Size() == 0 {
			p.anomaly(UnknownAlgorithm, e, "algorithm %s with digests of %d bytes", a.Algorithm, a.Size)
		}
	}
	return nil
}

// algorithmSizes reads the header's list of algorithms. The sizes decide where
// each later event ends, so a list that contradicts itself makes all unreadable.
func algorithmSizes(r *reader) ([]AlgorithmSize, error) {
	n := r.u32()
	if r.failed || n == 0 || n > maxAlgorithms {
		return nil, fmt.Errorf("%w: it announces %d algorithms, want 1 to %d", ErrHeader, n, maxAlgorithms)
	}
	list := make([]AlgorithmSize, 0, n)
	seen := make(map[pcr.Algorithm]bool, n)
	for range n {
		a := AlgorithmSize{pcr.Algorithm(r.u16()), int(r.u16())}
		known := a.Algorithm.Size()
		switch {
		case r.failed:
			return nil, fmt.Errorf("%w: the list of its algorithms is cut short", ErrHeader)
		case a.Size == 0 || a.Size > maxDigestSize || known != 0 && known != a.Size:
			return nil, fmt.Errorf("%w: it announces %s digests of %d bytes", ErrHeader, a.Algorithm, a.Size)
		case seen[a.Algorithm]:
			return nil, fmt.Errorf("%w: it announces %s twice", ErrHeader, a.Algorithm)
		}
		seen[a.Algorithm] = true
		list = append(list, a)
	}
	return list, nil
}

// events reads all events behind the header; it returns whether they end where
// the log does.
func (p *parser) events() (whole bool) {
	for p.at < len(p.b) {
		rest := p.b[p.at:]
		next := Event{Index: len(p.log.Events), Offset: int64(p.at), PCR: -1}
		switch {
		case len(rest) > zeroPCR && isZero(rest):
			return true
		case len(rest) >= sha1EventHeader && isZero(rest[:sha1EventHeader]):
			p.anomaly(TrailingData, next, "zero padding is followed by other bytes, of %d in all", len(rest))
			return false
		}
		read := p.sha1Event
		if p.log.CryptoAgile {
			read = p.agileEvent
		}
		e, end := read()
		switch end {
		case 0:
			p.log.Events = append(p.log.Events, e)
		case Truncated:
			p.anomaly(Truncated, next, "the log ends inside event %d, after %d of its bytes", next.Index, len(rest))
			return false
		default:
			p.anomaly(end, e, "event %d has a digest count, an algorithm or a size that no event has; %d bytes are left", e.Index, len(rest))
			return false
		}
	}
	return true
}

// sha1Event reads a TCG_PCClientPCREvent. end is 0, Truncated or Malformed.
func (p *parser) sha1Event() (e Event, end AnomalyKind) {
	e = p.eventHeader()
	digest := p.take(pcr.SHA1.Size())
	e.Digests = append(p.digests(1), TaggedDigest{pcr.SHA1, digest})
	return e, p.eventData(&e)
}

// agileEvent reads a TCG_PCR_EVENT2. end is 0, Truncated or Malformed.
func (p *parser) agileEvent() (e Event, end AnomalyKind) {
	e = p.eventHeader()
	n := p.u32()
	switch {
	case p.failed:
		return e, Truncated
	case n > maxAlgorithms:
		return e, Malformed
	}
	e.Digests = p.digests(int(n))
	for range n {
		a := pcr.Algorithm(p.u16())
		size := p.log.size(a)
		switch {
		case p.failed:
			return e, Truncated
		case size == 0:
			return e, Malformed
		}
		e.Digests = append(e.Digests, TaggedDigest{a, p.take(size)})
	}
	return e, p.eventData(&e)
}

func (p *parser) eventHeader() Event {
	e := Event{Index: len(p.log.Events), Offset: int64(p.at)}
	e.PCR = int(int32(p.u32()))
	e.Type = EventType(p.u32())
	return e
}

func (p *parser) eventData(e *Event) AnomalyKind {
	n := p.u32()
	if !p.failed && n > maxEventData {
		return Malformed
	}
	e.Data = p.take(int(n))
	if p.failed {
		return Truncated
	}
	return 0
}

// Room for digests is made for arenaDigests at a time, or for as many of
// usualDigest bytes, SHA-256 with its algorithm, as the rest of the log can hold.
const (
	arenaDigests = 256
	usualDigest  = 34
)

// digests returns an empty slice with room for n.
func (p *parser) digests(n int) []TaggedDigest {
	if n > len(p.arena) {
		p.arena = make([]TaggedDigest, max(min(arenaDigests, 1+(len(p.b)-p.at)/usualDigest), n))
	}
	list := p.arena[:0:n]
	p.arena = p.arena[n:]
	return list
}

// size is the length of an algorithm's digests in this log, 0 when its header
// does not announce the algorithm.
func (l *Log) size(a pcr.Algorithm) int {
	for _, s := range l.Algorithms {
		if s.Algorithm == a {
			return s.Size
		}
	}
	return 0
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func trimZero(s string) string {
	head, _, _ := bytes.Cut([]byte(s), []byte{0})
	return string(head)
}
