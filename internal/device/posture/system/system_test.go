package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/txtar"

	"ward/internal/device/dm"
	"ward/internal/device/posture/privileged"
	"ward/internal/trust/finding"
	claim "ward/internal/trust/posture"
)

// machine reads a device's files from an archive: "link:" begins where a link
// leads, "mode:" the mode of a file without content.
func machine(t testing.TB, name string) fstest.MapFS {
	t.Helper()
	a, err := txtar.ParseFile(filepath.Join("testdata", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	root := make(fstest.MapFS)
	for _, f := range a.Files {
		one := &fstest.MapFile{Data: f.Data, Mode: 0o644}
		if target, ok := strings.CutPrefix(string(f.Data), "link:"); ok {
			one.Data, one.Mode = []byte(strings.TrimSpace(target)), fs.ModeSymlink|0o777
		}
		if mode, ok := strings.CutPrefix(string(f.Data), "mode:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(mode), 8, 32)
			if err != nil {
				t.Fatal(err)
			}
			one.Data, one.Mode = nil, fs.FileMode(bits&0o777)
			for bit, m := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid} {
				if bits&bit != 0 {
					one.Mode |= m
				}
			}
		}
		root[f.Name] = one
	}
	return root
}

// fuses is the rule of a board.
var fuses = &claim.Policy{Rules: []claim.Rule{{
	Claim: claim.HardwareDebug, Mode: claim.Equal, Values: []string{"jtag-closed /sys/bus/nvmem/devices/ocotp0/nvmem@2 ff0f=3203"},
}}}

// config is what the tests' devices know.
func config(root fs.FS) Config {
	return Config{
		Files:  func() (privileged.Files, error) { return privileged.Walk(root) },
		Tables: []dm.Table{{Name: "ward-root", Sequence: 11, Target: "verity", Params: "1 8:1 8:2 4096 4096 9 1 sha256 00ff - 1 panic_on_corruption"}},
		Policy: func() *claim.Policy { return fuses },
		Name: func(account string) string {
			if slices.Contains([]string{"root", "service", "bare"}, account) {
				return account
			}
			return "~hidden"
		},
	}
}

func collect(root fs.FS, c Config) []claim.Claim {
	var all []claim.Claim
	for _, one := range Collectors(c) {
		all = append(all, one.Collect(root))
	}
	return all
}

// describe writes claims, a value a line.
func describe(claims []claim.Claim) string {
	var b strings.Builder
	for _, c := range claims {
		switch {
		case c.Error != "":
			fmt.Fprintf(&b, "%s: ERROR %s\n", c.Name, c.Error)
		case c.Absent:
			fmt.Fprintf(&b, "%s: absent\n", c.Name)
		default:
			fmt.Fprintf(&b, "%s:\n", c.Name)
			for _, v := range c.Values {
				fmt.Fprintf(&b, "  %s\n", v)
			}
		}
	}
	return b.String()
}

// What is said of whole devices: one as it was released, one that somebody has
// changed, and one whose files hold something else. No name of a person, no hash of a
// password and no key is part of it.
//
// Verifies: SR-097
func TestMachines(t *testing.T) {
	for _, name := range []string{"pump", "altered", "garbage"} {
		t.Run(name, func(t *testing.T) {
			root := machine(t, name)
			have := describe(collect(root, config(root)))
			file := filepath.Join("testdata", name+".claims")
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
			for _, secret := range []string{"Mary", "mary", "$y$", "$6$", "QSBzZWNyZXQ", "AAAAC3", "/tmp/x", "laptop"} {
				if strings.Contains(have, secret) {
					t.Errorf("it tells %q", secret)
				}
			}
		})
	}
}

// What somebody changed on the pump differs from what its own claims would make a
// release, each in its own claim.
//
// Verifies: SR-097
func TestTheAlteredDeviceDiffers(t *testing.T) {
	released := machine(t, "pump")
	policy := fuses.Clone()
	for _, c := range collect(released, config(released)) {
		if c.Name != claim.HardwareDebug {
			policy.Rules = append(policy.Rules, claim.Rule{Claim: c.Name, Mode: claim.Equal, Values: c.Values, Optional: c.Absent})
		}
	}
	if err := policy.Check(); err != nil {
		t.Fatal(err)
	}
	if f := claim.Judge(policy, collect(released, config(released))); len(f) > 0 {
		t.Errorf("the device differs from itself: %v", f)
	}
	root := machine(t, "altered")
	codes := make(map[finding.Code]int)
	for _, j := range claim.Judgements(policy, collect(root, config(root))) {
		codes[j.Finding.Code]++
	}
	for _, code := range []finding.Code{
		finding.PostureMount, finding.PostureVerity, finding.PostureEncryption, finding.PostureSocket, finding.PostureSetuid,
		finding.PostureAccount, finding.PostureScheduled, finding.PostureDebug, finding.PostureClock,
	} {
		if codes[code] == 0 {
			t.Errorf("no %s among %v", code, codes)
		}
	}
}

// denied refuses every file.
type denied struct{ fs.FS }

func (d denied) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
}

