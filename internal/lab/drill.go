package lab

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"ward/internal/fleet/ingest"
	"ward/internal/lab/control"
	"ward/internal/lab/image"
	"ward/internal/lab/intrusion"
	"ward/internal/lab/stage"
	"ward/internal/lab/stranger"
	"ward/internal/lab/vm"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/finding"
	"ward/internal/trust/presence"
	"ward/internal/trust/volume"
)

// Drill is one attack on the device, or one change of it, with what must be seen.
type Drill = stage.Drill

// Outcome is a line of the closing table.
type Outcome = stage.Outcome

// Drills are the drills, those of the demonstration in the order in which it
// plays them.
func Drills() []Drill {
	all := []Drill{
		{Name: "unknown-program", Title: "a program that is in no release is run on the device", Demo: true, Run: unknownProgram},
		{Name: "altered-command-line", Title: "a correctly signed kernel image with another command line is booted", Demo: true, Run: alteredCommandLine},
		{Name: "predict-next", Title: "the next release boots as predicted; with one byte of its initramfs changed it does not", Run: predictNext},
		{Name: "long-list", Title: "thousands of strange programs make the measurement list long; what following it costs is measured", Run: followLongList},
		{Name: "enrol-and-renew", Title: "a new device gets certificates from the registrar for keys of its TPM, and renews them with new keys", Run: enrolAndRenew},
		{Name: "renewal-power-cuts", Title: "the power is cut in the middle of renewals: the device comes back with an identity", Run: renewalPowerCuts},
		{Name: "rollback", Title: "after a confirmed update the release before is installed again: data and service key stay shut", Run: rollback},
		{Name: "decommission", Title: "the device's life ends: a signed farewell, and nothing of it is left", Run: decommission},
		{Name: "stolen-disk", Title: "the disk is moved to a machine with another TPM: nothing opens, and it is nobody", Run: stolenDisk},
		{Name: "plain-volumes", Title: "plain file systems are put in the place of the encrypted volumes: neither is mounted", Run: plainVolumes},
		{Name: "history-rewritten", Title: "root takes a record out of the journal and makes all hashes anew: the TPM's checkpoints contradict", Run: historyRewritten},
		{Name: "journal-restored", Title: "root puts an older copy of the journal back: the TPM's counter is ahead of it", Run: journalRestored},
		{Name: "week-offline", Title: "a week without a network fills the journal: grave events keep their content, and all arrive in order", Run: weekOffline},
		{Name: "journal-power-cuts", Title: "the power is cut 20 times while the journal is written: nothing is lost, nothing comes twice", Run: journalPowerCuts},
	}
	all = append(all, intrusion.Drills()...)
	return append(all, Drill{Name: "unsigned-kernel", Title: "an unsigned kernel image is put in the place of the signed one", Demo: true, Run: unsignedKernel})
}

// unknownProgram puts a program on the device and runs it as an ordinary user.
func unknownProgram(ctx context.Context, s *stage.Stage) (Outcome, error) {
	if err := s.GoodBoot(ctx); err != nil {
		return Outcome{}, err
	}
	program, err := stranger.New()
	if err != nil {
		return Outcome{}, err
	}
	const path = "/tmp/stranger"
	if err := s.VM.Put(ctx, path, 0o755, program); err != nil {
		return Outcome{}, err
	}
	mark, begun := s.Fleet.Mark(), time.Now()
	s.Line.Say("attack", "running %s, a program that is in no release", path)
	resp, err := s.VM.Do(ctx, control.Request{Argv: []string{path}, UID: 901})
	if err != nil {
		return Outcome{}, err
	}
	if resp.Exit != 0 || !bytes.Contains(resp.Stdout, []byte("in no release")) {
		return Outcome{}, fmt.Errorf("the stranger did not run: exit %d, %s%s", resp.Exit, resp.Stderr, resp.Error)
	}
	r, err := s.AwaitStranger(ctx, mark, "/tmp")
	if err != nil {
		return Outcome{}, err
	}
	o := Outcome{Attack: "unknown program run", Seen: fmt.Sprintf("%s %s", r.Event.Finding.Code, r.Event.Finding.Path), After: r.At.Sub(begun)}
	s.Line.Say("fleet", "%s: %s, %s, after %d ms", r.Device, o.Seen, r.Event.Severity, o.After.Milliseconds())
	return o, nil
}

