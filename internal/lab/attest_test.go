//go:build device

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ward/internal/lab/golden"
	"ward/internal/lab/stage"
)

// attested collects evidence in the device, as a field engineer does, and has it
// judged on the host: by wardctl, and the quotes by tpm2_checkquote, which knows
// nothing of Ward. Another nonce and another key are refused.
func attested(ctx context.Context, t *testing.T, s *stage.Stage) {
	const nonce = "00112233445566778899aabbccddeeff"
	guest(ctx, t, s, 0, "/usr/bin/wardctl", "evidence", "collect", "-o", "/tmp/evidence.cbor", "--nonce", nonce)
	document, err := s.VM.Pull(ctx, "/tmp/evidence.cbor")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "evidence.cbor")
	if err := os.WriteFile(file, document, 0o600); err != nil {
		t.Fatal(err)
	}
	wardctl, err := s.Program(ctx, "wardctl")
	if err != nil {
		t.Fatal(err)
	}
	verify := func(ak, nonce string, status int) string {
		t.Helper()
		cmd := exec.CommandContext(ctx, wardctl, "evidence", "verify", file, "--release", s.File("release.dsse"), "--release-key", s.File("release.pem"),
			"--baseline", filepath.Join(s.Image.RootTree, golden.BaselineFile), "--ak", ak, "--nonce", nonce)
		out, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != status {
			t.Errorf("wardctl evidence verify: exit status %d, want %d: %v: %s", got, status, err, out)
		}
		return string(out)
	}
	t.Logf("wardctl evidence verify:\n%s", verify(s.AK(), nonce, 0))
	if out := verify(s.AK(), "ff", 1); !strings.Contains(out, "boot.quote-nonce") {
		t.Errorf("another nonce gives: %s", out)
	}
	if out := verify(s.File("release.pem"), nonce, 1); !strings.Contains(out, "boot.quote-other-key") {
		t.Errorf("another key gives: %s", out)
	}

	parts := filepath.Join(dir, "parts")
	if out, err := exec.CommandContext(ctx, wardctl, "evidence", "extract", file, parts).CombinedOutput(); err != nil {
		t.Fatalf("wardctl evidence extract: %v: %s", err, out)
	}
	shown, err := exec.CommandContext(ctx, wardctl, "evidence", "show", file, "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var question struct {
		Qualifying string `json:"qualifying"`
		BootQuote  struct{ PCRs []int }
		ListQuote  struct{ PCRs []int }
	}
	if err := json.Unmarshal(shown, &question); err != nil {
		t.Fatal(err)
	}
	for q, registers := range map[string][]int{"boot": question.BootQuote.PCRs, "list": question.ListQuote.PCRs} {
		at := func(ext string) string { return filepath.Join(parts, q+ext) }
		list := "sha256:" + strings.Join(strings.Fields(strings.Trim(fmt.Sprint(registers), "[]")), ",")
		out, err := exec.CommandContext(ctx, "tpm2_checkquote", "-u", s.AK(), "-m", at(".msg"), "-s", at(".sig"), "-f", at(".pcrs"),
			"-g", "sha256", "-q", question.Qualifying).CombinedOutput()
		if err != nil {
			t.Errorf("tpm2_checkquote refuses the %s quote: %v: %s", q, err, out)
			continue
		}
		t.Logf("tpm2_checkquote accepts the running device's quote over %s", list)
	}

	out, err := exec.CommandContext(ctx, "evmctl", "ima_measurement", "--pcrs", "sha256,"+pcrFile(t, parts), filepath.Join(parts, "ima.bin")).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("Matched per TPM bank calculated digest(s)")) {
		t.Errorf("evmctl ima_measurement: %v: %s", err, out)
	}
	if out, err := exec.CommandContext(ctx, "tpm2_eventlog", filepath.Join(parts, "eventlog.bin")).CombinedOutput(); err != nil {
		t.Errorf("tpm2_eventlog: %v: %s", err, out)
	}
}

// pcrFile writes the registers as evmctl reads them.
func pcrFile(t *testing.T, parts string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts, "pcrs.json"))
	if err != nil {
		t.Fatal(err)
	}
	var banks map[string]map[int]string
	if err := json.Unmarshal(b, &banks); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for n := range 24 {
		value := banks["sha256"][n]
		if value == "" {
			value = strings.Repeat("0", 64)
		}
		fmt.Fprintf(&text, "PCR-%02d: %s\n", n, strings.ToUpper(value))
	}
	file := filepath.Join(parts, "pcrs.txt")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// asked follows the fleet's question to the running device: what was sent before
// is not sent again, and the verdict is the fleet's own.
func asked(ctx context.Context, t *testing.T, s *stage.Stage) {
	mark := s.Fleet.Mark()
	r, err := s.AwaitAttested(ctx, mark)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict.Verdict.String() != "affirming" {
		t.Errorf("the fleet says %s: %+v", r.Verdict.Verdict, r.Verdict.Findings)
	}
	t.Logf("the fleet's own verdict: %s, %d events, %d measured files", r.Verdict.Verdict, r.Verdict.Events, r.Verdict.IMAEntries)
}
