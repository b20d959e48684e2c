package posture

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"ward/internal/trust/posture"
)

// machine reads a device's files from an archive.
func machine(t testing.TB, name string) fstest.MapFS {
	t.Helper()
	a, err := txtar.ParseFile(filepath.Join("testdata", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	root := make(fstest.MapFS)
	for _, f := range a.Files {
		root[f.Name] = &fstest.MapFile{Data: f.Data, Mode: 0o644}
	}
	return root
}

// efi adds the firmware's variables.
func efi(root fstest.MapFS, variables map[string]byte) {
	root["sys/firmware/efi/efivars"] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
	for name, v := range variables {
		root[efivars+name+efiGlobal] = &fstest.MapFile{Data: []byte{6, 0, 0, 0, v}, Mode: 0o644}
	}
}

// describe writes claims one a line.
func describe(claims []posture.Claim) string {
	var b strings.Builder
	for _, c := range claims {
		switch {
		case c.Error != "":
			fmt.Fprintf(&b, "%s: ERROR %s\n", c.Name, c.Error)
		case c.Absent:
			fmt.Fprintf(&b, "%s: absent\n", c.Name)
		default:
			fmt.Fprintf(&b, "%s: %s\n", c.Name, strings.Join(c.Values, " | "))
		}
	}
	return b.String()
}

func collect(root fs.FS) []posture.Claim {
	var all []posture.Claim
	for _, c := range Kernel() {
		all = append(all, c.Collect(root))
	}
	return all
}

// golden compares with a file of testdata, or writes it.
func golden(t *testing.T, name, have string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("WARD_DOCS") == "write" {
		if err := os.WriteFile(file, []byte(have), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != have {
		t.Errorf("%s (WARD_DOCS=write writes it):\n%s\nwant\n%s", file, have, want)
	}
}

// What is said of whole devices: one as it was read, one as it should be, one that
// somebody has changed, and one whose files hold something else.
//
// Verifies: SR-091
func TestMachines(t *testing.T) {
	for name, variables := range map[string]map[string]byte{
		"virtual-machine": nil,
		"medical-device":  {"SecureBoot": 1, "SetupMode": 0, "AuditMode": 0, "DeployedMode": 1},
		"altered-device":  {"SecureBoot": 0, "SetupMode": 1},
		"garbage":         {"SecureBoot": 7},
	} {
		t.Run(name, func(t *testing.T) {
			root := machine(t, name)
			if variables != nil {
				efi(root, variables)
			}
			golden(t, name+".claims", describe(collect(root)))
		})
	}
}

// denied refuses every file of a folder.
type denied struct{ fs.FS }

func (d denied) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
}

func (d denied) Stat(name string) (fs.FileInfo, error) {
	info, err := fs.Stat(d.FS, name)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "stat", Path: name, Err: fs.ErrPermission}
	}
	return info, err
}

// A read that fails is an error, or where a setting is for root alone a value of
// its own; it never reads as a state, and a file that is longer than it may be is
// not taken in part.
//
// Verifies: SR-091 SR-092
func TestWhatCannotBeReadIsNoState(t *testing.T) {
	whole := machine(t, "medical-device")
	efi(whole, map[string]byte{"SecureBoot": 1, "SetupMode": 0})
	t.Run("denied", func(t *testing.T) {
		for _, c := range collect(denied{whole}) {
			if c.Name == posture.Sysctl {
				if slices.ContainsFunc(c.Values, func(v string) bool { return !strings.HasSuffix(v, "="+unreadable) }) || len(c.Values) == 0 {
					t.Errorf("%v", c)
				}
			} else if c.Error == "" || c.Absent || len(c.Values) > 0 {
				t.Errorf("%s: %+v", c.Name, c)
			}
		}
	})
	t.Run("huge", func(t *testing.T) {
		root := make(fstest.MapFS)
		for name, f := range whole {
			data := f.Data
			if f.Mode.IsRegular() {
				data = []byte(strings.Repeat("1", 1<<20))
			}
			root[name] = &fstest.MapFile{Data: data, Mode: f.Mode}
		}
		for _, c := range collect(root) {
			if !strings.Contains(c.Error, "longer than its bound") || len(c.Values) > 0 {
				t.Errorf("%s: %+v", c.Name, c)
			}
		}
	})
	t.Run("empty", func(t *testing.T) {
		for _, c := range collect(fstest.MapFS{}) {
			if c.Error == "" && !c.Absent || len(c.Values) > 0 {
				t.Errorf("%s: %+v", c.Name, c)
			}
		}
	})
}

func TestReadFile(t *testing.T) {
	root := fstest.MapFS{
		"a":    {Data: []byte("four")},
		"fifo": {Mode: fs.ModeNamedPipe | 0o600, Data: []byte("x")},
		"d/e":  {},
	}
	for _, c := range []struct {
		name  string
		limit int
		want  string
		err   error
	}{
		{"a", 4, "four", nil}, {"/a", 4, "four", nil}, {"a", 3, "", ErrTooLong},
		{"fifo", 9, "", errKind}, {"d", 9, "", errKind}, {"none", 9, "", fs.ErrNotExist},
	} {
		b, err := ReadFile(root, c.name, c.limit)
		if string(b) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s, %d: %q, %v", c.name, c.limit, b, err)
		}
	}
}

func TestValue(t *testing.T) {
	many := make([]string, posture.MaxValues+3)
	for i := range many {
		many[i] = fmt.Sprintf("%05d", i)
	}
	for _, c := range []struct {
		name string
		have []string
		want posture.Claim
	}{
		{"sorted, each once, nothing empty", []string{"b", "a", "", " b ", " "}, posture.Claim{Values: []string{"a", "b"}}},
		{"one line", []string{"a\nb\x1b[0m\x7f"}, posture.Claim{Values: []string{`a\x0ab\x1b[0m\x7f`}}},
		{"no UTF-8", []string{"a\xff\xfeb"}, posture.Claim{Values: []string{`a\xff\xfeb`}}},
		{"marks of direction", []string{"a\u202eb\u0085"}, posture.Claim{Values: []string{`a\xe2\x80\xaeb`}}},
		{"long", []string{strings.Repeat("ü", posture.MaxValue)}, posture.Claim{Values: []string{strings.Repeat("ü", (posture.MaxValue-3)/2) + "..."}}},
		{"many", many, posture.Claim{Values: many[:posture.MaxValues], More: 3}},
	} {
		got := Value("x", c.have...)
		if !slices.Equal(got.Values, c.want.Values) || got.More != c.want.More {
			t.Errorf("%s: %q, %d more", c.name, got.Values, got.More)
		}
	}
	if c := Failed("x", errors.New("a\n"+strings.Repeat("b", 400))); len(c.Error) > maxError || !strings.HasPrefix(c.Error, `a\x0ab`) {
		t.Errorf("%q", c.Error)
	}
}

// Every collector makes the claim of its name, each name once, and the table knows it.
func TestCollectorsAreKnown(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range append(Kernel(), TPM(func() (Chip, error) { return Chip{}, fs.ErrNotExist })...) {
		if _, known := posture.Lookup(c.Name); !known || seen[c.Name] {
			t.Errorf("%s: known %v, twice %v", c.Name, known, seen[c.Name])
		}
		seen[c.Name] = true
		if got := c.Collect(fstest.MapFS{}); got.Name != c.Name {
			t.Errorf("%s claims %s", c.Name, got.Name)
		}
	}
}
