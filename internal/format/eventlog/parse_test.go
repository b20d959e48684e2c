package eventlog_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"ward/internal/format/bootevent"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
)

// Verifies: SR-003
func TestReplayOfBothForms(t *testing.T) {
	all := []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512, pcr.SM3256}
	for name, c := range map[string]struct {
		log   []byte
		banks []pcr.Algorithm
	}{
		"crypto-agile": {builder{banks: all}.log(boot()...), all},
		"sha1":         {sha1Log(boot()...), []pcr.Algorithm{pcr.SHA1}},
	} {
		t.Run(name, func(t *testing.T) {
			log := mustParse(t, c.log)
			wantKinds(t, log)
			if log.CryptoAgile != (name == "crypto-agile") || len(log.Algorithms) != len(c.banks) {
				t.Errorf("crypto-agile %v, algorithms %v", log.CryptoAgile, log.Algorithms)
			}
			for _, a := range c.banks {
				want := extend(a, pcr.ResetValue(a, 4), []byte("Calling EFI Application from Boot Option"), []byte{0, 0, 0, 0})
				if got := value(t, log, a, 4); !bytes.Equal(got, want) {
					t.Errorf("%s PCR 4: %s, want %s", a, got, want)
				}
				bank, _ := log.Replay(a)
				if n := len(bank.Values()); n != 8 {
					t.Errorf("%s: %d registers extended, want 8", a, n)
				}
			}
		})
	}
}

func TestReplayOfAnAbsentBank(t *testing.T) {
	log := mustParse(t, both.log(boot()...))
	for _, a := range []pcr.Algorithm{pcr.SHA384, pcr.SM3256, unknownAlgorithm} {
		if _, err := log.Replay(a); err == nil {
			t.Errorf("%s: no error", a)
		}
	}
}

// Pitfall 1 of attestation: without its events a register replays to its reset
// value, and the missing separators are named.
//
// Verifies: SR-002, SR-003
func TestPitfall1Completeness(t *testing.T) {
	header := mustParse(t, both.log())
	if n := len(header.Anomalies); n != 8 {
		t.Errorf("header alone: %v", header.Anomalies)
	}
	for i := range 8 {
		if got := value(t, header, pcr.SHA256, i); !pcr.IsReset(pcr.SHA256, i, got) {
			t.Errorf("header alone: PCR %d is %s", i, got)
		}
	}
	var without4 []measured
	for _, e := range boot() {
		if e.pcr != 4 {
			without4 = append(without4, e)
		}
	}
	log := mustParse(t, both.log(without4...))
	wantKinds(t, log, eventlog.SeparatorMissing)
	if a := log.Anomalies[0]; a.PCR != 4 || a.Index != -1 {
		t.Errorf("got %+v", a)
	}
	if bank, _ := log.Replay(pcr.SHA256); bank.Extended(4) {
		t.Error("PCR 4 counts as extended")
	}
}

// Pitfall 2 of attestation: only digests are trusted, and separators count by
// what was extended, not by their name.
//
// Verifies: SR-003
func TestPitfall2OnlyDigestsAreTrusted(t *testing.T) {
	image := measured{pcr: 4, kind: eventlog.EVEFIBootApplication, data: []byte("Calling EFI Application from Boot Option"), of: []byte("an image")}
	relabelled := image
	relabelled.kind = eventlog.EVEFIAction
	a, b := mustParse(t, both.log(boot(image)...)), mustParse(t, both.log(boot(relabelled)...))
	if x, y := value(t, a, pcr.SHA256, 4), value(t, b, pcr.SHA256, 4); !bytes.Equal(x, y) {
		t.Errorf("relabelling changes PCR 4: %s, %s", x, y)
	}
	for _, log := range []*eventlog.Log{a, b} {
		e := log.Events[3]
		if e.Rehashes(pcr.SHA256) || !strings.HasPrefix(bootevent.Describe(e), "untrusted: ") {
			t.Errorf("%s: %q passes for what was measured", e.Type, bootevent.Describe(e))
		}
	}
	if e := a.Events[2]; !e.Rehashes(pcr.SHA256) || bootevent.Describe(e) != "Calling EFI Application from Boot Option" {
		t.Errorf("an honest action is described %q", bootevent.Describe(e))
	}

	fake := measured{pcr: 4, kind: eventlog.EVSeparator, data: []byte{0, 0, 0, 0}, of: []byte("an image")}
	log := mustParse(t, both.log(boot(fake)...))
	wantKinds(t, log, eventlog.SeparatorUnknown)
	if e := log.Events[3]; !strings.HasPrefix(bootevent.Describe(e), "untrusted: separator by name only") {
		t.Errorf("a false separator is described %q", bootevent.Describe(e))
	}
	hidden := boot(fake)
	hidden[3+4].kind = eventlog.EVEFIAction // the true separator of PCR 4, under another name
	wantKinds(t, mustParse(t, both.log(hidden...)), eventlog.SeparatorUnknown, eventlog.SeparatorMissing)
}

