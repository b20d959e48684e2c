package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ward/internal/agent/localapi"
	"ward/internal/lab/stage"
)

// renew has the running device renew its certificates, and waits until the new
// reporting key has connected.
func renew(ctx context.Context, s *stage.Stage) (localapi.IdentityUse, error) {
	before, err := s.Identity(ctx)
	if err != nil {
		return localapi.IdentityUse{}, err
	}
	r, err := s.VM.Run(ctx, "/usr/bin/wardctl", "identity", "renew")
	if err != nil {
		return localapi.IdentityUse{}, err
	}
	if r.Exit != 0 {
		return localapi.IdentityUse{}, fmt.Errorf("wardctl identity renew: exit status %d: %s%s", r.Exit, r.Stdout, r.Stderr)
	}
	u, err := s.AwaitGeneration(ctx, "reporting", "connected", stage.Use(before, "reporting").Generation+1)
	if err == nil {
		s.Line.Say("device", "renewed: reporting key of generation %d has connected", u.Generation)
	}
	return u, err
}

// issuedCount is how many certificates the registrar has issued.
func issuedCount(s *stage.Stage) int {
	b, err := os.ReadFile(filepath.Join(s.Devices(), "issued.jsonl"))
	if err != nil {
		return 0
	}
	return strings.Count(string(b), "\n")
}

// renewalPowerCuts cuts the power in the middle of renewals: when the device has
// just been told to, and when the registrar has just issued. Whatever the moment,
// the device must come back with an identity that connects, and renew.
func renewalPowerCuts(ctx context.Context, s *stage.Stage) (Outcome, error) {
	if err := s.GoodBoot(ctx); err != nil {
		return Outcome{}, err
	}
	var longest time.Duration
	cuts := []struct {
		name string
		when func(ctx context.Context, s *stage.Stage, issued int) error
	}{
		{"300 ms after it began", func(context.Context, *stage.Stage, int) error { time.Sleep(300 * time.Millisecond); return nil }},
		{"when the first certificate was issued", awaitIssued},
	}
	for _, cut := range cuts {
		issued := issuedCount(s)
		go func() { _, _ = s.VM.Run(ctx, "/usr/bin/wardctl", "identity", "renew") }() // ends with the power
		if err := cut.when(ctx, s, issued); err != nil {
			return Outcome{}, err
		}
		s.VM.Kill()
		s.VM = nil
		s.Line.Say("attack", "power cut in the middle of a renewal, %s", cut.name)
		begun := time.Now()
		if err := s.GoodBoot(ctx); err != nil {
			return Outcome{}, fmt.Errorf("after a power cut %s: %w", cut.name, err)
		}
		longest = max(longest, time.Since(begun))
		if _, err := renew(ctx, s); err != nil {
			return Outcome{}, fmt.Errorf("after a power cut %s: %w", cut.name, err)
		}
	}
	return Outcome{Attack: "power cuts in renewals", Seen: fmt.Sprintf("%d of %d times the device connected again and renewed", len(cuts), len(cuts)), After: longest}, nil
}

// awaitIssued waits until the registrar has issued more certificates than it had.
func awaitIssued(ctx context.Context, s *stage.Stage, before int) error {
	ctx, cancel := context.WithTimeout(ctx, stage.AlertTime)
	defer cancel()
	for issuedCount(s) == before {
		select {
		case <-ctx.Done():
			return s.Explain(errors.New("the registrar issued nothing"))
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// enrolAndRenew has a device that was never used start: it must get certificates
// for keys of its TPM from the registrar, use both, and renew them with new keys.
func enrolAndRenew(ctx context.Context, s *stage.Stage) (Outcome, error) {
	begun := time.Now()
	if err := s.GoodBoot(ctx); err != nil {
		return Outcome{}, err
	}
	before, err := s.Identity(ctx)
	if err != nil {
		return Outcome{}, err
	}
	generation := stage.Use(before, "reporting").Generation
	if _, err := s.AwaitGeneration(ctx, "service", "connected", generation); err != nil {
		return Outcome{}, err
	}
	first, err := s.ServiceKey(ctx)
	if err != nil {
		return Outcome{}, err
	}
	s.Line.Say("registrar", "enrolled over EST: %d certificates issued, the service key signs as %s", issuedCount(s), first.URIs[0])
	after := time.Since(begun)
	if _, err := renew(ctx, s); err != nil {
		return Outcome{}, err
	}
	second, err := s.ServiceKey(ctx)
	if err != nil {
		return Outcome{}, err
	}
	if second.Equal(first) {
		return Outcome{}, errors.New("the service key's certificate was not renewed")
	}
	return Outcome{Attack: "enrolment and renewal", Seen: fmt.Sprintf("%d certificates issued over EST; new keys at work", issuedCount(s)), After: after}, nil
}
