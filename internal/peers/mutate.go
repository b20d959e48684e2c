package peers

import (
	"bytes"
	"math/rand/v2"
	"slices"

	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/trust/finding"
)

// A class is one way to change a log. make calls add for each log that it
// gives, with the answers that Ward may give to it.
type class struct {
	name string
	// holds: the registers are those that the changed log gives, as if the
	// firmware had done so. Else they are those of the unchanged log.
	holds bool
	// greedy: a length may announce far more than there is, so that a peer that
	// believes it is asked in a process of its own.
	greedy bool
	// finds: one of these is a new finding wherever Ward does not pass.
	finds []finding.Code
	make  func(l layout, add func(changed []byte, want ...Answer)) error
}

// never is every answer but a pass.
var never = []Answer{Warns, Alarms, Undecided}

// labels is what Ward may say when only words about an event change that no
// digest vouches for: the registers follow, nothing alarms.
var labels = []Answer{Passes, Warns}

// What Ward must find, by what was done to the log.
var (
	unexplained = []finding.Code{finding.BootPCRUnexplained}
	odd         = []finding.Code{finding.BootLogAnomaly, finding.BootPCRDiffers}
	reworded    = []finding.Code{finding.BootLogAnomaly, finding.SecureBootUnknown}
	ended       = []finding.Code{finding.BootLogTruncated, finding.BootLogUnreadable}
	confused    = []finding.Code{finding.BootLogTruncated, finding.BootLogUnreadable, finding.BootLogAnomaly}
)

// The programs that answer, in the order of the table's columns.
const (
	ward = iota
	goAttestationColumn
	tcglogColumn
	tpm2Column
	programs
)

var programNames = [programs]string{"Ward", "go-attestation", "tcglog-parser", "tpm2_eventlog"}

// classes are all ways, in the order of the table.
var classes = []class{
	{name: "unchanged", make: unchanged},
	{name: "all events of a PCR deleted", finds: unexplained, make: deletePCR},
	{name: "header alone", finds: unexplained, make: headerAlone},
	{name: "extending event deleted", finds: unexplained, make: eachEvent(extending, deleted, Alarms)},
	{name: "informing event deleted", make: eachEvent(informing, deleted, Passes)},
	{name: "neighbours in one PCR swapped", finds: unexplained, make: swapped(true, Alarms)},
	{name: "neighbours in two PCRs swapped", make: swapped(false, Passes)},
	{name: "relabelled EV_NO_ACTION", finds: unexplained, make: eachEvent(extending, relabelled(eventlog.EVNoAction), Alarms)},
	{name: "relabelled EV_ACTION", finds: odd, make: relabel(eventlog.EVAction)},
	{name: "relabelled EV_SEPARATOR", finds: odd, make: relabel(eventlog.EVSeparator)},
	{name: "relabelled unknown type", finds: odd, make: relabel(0x7fffffff)},
	{name: "cut between events", finds: unexplained, make: cutBetween},
	{name: "cut inside an event", finds: ended, make: cutInside},
	{name: "bit of the judged digest", finds: unexplained, make: eachEvent(extending, flipJudged, Alarms)},
	{name: "bit of another bank's digest", finds: odd, make: eachEvent(extending, flipOther, labels...)},
	{name: "bit of an informing event's digest", finds: odd, make: eachEvent(informingInPCR, flipJudged, Warns)},
	{name: "bit of data that a digest vouches for", finds: reworded, make: flipVouched},
	{name: "bit of data that no digest covers", finds: odd, make: eachEvent(unvouched, flipData, labels...)},
	{name: "bit of the startup locality", finds: unexplained, make: eachEvent(isLocality, flipData, Alarms)},
	{name: "bit of a size", greedy: true, finds: confused, make: flipSize},
	{name: "bit of a PCR index", finds: unexplained, make: flipIndex},
	{name: "extending event doubled", finds: unexplained, make: eachEvent(extending, doubled, Alarms)},
	{name: "informing event doubled", make: eachEvent(informing, doubled, Passes)},
	{name: "vouched data lengthened", finds: reworded, make: lengthenVouched},
	{name: "unvouched data lengthened", finds: odd, make: eachEvent(unvouched, lengthened, labels...)},
	{name: "size of 4 GiB", greedy: true, finds: ended, make: eachEvent(extending, hugeSize, Undecided)},
	{name: "four bytes or fewer of zeros behind", finds: ended, make: behind(Warns, zeros(1), zeros(2), zeros(4))},
	{name: "zeros behind", make: behind(Passes, zeros(5), zeros(64), zeros(4096), zeros(32768))},
	{name: "garbage behind", greedy: true, finds: confused, make: garbageBehind},
	{name: "second StartupLocality", finds: odd, make: secondLocality},
	{name: "StartupLocality 3 after the first extend", finds: odd, make: lateLocality},
	{name: "StartupLocality 3 that was not", finds: unexplained, make: falseLocality},
	{name: "separator removed", finds: unexplained, make: eachEvent(separator, deleted, Alarms)},
	{name: "separator doubled", finds: unexplained, make: eachEvent(separator, doubled, Alarms)},
	{name: "separator reports an error", finds: unexplained, make: errorSeparator(Alarms)},
	{name: "separator removed, registers too", holds: true, finds: odd, make: eachEvent(separator, deleted, never...)},
	{name: "separator doubled, registers too", holds: true, finds: odd, make: eachEvent(separator, doubled, never...)},
	{name: "separator reports an error, registers too", holds: true, finds: odd, make: errorSeparator(never...)},
	{name: "StartupLocality padded to 50 bytes", make: eachEvent(isLocality, padded, Passes)},
	{name: "vendor data in the header", make: vendorData},
	{name: "unknown algorithm in the header", make: unknownAlgorithm},
	{name: "unknown informing event", make: insertInforming},
}