// Verifies: SR-003
func TestSeparators(t *testing.T) {
	failed := measured{pcr: 3, kind: eventlog.EVSeparator, data: []byte("what went wrong"), of: []byte{1, 0, 0, 0}}
	ones := separator(2)
	ones.data = []byte{0xff, 0xff, 0xff, 0xff}
	with := func(replace int, m measured) []measured {
		events := boot()
		events[replace+2] = m
		return events
	}
	for name, c := range map[string]struct {
		events []measured
		want   []eventlog.AnomalyKind
	}{
		"twice":                {boot(separator(5)), []eventlog.AnomalyKind{eventlog.SeparatorRepeated}},
		"error":                {with(3, failed), []eventlog.AnomalyKind{eventlog.SeparatorError}},
		"all ones":             {with(2, ones), nil},
		"in PCR 12 to 14":      {boot(measured{pcr: 13, kind: eventlog.EVSeparator, data: []byte("WBCL")}), nil},
		"in PCR 8, many times": {boot(separator(8), separator(8)), nil},
	} {
		t.Run(name, func(t *testing.T) { wantKinds(t, mustParse(t, both.log(c.events...)), c.want...) })
	}
}

// Pitfall 3 of attestation: honest firmware is odd in these ways.
//
// Verifies: SR-003
func TestPitfall3HonestOddities(t *testing.T) {
	long := measured{pcr: 6, kind: eventlog.EVSeparator, data: make([]byte, 40)}
	longFour := measured{pcr: 6, kind: eventlog.EVSeparator, data: make([]byte, 40), of: []byte{0, 0, 0, 0}}
	withLong := func(s measured) []measured {
		events := boot()
		events[2+6] = s
		return events
	}
	for name, b := range map[string][]byte{
		"StartupLocality padded to 50 bytes": both.log(append([]measured{locality(3, 33)}, boot()...)...),
		"long separator, all hashed":         both.log(withLong(long)...),
		"long separator, four bytes hashed":  both.log(withLong(longFour)...),
		"zero padding":                       append(both.log(boot()...), make([]byte, 1000)...),
		"zero padding of five bytes":         append(both.log(boot()...), make([]byte, 5)...),
		"zero padding of a SHA-1 log":        append(sha1Log(boot()...), make([]byte, 1000)...),
		"vendor data":                        builder{banks: both.banks, vendor: []byte("vendor data")}.log(boot()...),
		"EV_POST_CODE of 9 bytes":            both.log(boot(measured{pcr: 0, kind: eventlog.EVPostCode, data: []byte("ACPI DATA"), of: []byte("tables")})...),
		"unknown event type":                 both.log(boot(measured{pcr: 2, kind: 0x80000099, data: []byte{1, 2}})...),
		"EV_NO_ACTION without a register":    both.log(boot(measured{pcr: 1<<32 - 1, kind: eventlog.EVNoAction, data: []byte("WBCL")})...),
		"EV_NO_ACTION of no kind":            both.log(boot(measured{kind: eventlog.EVNoAction, zero: true, data: []byte("?")})...),
		"events of no data":                  both.log(boot(measured{pcr: 1, kind: eventlog.EVEFIAction, of: []byte("x")})...),
	} {
		t.Run(name, func(t *testing.T) {
			log := mustParse(t, b)
			wantKinds(t, log)
			for _, a := range log.Algorithms {
				if _, err := log.Replay(a.Algorithm); err != nil {
					t.Error(err)
				}
			}
		})
	}
	t.Run("unknown algorithm in the header", func(t *testing.T) {
		b := builder{banks: []pcr.Algorithm{pcr.SHA256, unknownAlgorithm, pcr.SM3256}}
		log := mustParse(t, b.log(boot()...))
		wantKinds(t, log, eventlog.UnknownAlgorithm)
		if !log.Anomalies[0].Kind.Informational() {
			t.Error("an unknown algorithm is more than information")
		}
		want := value(t, mustParse(t, both.log(boot()...)), pcr.SHA256, 4)
		if got := value(t, log, pcr.SHA256, 4); !bytes.Equal(got, want) {
			t.Errorf("PCR 4 %s, want %s", got, want)
		}
	})
}