func (d denied) Stat(name string) (fs.FileInfo, error) {
	return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrPermission}
}
func (d denied) Lstat(name string) (fs.FileInfo, error) { return d.Stat(name) }
func (d denied) ReadLink(name string) (string, error)   { _, err := d.Stat(name); return "", err }
func (d denied) ReadDir(string) ([]fs.DirEntry, error)  { return nil, fs.ErrPermission }

// A read that fails is an error and never reads as a state.
//
// Verifies: SR-097
func TestWhatCannotBeReadIsNoState(t *testing.T) {
	whole := machine(t, "pump")
	for _, c := range collect(denied{whole}, Config{Files: func() (privileged.Files, error) { return privileged.Files{}, errors.New("no scan yet") }, Policy: func() *claim.Policy { return fuses }}) {
		if c.Error == "" || c.Absent || len(c.Values) > 0 {
			t.Errorf("denied: %+v", c)
		}
	}
	// What has no source is not claimed, and what is not there is absent or empty.
	for _, c := range collect(fstest.MapFS{}, Config{}) {
		if c.Name == claim.Setuid || c.Name == claim.WorldWritable {
			t.Errorf("%s is claimed without a walk", c.Name)
		}
		if len(c.Values) > 0 && c.Name != claim.ClockSync {
			t.Errorf("an empty device: %+v", c)
		}
	}
	// A dm-verity device of which no table could be read is no pass.
	root := machine(t, "pump")
	if c := Verity(nil, fs.ErrPermission).Collect(root); c.Error == "" {
		t.Errorf("%+v", c)
	}
	if c := Verity(nil, nil).Collect(root); len(c.Values) != 1 || c.Values[0] != "ward-root ?" {
		t.Errorf("%+v", c)
	}
	if c := Verity([]dm.Table{{Name: "ward-root", Sequence: 11, Target: "verity", Params: "?"}}, nil).Collect(root); c.Error == "" {
		t.Errorf("%+v", c)
	}
	// A device that is no file or folder is told and not opened.
	root["etc/cron.d/fifo"] = &fstest.MapFile{Mode: fs.ModeNamedPipe | 0o600}
	root["etc/cron.d/disk"] = &fstest.MapFile{Mode: fs.ModeDevice | 0o600}
	if c := Cron().Collect(root); !slices.Contains(c.Values, "/etc/cron.d/fifo p---------") || !slices.Contains(c.Values, "/etc/cron.d/disk D---------") {
		t.Errorf("%+v", c)
	}
	root["home/service/.ssh/authorized_keys"] = &fstest.MapFile{Mode: fs.ModeNamedPipe | 0o600}
	if c := AuthorisedKeys(func(s string) string { return s }).Collect(root); c.Error == "" || strings.Contains(c.Error, "service") {
		t.Errorf("%+v", c)
	}
}

// Lists without end are errors, and are not kept.
//
// Verifies: SR-097
func TestBounds(t *testing.T) {
	root := machine(t, "pump")
	line := "   0: 00000000:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2001 1 0 100 0 0 10 0\n"
	for i := range maxTasks + 1 {
		root[fmt.Sprintf("etc/cron.d/%d", i)] = &fstest.MapFile{}
		root[fmt.Sprintf("etc/systemd/a%da", i)] = &fstest.MapFile{}
	}
	root["proc/1/net/tcp"] = &fstest.MapFile{Data: []byte("header\n" + strings.Repeat(line, maxSockets+1))}
	root["proc/net/tcp"] = root["proc/1/net/tcp"]
	root["etc/passwd"] = &fstest.MapFile{Data: []byte(strings.Repeat("a::0:0:::\n", maxAccounts+1))}
	root["proc/1/mountinfo"] = &fstest.MapFile{Data: []byte(strings.Repeat("x", 2<<20))}
	delete(root, "proc/self/mountinfo")
	bounded := map[string]bool{claim.Cron: true, claim.Units: true, claim.Sockets: true, claim.Logins: true, claim.EmptyPasswords: true, claim.AuthorisedKeys: true, claim.Mounts: true}
	for _, c := range collect(root, Config{}) {
		if bounded[c.Name] != (c.Error != "") {
			t.Errorf("%s: %d values, error %q", c.Name, len(c.Values), c.Error)
		}
	}
	deep := fstest.MapFS{"etc/systemd/" + strings.Repeat("a/", 100) + "x": {}}
	if c := Units().Collect(deep); c.Error == "" {
		t.Errorf("a deep tree: %+v", c)
	}
}

