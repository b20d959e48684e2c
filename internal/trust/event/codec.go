package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"ward/internal/format/chain"
	"ward/internal/trust/finding"
)

// Bounds in bytes. A path of Linux has at most 4096; every other text of a
// finding is a line for people.
const (
	MaxSize    = 64 << 10
	maxPath    = 4096
	maxText    = 1024
	maxSubject = 256
	cutMark    = "…"
)

// wire is the event's JSON, in the order in which it is written.
type wire struct {
	SpecVersion string           `json:"specversion"`
	ID          string           `json:"id"`
	Source      string           `json:"source"`
	Type        string           `json:"type"`
	Time        string           `json:"time"`
	Subject     string           `json:"subject,omitempty"`
	Sequence    uint64           `json:"sequence"`
	Epoch       uint64           `json:"epoch"`
	Boot        string           `json:"boot"`
	Mono        int64            `json:"mono"`
	Prev        chain.Hash       `json:"prev"`
	Severity    finding.Severity `json:"severity"`
	ContentType string           `json:"datacontenttype"`
	Data        data             `json:"data"`
}

type data struct {
	Finding  *finding.Finding `json:"finding,omitempty"`
	Report   json.RawMessage  `json:"report,omitempty"`
	Repeated *Repeated        `json:"repeated,omitempty"`
}

// Encode writes an event at its place, in one line of JSON with keys in a
// fixed order. Texts over their bound are cut and marked; an event that is
// still over MaxSize is an error.
func Encode(e Event, s Stamp) ([]byte, error) {
	w := wire{
		SpecVersion: "1.0", ID: id(s), Source: s.Source.String(), Type: e.Type,
		Time: moment(e.Time).Format(time.RFC3339Nano), Subject: bounded(e.Subject, maxSubject),
		Sequence: s.Sequence, Epoch: s.Epoch, Boot: s.Boot, Mono: int64(s.Monotonic), Prev: s.Prev,
		Severity: e.Severity, ContentType: "application/json", Data: data{Report: e.Report},
	}
	if e.Finding != nil {
		f := boundedFinding(*e.Finding)
		w.Data.Finding = &f
	}
	if r := e.Repeated; r != nil {
		w.Data.Repeated = &Repeated{Count: r.Count, First: moment(r.First), Last: moment(r.Last)}
	}
	if err := check(w, s.Source); err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(w); err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	out := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if len(out) > MaxSize {
		return nil, fmt.Errorf("encode event: %d bytes, want at most %d", len(out), MaxSize)
	}
	return out, nil
}

// Parse reads an event. Keys that this version does not know are ignored:
// within v1 the contract only grows.
func Parse(b []byte) (Decoded, error) {
	if len(b) > MaxSize {
		return Decoded{}, fmt.Errorf("parse event: %d bytes, want at most %d", len(b), MaxSize)
	}
	var w wire
	if err := json.Unmarshal(b, &w); err != nil {
		return Decoded{}, fmt.Errorf("parse event: %w", err)
	}
	source, err := ParseSource(w.Source)
	if err != nil {
		return Decoded{}, fmt.Errorf("parse event: %w", err)
	}
	if err := check(w, source); err != nil {
		return Decoded{}, fmt.Errorf("parse event: %w", err)
	}
	when, err := time.Parse(time.RFC3339Nano, w.Time)
	if err != nil {
		return Decoded{}, fmt.Errorf("parse event: time: %w", err)
	}
	d := Decoded{
		Event: Event{Type: w.Type, Time: when.UTC(), Subject: w.Subject, Severity: w.Severity, Finding: w.Data.Finding, Report: w.Data.Report, Repeated: w.Data.Repeated},
		Stamp: Stamp{Source: source, Epoch: w.Epoch, Sequence: w.Sequence, Boot: w.Boot, Monotonic: time.Duration(w.Mono), Prev: w.Prev},
		ID:    w.ID,
	}
	if want := id(d.Stamp); d.ID != want {
		return Decoded{}, fmt.Errorf("parse event: id %.80q, want %q", d.ID, want)
	}
	return d, nil
}

// moment is a time as RFC 3339 can write it: a clock that shows a year outside
// of 0 to 9999 is as good as one that shows 1970.
func moment(t time.Time) time.Time {
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 {
		return time.Unix(0, 0).UTC()
	}
	return t
}

// id is the idempotency key: device, epoch, sequence.
func id(s Stamp) string {
	return s.Source.Device + "/" + strconv.FormatUint(s.Epoch, 10) + "/" + strconv.FormatUint(s.Sequence, 10)
}

// check demands what every event has: version, type, source, place, severity,
// and the data that its type promises.
func check(w wire, source Source) error {
	switch {
	case w.SpecVersion != "1.0":
		return fmt.Errorf("specversion %.20q, want 1.0", w.SpecVersion)
	case !strings.HasPrefix(w.Type, "ward.") || len(w.Type) > maxSubject:
		return fmt.Errorf("type %.80q, want ward.…", w.Type)
	case w.Epoch == 0 || w.Sequence == 0:
		return fmt.Errorf("epoch %d, sequence %d: both begin at 1", w.Epoch, w.Sequence)
	case w.Boot == "" || len(w.Boot) > MaxName:
		return fmt.Errorf("boot %.80q, want a boot id", w.Boot)
	case w.Mono < 0:
		return fmt.Errorf("mono %d, want nanoseconds since the kernel started", w.Mono)
	case w.Severity.String() == "none":
		return errors.New("no severity")
	case len(w.Subject) > maxSubject:
		return fmt.Errorf("subject has %d bytes, want at most %d", len(w.Subject), maxSubject)
	case strings.HasPrefix(w.Type, "ward.finding.") && w.Data.Finding == nil:
		return fmt.Errorf("type %s without a finding", w.Type)
	}
	if w.Data.Finding != nil && w.Data.Finding.Code.Area() == string(w.Data.Finding.Code) {
		return fmt.Errorf("finding code %.80q, want area.what", w.Data.Finding.Code)
	}
	if w.Data.Finding != nil && w.Data.Finding.Severity.String() == "none" {
		return errors.New("no severity of the finding")
	}
	if r := w.Data.Repeated; r != nil && r.Count < 1 {
		return fmt.Errorf("repeated %d times, want once at least", r.Count)
	}
	if r := bytes.TrimSpace(w.Data.Report); len(r) > 0 && r[0] != '{' {
		return errors.New("report is not a JSON object")
	}
	return source.check()
}

func boundedFinding(f finding.Finding) finding.Finding {
	f.Path = bounded(f.Path, maxPath)
	f.Expected, f.Found = bounded(f.Expected, maxText), bounded(f.Found, maxText)
	f.Detail, f.Remedy = bounded(f.Detail, maxText), bounded(f.Remedy, maxText)
	return f
}

// Visible replaces what is not a visible character or a plain space (control
// characters, line ends, marks that turn the direction of writing) by its
// escape, so that a file's name cannot act on a terminal or forge a line.
func Visible(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func hidden(r rune) bool { return !unicode.IsPrint(r) }

// bounded makes a text visible and cuts it to at most limit bytes at a
// character's border, marked.
func bounded(s string, limit int) string {
	if len(s) > 2*limit {
		s = s[:2*limit] // what comes behind would be cut anyway
	}
	s = Visible(s)
	if len(s) <= limit {
		return s
	}
	cut := limit - len(cutMark)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + cutMark
}