// alteredCommandLine boots a kernel image that the lab's key has signed, with
// another command line than the release's.
func alteredCommandLine(ctx context.Context, s *stage.Stage) (Outcome, error) {
	if s.VM != nil {
		if err := s.PowerOff(ctx); err != nil {
			return Outcome{}, err
		}
		s.Line.Say("device", "switched off in order")
	}
	if err := s.PutKernel(ctx, s.Image.UKIs[image.Debug].Path); err != nil {
		return Outcome{}, err
	}
	mark, begun := s.Fleet.Mark(), time.Now()
	s.Line.Say("attack", "booting a correctly signed kernel image with %s on its command line", image.DebugWords)
	if err := s.Boot(ctx); err != nil {
		return Outcome{}, fmt.Errorf("boot device: %w", err)
	}
	up := time.Now()
	s.Line.Say("device", "Secure Boot lets it pass: the signature is good; up after %.1f s", up.Sub(begun).Seconds())
	r, v, err := s.AwaitVerdict(ctx, mark)
	if err != nil {
		return Outcome{}, err
	}
	if v.Tier != "contraindicated" {
		return Outcome{}, fmt.Errorf("the verdict on an altered command line is %s", v.Tier)
	}
	f, err := s.Await(ctx, mark, "the event that differs in PCR 11", func(r ingest.Received) bool {
		f := r.Event.Finding
		return r.Kind == ingest.KindEvent && f != nil && f.Code == finding.BootEventUnexpected && f.PCR != nil && *f.PCR == stubRegister
	})
	if err != nil {
		return Outcome{}, err
	}
	if err := s.DataClosed(ctx, mark, volume.BootState); err != nil {
		return Outcome{}, err
	}
	o := Outcome{Attack: "altered command line", Seen: "verdict contraindicated; " + eventWords(*f.Event.Finding), After: max(0, r.At.Sub(up))}
	s.Line.Say("fleet", "%s: verdict %s, %d ms after the system was up", r.Device, v.Tier, o.After.Milliseconds())
	for _, m := range s.Fleet.Received(mark) {
		if m.Kind == ingest.KindEvent && m.Event.Finding != nil && m.Event.Finding.Code == finding.BootEventUnexpected {
			s.Line.Say("fleet", "  %s: %s", eventWords(*m.Event.Finding), m.Event.Finding.Found)
		}
	}
	attested, err := s.AwaitAttested(ctx, mark)
	if err != nil {
		return Outcome{}, err
	}
	if at := attested.Verdict; at.Verdict != appraisal.Contraindicated || at.Claims[appraisal.ClaimQuote] != appraisal.Affirming {
		return Outcome{}, fmt.Errorf("the fleet's own verdict on an altered command line is %s (%v)", at.Verdict, at.Claims)
	}
	s.Line.Say("fleet", "asked for evidence; the TPM's quotes say the same: %s by the fleet's own appraisal", attested.Verdict.Verdict)
	return o, nil
}

// stubRegister is the PCR into which systemd's EFI stub measures the sections
// of the kernel image, the command line among them (UAPI Group, Linux TPM PCR
// registry).
const stubRegister = 11

// eventWords says which event of the log differs.
func eventWords(f finding.Finding) string {
	w := string(f.Code)
	if f.PCR != nil {
		w += fmt.Sprintf(" in PCR %d", *f.PCR)
	}
	if f.Index != nil {
		w += fmt.Sprintf(", event %d", *f.Index)
	}
	return w
}

// refusedTime is how long the lab waits for a word of a device that must not
// start; a good boot says its birth well within.
const refusedTime = 90 * time.Second

// refusal is what OVMF prints about an image that Secure Boot does not admit.
const refusal = "Access Denied"

// unsignedKernel cuts the power, puts an unsigned kernel image in the place of
// the signed one, and boots.
func unsignedKernel(ctx context.Context, s *stage.Stage) (Outcome, error) {
	if err := s.GoodBoot(ctx); err != nil {
		return Outcome{}, err
	}
	mark, begun := s.Fleet.Mark(), time.Now()
	s.VM.Kill()
	s.Line.Say("attack", "power cut; the kernel image is replaced by an unsigned one")
	silence, err := s.AwaitFinding(ctx, mark, string(finding.LinkSilence), "")
	if err != nil {
		return Outcome{}, err
	}
	o := Outcome{Attack: "unsigned kernel image", Seen: "refused by the firmware; " + string(finding.LinkSilence), After: silence.At.Sub(begun)}
	s.Line.Say("fleet", "%s: %s, %s, after %d ms", silence.Device, silence.Finding.Code, silence.Finding.Detail, o.After.Milliseconds())
	mark = s.Fleet.Mark()
	if err := s.PutKernel(ctx, s.Image.UKIs[image.Unsigned].Path); err != nil {
		return Outcome{}, err
	}
	if err := refused(ctx, s); err != nil {
		return Outcome{}, err
	}
	for _, r := range s.Fleet.Received(mark) {
		if r.Kind == ingest.KindStatus && r.Status.State == presence.Online && !r.Retained {
			return Outcome{}, fmt.Errorf("a device with an unsigned kernel image has connected")
		}
	}
	s.Line.Say("fleet", "%s stays silent; its last word is the broker's: lost", stage.DeviceID)
	return o, nil
}

// refused boots the device and waits until the firmware says that it does not
// admit the kernel image. With nothing else to boot it would wait for a key for
// ever, so QEMU is stopped.
func refused(ctx context.Context, s *stage.Stage) error {
	ctx, cancel := context.WithTimeout(ctx, refusedTime)
	defer cancel()
	booted := time.Now()
	var err error
	if s.VM, err = vm.Start(ctx, s.VMConfig()); err != nil {
		return err
	}
	defer func() { s.VM.Kill(); s.VM = nil }()
	if err := s.VM.WaitConsole(ctx, refusal); err != nil {
		return s.Explain(fmt.Errorf("the firmware did not say that it refuses the image: %w", err))
	}
	s.Line.Say("device", "firmware: %q after %.1f s; nothing else to boot, QEMU is stopped", refusal, time.Since(booted).Seconds())
	return nil
}