// Every collector makes the claim of its name, each name once, and the table knows it.
func TestCollectorsAreKnown(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range Collectors(Config{Files: func() (privileged.Files, error) { return privileged.Files{}, nil }}) {
		if _, known := claim.Lookup(c.Name); !known || seen[c.Name] {
			t.Errorf("%s: known %v, twice %v", c.Name, known, seen[c.Name])
		}
		seen[c.Name] = true
		if got := c.Collect(fstest.MapFS{}); got.Name != c.Name {
			t.Errorf("%s claims %s", c.Name, got.Name)
		}
	}
	for _, d := range claim.Definitions() {
		local := strings.HasPrefix(d.Name, "fs.") || strings.HasPrefix(d.Name, "net.") || strings.HasPrefix(d.Name, "account.") || strings.HasPrefix(d.Name, "task.") || strings.HasPrefix(d.Name, "disk.")
		if local && !seen[d.Name] {
			t.Errorf("nothing reads %s", d.Name)
		}
	}
}

// The rule of a fuse is read as it is documented, and nothing else is.
func TestFuseRules(t *testing.T) {
	for _, bad := range []string{
		"", "x", "x /sys/a@0", "x /sys/a 00=00", "x /sys/a@-1 00=00", "x /sys/a@0 0=0", "x /sys/a@0 =", "x /sys/a@0 00", "x /sys/a@0 00=0000",
		"x /etc/a@0 00=00", "x /sys/../etc/a@0 00=00", "x sys/a@0 00=00", "x /sys/a@1048577 00=00", "x /sys/a@0 " + strings.Repeat("00", 17) + "=" + strings.Repeat("00", 17), "x y /sys/a@0 00=00",
	} {
		if f, err := parseFuse(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, f)
		}
	}
}

// FuzzCollectors gives every file that a collector reads the same content: no
// panic, and every claim is in the form that evidence takes.
//
// Verifies: SR-097
func FuzzCollectors(f *testing.F) {
	whole := machine(f, "pump")
	for _, name := range []string{"pump", "altered", "garbage"} {
		for _, file := range machine(f, name) {
			f.Add(file.Data)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		root := make(fstest.MapFS, len(whole))
		for name, file := range whole {
			one := *file
			if one.Mode.IsRegular() {
				one.Data = b
			} else if s := strings.ReplaceAll(string(b), "\x00", ""); s != "" {
				one.Data = []byte(s)
			}
			root[name] = &one
		}
		policy := &claim.Policy{Rules: []claim.Rule{{Claim: claim.HardwareDebug, Mode: claim.Equal, Values: []string{string(b)}}}}
		for _, c := range collect(root, Config{Files: func() (privileged.Files, error) { return privileged.Walk(root) }, Policy: func() *claim.Policy { return policy }}) {
			if !slices.IsSorted(c.Values) || len(c.Values) > claim.MaxValues || c.Absent && len(c.Values) > 0 || c.Error != "" && len(c.Values) > 0 {
				t.Errorf("%+v", c)
			}
			for _, v := range append(c.Values, c.Error) {
				if len(v) > claim.MaxValue || !utf8.ValidString(v) || strings.ContainsAny(v, "\n\x00\x1b") {
					t.Errorf("%s: %q", c.Name, v)
				}
			}
		}
	})
}

// The name of an account that no rule of the release has does not leave the device.
//
// Verifies: SR-097
func TestReleasedNames(t *testing.T) {
	policy := &claim.Policy{Rules: []claim.Rule{{Claim: claim.Logins, Mode: claim.Equal, Values: []string{"service 1000 /bin/sh"}}}}
	name := ReleasedNames(func() *claim.Policy { return policy }, func(string) string { return "/~0123456789ab" })
	for account, want := range map[string]string{"root": "root", "service": "service", "smith": "~0123456789ab", "": "~0123456789ab", "1000": "~0123456789ab", "/x": "~0123456789ab"} {
		if got := name(account); got != want {
			t.Errorf("%q is told as %q", account, got)
		}
	}
	if got := ReleasedNames(func() *claim.Policy { return nil }, func(string) string { return "/~0" })("service"); got != "~0" {
		t.Errorf("without a release %q", got)
	}
}
