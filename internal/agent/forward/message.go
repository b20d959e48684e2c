package forward

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"ward/internal/format/syslog"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// Types of messages that are no event of the journal: they stand in its place.
const (
	typeSkipped    = "ward.sink.skipped"    // records are not in the journal any more
	typeShed       = "ward.sink.shed"       // a record lost its content
	typeUnreadable = "ward.sink.unreadable" // a record cannot be read
)

// titles of the events that report.
var titles = map[string]string{
	event.BootVerdict:     "the boot was appraised",
	event.DaemonStarted:   "wardd was started",
	event.DaemonStopped:   "wardd was stopped",
	event.LinkConnected:   "the fleet is reached",
	event.IdentityUsed:    "a program uses a key of the device",
	event.UpdateConfirmed: "the running release was marked good",
	event.UpdateCommitted: "older releases are locked out",
	event.Decommissioned:  "the device was decommissioned",
	typeShed:              "an event lost its content for want of space",
	typeUnreadable:        "an event of the record cannot be read",
}

// message is what a sink is told of a record.
func (s *Sink) message(r event.Record) syslog.Event {
	if len(r.Bytes) == 0 {
		return s.substitute(typeShed, r)
	}
	d, err := event.Parse(r.Bytes)
	if err != nil {
		s.config.Log.Warn("read record", "sequence", r.Sequence, "error", err)
		return s.substitute(typeUnreadable, r)
	}
	e := syslog.Event{
		Time: d.Time, ID: d.ID, Epoch: d.Epoch, Sequence: d.Sequence, Type: d.Type, Title: titles[d.Type], Severity: syslog.Severity(d.Severity),
		Over: d.Type == event.FindingCleared, Subject: d.Subject, Boot: d.Boot, Prev: d.Prev.String(), Mono: d.Monotonic, Report: event.ReportLine(d.Report),
	}
	e.Repeated, e.First, e.Last = repeated(r.Bytes)
	if f := d.Finding; f != nil {
		e.Code, e.Path, e.Expected, e.Found, e.Detail, e.Remedy, e.Place = string(f.Code), f.Path, f.Expected, f.Found, f.Detail, f.Remedy, place(*f)
		e.Title = string(f.Code)
		if known, ok := finding.Lookup(f.Code); ok {
			e.Title = known.Title
		}
	}
	return e
}

// repeated reads how often an event stands for.
func repeated(b []byte) (count int, first, last time.Time) {
	var w struct {
		Data struct {
			Repeated *struct {
				Count       int
				First, Last time.Time
			}
		}
	}
	if json.Unmarshal(b, &w) != nil || w.Data.Repeated == nil {
		return 0, first, last
	}
	return w.Data.Repeated.Count, w.Data.Repeated.First, w.Data.Repeated.Last
}

// place is where in a log or among the registers a finding is.
func place(f finding.Finding) string {
	switch {
	case f.PCR != nil:
		return "pcr " + strconv.Itoa(*f.PCR)
	case f.Index != nil:
		return "entry " + strconv.Itoa(*f.Index)
	case f.Offset != nil:
		return "offset " + strconv.FormatInt(*f.Offset, 10)
	}
	return ""
}

// substitute stands for a record that has no content: its place and its hash.
func (s *Sink) substitute(kind string, r event.Record) syslog.Event {
	return syslog.Event{
		Time: time.Now(), ID: fmt.Sprintf("%s/%d/%d", s.config.Origin.Device, r.Epoch, r.Sequence), Epoch: r.Epoch, Sequence: r.Sequence,
		Type: kind, Title: titles[kind], Severity: syslog.Medium, Hash: r.Hash.String(),
	}
}

// skipped says which records this sink does not get.
func (s *Sink) skipped(first, last uint64) syslog.Event {
	if !s.known {
		return s.gapped(syslog.Info, s.config.Epoch, fmt.Sprintf("this sink begins with record %d of epoch %d: the %d before were never sent to it", last+1, s.config.Epoch, last))
	}
	return s.gapped(syslog.Medium, s.config.Epoch, fmt.Sprintf("%d records, %d to %d of epoch %d, are not in the record any more", last-first+1, first, last, s.config.Epoch))
}

// brokenOff says what it means that the cursor is no place in this journal.
func (s *Sink) brokenOff() string {
	if p := s.previous; p.Epoch != s.config.Epoch {
		return fmt.Sprintf("the record of epoch %d was begun anew as epoch %d: how many records came behind record %d is not known", p.Epoch, s.config.Epoch, p.Sequence)
	}
	return fmt.Sprintf("record %d of epoch %d was sent, and the record ends with %d: it was shortened, or an older copy was put in its place", s.previous.Sequence, s.config.Epoch, s.config.Journal.Newest())
}

func (s *Sink) gapped(severity syslog.Severity, epoch uint64, detail string) syslog.Event {
	d, _ := finding.Lookup(finding.LinkSinkGap)
	return syslog.Event{
		Time: time.Now(), Epoch: epoch, Type: typeSkipped, Code: string(d.Code), Title: d.Title, Remedy: d.Remedy, Severity: severity, Detail: detail,
	}
}

func (s *Sink) send(conn Connection, e syslog.Event) error {
	return conn.Send(s.config.Format(s.config.Origin, e))
}
