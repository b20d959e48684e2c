package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ward/internal/agent/localapi"
	"ward/internal/contracttest"
	"ward/internal/device/securityfs/securityfstest"
	"ward/internal/format/dsse"
	"ward/internal/scripttest"
	"ward/internal/trust/appraisal/appraisaltest"
	"ward/internal/trust/event"
	"ward/internal/trust/presence"
	"ward/internal/trust/release"
)

var update = flag.Bool("update", false, "rewrite golden parts of the scripts")

// patience bounds every wait for the daemon; it answers within some tens of
// milliseconds.
const patience = 20 * time.Second

// Scripts on the programs as they ship: static, started as processes. Beside
// its own files each has the folder paper: the sysfs of a device
// that booted what was released, its baseline and trust anchors, and its release
// manifest, good and in every way bad.
func TestScripts(t *testing.T) {
	programs := build(t)
	device := appraisaltest.New(t)
	kernel := securityfstest.Boot(t, device)
	files := paper(t, device)
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", programs+string(filepath.ListSeparator)+env.Getenv("PATH"))
			dir := filepath.Join(env.WorkDir, "paper")
			for name, b := range files {
				name = filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					return err
				}
				if err := os.WriteFile(name, b, 0o644); err != nil {
					return err
				}
			}
			return errors.Join(
				os.CopyFS(filepath.Join(dir, "sys"), kernel.SysFS()),
				os.CopyFS(filepath.Join(dir, "sys", "kernel", "security"), kernel.SecurityFS()),
			)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status":   scripttest.Status,
			"expand":   expand,
			"await":    await,
			"stop":     stop,
			"contract": contract,
		},
	})
}

// build compiles the daemon and its tool as they ship and returns their folder.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"wardd", "wardctl"} {
		// The test cache of the go command sees what this program opens.
		sources, err := filepath.Glob(filepath.Join("..", name, "*.go"))
		if err != nil || len(sources) == 0 {
			t.Fatalf("find the source of %s: %v", name, err)
		}
		for _, s := range sources {
			if _, err := os.ReadFile(s); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("go", "build", "-tags", "nethttpomithttp2", "-trimpath", "-buildvcs=false", "-o", filepath.Join(dir, name), "ward/cmd/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v: %s", name, err, out)
		}
	}
	return dir
}

// paper are the files of a device on paper.
func paper(t *testing.T, d *appraisaltest.Device) map[string][]byte {
	t.Helper()
	payload, err := release.Encode(d.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(kind string, payload []byte, key byte) []byte {
		b, err := dsse.Sign(kind, payload, appraisaltest.Key(key))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := d.Envelope(t)
	changed := bytes.Replace(payload, []byte(`"version":"1.0.0"`), []byte(`"version":"9.9.9"`), 1)
	later := bytes.Replace(payload, []byte(`"schema":1`), []byte(`"schema":2`), 1)
	if bytes.Equal(later, payload) || bytes.Equal(changed, payload) {
		t.Fatalf("the manifest has another form than this test knows: %s", payload)
	}
	altered := bytes.Replace(good, []byte(base64.StdEncoding.EncodeToString(payload)), []byte(base64.StdEncoding.EncodeToString(changed)), 1)
	if bytes.Equal(altered, good) {
		t.Fatalf("the envelope has another form than this test knows: %s", good)
	}
	return map[string][]byte{
		"baseline":              d.Baseline,
		"trust/release/lab.pem": appraisaltest.KeyPEM(t, d.Key),
		"good.dsse":             good,
		"unsigned":              payload,
		"other-key":             sign(release.PayloadType, payload, 2),
		"altered":               altered,
		"short":                 good[:len(good)/2],
		"empty":                 nil,
		"schema":                sign(release.PayloadType, later, 1),
		"type":                  sign("application/vnd.ward.receipt.v1+json", payload, 1),
	}
}

// contract runs "contract FILE": each line of the file, an event as it is sent,
// keeps the contract.
func contract(ts *testscript.TestScript, _ bool, args []string) {
	lines := 0
	for l := range strings.Lines(ts.ReadFile(args[0])) {
		e, err := event.Parse([]byte(strings.TrimSpace(l)))
		ts.Check(err)
		ts.Check(contracttest.Check(presence.Topic(e.Source.Tenant, e.Source.Device, presence.Event), []byte(strings.TrimSpace(l))))
		lines++
	}
	if lines == 0 {
		ts.Fatalf("%s has no event", args[0])
	}
}

// expand runs "expand FILE": variables in the file become their values.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o644))
	}
}

// stopBound is how long the daemon may take to end.
const stopBound = 5 * time.Second

// stop asks the one program in the background to end, as a service manager
// does, and wants it gone within the bound; "wait" then tells its status.
func stop(ts *testscript.TestScript, _ bool, args []string) {
	running := ts.BackgroundCmds()
	if len(args) != 0 || len(running) != 1 {
		ts.Fatalf("stop: %d programs run in the background, want one", len(running))
	}
	p := running[0].Process
	ts.Check(p.Signal(syscall.SIGTERM))
	for begun := time.Now(); p.Signal(syscall.Signal(0)) == nil; time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > stopBound {
			ts.Fatalf("it still runs %s after SIGTERM", stopBound)
		}
	}
}

// await runs "await SOCKET TEXT...": it waits until the daemon's status holds
// every text.
func await(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := localapi.NewClient(ts.MkAbs(args[0]))
	seen, missing := "", args[1:]
	for {
		s, err := client.Status(ctx)
		if err == nil {
			b, err := json.Marshal(s)
			ts.Check(err)
			seen, missing = string(b), nil
			for _, text := range args[1:] {
				if !strings.Contains(seen, text) {
					missing = append(missing, text)
				}
			}
			if len(missing) == 0 {
				return
			}
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("the daemon does not say %q: %v\n%s", missing, err, seen)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