func unchanged(l layout, add func([]byte, ...Answer)) error {
	add(l.raw, Passes)
	return nil
}

func extending(e event) bool      { return e.extends }
func informing(e event) bool      { return !e.extends && !e.locality && e.kind == eventlog.EVNoAction }
func informingInPCR(e event) bool { return e.kind == eventlog.EVNoAction && e.pcr >= 0 }
func isLocality(e event) bool     { return e.locality }
func separator(e event) bool      { return e.kind == eventlog.EVSeparator && e.pcr < 8 && e.extends }
func unvouched(e event) bool {
	return e.extends && !e.vouched && e.end > e.dataAt && e.kind != eventlog.EVSeparator
}
func vouched(e event) bool {
	return e.extends && e.vouched && e.end > e.dataAt && e.kind != eventlog.EVSeparator
}

// eachEvent changes one event at a time; a nil change does not apply.
func eachEvent(which func(event) bool, change func(l layout, e event) []byte, want ...Answer) func(layout, func([]byte, ...Answer)) error {
	return func(l layout, add func([]byte, ...Answer)) error {
		for _, e := range l.events {
			if !which(e) {
				continue
			}
			if changed := change(l, e); changed != nil {
				add(l.replace(e, changed), want...)
			}
		}
		return nil
	}
}

// replace returns the log with other bytes in an event's place.
func (l layout) replace(e event, b []byte) []byte {
	return slices.Concat(l.raw[:e.start], b, l.raw[e.end:])
}

// bytes returns a copy of an event.
func (l layout) bytes(e event) []byte { return bytes.Clone(l.raw[e.start:e.end]) }

func deleted(layout, event) []byte { return []byte{} }

func doubled(l layout, e event) []byte { return slices.Concat(l.bytes(e), l.bytes(e)) }

func deletePCR(l layout, add func([]byte, ...Answer)) error {
	for index := range pcr.Count {
		kept, at := []byte(nil), 0
		for _, e := range l.events {
			if e.extends && e.pcr == index {
				kept = append(kept, l.raw[at:e.start]...)
				at = e.end
			}
		}
		if at > 0 {
			add(append(kept, l.raw[at:]...), Alarms)
		}
	}
	return nil
}

func headerAlone(l layout, add func([]byte, ...Answer)) error {
	if l.first > 0 && slices.ContainsFunc(l.events, extending) {
		add(bytes.Clone(l.raw[:l.first]), Alarms)
	}
	return nil
}

func swapped(onePCR bool, want Answer) func(layout, func([]byte, ...Answer)) error {
	return func(l layout, add func([]byte, ...Answer)) error {
		for i, a := range l.events {
			if i+1 == len(l.events) {
				break
			}
			b := l.events[i+1]
			if !a.extends || !b.extends || (a.pcr == b.pcr) != onePCR || l.sameDigest(a, b) {
				continue
			}
			add(slices.Concat(l.raw[:a.start], l.bytes(b), l.bytes(a), l.raw[b.end:]), want)
		}
		return nil
	}
}

func (l layout) sameDigest(a, b event) bool {
	if len(a.judged) == 0 || len(b.judged) == 0 {
		return true
	}
	return bytes.Equal(l.raw[a.judged[0]:a.judged[0]+20], l.raw[b.judged[0]:b.judged[0]+20])
}

func relabelled(to eventlog.EventType) func(layout, event) []byte {
	return func(l layout, e event) []byte {
		if e.kind == to {
			return nil
		}
		b := l.bytes(e)
		le.PutUint32(b[4:], uint32(to))
		return b
	}
}

// relabel changes types and no digest: found where the release names the event,
// which a log without the judged bank has no release for.
func relabel(to eventlog.EventType) func(layout, func([]byte, ...Answer)) error {
	return func(l layout, add func([]byte, ...Answer)) error {
		return eachEvent(extending, relabelled(to), l.named(Warns)...)(l, add)
	}
}

