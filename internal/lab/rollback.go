package lab

import (
	"context"
	"fmt"
	"strings"
	"time"

	"ward/internal/lab/stage"
	"ward/internal/trust/finding"
	"ward/internal/trust/volume"
)

// rollback updates the device, confirms the update, and installs the release
// before: correctly signed, and locked out by the counter in the TPM. It boots and
// reports; data and service key stay shut.
func rollback(ctx context.Context, s *stage.Stage) (Outcome, error) {
	next, err := s.NextImage(ctx, stage.NextText)
	if err != nil {
		return Outcome{}, err
	}
	predicted, err := installNext(ctx, s, next)
	if err != nil {
		return Outcome{}, err
	}
	if _, err := bootNext(ctx, s, next, predicted); err != nil {
		return Outcome{}, err
	}
	r, err := s.VM.Run(ctx, "/usr/bin/wardctl", "update", "confirm")
	if err != nil {
		return Outcome{}, err
	}
	if r.Exit != 0 {
		return Outcome{}, fmt.Errorf("wardctl update confirm: exit status %d: %s%s", r.Exit, r.Stdout, r.Stderr)
	}
	said, _, _ := strings.Cut(string(r.Stdout), "\n")
	s.Line.Say("device", "release %s confirmed: %s", stage.NextVersion, said)
	if _, err := s.ServiceKey(ctx); err != nil {
		return Outcome{}, fmt.Errorf("after the counter has moved: %w", err)
	}
	if err := s.PowerOff(ctx); err != nil {
		return Outcome{}, err
	}
	s.VM = nil
	if err := s.Reinstall(ctx); err != nil {
		return Outcome{}, err
	}
	s.Line.Say("attack", "release %s, correctly signed, is installed again", s.Image.Version)
	mark := s.Fleet.Mark()
	if err := s.Boot(ctx); err != nil {
		return Outcome{}, fmt.Errorf("boot device: %w", err)
	}
	up := time.Now()
	locked, err := s.AwaitFinding(ctx, mark, string(finding.UpdateLockedOut), "")
	if err != nil {
		return Outcome{}, err
	}
	after := max(0, locked.At.Sub(up))
	if err := s.DataClosed(ctx, mark, volume.Rollback); err != nil {
		return Outcome{}, err
	}
	reason, err := s.ServiceShut(ctx, mark, string(finding.IdentityRollback))
	if err != nil {
		return Outcome{}, err
	}
	s.Line.Say("device", "the service key: %s", reason)
	return Outcome{Attack: "older release installed again", Seen: fmt.Sprintf("%s; data and service key shut", finding.UpdateLockedOut), After: after}, nil
}
