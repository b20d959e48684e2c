package peers

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ward/internal/format/pcr"
)

// toolBound is how long a tool may take for one file; it takes some
// milliseconds.
const toolBound = 20 * time.Second

// run runs a tool; the answer is Follows when it exits with 0.
func run(name string, args ...string) (out []byte, a Answer, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), toolBound)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return stdout.Bytes(), Follows, nil
	case ctx.Err() != nil:
		return nil, Hangs, nil
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return append(stdout.Bytes(), stderr.Bytes()...), Refuses, nil
	case errors.As(err, &exit):
		return nil, Crashes, nil
	}
	return nil, "", fmt.Errorf("run %s: %w", name, err)
}

// tpm2EventLog asks tpm2_eventlog, which prints the registers that a log gives.
// file is written anew.
func tpm2EventLog(file string, raw []byte, bank pcr.Algorithm, values pcr.Values) (Answer, error) {
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return "", err
	}
	out, a, err := run("tpm2_eventlog", file)
	if err != nil || a != Follows {
		return a, err
	}
	printed, err := printedPCRs(string(out), bank)
	if err != nil {
		return "", err
	}
	for i := range pcr.Count {
		got, ok := printed[i]
		if !ok {
			got = pcr.ResetValue(bank, i)
		}
		if !bytes.Equal(got, values[i]) {
			return Differs, nil
		}
	}
	return Follows, nil
}

// printedPCRs reads a bank of the part "pcrs:" of what tpm2_eventlog prints.
func printedPCRs(text string, bank pcr.Algorithm) (pcr.Values, error) {
	_, list, _ := strings.Cut("\n"+text, "\npcrs:\n")
	values := make(pcr.Values)
	inside := false
	for line := range strings.Lines(list) {
		key, v, ok := strings.Cut(strings.TrimSpace(line), ":")
		if v = strings.TrimSpace(v); !ok || v == "" {
			a, err := pcr.ParseAlgorithm(key)
			inside = err == nil && a == bank
			continue
		}
		if !inside {
			continue
		}
		i, err := strconv.Atoi(strings.TrimSpace(key))
		if err != nil {
			return nil, fmt.Errorf("read what tpm2_eventlog prints: line %q", line)
		}
		if values[i], err = hex.DecodeString(strings.TrimPrefix(v, "0x")); err != nil {
			return nil, fmt.Errorf("read what tpm2_eventlog prints: line %q", line)
		}
	}
	return values, nil
}

// version returns the version that a tool of tpm2-tools states, "" without it.
func version(tool string) string {
	out, _, err := run(tool, "--version")
	if err != nil {
		return ""
	}
	_, v, _ := strings.Cut(string(out), `version="`)
	v, _, _ = strings.Cut(v, `"`)
	return v
}

// scratch is a file's name inside a folder.
func scratch(dir string, n int) string { return filepath.Join(dir, "log-"+strconv.Itoa(n)) }
