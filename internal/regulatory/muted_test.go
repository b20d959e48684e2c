package regulatory

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ward/internal/trust/finding"
)

// bench builds tests against a changed finding.New, by the overlay of the go
// command: where a program calls it (not a test, and not a package of fakes), it
// gives another finding of the same kind and severity in the place of the one
// that is muted. What is muted, and what was raised, stands in files, because
// tests start processes with environments of their own.
type bench struct {
	t       *testing.T
	dir     string // of overlay, programs and both files; its name is stable, so that builds are kept
	overlay string
	bins    map[string]string
}

const mutedSource = `package finding

import (
	"os"
	"runtime"
	"strings"
)

const benchDir = %q

var muted, instead, _ = strings.Cut(func() string { b, _ := os.ReadFile(benchDir + "/muted"); return string(b) }(), " ")

func New(code Code, detail string) Finding {
	pc := make([]uintptr, 1)
	runtime.Callers(2, pc)
	frame, _ := runtime.CallersFrames(pc).Next()
	dir := frame.File[:strings.LastIndexByte(frame.File, '/')+1]
	if strings.HasSuffix(frame.File, "_test.go") || strings.HasSuffix(dir, "test/") {
		return made(code, detail)
	}
	if f, err := os.OpenFile(benchDir+"/raised", os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
		f.WriteString(string(code) + "\n")
		f.Close()
	}
	if string(code) == muted {
		code = Code(instead)
	}
	return made(code, detail)
}
`

func newBench(t *testing.T) *bench {
	t.Helper()
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, dir: filepath.Join(top, ".cache/raised"), bins: map[string]string{}}
	b.overlay = filepath.Join(b.dir, "overlay.json")
	original := filepath.Join(top, "internal/trust/finding/finding.go")
	text, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	const begin = "func New(code Code, detail string) Finding {"
	if bytes.Count(text, []byte(begin)) != 1 {
		t.Fatalf("%s has not one %q", original, begin)
	}
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{
		original: filepath.Join(b.dir, "finding.go"),
		filepath.Join(filepath.Dir(original), "muted.go"): filepath.Join(b.dir, "muted.go"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"finding.go":   bytes.Replace(text, []byte(begin), []byte("func made(code Code, detail string) Finding {"), 1),
		"muted.go":     fmt.Appendf(nil, mutedSource, b.dir),
		"overlay.json": replace,
	} {
		b.write(name, text)
	}
	t.Cleanup(func() { _ = os.Remove(filepath.Join(b.dir, "raised")); b.write("muted", nil) })
	return b
}

func (b *bench) write(name string, text []byte) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), text, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// bin is the test program of a folder.
func (b *bench) bin(folder string) string {
	b.t.Helper()
	if bin := b.bins[folder]; bin != "" {
		return bin
	}
	bin := filepath.Join(b.dir, strings.ReplaceAll(folder, "/", "_"))
	cmd := exec.Command("go", "test", "-c", "-overlay", b.overlay, "-o", bin, "./"+folder)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("build the tests of %s: %v: %s", folder, err, out)
	}
	b.bins[folder] = bin
	b.t.Cleanup(func() { _ = os.Remove(bin) })
	return bin
}

// longest is how long one test may take; one that waits for a finding that does
// not come fails by its own patience before.
const longest = 3 * time.Minute

