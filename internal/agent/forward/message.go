package forward

import (
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

// titles of what is no finding.
var titles = [...]struct{ kind, title string }{
	{event.BootVerdict, "the boot was appraised"},
	{event.DaemonStarted, "wardd was started"},
	{event.DaemonStopped, "wardd was stopped"},
	{event.LinkConnected, "the fleet is reached"},
	{event.LinkKeyRotated, "a key of the fleet has its successor"},
	{event.ClockStepped, "the wall clock was set"},
	{event.Checkpoint, "the TPM certified the record"},
	{event.IdentityUsed, "a program uses a key of the device"},
	{event.IntegrityScan, "a full scan of the files has ended"},
	{event.IntegrityUpdate, "the updater wrote, by rule"},
	{event.UpdateConfirmed, "the running release was marked good"},
	{event.UpdateCommitted, "older releases are locked out"},
	{event.PostureChanged, "the device's own state changed"},
	{event.AccessSession, "a login, a logout, or a login that failed"},
	{event.AccessPrivilege, "somebody took other rights or changed accounts"},
	{event.ServiceMode, "service mode was switched"},
	{event.BreakGlass, "emergency access"},
	{event.TherapyLease, "heavy work waits for therapy, or no longer"},
	{event.DeviceAttached, "something was plugged in"},
	{event.DeviceDetached, "something was taken away"},
	{event.Decommissioned, "the device was decommissioned"},
	{typeShed, "an event lost its content for want of space"},
	{typeUnreadable, "an event of the record cannot be read"},
}

func titleOf(kind string) string {
	for _, t := range titles {
		if t.kind == kind {
			return t.title
		}
	}
	return kind
}

// message is what a sink is told of a record.
func (s *Sink) message(r *event.Record) *syslog.Event {
	kind := typeShed
	if len(r.Bytes) > 0 {
		d, err := event.Parse(r.Bytes)
		if err == nil {
			return describe(&d)
		}
		s.config.Log.Warn("read record", "sequence", r.Sequence, "error", err)
		kind = typeUnreadable
	}
	e := s.event(kind, titleOf(kind), finding.Medium)
	e.Say("id", s.config.Origin.Device+"/"+digits(r.Epoch)+"/"+digits(r.Sequence))
	e.Say("sequence", digits(r.Sequence))
	e.Say("hash", r.Hash.String())
	return e
}

// event is one that is not in the journal.
func (s *Sink) event(kind, title string, severity finding.Severity) *syslog.Event {
	e := &syslog.Event{Time: time.Now(), Severity: syslog.Severity(severity), Title: title}
	e.Say("tenant", s.config.Origin.Tenant)
	e.Say("epoch", digits(s.config.Epoch))
	e.Say("type", kind)
	e.Say("severity", severity.String())
	return e
}

// describe is an event with everything that it says.
func describe(d *event.Decoded) *syslog.Event {
	e := &syslog.Event{Time: d.Time, Severity: syslog.Severity(d.Severity), Over: d.Type == event.FindingCleared, Title: titleOf(d.Type)}
	f := d.Finding
	if f == nil {
		f = new(finding.Finding)
	} else if known, ok := finding.Lookup(f.Code); ok {
		e.Title = known.Title
	} else {
		e.Title = string(f.Code)
	}
	e.Say("id", d.ID)
	e.Say("tenant", d.Source.Tenant)
	e.Say("epoch", digits(d.Epoch))
	e.Say("sequence", digits(d.Sequence))
	e.Say("type", d.Type)
	e.Say("code", string(f.Code))
	e.Say("severity", d.Severity.String())
	e.Say("subject", d.Subject)
	e.Say("boot", d.Boot)
	e.Say("mono", digits(uint64(d.Monotonic)))
	e.Say("prev", d.Prev.String())
	e.Say("place", place(f))
	e.Say("path", f.Path)
	e.Say("expected", f.Expected)
	e.Say("found", f.Found)
	e.Say("detail", f.Detail)
	e.Say("report", string(d.Report))
	e.Say("remedy", f.Remedy)
	if r := d.Repeated; r != nil {
		e.Say("repeated", strconv.Itoa(r.Count))
		e.Say("first", r.First.UTC().Format(time.RFC3339Nano))
		e.Say("last", r.Last.UTC().Format(time.RFC3339Nano))
	}
	return e
}

func digits(n uint64) string { return strconv.FormatUint(n, 10) }

// place is where in a log or among the registers a finding is.
func place(f *finding.Finding) string {
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

// gap is a message about records that a sink does not get.
func (s *Sink) gap(severity finding.Severity, detail string) *syslog.Event {
	f := finding.New(finding.LinkSinkGap, detail)
	d, _ := finding.Lookup(f.Code)
	e := s.event(typeSkipped, d.Title, severity)
	e.Say("code", string(f.Code))
	e.Say("detail", detail)
	e.Say("remedy", f.Remedy)
	return e
}

// skipped says which records this sink does not get. One that is new was promised
// nothing.
func (s *Sink) skipped(first, last uint64) *syslog.Event {
	if !s.known {
		return s.gap(finding.Info, fmt.Sprintf("this sink begins with record %d of epoch %d: the %d before were never sent to it", last+1, s.config.Epoch, last))
	}
	return s.gap(finding.Medium, fmt.Sprintf("%d records, %d to %d of epoch %d, are not in the record any more", last-first+1, first, last, s.config.Epoch))
}

// brokenOff says what it means that the cursor is no place in this journal.
func (s *Sink) brokenOff(old *state) string {
	if old.Epoch != s.config.Epoch {
		return fmt.Sprintf("the record of epoch %d was begun anew as epoch %d: how many records came behind record %d is not known", old.Epoch, s.config.Epoch, old.Sequence)
	}
	return fmt.Sprintf("record %d of epoch %d was sent, and the record ends with %d: it was shortened, or an older copy was put in its place", old.Sequence, s.config.Epoch, s.config.Journal.Newest())
}
