package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"ward/internal/agent/inventory"
	"ward/internal/agent/localapi"
	"ward/internal/device/bootclock"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/baseline"
	set "ward/internal/trust/inventory"
	"ward/internal/trust/release"
)

// installed makes a device's files: "installed DIR SBOM [COMPONENT...]" is a release
// with four components that names the SBOM, what wardd kept of this boot (the
// components ran; "-" stands for nothing), and a configuration DIR/wardd.toml.
func installed(t *testing.T) func(ts *testscript.TestScript, neg bool, args []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		dir, bill := ts.MkAbs(args[0]), ts.MkAbs(args[1])
		d := appraisaltest.New(t)
		var b bytes.Buffer
		out, err := baseline.NewWriter(&b)
		ts.Check(err)
		for _, f := range [][2]string{{"/bin/busybox", "busybox@1.37.0"}, {"/usr/bin/openssl", "openssl@3.5.0"}, {"/usr/bin/pump", "pump@4.2.0"}, {"/usr/lib/libz.so.1", "zlib@1.3.1"}} {
			p := appraisaltest.Program(f[0])
			ts.Check(out.Write(baseline.Entry{Path: p.Path, Type: baseline.File, Mode: 0o755, Size: 1, SHA256: p.Digest, Flags: baseline.Exec, Component: f[1]}))
		}
		_, err = out.Close()
		ts.Check(err)
		d.Release(t, b.Bytes())
		d.Manifest.SBOM = &release.SBOM{Digest: sha256.Sum256([]byte(ts.ReadFile(args[1]))), MediaType: "application/spdx+json", Path: bill}
		config := fmt.Sprintf("version = 1\n[paths]\nstate = %q\nsocket = %q\nrelease = %q\nbaseline = %q\ntrust = %q\n[uplink]\nenabled = false\n",
			dir, filepath.Join(dir, "none"), filepath.Join(dir, "release.dsse"), filepath.Join(dir, "baseline"), filepath.Join(dir, "trust"))
		for name, content := range map[string][]byte{
			"release.dsse": d.Envelope(t), "trust/release/release.pem": appraisaltest.KeyPEM(t, d.Key), "baseline": d.Baseline, "wardd.toml": []byte(config),
		} {
			file := filepath.Join(dir, name)
			ts.Check(os.MkdirAll(filepath.Dir(file), 0o755))
			ts.Check(os.WriteFile(file, content, 0o644))
		}
		if slices.Contains(args, "-") {
			return
		}
		boot, err := bootclock.ID(os.DirFS("/proc"))
		ts.Check(err)
		index := d.Index(t)
		ran, err := set.New(index.Digest(), len(index.Components()))
		ts.Check(err)
		for _, c := range args[2:] {
			i, _ := slices.BinarySearch(index.Components(), c)
			ran.Add(i)
		}
		ts.Check(os.WriteFile(filepath.Join(dir, inventory.File), append([]byte(boot+"\n"), ran.Encode()...), 0o600))
	}
}

// tellInventory has the daemon of a script tell what a file says, if it is there.
func tellInventory(ts *testscript.TestScript) []localapi.Action {
	b, err := os.ReadFile(ts.MkAbs("inventory.json"))
	if err != nil {
		return nil
	}
	var i localapi.Inventory
	ts.Check(json.Unmarshal(b, &i))
	if i.SBOM != nil {
		i.SBOM.Path = ts.MkAbs(i.SBOM.Path)
	}
	return []localapi.Action{localapi.TellInventory(func() localapi.Inventory { return i })}
}
