package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ward/internal/lab/control"
	"ward/internal/lab/stage"
	"ward/internal/lab/tool"
	"ward/internal/lab/works"
	"ward/internal/trust/finding"
)

// decommission ends the device's life: it leaves a farewell that its certificate
// verifies, and nothing of who it was.
func decommission(ctx context.Context, s *stage.Stage) (Outcome, error) {
	if err := s.GoodBoot(ctx); err != nil {
		return Outcome{}, err
	}
	reporting, err := s.Sign(ctx, "reporting")
	if err != nil {
		return Outcome{}, err
	}
	if _, err := s.VM.Do(ctx, control.Request{Argv: []string{control.VerbStop, "wardd"}}); err != nil {
		return Outcome{}, err
	}
	begun := time.Now()
	const farewell = "/tmp/farewell"
	r, err := s.VM.Run(ctx, "/usr/bin/wardctl", "decommission", "--yes", "--farewell", farewell)
	if err != nil {
		return Outcome{}, err
	}
	if r.Exit != 0 {
		return Outcome{}, fmt.Errorf("wardctl decommission: exit status %d: %s%s", r.Exit, r.Stdout, r.Stderr)
	}
	took := time.Since(begun)
	text, err := s.VM.Pull(ctx, farewell)
	if err != nil {
		return Outcome{}, err
	}
	wardctl, err := s.Program(ctx, "wardctl")
	if err != nil {
		return Outcome{}, err
	}
	said, cert := filepath.Join(s.Folder, "farewell"), filepath.Join(s.Folder, "reporting.pem")
	if err := os.WriteFile(said, text, 0o644); err != nil {
		return Outcome{}, err
	}
	if err := os.WriteFile(cert, []byte(reporting.Chain), 0o644); err != nil {
		return Outcome{}, err
	}
	if _, err := tool.Run(ctx, wardctl, "decommission", "verify", said, "--certificate", cert); err != nil {
		return Outcome{}, fmt.Errorf("verify farewell: %w", err)
	}
	if r, err = s.VM.Run(ctx, "/usr/bin/ls", "-R", "/var/lib/ward"); err != nil {
		return Outcome{}, err
	}
	if left := string(r.Stdout); strings.Contains(left, "pem") || strings.Contains(left, "json") {
		return Outcome{}, fmt.Errorf("not all is gone: %s", left)
	}
	if _, err := s.VM.Do(ctx, control.Request{Argv: []string{control.VerbStart, "wardd"}}); err != nil {
		return Outcome{}, err
	}
	st, err := s.BedsideStatus(ctx)
	if err != nil {
		return Outcome{}, err
	}
	if st.Device == stage.DeviceID || st.Tenant == works.Tenant {
		return Outcome{}, fmt.Errorf("it still says that it is %s of %s", st.Device, st.Tenant)
	}
	return Outcome{Attack: "decommissioning", Seen: fmt.Sprintf("the farewell verifies; nobody is left (%s)", finding.IdentityMissing), After: took}, nil
}