// named is what Ward must say about words that the release has and the log
// has otherwise; logs that no release can name may pass.
func (l layout) named(a Answer) []Answer {
	if !l.agile {
		return []Answer{Passes, a}
	}
	return []Answer{a}
}

func cutBetween(l layout, add func([]byte, ...Answer)) error {
	for i, e := range l.events {
		if e.start > 0 && slices.ContainsFunc(l.events[i:], extending) {
			add(bytes.Clone(l.raw[:e.start]), Alarms)
		}
	}
	return nil
}

func cutInside(l layout, add func([]byte, ...Answer)) error {
	for i, e := range l.events {
		want := []Answer{Undecided}
		if !slices.ContainsFunc(l.events[i:], extending) {
			want = []Answer{Warns, Undecided}
		}
		for _, at := range []int{e.start + 6, (e.start + e.end) / 2, e.end - 1} {
			add(bytes.Clone(l.raw[:at]), want...)
		}
	}
	return nil
}

// flip returns an event with one bit changed, at an offset in the log.
func (l layout) flip(e event, at int, bit uint) []byte {
	b := l.bytes(e)
	b[at-e.start] ^= 1 << bit
	return b
}

func flipJudged(l layout, e event) []byte {
	if len(e.judged) == 0 {
		return nil
	}
	return l.flip(e, e.judged[0]+e.start%20, uint(e.start%8))
}

func flipOther(l layout, e event) []byte {
	if len(e.others) == 0 {
		return nil
	}
	return l.flip(e, e.others[len(e.others)-1]+e.start%20, uint(e.start%8))
}

func flipData(l layout, e event) []byte { return l.flip(e, e.end-1, 1) }

func flipVouched(l layout, add func([]byte, ...Answer)) error { return l.reword(flipData, add) }

// reword changes data that a digest vouches for: those that tell how Secure Boot
// stands no longer do, so that the verdict may be none.
func (l layout) reword(change func(layout, event) []byte, add func([]byte, ...Answer)) error {
	for _, e := range l.events {
		switch {
		case !vouched(e):
		case e.pcr == 7:
			add(l.replace(e, change(l, e)), append(l.named(Warns), Undecided)...)
		default:
			add(l.replace(e, change(l, e)), l.named(Warns)...)
		}
	}
	return nil
}

// flipSize leaves the last event out: behind it there may be padding.
func flipSize(l layout, add func([]byte, ...Answer)) error {
	for i, e := range l.events {
		if i+1 == len(l.events) || !slices.ContainsFunc(l.events[i:], extending) {
			continue
		}
		for _, bit := range []uint{0, 3, 12, 31} {
			add(l.replace(e, l.flip(e, e.sizeAt+int(bit/8), bit%8)), Alarms, Undecided)
		}
	}
	return nil
}

func hugeSize(l layout, e event) []byte {
	b := l.bytes(e)
	le.PutUint32(b[e.sizeAt-e.start:], 0xffffffff)
	return b
}

func flipIndex(l layout, add func([]byte, ...Answer)) error {
	for _, e := range l.events {
		if !e.extends {
			continue
		}
		for _, bit := range []uint{0, 2, 4, 8, 31} {
			add(l.replace(e, l.flip(e, e.start+int(bit/8), bit%8)), Alarms)
		}
	}
	return nil
}

func lengthened(l layout, e event) []byte {
	b := append(l.bytes(e), "xyz"...)
	le.PutUint32(b[e.sizeAt-e.start:], uint32(e.end-e.dataAt+3))
	return b
}

func lengthenVouched(l layout, add func([]byte, ...Answer)) error {
	return l.reword(lengthened, add)
}

// padded is how coreboot writes the event.
func padded(l layout, e event) []byte {
	n := 50 - (e.end - e.dataAt)
	if n <= 0 {
		return nil
	}
	b := append(l.bytes(e), make([]byte, n)...)
	le.PutUint32(b[e.sizeAt-e.start:], 50)
	return b
}

func zeros(n int) []byte { return make([]byte, n) }

// behind appends to the last event.
func behind(want Answer, tails ...[]byte) func(layout, func([]byte, ...Answer)) error {
	return func(l layout, add func([]byte, ...Answer)) error {
		for _, tail := range tails {
			add(slices.Concat(l.raw[:l.last], tail), want)
		}
		return nil
	}
}

func garbageBehind(l layout, add func([]byte, ...Answer)) error {
	noise := rand.NewChaCha8([32]byte{1})
	for _, n := range []int{1, 7, 31, 64, 4096} {
		tail := make([]byte, n)
		_, _ = noise.Read(tail)
		add(slices.Concat(l.raw[:l.last], tail), never...)
		add(slices.Concat(l.raw[:l.last], zeros(64), tail), never...)
	}
	return nil
}