// Pitfall 4 of attestation: StartupLocality counts before the first extend of
// PCR 0, once, and is 0, 3 or 4.
//
// Verifies: SR-003
func TestPitfall4StartupLocality(t *testing.T) {
	other := locality(3, 0)
	other.pcr = 1
	cut := locality(3, 0)
	cut.data = cut.data[:16]
	for name, c := range map[string]struct {
		events []measured
		start  int // -1: not stated
		want   []eventlog.AnomalyKind
	}{
		"none":                  {boot(), -1, nil},
		"0":                     {append([]measured{locality(0, 0)}, boot()...), 0, nil},
		"3":                     {append([]measured{locality(3, 0)}, boot()...), 3, nil},
		"4":                     {append([]measured{locality(4, 0)}, boot()...), 4, nil},
		"after another PCR":     {append([]measured{action(4, "x"), locality(3, 0)}, boot()...), 3, nil},
		"1":                     {append([]measured{locality(1, 0)}, boot()...), -1, []eventlog.AnomalyKind{eventlog.LocalityUnknown}},
		"cut":                   {append([]measured{cut}, boot()...), -1, []eventlog.AnomalyKind{eventlog.LocalityUnknown}},
		"twice":                 {append([]measured{locality(3, 0), locality(4, 0)}, boot()...), 3, []eventlog.AnomalyKind{eventlog.LocalityRepeated}},
		"after the first PCR 0": {boot(locality(3, 0)), -1, []eventlog.AnomalyKind{eventlog.LocalityMisplaced}},
		"in another PCR":        {append([]measured{other}, boot()...), -1, []eventlog.AnomalyKind{eventlog.LocalityMisplaced}},
	} {
		t.Run(name, func(t *testing.T) {
			log := mustParse(t, both.log(c.events...))
			wantKinds(t, log, c.want...)
			start := make(pcr.Digest, 32)
			switch {
			case c.start < 0 && log.StartupLocality != nil:
				t.Errorf("locality %d", *log.StartupLocality)
			case c.start >= 0 && (log.StartupLocality == nil || int(*log.StartupLocality) != c.start):
				t.Errorf("locality %v, want %d", log.StartupLocality, c.start)
			case c.start >= 0:
				start[31] = byte(c.start)
			}
			want := extend(pcr.SHA256, start, boot()[0].data, []byte{0, 0, 0, 0})
			if got := value(t, log, pcr.SHA256, 0); !bytes.Equal(got, want) {
				t.Errorf("PCR 0 %s, want %s", got, want)
			}
		})
	}
}

// Verifies: SR-003
func TestDigestRules(t *testing.T) {
	missing := action(4, "x")
	missing.banks = []pcr.Algorithm{pcr.SHA1}
	twice := action(4, "x")
	twice.banks = []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA256}
	named := measured{pcr: 4, kind: eventlog.EVNoAction, data: []byte("x")}
	for name, c := range map[string]struct {
		event measured
		want  eventlog.AnomalyKind
	}{
		"missing":      {missing, eventlog.DigestMissing},
		"twice":        {twice, eventlog.DigestRepeated},
		"no action":    {named, eventlog.NoActionDigest},
		"PCR 24":       {action(24, "x"), eventlog.PCROutOfRange},
		"PCR 2^32 - 1": {action(1<<32-1, "x"), eventlog.PCROutOfRange},
	} {
		t.Run(name, func(t *testing.T) {
			log := mustParse(t, both.log(boot(c.event)...))
			wantKinds(t, log, c.want)
			if a := log.Anomalies[0]; a.Index != 3 || a.Offset != log.Events[3].Offset {
				t.Errorf("got %+v", a)
			}
			if _, err := log.Replay(pcr.SHA256); err != nil {
				t.Error(err)
			}
		})
	}
}

