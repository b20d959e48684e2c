package lab

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"ward/internal/fleet/ingest"
	"ward/internal/lab/disk"
	"ward/internal/lab/golden"
	"ward/internal/lab/image"
	"ward/internal/lab/stage"
	"ward/internal/lab/works"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/finding"
	"ward/internal/trust/release"
)

// predictNext predicts the next release from the profile of the one golden
// boot, installs it, boots it, and compares every register.
func predictNext(ctx context.Context, s *stage.Stage) (Outcome, error) {
	next, err := s.NextImage(ctx, stage.NextText)
	if err != nil {
		return Outcome{}, err
	}
	predicted, err := installNext(ctx, s, next)
	if err != nil {
		return Outcome{}, err
	}
	compared, err := bootNext(ctx, s, next, predicted)
	if err != nil {
		return Outcome{}, err
	}
	named, after, err := oneByte(ctx, s, predicted)
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{Attack: "one byte of the initramfs", Seen: fmt.Sprintf("%s; %d registers of release %s were as predicted before", named, compared, stage.NextVersion), After: after}, nil
}

// installNext predicts the boot of an image, signs its release and puts both on
// the device's disk.
func installNext(ctx context.Context, s *stage.Stage, next *image.Image) (release.Boot, error) {
	p, err := s.Profile(ctx, s.Image)
	if err != nil {
		return release.Boot{}, err
	}
	boot, err := golden.Boot(p, next)
	if err != nil {
		return release.Boot{}, err
	}
	manifest, err := s.Release(ctx, next)
	if err != nil {
		return release.Boot{}, err
	}
	if s.VM != nil {
		if err := s.PowerOff(ctx); err != nil {
			return release.Boot{}, err
		}
		s.VM = nil
		s.Line.Say("device", "switched off in order")
	}
	err = s.Image.PutESP(ctx, s.Device.Disk(), map[string]disk.File{
		image.BootFile:    {Host: next.UKIs[image.Release].Path, Mode: 0o644},
		works.ReleaseFile: {Data: manifest, Mode: 0o644},
	})
	if err != nil {
		return release.Boot{}, err
	}
	s.Line.Say("release", "release %s predicted from the profile of firmware %s and installed: %q on the command line, %s in the initramfs", next.Version, p.Firmware, stage.NextWords, stage.NextFile)
	return boot, nil
}

// bootNext boots the installed release and compares its registers and its
// composite with the prediction. The device's own verdict must be good.
func bootNext(ctx context.Context, s *stage.Stage, next *image.Image, predicted release.Boot) (int, error) {
	if err := s.GoodBoot(ctx); err != nil {
		return 0, err
	}
	_, measured, err := works.BootRecord(ctx, s.VM)
	if err != nil {
		return 0, err
	}
	compared, err := golden.Compare(predicted, measured)
	if err != nil {
		return 0, fmt.Errorf("release %s: %w", next.Version, err)
	}
	before, err := s.Profile(ctx, s.Image)
	if err != nil {
		return 0, err
	}
	for _, n := range []int{4, 9, 11} {
		if bytes.Equal(before.PCRs[n].Value, measured[n]) {
			return 0, fmt.Errorf("PCR %d is that of the golden boot: the release did not change it", n)
		}
	}
	s.Line.Say("lab", "%d registers and the composite over PCR %v are as predicted", compared, release.DefaultComposite)
	return compared, nil
}

// oneByte boots the next release with one byte of its initramfs changed, under
// the manifest of the unchanged one, and finds the event that says so: in the
// device's own report and in what explain says of its log.
func oneByte(ctx context.Context, s *stage.Stage, predicted release.Boot) (string, time.Duration, error) {
	if err := s.PowerOff(ctx); err != nil {
		return "", 0, err
	}
	s.VM = nil
	altered, err := s.NextImage(ctx, stage.NextVersion+"!")
	if err != nil {
		return "", 0, err
	}
	if err := s.PutKernel(ctx, altered.UKIs[image.Release].Path); err != nil {
		return "", 0, err
	}
	s.Line.Say("attack", "the same release, correctly signed, with one other byte in its initramfs")
	mark := s.Fleet.Mark()
	if err := s.Boot(ctx); err != nil {
		return "", 0, fmt.Errorf("boot device: %w", err)
	}
	up := time.Now()
	r, v, err := s.AwaitVerdict(ctx, mark)
	if err != nil {
		return "", 0, err
	}
	if v.Tier != appraisal.Contraindicated.String() {
		return "", 0, fmt.Errorf("the verdict on an altered initramfs is %s", v.Tier)
	}
	var named string
	for _, n := range []int{kernelRegister, stubRegister} {
		f, err := s.Await(ctx, mark, fmt.Sprintf("the event that differs in PCR %d", n), func(r ingest.Received) bool {
			f := r.Event.Finding
			return r.Kind == ingest.KindEvent && f != nil && f.Code == finding.BootEventUnexpected && f.PCR != nil && *f.PCR == n
		})
		if err != nil {
			return "", 0, err
		}
		named = eventWords(*f.Event.Finding)
		s.Line.Say("fleet", "%s: %s: %s", f.Device, named, f.Event.Finding.Found)
	}
	log, measured, err := works.BootRecord(ctx, s.VM)
	if err != nil {
		return "", 0, err
	}
	explained := appraisal.Explain(predicted, log, measured)
	if got := golden.Differing(explained); !slices.Equal(got, []int{4, kernelRegister, stubRegister}) {
		return "", 0, fmt.Errorf("explain names events of PCR %v, want one each of 4, %d and %d", got, kernelRegister, stubRegister)
	}
	s.Line.Say("lab", "explain names the same: one event each of PCR 4, %d and %d", kernelRegister, stubRegister)
	return named, max(0, r.At.Sub(up)), nil
}

// kernelRegister is the PCR into which the kernel's EFI stub measures command
// line and initramfs (UAPI Group, Linux TPM PCR registry).
const kernelRegister = 9
