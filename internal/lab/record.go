package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"ward/internal/agent/localapi"
	"ward/internal/fleet/ingest"
	"ward/internal/lab/archive"
	"ward/internal/lab/control"
	"ward/internal/lab/stage"
	"ward/internal/lab/tool"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
)

// service stops or starts wardd on the device.
func service(ctx context.Context, s *stage.Stage, verb string) error {
	_, err := s.VM.Do(ctx, control.Request{Argv: []string{verb, "wardd"}})
	return err
}

// anchored waits until the TPM has certified a record of the epoch behind a
// sequence, and gives the checkpoint as the fleet received it.
func anchored(ctx context.Context, s *stage.Stage, mark int, epoch, behind uint64) (ingest.Received, error) {
	return s.Await(ctx, mark, fmt.Sprintf("a checkpoint behind record %d", behind), func(r ingest.Received) bool {
		if r.Kind != ingest.KindEvent || r.Event.Type != event.Checkpoint || r.Event.Epoch != epoch {
			return false
		}
		var c struct{ Sequence uint64 }
		return json.Unmarshal(r.Event.Report, &c) == nil && c.Sequence >= behind
	})
}

// seenStranger boots, runs a program that is in no release, and waits until the
// record of it is anchored.
func seenStranger(ctx context.Context, s *stage.Stage) (checkpoint ingest.Received, path string, err error) {
	mark := s.Fleet.Mark()
	if _, err := unknownProgram(ctx, s); err != nil {
		return checkpoint, "", err
	}
	seen, err := s.AwaitStranger(ctx, mark, "/tmp")
	if err != nil {
		return checkpoint, "", err
	}
	checkpoint, err = anchored(ctx, s, mark, seen.Event.Epoch, seen.Event.Sequence)
	return checkpoint, seen.Event.Finding.Path, err
}

// verdictOnCopy has wardctl verify a copy of the journal on the host, and lists
// the codes that it finds.
func verdictOnCopy(ctx context.Context, s *stage.Stage, dir string, more ...string) ([]string, error) {
	wardctl, err := s.Program(ctx, "wardctl")
	if err != nil {
		return nil, err
	}
	args := append([]string{"journal", "verify", dir, "--json", "--ak", s.AK()}, more...)
	out, said, status, err := tool.Call{Name: wardctl, Args: args}.Status(ctx)
	if err != nil {
		return nil, err
	}
	var report struct{ Findings []finding.Finding }
	if err := json.Unmarshal(out, &report); err != nil || (status == 0) != (len(report.Findings) == 0) {
		return nil, fmt.Errorf("wardctl journal verify: exit status %d: %s%s", status, out, said)
	}
	var codes []string
	for _, f := range report.Findings {
		codes = append(codes, string(f.Code))
	}
	return codes, nil
}

// historyRewritten is root on the device who takes a record out of the journal
// and makes numbers, hashes, checksums and state file anew.
func historyRewritten(ctx context.Context, s *stage.Stage) (Outcome, error) {
	if err := s.GoodBoot(ctx); err != nil {
		return Outcome{}, err
	}
	_, stranger, err := seenStranger(ctx, s)
	if err != nil {
		return Outcome{}, err
	}
	if err := service(ctx, s, control.VerbStop); err != nil {
		return Outcome{}, err
	}
	dir := s.File("rewritten")
	if err := archive.Pull(ctx, s.VM, dir); err != nil {
		return Outcome{}, err
	}
	if codes, err := verdictOnCopy(ctx, s, dir); err != nil || len(codes) > 0 {
		return Outcome{}, fmt.Errorf("the untouched copy: %v, %w", codes, err)
	}
	gone, err := archive.Rewrite(dir, func(e event.Decoded) bool { return e.Finding != nil && e.Finding.Path == stranger })
	if err != nil || gone == 0 {
		return Outcome{}, fmt.Errorf("%d records left out: %w", gone, err)
	}
	if err := archive.Push(ctx, s.VM, dir); err != nil {
		return Outcome{}, err
	}
	s.Line.Say("attack", "%d records about %s taken out; numbers, hashes, checksums and state file made anew", gone, stranger)
	codes, err := verdictOnCopy(ctx, s, dir)
	if err != nil || len(codes) == 0 {
		return Outcome{}, fmt.Errorf("wardctl journal verify finds nothing on the rewritten copy: %w", err)
	}
	s.Line.Say("laptop", "wardctl journal verify --ak: %s", strings.Join(codes, ", "))
	mark, begun := s.Fleet.Mark(), time.Now()
	if err := service(ctx, s, control.VerbStart); err != nil {
		return Outcome{}, err
	}
	r, err := toldOfReplacement(ctx, s, mark)
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{Attack: "history rewritten by root", Seen: fmt.Sprintf("%s on the device; on a copy %s", r.Event.Finding.Code, codes[0]), After: r.At.Sub(begun)}, nil
}

