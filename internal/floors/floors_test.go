package floors

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Verifies: SR-026 SR-021 SR-016
func TestTreeKeepsTheRules(t *testing.T) {
	packages := list(t, "./...")
	if len(packages) < 20 {
		t.Fatalf("go list names %d packages of this module: too few to be the whole", len(packages))
	}
	root := moduleRoot(t)
	dependOnTree(t, root)
	for _, listed := range packages {
		p, err := parse(listed.ImportPath, sources(t, root, listed.Dir))
		if err != nil {
			t.Errorf("parse %s: %v", listed.ImportPath, err)
			continue
		}
		for _, line := range judge(p, rules) {
			t.Error(line)
		}
	}
}

// deviceModules are what the shipped daemon may link: the agreed list and what
// those modules need.
var deviceModules = []string{
	"ward",
	"github.com/google/go-tpm",
	"github.com/eclipse/paho.mqtt.golang",
	"github.com/gorilla/websocket", // paho's wss://
	"golang.org/x/net",             // paho's proxy dialler
	"golang.org/x/sync",            // paho
	"golang.org/x/sys",
	"github.com/fxamacker/cbor/v2",
	"github.com/x448/float16", // cbor
	"github.com/BurntSushi/toml",
	"github.com/landlock-lsm/go-landlock",
	"kernel.org/pub/linux/libs/security/libcap/psx", // go-landlock
}

// deviceForeign are Ward's own packages that never ship in the daemon.
var deviceForeign = []string{"ward/internal/fleet/...", "ward/internal/lab/...", "ward/board/..."}

// Verifies: SR-026
func TestDaemonLinksTheDeviceListAlone(t *testing.T) {
	linked := list(t, "-deps", "./cmd/wardd")
	for _, line := range foreignToDevice(linked) {
		t.Error(line)
	}
	if !slices.ContainsFunc(linked, func(l listing) bool { return l.ImportPath == "ward/internal/daemon" }) {
		t.Error("ward/cmd/wardd does not link ward/internal/daemon: this test looks at the wrong program")
	}
}

// The program of the early boot links less: no network, no configuration.
//
// Verifies: SR-026
func TestUnlockerLinksTheTPMAlone(t *testing.T) {
	linked := list(t, "-deps", "./cmd/wardunlock")
	for _, line := range foreignToDevice(linked) {
		t.Error(line)
	}
	allowed := []string{"ward", "github.com/google/go-tpm", "golang.org/x/sys"}
	for _, l := range linked {
		if l.Module != nil && !slices.Contains(allowed, l.Module.Path) {
			t.Errorf("ward/cmd/wardunlock links %s of %s", l.ImportPath, l.Module.Path)
		}
	}
	if !slices.ContainsFunc(linked, func(l listing) bool { return l.ImportPath == "ward/internal/device/tpm" }) {
		t.Error("ward/cmd/wardunlock does not link ward/internal/device/tpm: this test looks at the wrong program")
	}
}

func TestForeignModuleIsFound(t *testing.T) {
	linked := []listing{
		{ImportPath: "net/http", Standard: true},
		{ImportPath: "github.com/google/go-tpm/tpm2", Module: &module{Path: "github.com/google/go-tpm"}},
		{ImportPath: "github.com/spf13/cobra", Module: &module{Path: "github.com/spf13/cobra"}},
		{ImportPath: "ward/internal/lab/vm", Module: &module{Path: "ward"}},
		{ImportPath: "runtime/cgo", Standard: true},
	}
	got := foreignToDevice(linked)
	if len(got) != 3 {
		t.Errorf("want cobra, the lab and cgo reported, got %q", got)
	}
}

func foreignToDevice(linked []listing) []string {
	var found []string
	for _, l := range linked {
		switch {
		case l.ImportPath == "runtime/cgo":
			found = append(found, "wardd links cgo: the daemon is static")
		case l.Standard:
		case l.Module == nil || !slices.Contains(deviceModules, l.Module.Path):
			found = append(found, "wardd links "+l.ImportPath+", whose module is not on the device list")
		case matchesAny(l.ImportPath, deviceForeign):
			found = append(found, "wardd links "+l.ImportPath+", which never ships on a device")
		}
	}
	return found
}

// listing is what go list says of a package.
type listing struct {
	ImportPath string
	Dir        string
	Standard   bool
	Module     *module
}

type module struct{ Path string }

// list runs go list at the module's root, as for the shipped build.
func list(t *testing.T, args ...string) []listing {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-e", "-json=ImportPath,Dir,Standard,Module"}, args...)...)
	cmd.Dir = moduleRoot(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	var all []listing
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listing
		err := dec.Decode(&l)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("read what go list printed: %v", err)
		}
		all = append(all, l)
	}
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatalf("find the module's root: %v", err)
	}
	return root
}

// sources reads a folder's Go files but its tests, whatever their build tags:
// a tag is no way around a rule.
func sources(t *testing.T, root, dir string) map[string]string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	texts := make(map[string]string)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			t.Fatal(err)
		}
		texts[rel] = string(b)
	}
	return texts
}

// dependOnTree looks at every folder, so that the test cache of the go command
// sees a package that is new: what go list reads is hidden from it.
func dependOnTree(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && name != root && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