// Pitfall 11 of attestation: an empty log and one that was cut have errors and
// anomalies of their own.
//
// Verifies: SR-003, SR-007
func TestPitfall11EmptyAndTruncated(t *testing.T) {
	if _, err := eventlog.Parse(nil); !errors.Is(err, eventlog.ErrEmpty) {
		t.Errorf("error %v, want ErrEmpty", err)
	}
	for name, b := range map[string][]byte{"crypto-agile": both.log(boot()...), "sha1": sha1Log(boot()...)} {
		whole := mustParse(t, b)
		starts := make(map[int]int) // offset: index of the event there
		for _, e := range whole.Events {
			starts[int(e.Offset)] = e.Index
		}
		events := 0
		for cut := 1; cut < len(b); cut++ {
			if _, ok := starts[cut]; ok {
				events = starts[cut]
			}
			log, err := eventlog.Parse(b[:cut])
			if events == 0 {
				if !errors.Is(err, eventlog.ErrHeader) {
					t.Errorf("%s cut at %d: error %v, want ErrHeader", name, cut, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s cut at %d: %v", name, cut, err)
			}
			_, clean := starts[cut]
			if got := slices.Contains(kinds(log), eventlog.Truncated); got == clean || len(log.Events) != events {
				t.Errorf("%s cut at %d: %d events, anomalies %v", name, cut, len(log.Events), log.Anomalies)
			}
			if !clean && slices.Contains(kinds(log), eventlog.SeparatorMissing) {
				t.Errorf("%s cut at %d: blamed for separators behind the cut", name, cut)
			}
		}
	}
}

// Verifies: SR-003
func TestMalformed(t *testing.T) {
	le := binary.LittleEndian
	last := both.event(separator(7))
	with := func(offset int, value uint32) []byte {
		e := bytes.Clone(last)
		le.PutUint32(e[offset:], value)
		return append(both.log(boot()...), e...)
	}
	unannounced := action(4, "x")
	unannounced.banks = []pcr.Algorithm{pcr.SHA512}
	for name, c := range map[string]struct {
		log  []byte
		want eventlog.AnomalyKind
	}{
		"digest count of 4 GiB":     {with(8, 1<<32-1), eventlog.Malformed},
		"digest count of 17":        {with(8, 17), eventlog.Malformed},
		"data of 4 GiB":             {with(len(last)-8, 1<<32-1), eventlog.Malformed},
		"data beyond the end":       {with(len(last)-8, 5), eventlog.Truncated},
		"unannounced algorithm":     {append(both.log(boot()...), both.event(unannounced)...), eventlog.Malformed},
		"bytes behind the padding":  {append(append(both.log(boot()...), make([]byte, 100)...), 1), eventlog.TrailingData},
		"ones behind the log":       {append(both.log(boot()...), bytes.Repeat([]byte{0xff}, 100)...), eventlog.Malformed},
		"text behind the log":       {append(both.log(boot()...), strings.Repeat("text", 20)...), eventlog.Malformed},
		"four zeros behind the log": {append(both.log(boot()...), 0, 0, 0, 0), eventlog.Truncated},
	} {
		t.Run(name, func(t *testing.T) {
			log := mustParse(t, c.log)
			wantKinds(t, log, c.want)
			if n := len(log.Events); n != 11 {
				t.Errorf("%d events, want 11", n)
			}
			if want := int64(len(both.log(boot()...))); log.Anomalies[0].Offset != want {
				t.Errorf("offset %d, want %d", log.Anomalies[0].Offset, want)
			}
		})
	}
}

// Verifies: SR-003
func TestNotALog(t *testing.T) {
	noBanks := builder{}.header()
	short := both.header()
	binary.LittleEndian.PutUint32(short[28:], 30)
	unknown := sha1Event(0, eventlog.EVNoAction, make([]byte, 20), []byte("Spec ID Event99\x00 and more"))
	for name, b := range map[string][]byte{
		"one byte":           {0},
		"zeros":              make([]byte, 4096),
		"text":               []byte(strings.Repeat("This is no event log. ", 20)),
		"JSON":               []byte(`{"events":1,"banks":{"sha256":{}},"findings":[]}`),
		"no algorithms":      noBanks,
		"many algorithms":    builder{banks: slices.Repeat([]pcr.Algorithm{pcr.SHA256}, 17)}.header(),
		"algorithm twice":    builder{banks: []pcr.Algorithm{pcr.SHA256, pcr.SHA256}}.header(),
		"false digest size":  builder{banks: []pcr.Algorithm{pcr.SHA256}, sizes: []int{20}}.header(),
		"digest size 0":      builder{banks: []pcr.Algorithm{unknownAlgorithm}, sizes: []int{0}}.header(),
		"digest size 65535":  builder{banks: []pcr.Algorithm{unknownAlgorithm}, sizes: []int{65535}}.header(),
		"Spec ID cut short":  short[:32+30],
		"unknown Spec ID":    unknown,
		"first event of 4GB": sha1Event(0, eventlog.EVSCRTMVersion, make([]byte, 20), nil)[:31],
	} {
		if log, err := eventlog.Parse(b); !errors.Is(err, eventlog.ErrHeader) {
			t.Errorf("%s: error %v, log %+v, want ErrHeader", name, err, log)
		}
	}
}

func TestManyAnomaliesAreBounded(t *testing.T) {
	events := boot()
	for range 1000 {
		events = append(events, separator(5))
	}
	if n := len(mustParse(t, both.log(events...)).Anomalies); n != 64 {
		t.Errorf("%d anomalies, want 64", n)
	}
}

// Parsing and replaying a log allocates a handful of times, however many events
// it has.
func TestParseAllocatesLittle(t *testing.T) {
	events := boot()
	for range 1000 {
		events = append(events, action(8, "grub_cmd: a command of usual length, with an argument or two, as loaders log them"))
	}
	b := both.log(events...)
	if n := testing.AllocsPerRun(10, func() {
		log, err := eventlog.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := log.Replay(pcr.SHA256); err != nil {
			t.Fatal(err)
		}
	}); n > 30 {
		t.Errorf("%.0f allocations for %d events", n, len(events))
	}
}