func localityData(l byte) []byte { return append([]byte(eventlog.LocalitySignature), l) }

// insert puts an event in front of the one with an index; the index of the
// number of events is the log's end.
func (l layout) insert(i int, index uint32, kind eventlog.EventType, data []byte) ([]byte, error) {
	at := l.last
	if i < len(l.events) {
		at = l.events[i].start
	}
	b, err := l.newEvent(index, kind, data)
	return slices.Concat(l.raw[:at], b, l.raw[at:]), err
}

func secondLocality(l layout, add func([]byte, ...Answer)) error {
	i := slices.IndexFunc(l.events, isLocality)
	if i < 0 {
		return nil
	}
	for _, locality := range []byte{0, 3, 4} {
		b, err := l.insert(i+1, 0, eventlog.EVNoAction, localityData(locality))
		if err != nil {
			return err
		}
		add(b, Warns)
	}
	return nil
}

func lateLocality(l layout, add func([]byte, ...Answer)) error {
	if !slices.ContainsFunc(l.events, func(e event) bool { return e.extends && e.pcr == 0 }) {
		return nil
	}
	b, err := l.insert(len(l.events), 0, eventlog.EVNoAction, localityData(3))
	add(b, Warns)
	return err
}

func falseLocality(l layout, add func([]byte, ...Answer)) error {
	extendsPCR0 := func(e event) bool { return e.extends && e.pcr == 0 }
	if slices.ContainsFunc(l.events, isLocality) || l.first == 0 || !slices.ContainsFunc(l.events, extendsPCR0) {
		return nil
	}
	b, err := l.insert(0, 0, eventlog.EVNoAction, localityData(3))
	add(b, Alarms)
	return err
}

// errorSeparator gives each separator in turn the value that reports an error.
func errorSeparator(want ...Answer) func(layout, func([]byte, ...Answer)) error {
	return func(l layout, add func([]byte, ...Answer)) error {
		for _, e := range l.events {
			if !separator(e) {
				continue
			}
			b, err := l.newEvent(uint32(e.pcr), eventlog.EVSeparator, []byte{1, 0, 0, 0})
			if err != nil {
				return err
			}
			add(l.replace(e, b), want...)
		}
		return nil
	}
}

// vendorData gives the header 9 bytes of vendor data where it has none.
func vendorData(l layout, add func([]byte, ...Answer)) error {
	if !l.agile || l.raw[l.first-1] != 0 {
		return nil
	}
	b := slices.Concat(l.raw[:l.first-1], []byte{9}, []byte("by vendor"), l.raw[l.first:])
	le.PutUint32(b[28:], le.Uint32(b[28:])+9)
	add(b, Passes)
	return nil
}

// unknownAlgorithm announces an algorithm that has no name.
func unknownAlgorithm(l layout, add func([]byte, ...Answer)) error {
	if l.agile {
		add(l.withAlgorithm(0x7f01, 24, func([]byte) []byte { return bytes.Repeat([]byte{7}, 24) }), Passes)
	}
	return nil
}

// withAlgorithm announces one more algorithm and gives every event a digest of
// it; an event that extends nothing has zeros.
func (l layout) withAlgorithm(id, size uint16, digest func(data []byte) []byte) []byte {
	const numberAt = 32 + 24 // of algorithms, in the header's Spec ID
	n := le.Uint32(l.raw[numberAt:])
	at := numberAt + 4 + 4*int(n)
	b := bytes.Clone(l.raw[:at])
	b = le.AppendUint16(le.AppendUint16(b, id), size)
	b = append(b, l.raw[at:l.first]...)
	le.PutUint32(b[28:], le.Uint32(b[28:])+4)
	le.PutUint32(b[numberAt:], n+1)
	for _, e := range l.events {
		x := l.bytes(e)
		le.PutUint32(x[8:], le.Uint32(x[8:])+1)
		d := make([]byte, size)
		if e.kind != eventlog.EVNoAction {
			copy(d, digest(l.raw[e.dataAt:e.end]))
		}
		b = append(b, x[:e.sizeAt-e.start]...)
		b = append(le.AppendUint16(b, id), d...)
		b = append(b, x[e.sizeAt-e.start:]...)
	}
	return append(b, l.raw[l.last:]...)
}

func insertInforming(l layout, add func([]byte, ...Answer)) error {
	if len(l.events) < 2 {
		return nil
	}
	for _, index := range []uint32{0, 6, 0xffffffff} {
		b, err := l.insert(1, index, eventlog.EVNoAction, []byte("Vendor remark\x00of some length"))
		if err != nil {
			return err
		}
		add(b, Passes)
	}
	return nil
}
