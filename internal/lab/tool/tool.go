// Package tool runs the programs of Debian packages that the lab builds and
// boots devices with. It finds them also where an ordinary user's PATH does not
// look, and an error says which package brings a missing one.
package tool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// packages names the Debian package of each program.
var packages = map[string]string{
	"apt-cache":          "apt",
	"apt-get":            "apt",
	"cryptsetup":         "cryptsetup-bin",
	"debugfs":            "e2fsprogs",
	"dpkg-deb":           "dpkg",
	"mcopy":              "mtools",
	"mkfs.fat":           "dosfstools",
	"mke2fs":             "e2fsprogs",
	"mksquashfs":         "squashfs-tools",
	"mmd":                "mtools",
	"mdel":               "mtools",
	"mosquitto":          "mosquitto",
	"qemu-system-x86_64": "qemu-system-x86",
	"sbsign":             "sbsigntool",
	"socat":              "socat",
	"swtpm":              "swtpm",
	"swtpm_localca":      "swtpm-tools",
	"swtpm_setup":        "swtpm-tools",
	"tpm2_eventlog":      "tpm2-tools",
	"veritysetup":        "cryptsetup-bin",
	"zstd":               "zstd",
}

// extraDirs are searched after PATH.
var extraDirs = []string{"/usr/sbin", "/sbin", "/usr/local/sbin"}

// Look returns the path of a program.
func Look(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return filepath.Abs(path)
	}
	for _, dir := range extraDirs {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	if pkg, ok := packages[name]; ok {
		return "", fmt.Errorf("find %s: not installed; run make deps (Debian package %s)", name, pkg)
	}
	return "", fmt.Errorf("find %s: not installed", name)
}

// A Call is one run of a program. The zero values of all but Name are usual.
type Call struct {
	Name  string
	Args  []string
	Dir   string
	Env   []string // added to the environment
	Clean bool     // do not inherit the environment: Env is all
	Stdin []byte
}

// Run runs a program and returns its standard output.
func Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	return Call{Name: name, Args: args}.Run(ctx)
}

// Run runs the program. An error holds the last line that it printed.
func (c Call) Run(ctx context.Context) ([]byte, error) {
	path, err := Look(c.Name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, c.Args...)
	cmd.Dir = c.Dir
	if !c.Clean {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, c.Env...)
	cmd.Stdin = bytes.NewReader(c.Stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("run %s: %w", c.Name, ctx.Err())
		}
		return nil, fmt.Errorf("run %s: %w: %s", c.Name, err, lastLine(stderr.Bytes(), stdout.Bytes()))
	}
	return stdout.Bytes(), nil
}

// Status runs a program whose exit status is an answer, and returns both; an error
// is a program that could not be run.
func (c Call) Status(ctx context.Context) ([]byte, int, error) {
	path, err := Look(c.Name)
	if err != nil {
		return nil, 0, err
	}
	cmd := exec.CommandContext(ctx, path, c.Args...)
	cmd.Dir, cmd.Stdin = c.Dir, bytes.NewReader(c.Stdin)
	out, err := cmd.Output()
	if status := ExitCode(err); status > 0 {
		return out, status, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("run %s: %w", c.Name, err)
	}
	return out, 0, nil
}

// ExitCode is the status in an error of Run, or -1.
func ExitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

func lastLine(outputs ...[]byte) string {
	for _, out := range outputs {
		if text := strings.TrimSpace(string(out)); text != "" {
			return text[strings.LastIndexByte(text, '\n')+1:]
		}
	}
	return "it printed nothing"
}