// run runs tests of a folder without a finding ("": with all), and says what was
// printed and whether they passed.
func (b *bench) run(folder, pattern string, without finding.Code) (string, bool) {
	b.t.Helper()
	text := ""
	if without != "" {
		other, err := likeness(without)
		if err != nil {
			b.t.Fatalf("%s: %v", without, err)
		}
		text = string(without) + " " + string(other)
	}
	b.write("muted", []byte(text))
	ctx, cancel := context.WithTimeout(b.t.Context(), longest)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.bin(folder), "-test.run", pattern, "-test.v", "-test.count=1")
	cmd.Dir = filepath.Join(root, folder)
	cmd.Env = append(os.Environ(), "GOFLAGS=-overlay="+b.overlay) // programs that tests build
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// Each test of the table passes, runs to its end and fails without its finding.
func TestEveryFindingIsRaised(t *testing.T) {
	if !*prove {
		t.Skip("make raised proves it")
	}
	b, table := newBench(t), raisers(t)
	byFolder := map[string][]finding.Code{}
	for code, r := range table {
		byFolder[r.folder] = append(byFolder[r.folder], code)
	}
	proved := 0
	for _, folder := range slices.Sorted(maps.Keys(byFolder)) {
		codes := byFolder[folder]
		slices.Sort(codes)
		var tests []string
		for _, c := range codes {
			tests = append(tests, table[c].test)
		}
		out, passed := b.run(folder, "^("+strings.Join(tests, "|")+")$", "")
		if !passed {
			t.Errorf("%s: the tests fail as it is: %s", folder, out)
			continue
		}
		for _, c := range codes {
			test := table[c].test
			switch {
			case strings.Contains(out, "--- SKIP: "+test+" "):
				t.Errorf("%s: %s is skipped here, so it proves nothing", c, table[c])
				continue
			case !strings.Contains(out, "--- PASS: "+test+" "):
				t.Errorf("%s: %s does not run", c, table[c])
				continue
			}
			if _, passed := b.run(folder, "^"+test+"$", c); passed {
				t.Errorf("%s: %s passes without it: it does not raise it, or does not look", c, table[c])
				continue
			}
			proved++
		}
	}
	t.Logf("%d of %d findings: their test fails without them", proved, len(finding.All()))
}

// TestProposals looks for tests of findings that the table does not name.
func TestProposals(t *testing.T) {
	if !*propose {
		t.Skip("it looks for tests when it is asked with -propose")
	}
	b, table := newBench(t), raisers(t)
	folders := flagFolders(t)
	missing := map[finding.Code]bool{}
	for _, d := range finding.All() {
		if _, ok := table[d.Code]; !ok {
			missing[d.Code] = true
		}
	}
	for _, folder := range folders {
		out, err := exec.Command(b.bin(folder), "-test.list", "^Test").Output()
		if err != nil {
			t.Fatal(err)
		}
		type candidate struct {
			test   string
			raised map[finding.Code]bool
			took   time.Duration
		}
		var candidates []candidate
		for test := range strings.FieldsSeq(string(out)) {
			b.write("raised", nil)
			begun := time.Now()
			if _, passed := b.run(folder, "^"+test+"$", ""); !passed {
				continue
			}
			c := candidate{test, map[finding.Code]bool{}, time.Since(begun)}
			text, err := os.ReadFile(filepath.Join(b.dir, "raised"))
			if err != nil {
				t.Fatal(err)
			}
			for code := range strings.FieldsSeq(string(text)) {
				c.raised[finding.Code(code)] = true
			}
			candidates = append(candidates, c)
		}
		_ = os.Remove(filepath.Join(b.dir, "raised"))
		slices.SortStableFunc(candidates, func(x, y candidate) int { return cmp.Compare(x.took, y.took) })
		for _, code := range slices.Sorted(maps.Keys(missing)) {
			for _, c := range candidates {
				if !c.raised[code] {
					continue
				}
				if _, passed := b.run(folder, "^"+c.test+"$", code); !passed {
					t.Logf("  %s: %s %s", code, folder, c.test)
					delete(missing, code)
					break
				}
			}
		}
	}
	for _, code := range slices.Sorted(maps.Keys(missing)) {
		t.Errorf("%s: no test", code)
	}
}

// flagFolders are the folders to look in: those of packages that use findings and
// have tests.
func flagFolders(t *testing.T) []string {
	t.Helper()
	if args := os.Getenv("WARD_FOLDERS"); args != "" {
		return strings.Fields(args)
	}
	var out []string
	for _, pattern := range []string{"internal/trust/*", "internal/agent/*", "internal/fleet/*", "internal/daemon", "cmd/*"} {
		folders, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, folder := range folders {
			tests, _ := filepath.Glob(filepath.Join(folder, "*_test.go"))
			uses := false
			sources, _ := filepath.Glob(filepath.Join(folder, "*.go"))
			for _, s := range sources {
				b, err := os.ReadFile(s)
				uses = uses || err == nil && bytes.Contains(b, []byte(`"ward/internal/trust/finding"`))
			}
			if rel, err := filepath.Rel(root, folder); err == nil && len(tests) > 0 && uses && rel != "internal/trust/finding" {
				out = append(out, rel)
			}
		}
	}
	return out
}
