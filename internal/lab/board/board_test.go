package board

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const reference = "../../../board/qemu-x86_64"

func TestLoadReferenceBoard(t *testing.T) {
	b, err := Load(reference)
	if err != nil {
		t.Fatal(err)
	}
	cmdline := b.Cmdline("abc", "ward.debug=1")
	if !strings.HasSuffix(cmdline, " ward.roothash=abc ward.debug=1") {
		t.Errorf("command line %q", cmdline)
	}
	for _, index := range []int{4, 7, 9, 11, 12} {
		for _, p := range b.PCRs {
			if p.Index == index && p.Mode != ModeExact {
				t.Errorf("pcr %d is %q: it names the release and must be judged", index, p.Mode)
			}
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(reference, "board.toml"))
	if err != nil {
		t.Fatal(err)
	}
	good := string(text)
	for name, bad := range map[string]string{
		"unknown key":       good + "\n[colour]\nname = \"red\"\n",
		"other schema":      strings.Replace(good, "schema = 1", "schema = 2", 1),
		"other name":        strings.Replace(good, `name = "qemu-x86_64"`, `name = "other"`, 1),
		"two root":          strings.Replace(good, `use = "hash"`, `use = "root"`, 1),
		"unknown mode":      strings.Replace(good, `mode = "exact"`, `mode = "perhaps"`, 1),
		"pcr twice":         strings.Replace(good, "index = 1\n", "index = 0\n", 1),
		"pcr out of range":  strings.Replace(good, "index = 14\n", "index = 24\n", 1),
		"reason is missing": strings.Replace(good, `reason = "option ROM configuration"`, `reason = ""`, 1),
		"no TOML":           "{",
	} {
		dir := filepath.Join(t.TempDir(), "qemu-x86_64")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if bad == good {
			t.Fatalf("%s: the example did not change", name)
		}
		if err := os.WriteFile(filepath.Join(dir, "board.toml"), []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one line: %v", name, err)
		}
	}
}

// The reference device's running.toml is a part of its profile.
func TestRunning(t *testing.T) {
	b, err := Load(reference)
	if err != nil {
		t.Fatal(err)
	}
	if b.Watch == nil || b.Watch.Scan.CPUPercent == 0 || b.Posture == nil || len(b.Posture.Rules) < 10 {
		t.Errorf("watch %+v, posture %+v", b.Watch, b.Posture)
	}
}
