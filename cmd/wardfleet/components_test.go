package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ward/internal/fleet/register"
	"ward/internal/fleet/verifier"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/baseline"
	"ward/internal/trust/evidence"
	"ward/internal/trust/inventory"
	"ward/internal/trust/presence"
)

// toldFleet has a verifier take the evidence of one device, on which busybox and
// the pump ran, and hear of another one. It writes release.dsse, key.pem, baseline
// and state.verifier.
func toldFleet(t *testing.T, ts *testscript.TestScript) {
	d := appraisaltest.New(t)
	var b bytes.Buffer
	out, err := baseline.NewWriter(&b)
	ts.Check(err)
	for _, f := range [][2]string{
		{"/bin/busybox", "busybox@1.37.0"}, {"/usr/bin/openssl", "openssl@3.5.0"}, {"/usr/bin/pump", "pump@4.2.0"}, {"/usr/lib/libssl.so.3", "libssl3@3.5.0"}, {"/usr/sbin/wardd", ""},
	} {
		p := appraisaltest.Program(f[0])
		ts.Check(out.Write(baseline.Entry{Path: p.Path, Type: baseline.File, Mode: 0o755, Size: 1, SHA256: p.Digest, Flags: baseline.Exec, Component: f[1]}))
	}
	_, err = out.Close()
	ts.Check(err)
	d.Release(t, b.Bytes())
	for name, content := range map[string][]byte{"release.dsse": d.Envelope(t), "key.pem": appraisaltest.KeyPEM(t, d.Key), "baseline": d.Baseline} {
		ts.Check(os.WriteFile(ts.MkAbs(name), content, 0o644))
	}

	devices, err := register.Open(t.TempDir())
	ts.Check(err)
	der, err := x509.MarshalPKIXPublicKey(&d.AK.PublicKey)
	ts.Check(err)
	_, err = devices.Add(time.Now(), "lab", "paper-1", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), false, "")
	ts.Check(err)
	releases, err := verifier.LoadReleases([]string{ts.MkAbs("release.dsse")}, []string{ts.MkAbs("baseline")}, []string{ts.MkAbs("key.pem")}, 1)
	ts.Check(err)
	v, err := verifier.New(verifier.Config{Keys: devices, Releases: releases, StateFile: ts.MkAbs("state.verifier")})
	ts.Check(err)

	digest, index := d.Verified(t).Digest(), d.Index(t)
	components := index.Components()
	ran, err := inventory.New(index.Digest(), len(components))
	ts.Check(err)
	for _, c := range []string{"busybox@1.37.0", "pump@4.2.0"} {
		i, _ := slices.BinarySearch(components, c)
		ran.Add(i)
	}
	e := d.Evidence()
	e.Release, e.Running = digest[:], ran.Encode()
	d.Quote(t, &e)
	document, err := evidence.Encode(e)
	ts.Check(err)
	parts, err := evidence.Split([16]byte{1}, document)
	ts.Check(err)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, p := range parts {
		v.Take(now, "lab", "paper-1", p, nil)
	}
	v.Heard(now, presence.Status{State: presence.Online, Tenant: "lab", Device: "paper-2", Boot: "boot-1"})
	ts.Check(v.Save())
}
