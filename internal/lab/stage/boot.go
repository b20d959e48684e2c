package stage

import (
	"context"
	"fmt"
	"strings"
	"time"

	"ward/internal/fleet/ingest"
	"ward/internal/trust/appraisal"
)

// findingsTime is how long the findings behind a bad verdict may take to arrive,
// for the message.
const findingsTime = 3 * time.Second

// GoodBoot boots the stage's device where it is not running, and waits for a
// good verdict: a drill on a device that was bad before would show nothing.
func (s *Stage) GoodBoot(ctx context.Context) error {
	if s.VM != nil {
		return nil
	}
	mark := s.Fleet.Mark()
	begun := time.Now()
	if err := s.Boot(ctx); err != nil {
		return fmt.Errorf("boot device: %w", err)
	}
	s.Line.Say("device", "booted under Secure Boot, system up after %.1f s", time.Since(begun).Seconds())
	_, v, err := s.AwaitVerdict(ctx, mark)
	if err != nil {
		return err
	}
	if v.Tier != "affirming" {
		time.Sleep(findingsTime)
		return s.Explain(fmt.Errorf("the untouched device's verdict is %s (%v): %s", v.Tier, v.Claims, findings(s.Fleet.Received(mark))))
	}
	s.Line.Say("device", "verdict %s: %d events replayed, %s; %d measured files, all of the release", v.Tier, v.Events, pcrWords(v), v.IMAEntries)
	birth, err := s.AwaitBirth(ctx, mark)
	if err != nil {
		return err
	}
	s.Line.Say("fleet", "%s of %s connected with its TPM's key: release %s, session %d, boot %.8s", birth.Device, birth.Tenant, birth.Status.Release, birth.Status.Session, birth.Status.Boot)
	attested, err := s.AwaitAttested(ctx, mark)
	if err != nil {
		return err
	}
	if at := attested.Verdict; at.Verdict != appraisal.Affirming {
		return s.Explain(fmt.Errorf("the fleet's own verdict on the untouched device is %s (%v): %+v", at.Verdict, at.Claims, at.Findings))
	}
	s.Line.Say("fleet", "asked for evidence; the quotes answer its question: %s by its own appraisal, %.1f s after the birth",
		attested.Verdict.Verdict, attested.At.Sub(birth.At).Seconds())
	return nil
}

// findings lists the codes that arrived, for an error message.
func findings(rs []ingest.Received) string {
	var out []string
	for _, r := range rs {
		f := r.Finding
		if r.Kind == ingest.KindEvent {
			f = r.Event.Finding
		}
		if f != nil {
			out = append(out, fmt.Sprintf("%s %s %s", f.Code, f.Path, f.Detail))
		}
	}
	return strings.Join(out, "; ")
}

// pcrWords says which registers were judged.
func pcrWords(v Verdict) string {
	var judged []string
	for i := range 24 {
		if v.PCRs[fmt.Sprint(i)].State == "matches" {
			judged = append(judged, fmt.Sprint(i))
		}
	}
	return "PCR " + strings.Join(judged, ", ") + " as released"
}
