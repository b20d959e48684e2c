package main

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"ward/internal/fleet/ingest"
	"ward/internal/fleet/register"
	"ward/internal/fleet/verifier"
)

// verifyFlags are those flags of wardfleet listen that are about evidence.
type verifyFlags struct {
	devices      string
	challengeKey string
	every        time.Duration
	releases     []string
	releaseKeys  []string
	threshold    int
	baselines    []string
}

func (f *verifyFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.devices, "devices", "", "appraise evidence and verify checkpoints, with the attestation keys in `DIR`/TENANT/DEVICE.ak.pem")
	flags.StringVar(&f.challengeKey, "challenge-key", "", "private key that signs questions for evidence, PEM `FILE`")
	flags.DurationVar(&f.every, "challenge-every", verifier.DefaultEvery, "ask each device once in this `TIME`, and at its birth")
	f.addReleases(flags)
}

// addReleases adds the flags that name releases.
func (f *verifyFlags) addReleases(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.releases, "release", nil, "manifest that devices may run, `FILE` (may be repeated)")
	flags.StringArrayVar(&f.releaseKeys, "release-key", nil, "public key that signs manifests, PEM `FILE` (may be repeated)")
	flags.IntVar(&f.threshold, "release-threshold", 1, "accept manifests with `N` signatures")
	flags.StringArrayVar(&f.baselines, "baseline", nil, "file baseline that a manifest names, `FILE` (may be repeated)")
}

// open makes the verifier, nil when no flag asks for one, and has checkpoints
// verified with the same keys.
func (f *verifyFlags) open(listen *ingest.Config) (*verifier.Verifier, error) {
	state, rotations, log := listen.StateFile, listen.Rotations.Challenge, listen.Log
	if f.devices == "" {
		if f.challengeKey != "" || len(f.releases)+len(f.releaseKeys)+len(f.baselines) > 0 {
			return nil, errors.New("listen: evidence is appraised with the devices' keys: give --devices")
		}
		return nil, nil
	}
	c := verifier.Config{Every: f.every, Log: log}
	if state != "" {
		c.StateFile = state + ".verifier"
	}
	var err error
	if f.challengeKey != "" {
		if c.ChallengeKey, err = ingest.LoadKey("challenge key", f.challengeKey); err != nil {
			return nil, err
		}
		if err := rotations.Check(c.ChallengeKey.Public()); err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
	}
	devices, err := register.Open(f.devices)
	if err != nil {
		return nil, err
	}
	c.Keys = devices
	listen.AK = func(now time.Time, tenant, device string) (*ecdsa.PublicKey, error) {
		key, err := devices.Lookup(now, tenant, device)
		if key == nil {
			return nil, err
		}
		return key.Public, err
	}
	if c.Releases, err = verifier.LoadReleases(f.releases, f.baselines, f.releaseKeys, f.threshold); err != nil {
		return nil, err
	}
	return verifier.New(c)
}