// replacedCodes are what the device says when its TPM contradicts its journal.
var replacedCodes = []finding.Code{finding.JournalRolledBack, finding.JournalAnchorInvalid, finding.JournalAnchorGap}

// toldOfReplacement waits until the fleet has the device's own word that its
// journal is not the one that its TPM certified, in a new epoch that the fleet
// accepts.
func toldOfReplacement(ctx context.Context, s *stage.Stage, mark int) (ingest.Received, error) {
	r, err := s.Await(ctx, mark, "the device's word on its journal", func(r ingest.Received) bool {
		return r.Kind == ingest.KindEvent && !r.Held && r.Event.Finding != nil && slices.Contains(replacedCodes, r.Event.Finding.Code)
	})
	if err != nil {
		return r, err
	}
	s.Line.Say("fleet", "%s: %s: %s", r.Device, r.Event.Finding.Code, r.Event.Finding.Detail)
	anew, err := s.AwaitFinding(ctx, mark, string(finding.JournalReset), "")
	if err == nil {
		s.Line.Say("fleet", "%s: %s: %s", anew.Device, finding.JournalReset, anew.Event.Finding.Detail)
	}
	return r, err
}

// journalRestored is root who keeps a copy of the journal, does his work, and puts
// the copy back: it is consistent, and older than what the TPM has certified.
func journalRestored(ctx context.Context, s *stage.Stage) (Outcome, error) {
	mark := s.Fleet.Mark()
	if err := s.GoodBoot(ctx); err != nil {
		return Outcome{}, err
	}
	first, err := anchored(ctx, s, mark, 1, 1)
	if err != nil {
		return Outcome{}, err
	}
	dir := s.File("restored")
	if err := archive.Pull(ctx, s.VM, dir); err != nil {
		return Outcome{}, err
	}
	s.Line.Say("attack", "the journal copied while it ended soon behind record %d", first.Event.Sequence)
	last, _, err := seenStranger(ctx, s)
	if err != nil {
		return Outcome{}, err
	}
	if err := service(ctx, s, control.VerbStop); err != nil {
		return Outcome{}, err
	}
	if err := archive.Push(ctx, s.VM, dir); err != nil {
		return Outcome{}, err
	}
	s.Line.Say("attack", "the copy put back in the place of the journal that ran to record %d", last.Event.Sequence)
	if codes, err := verdictOnCopy(ctx, s, dir); err != nil || len(codes) > 0 {
		return Outcome{}, fmt.Errorf("the copy by itself is not consistent: %v, %w", codes, err)
	}
	anchor := s.File("anchor.json")
	if err := os.WriteFile(anchor, last.Raw, 0o644); err != nil {
		return Outcome{}, err
	}
	codes, err := verdictOnCopy(ctx, s, dir, "--anchor", anchor)
	if err != nil || len(codes) == 0 {
		return Outcome{}, fmt.Errorf("wardctl journal verify --anchor finds nothing on an older copy: %w", err)
	}
	s.Line.Say("laptop", "by itself the copy is consistent; with the fleet's newest checkpoint: %s", strings.Join(codes, ", "))
	mark, begun := s.Fleet.Mark(), time.Now()
	if err := service(ctx, s, control.VerbStart); err != nil {
		return Outcome{}, err
	}
	r, err := toldOfReplacement(ctx, s, mark)
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{Attack: "older journal put back", Seen: fmt.Sprintf("%s, then a new epoch that the fleet follows", r.Event.Finding.Code), After: r.At.Sub(begun)}, nil
}

// bedsideJournal is what wardctl tells of the running device.
func bedsideJournal(ctx context.Context, s *stage.Stage) (localapi.Status, error) {
	r, err := s.VM.Run(ctx, "/usr/bin/wardctl", "status", "--json")
	if err != nil {
		return localapi.Status{}, err
	}
	var st localapi.Status
	if err := json.Unmarshal(r.Stdout, &st); err != nil {
		return st, fmt.Errorf("read status: %w: %s", err, r.Stderr)
	}
	return st, nil
}

// confirmed waits until the fleet has confirmed every record of the device.
func confirmed(ctx context.Context, s *stage.Stage, limit time.Duration) (localapi.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		st, err := bedsideJournal(ctx, s)
		if err == nil && st.Journal.Sequence > 0 && st.Journal.Acknowledged == st.Journal.Sequence {
			return st, nil
		}
		select {
		case <-ctx.Done():
			return st, s.Explain(fmt.Errorf("not all records are confirmed: %+v, %w", st.Journal, errors.Join(err, ctx.Err())))
		case <-time.After(time.Second):
		}
	}
}
