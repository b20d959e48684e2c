package diff_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"ward/internal/trust/baseline"
	"ward/internal/trust/baseline/diff"
	"ward/internal/trust/finding"
)

// xattrs spells attributes.
func xattrs(t testing.TB, pairs ...string) baseline.Xattrs {
	t.Helper()
	values := make(map[string][]byte)
	for i := 0; i < len(pairs); i += 2 {
		values[pairs[i]] = []byte(pairs[i+1])
	}
	x, err := baseline.NewXattrs(values)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func file(path string, flags baseline.Flags) baseline.Entry {
	return baseline.Entry{Path: path, Type: baseline.File, Mode: 0o644, Size: 1, SHA256: sha256.Sum256([]byte(path)), Flags: flags}
}

func folder(path string, flags baseline.Flags) baseline.Entry {
	return baseline.Entry{Path: path, Type: baseline.Directory, Mode: 0o755, Flags: flags}
}

// released is a release with an entry of every kind.
func released(t testing.TB) []baseline.Entry {
	bb := file("/bin/bb", baseline.Exec)
	bb.Mode, bb.Component = 0o755, "busybox 1.36"
	labelled := file("/bin/labelled", baseline.Exec)
	labelled.Mode = 0o755
	labelled.Xattrs = xattrs(t, "security.capability", "\x01\x00\x00\x02", "security.evm", "\x05sig", "security.ima", "\x03sig", "security.selinux", "bin_t\x00")
	su := file("/bin/su", baseline.Exec)
	su.Mode = 0o4755
	verity := file("/bin/verity", baseline.Exec)
	verity.Mode, verity.Verity = 0o755, sha256.Sum256([]byte("verity"))
	script := file("/etc/rc", baseline.Config|baseline.Exec)
	script.Mode = 0o755
	state := file("/var/state", baseline.Mutable)
	state.Xattrs = xattrs(t, "security.ima", "\x01hash", "security.selinux", "var_t\x00")
	return []baseline.Entry{
		folder("/", 0),
		folder("/bin", 0), bb, labelled, su, verity,
		folder("/dev", 0),
		{Path: "/dev/null", Type: baseline.CharDevice, Mode: 0o666, Device: baseline.Device{Major: 1, Minor: 3}},
		{Path: "/dev/sda", Type: baseline.BlockDevice, Mode: 0o660, Device: baseline.Device{Major: 8}},
		folder("/etc", baseline.Config), file("/etc/conf", baseline.Config), script,
		{Path: "/lib", Type: baseline.Symlink, Mode: 0o777, Link: "usr/lib"},
		folder("/run", baseline.Volatile), file("/run/pid", baseline.Volatile),
		folder("/var", baseline.Mutable), {Path: "/var/link", Type: baseline.Symlink, Mode: 0o777, Link: "a", Flags: baseline.Mutable},
		{Path: "/var/pipe", Type: baseline.Pipe, Mode: 0o600, Flags: baseline.Mutable}, state,
		{Path: "/z", Type: baseline.Socket, Mode: 0o600},
	}
}

func reader(t testing.TB, entries []baseline.Entry) *baseline.Reader {
	t.Helper()
	var b bytes.Buffer
	w, err := baseline.NewWriter(&b)
	for _, e := range entries {
		if err == nil {
			err = w.Write(e)
		}
	}
	if err == nil {
		_, err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := baseline.NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// device gives a device's entries; flags and components are not known there.
func device(entries []baseline.Entry, failed map[string]error) iter.Seq2[baseline.Entry, error] {
	return func(yield func(baseline.Entry, error) bool) {
		for _, e := range entries {
			e.Flags, e.Component = 0, ""
			if !yield(e, failed[e.Path]) {
				return
			}
		}
	}
}

func compare(t testing.TB, want, have []baseline.Entry, failed map[string]error) []diff.Difference {
	t.Helper()
	var all []diff.Difference
	if err := diff.Compare(reader(t, want), device(have, failed), func(d diff.Difference) { all = append(all, d) }); err != nil {
		t.Fatal(err)
	}
	return all
}

// edit returns a copy of entries in which one was changed, removed (nil) or added.
func edit(entries []baseline.Entry, path string, change func(*baseline.Entry)) []baseline.Entry {
	entries = slices.Clone(entries)
	i, there := slices.BinarySearchFunc(entries, path, func(e baseline.Entry, p string) int { return baseline.ComparePaths(e.Path, p) })
	switch {
	case change == nil:
		return slices.Delete(entries, i, i+1)
	case !there:
		entries = slices.Insert(entries, i, baseline.Entry{Path: path})
	}
	change(&entries[i])
	return entries
}

func become(e baseline.Entry) func(*baseline.Entry) {
	return func(old *baseline.Entry) { e.Path = old.Path; *old = e }
}

// Each row changes one thing on the device and says what is told of it and what it
// means.
//
// Verifies: SR-077
func TestEveryKindOfDifference(t *testing.T) {
	other := sha256.Sum256([]byte("other"))
	content := func(e *baseline.Entry) { e.SHA256, e.Size = other, 2 }
	mode := func(m uint16) func(*baseline.Entry) { return func(e *baseline.Entry) { e.Mode = m } }
	owner := func(e *baseline.Entry) { e.UID = 5 }
	attributes := func(pairs ...string) func(*baseline.Entry) {
		return func(e *baseline.Entry) { e.Xattrs = xattrs(t, pairs...) }
	}
	program := file("", 0)
	program.Mode = 0o755
	setuid := file("", 0)
	setuid.Mode = 0o4755
	setgid := file("", 0)
	setgid.Mode = 0o2755
	capable := file("", 0)
	capable.Xattrs = xattrs(t, "security.capability", "\x01")
	link := baseline.Entry{Type: baseline.Symlink, Mode: 0o777, Link: "/home/patient"}
	const none = finding.Code("")
	for _, tt := range []struct {
		name     string
		path     string
		change   func(*baseline.Entry)
		told     string // kind and what
		code     finding.Code
		severity finding.Severity
	}{
		{"program's content", "/bin/bb", content, "changed content,size", finding.FileChanged, finding.Critical},
		{"program's content, same size", "/bin/bb", func(e *baseline.Entry) { e.SHA256 = other }, "changed content", finding.FileChanged, finding.Critical},
		{"program's mode", "/bin/bb", mode(0o777), "changed mode", finding.FileAttributesChanged, finding.High},
		{"program's owner", "/bin/bb", owner, "changed owner", finding.FileAttributesChanged, finding.High},
		{"program's group", "/bin/bb", func(e *baseline.Entry) { e.GID = 5 }, "changed owner", finding.FileAttributesChanged, finding.High},
		{"program becomes set-uid", "/bin/bb", mode(0o4755), "changed mode", finding.FileNewSetuid, finding.Critical},
		{"program becomes set-gid", "/bin/bb", mode(0o2755), "changed mode", finding.FileNewSetuid, finding.Critical},
		{"program gets capabilities", "/bin/bb", attributes("security.capability", "\x01"), "changed capabilities", finding.FileNewSetuid, finding.Critical},
		{"program becomes a link", "/bin/bb", become(link), "changed type", finding.FileChanged, finding.Critical},
		{"program becomes a folder", "/bin/bb", become(folder("", 0)), "changed type", finding.FileChanged, finding.Critical},
		{"program is missing", "/bin/bb", nil, "missing ", finding.FileMissing, finding.High},
		{"capabilities others", "/bin/labelled", attributes("security.capability", "\x02", "security.evm", "\x05sig", "security.ima", "\x03sig", "security.selinux", "bin_t\x00"), "changed capabilities", finding.FileNewSetuid, finding.Critical},
		{"capabilities lost", "/bin/labelled", attributes("security.evm", "\x05sig", "security.ima", "\x03sig", "security.selinux", "bin_t\x00"), "changed capabilities", finding.FileAttributesChanged, finding.High},
		{"label changed", "/bin/labelled", attributes("security.capability", "\x01\x00\x00\x02", "security.evm", "\x05sig", "security.ima", "\x03sig", "security.selinux", "tmp_t\x00"), "changed xattr security.selinux", finding.FileAttributesChanged, finding.High},
		{"signature lost", "/bin/labelled", attributes("security.capability", "\x01\x00\x00\x02", "security.evm", "\x05sig", "security.selinux", "bin_t\x00"), "changed xattr security.ima", finding.FileAttributesChanged, finding.High},
		{"attribute added", "/bin/bb", attributes("security.SMACK64", "_"), "changed xattr security.SMACK64", finding.FileAttributesChanged, finding.High},
		{"HMAC of the device's own", "/bin/bb", attributes("security.evm", "\x02hmac"), "", none, 0},
		{"HMAC in a signature's place", "/bin/labelled", attributes("security.capability", "\x01\x00\x00\x02", "security.evm", "\x02hmac", "security.ima", "\x03sig", "security.selinux", "bin_t\x00"), "", none, 0},
		{"set-uid lost", "/bin/su", mode(0o755), "changed mode", finding.FileAttributesChanged, finding.High},
		{"set-uid of another owner", "/bin/su", owner, "changed owner", finding.FileNewSetuid, finding.Critical},
		{"set-uid program's content", "/bin/su", content, "changed content,size", finding.FileChanged, finding.Critical},
		{"fs-verity lost", "/bin/verity", func(e *baseline.Entry) { e.Verity = [32]byte{} }, "changed verity", finding.FileChanged, finding.Critical},
		{"fs-verity alone, the same", "/bin/verity", func(e *baseline.Entry) { e.SHA256 = [32]byte{} }, "", none, 0},
		{"fs-verity alone, another", "/bin/verity", func(e *baseline.Entry) { e.SHA256, e.Verity = [32]byte{}, other }, "changed content,verity", finding.FileChanged, finding.Critical},
		{"fs-verity that is not released", "/bin/bb", func(e *baseline.Entry) { e.Verity = other }, "changed verity", finding.FileChanged, finding.Critical},
		{"content that nobody read", "/bin/bb", func(e *baseline.Entry) { e.SHA256 = [32]byte{} }, "unreadable ", finding.FileUnreadable, finding.Medium},
		{"content that nobody read, new fs-verity", "/bin/bb", func(e *baseline.Entry) { e.SHA256, e.Verity = [32]byte{}, other }, "changed verity", finding.FileChanged, finding.Critical},
		{"content that nobody read, other mode", "/bin/bb", func(e *baseline.Entry) { e.SHA256, e.Mode = [32]byte{}, 0o711 }, "changed mode", finding.FileAttributesChanged, finding.High},
		{"content that dm-verity vouches for", "/bin/bb", func(e *baseline.Entry) { e.SHA256, e.Vouched = [32]byte{}, true }, "", none, 0},
		{"fs-verity not asked, dm-verity vouches", "/bin/verity", func(e *baseline.Entry) { e.SHA256, e.Verity, e.Vouched = [32]byte{}, [32]byte{}, true }, "", none, 0},
		{"dm-verity vouches, other mode", "/bin/bb", func(e *baseline.Entry) { e.SHA256, e.Vouched, e.Mode = [32]byte{}, true, 0o4755 }, "changed mode", finding.FileNewSetuid, finding.Critical},
		{"device's numbers", "/dev/null", func(e *baseline.Entry) { e.Device.Minor = 1 }, "changed device", finding.FileChanged, finding.High},
		{"device of another kind", "/dev/sda", func(e *baseline.Entry) { e.Type = baseline.CharDevice }, "changed type", finding.FileChanged, finding.High},
		{"device's mode", "/dev/sda", mode(0o666), "changed mode", finding.FileAttributesChanged, finding.High},
		{"settings' content", "/etc/conf", content, "changed content,size", finding.FileConfigChanged, finding.High},
		{"settings' mode", "/etc/conf", mode(0o666), "changed mode", finding.FileAttributesChanged, finding.High},
		{"settings' content and mode", "/etc/conf", func(e *baseline.Entry) { content(e); e.Mode = 0o600 }, "changed content,size,mode", finding.FileConfigChanged, finding.High},
		{"settings become a program", "/etc/conf", func(e *baseline.Entry) { content(e); e.Mode = 0o755 }, "changed content,size,mode", finding.FileChanged, finding.Critical},
		{"settings are missing", "/etc/conf", nil, "missing ", finding.FileMissing, finding.High},
		{"script among settings", "/etc/rc", content, "changed content,size", finding.FileChanged, finding.Critical},
		{"link's target", "/lib", func(e *baseline.Entry) { e.Link = "/home/patient" }, "changed link", finding.FileChanged, finding.High},
		{"folder's mode", "/bin", mode(0o777), "changed mode", finding.FileAttributesChanged, finding.High},
		{"folder's set-gid", "/bin", mode(0o2755), "changed mode", finding.FileAttributesChanged, finding.High},
		{"volatile is gone", "/run/pid", nil, "missing ", none, 0},
		{"volatile's content", "/run/pid", content, "changed content,size", none, 0},
		{"volatile's owner", "/run/pid", owner, "changed owner", none, 0},
		{"volatile becomes a folder", "/run/pid", become(folder("", 0)), "changed type", none, 0},
		{"volatile becomes a program", "/run/pid", mode(0o755), "changed mode", finding.FileAttributesChanged, finding.High},
		{"volatile becomes set-uid", "/run/pid", mode(0o4755), "changed mode", finding.FileNewSetuid, finding.Critical},
		{"volatile gets capabilities", "/run/pid", attributes("security.capability", "\x01"), "changed capabilities", finding.FileNewSetuid, finding.Critical},
		{"mutable's content", "/var/state", content, "changed content,size", none, 0},
		{"mutable's digest of IMA", "/var/state", func(e *baseline.Entry) {
			content(e)
			e.Xattrs = xattrs(t, "security.ima", "\x01new", "security.selinux", "var_t\x00")
		}, "changed content,size,xattr security.ima", none, 0},
		{"mutable's label", "/var/state", attributes("security.ima", "\x01hash", "security.selinux", "bin_t\x00"), "changed xattr security.selinux", finding.FileAttributesChanged, finding.High},
		{"mutable's owner", "/var/state", owner, "changed owner", finding.FileAttributesChanged, finding.High},
		{"mutable's mode and content", "/var/state", func(e *baseline.Entry) { content(e); e.Mode = 0o666 }, "changed content,size,mode", finding.FileAttributesChanged, finding.High},
		{"mutable becomes set-uid", "/var/state", mode(0o4755), "changed mode", finding.FileNewSetuid, finding.Critical},
		{"mutable becomes a link", "/var/state", become(link), "changed type", finding.FileChanged, finding.High},
		{"mutable is missing", "/var/state", nil, "missing ", finding.FileMissing, finding.High},
		{"mutable link's target", "/var/link", func(e *baseline.Entry) { e.Link = "b" }, "changed link", none, 0},
		{"new file", "/bin/new", become(file("", 0)), "new ", finding.FileNew, finding.Medium},
		{"new program", "/bin/new", become(program), "new ", finding.FileNew, finding.High},
		{"new link", "/bin/new", become(link), "new ", finding.FileNew, finding.Medium},
		{"new folder", "/bin/new", become(folder("", 0)), "new ", finding.FileNew, finding.Medium},
		{"new file in the root", "/new", become(file("", 0)), "new ", finding.FileNew, finding.Medium},
		{"new file at the end", "/zz", become(file("", 0)), "new ", finding.FileNew, finding.Medium},
		{"new settings", "/etc/new", become(file("", 0)), "new ", finding.FileNew, finding.Medium},
		{"new file where the release names no folder", "/opt/x/new", become(file("", 0)), "new ", none, 0},
		{"new file beneath what is no folder", "/lib/new", become(file("", 0)), "new ", none, 0},
		{"new mutable", "/var/new", become(program), "new ", none, 0},
		{"new mutable, deep", "/var/a/b/new", become(program), "new ", none, 0},
		{"new volatile", "/run/new", become(program), "new ", none, 0},
		{"new set-uid", "/bin/new", become(setuid), "new ", finding.FileNewSetuid, finding.Critical},
		{"new set-uid among mutable", "/var/new", become(setuid), "new ", finding.FileNewSetuid, finding.Critical},
		{"new set-gid among volatile", "/run/new", become(setgid), "new ", finding.FileNewSetuid, finding.Critical},
		{"new capabilities where the release names no folder", "/opt/x/new", become(capable), "new ", finding.FileNewSetuid, finding.Critical},
		{"name with a newline and no UTF-8", "/bin/a\n\xff", become(file("", 0)), "new ", finding.FileNew, finding.Medium},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := released(t)
			all := compare(t, want, edit(want, tt.path, tt.change), nil)
			if tt.told == "" {
				if len(all) != 0 {
					t.Fatalf("told %v", all)
				}
				return
			}
			if len(all) != 1 {
				t.Fatalf("told %d: %v", len(all), all)
			}
			d := all[0]
			if got := d.Kind.String() + " " + strings.Join(d.What, ","); got != tt.told || d.Path != tt.path {
				t.Errorf("told %q of %q, want %q", got, d.Path, tt.told)
			}
			f, told := d.Finding()
			if told != (tt.code != none) || f.Code != tt.code || f.Severity != tt.severity {
				t.Errorf("finding %v: %s %s, want %s %s", told, f.Severity, f.Code, tt.severity, tt.code)
			}
			said := f.Path + f.Expected + f.Found + f.Detail
			if strings.Contains(said, "patient") || !printable(said) || len(said) > 2000 {
				t.Errorf("the finding says %q", said)
			}
			if tt.path == "/bin/bb" && told && (d.Component != "busybox 1.36" || !strings.HasSuffix(f.Detail, "; of busybox 1.36")) {
				t.Errorf("component %q, detail %q", d.Component, f.Detail)
			}
			if s := d.String(); !printable(s) || !strings.HasPrefix(s, d.Kind.String()+" /") {
				t.Errorf("line %q", s)
			}
		})
	}
}

// printable tells whether a text is one line of UTF-8.
func printable(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\n") }

// What could not be read is told once, as such, and what lies beneath it is not
// told as missing.
//
// Verifies: SR-077
func TestWhatCannotBeRead(t *testing.T) {
	want := released(t)
	refused := &fs.PathError{Op: "open", Path: "/home/patient", Err: fs.ErrPermission}
	beneath := slices.DeleteFunc(slices.Clone(want), func(e baseline.Entry) bool { return strings.HasPrefix(e.Path, "/bin/") })
	for name, tt := range map[string]struct {
		have []baseline.Entry
		path string
	}{
		"file":                       {want, "/bin/bb"},
		"folder":                     {beneath, "/bin"},
		"folder with some of it":     {edit(beneath, "/bin/su", become(want[4])), "/bin"},
		"what the release has not":   {edit(want, "/home", become(folder("", 0))), "/home"},
		"mutable file":               {want, "/var/state"},
		"volatile file":              {want, "/run/pid"},
		"the last one":               {want, "/z"},
		"folder of the mutable ones": {slices.DeleteFunc(slices.Clone(want), func(e baseline.Entry) bool { return strings.HasPrefix(e.Path, "/var/") }), "/var"},
	} {
		all := compare(t, want, tt.have, map[string]error{tt.path: fmt.Errorf("look at %s: %w", tt.path, refused)})
		if len(all) != 1 || all[0].Kind != diff.Unreadable || all[0].Path != tt.path || !errors.Is(all[0].Err, fs.ErrPermission) {
			t.Errorf("%s: told %v", name, all)
			continue
		}
		f, told := all[0].Finding()
		if !told || f.Code != finding.FileUnreadable || f.Detail != "permission denied" && !strings.HasPrefix(f.Detail, "permission denied; of ") {
			t.Errorf("%s: %v %s %q", name, told, f.Code, f.Detail)
		}
	}
	// A folder is given first, then that its names cannot be read.
	var all []diff.Difference
	err := diff.Compare(reader(t, want), func(yield func(baseline.Entry, error) bool) {
		for _, e := range beneath {
			if !yield(e, nil) || e.Path == "/bin" && !yield(baseline.Entry{Path: "/bin"}, refused) {
				return
			}
		}
	}, func(d diff.Difference) { all = append(all, d) })
	if err != nil || len(all) != 1 || all[0].Kind != diff.Unreadable || all[0].Path != "/bin" {
		t.Errorf("told %v, %v", all, err)
	}
	if f, _ := (diff.Difference{Path: "/x", Kind: diff.Unreadable, Err: errors.Join(refused, refused)}).Finding(); strings.Contains(f.Detail, "patient") {
		t.Errorf("detail %q", f.Detail)
	}
}

// A comparison that cannot be finished says so, and tells nothing as missing that
// it did not come to.
//
// Verifies: SR-077
func TestComparisonThatBreaksOff(t *testing.T) {
	want := released(t)
	stop := errors.New("stopped")
	n := 0
	count := func(diff.Difference) { n++ }
	err := diff.Compare(reader(t, want), func(yield func(baseline.Entry, error) bool) {
		_ = yield(want[0], nil) && yield(baseline.Entry{}, stop)
	}, count)
	if !errors.Is(err, stop) || n != 0 {
		t.Errorf("the device's stream ended: %v, %d told", err, n)
	}
	for name, have := range map[string][]baseline.Entry{"out of order": {want[1], want[0]}, "twice": {want[0], want[0]}} {
		n = 0
		if err := diff.Compare(reader(t, want), device(have, nil), count); !errors.Is(err, diff.ErrOrder) || n > 1 {
			t.Errorf("%s: %v, %d told", name, err, n)
		}
	}
	r, err := baseline.NewReader(strings.NewReader("ward-baseline 2\nd 0755 0 0 0 - - - - - /\nd 0755 0 0"))
	if err != nil {
		t.Fatal(err)
	}
	n = 0
	if err := diff.Compare(r, device(want, nil), count); err == nil || n > 1 {
		t.Errorf("the release's list is cut: %v, %d told", err, n)
	}
}

// A comparison that goes on at a path knows the folders above it.
func TestComparisonThatGoesOn(t *testing.T) {
	want := released(t)
	have := edit(want, "/bin/x", become(file("", 0)))
	for i := range want {
		r := reader(t, want)
		if err := r.Skip(want[i].Path); err != nil {
			t.Fatal(err)
		}
		rest := slices.DeleteFunc(slices.Clone(have), func(e baseline.Entry) bool { return baseline.ComparePaths(e.Path, want[i].Path) <= 0 })
		var all []diff.Difference
		if err := diff.Compare(r, device(rest, nil), func(d diff.Difference) { all = append(all, d) }); err != nil {
			t.Fatal(err)
		}
		before := baseline.ComparePaths(want[i].Path, "/bin/x") < 0
		if before != (len(all) == 1) || before && !all[0].Listed {
			t.Errorf("from %s: told %v", want[i].Path, all)
		}
	}
}

// Verifies: SR-077
func TestReleases(t *testing.T) {
	a := released(t)
	b := edit(a, "/bin/bb", func(e *baseline.Entry) { e.Component, e.Flags = "busybox 1.37", baseline.Exec|baseline.Mutable })
	b = edit(b, "/bin/new", become(file("", 0)))
	b = edit(b, "/z", nil)
	var lines []string
	if err := diff.Releases(reader(t, a), reader(t, b), func(d diff.Difference) { lines = append(lines, d.String()) }); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`changed /bin/bb: flags exec -> exec,mutable, component busybox\0401.36 -> busybox\0401.37; of busybox 1.36`,
		"new /bin/new: type f, mode 0644, owner 0:0",
		"missing /z: type s",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("lines %q", lines)
	}
	if err := diff.Releases(reader(t, a), reader(t, a), func(d diff.Difference) { t.Errorf("the same: %s", d) }); err != nil {
		t.Error(err)
	}
}

// mutate changes one thing of one entry, and says what of it differs.
func mutate(e *baseline.Entry, choice, value uint8) (what string) {
	v := value | 1 // changes it
	switch choice % 8 {
	case 0:
		e.Mode ^= uint16(v)
		return diff.WhatMode
	case 1:
		e.UID += uint32(v)
		return diff.WhatOwner
	case 2:
		e.GID += uint32(v)
		return diff.WhatOwner
	case 3:
		if e.Xattrs != "" {
			e.Xattrs = ""
			return ""
		}
		e.Xattrs = baseline.Xattrs(fmt.Sprintf("security.capability=%02x", v))
		return ""
	case 4:
		if e.Type == baseline.Pipe {
			e.Type = baseline.Socket
		} else {
			*e = baseline.Entry{Path: e.Path, Type: baseline.Pipe, Mode: e.Mode}
		}
		return diff.WhatType
	}
	switch e.Type {
	case baseline.File:
		if choice%2 == 0 {
			e.Size += int64(v)
			return diff.WhatSize
		}
		e.SHA256[choice%32] ^= v
		return diff.WhatContent
	case baseline.Symlink:
		e.Link += "x"
		return diff.WhatLink
	case baseline.CharDevice, baseline.BlockDevice:
		e.Device.Major += uint32(v)
		return diff.WhatDevice
	}
	e.UID += uint32(v)
	return diff.WhatOwner
}

// Whatever the tree: compared with itself it tells nothing; and one change of one
// entry, one entry less and one more is told exactly once.
func FuzzOneChangeIsToldOnce(f *testing.F) {
	for i := range uint8(20) {
		f.Add("/a/b /a/c /b\n /c/d/e", i, i, 3*i)
	}
	f.Add("/\xff /a /a.b /a/b /a/b/c", uint8(2), uint8(5), uint8(7))
	f.Fuzz(func(t *testing.T, names string, which, choice, value uint8) {
		want := released(t)
		for i, name := range strings.Split(names, " ") {
			if baseline.CheckPath(name) != nil || i > 100 {
				continue
			}
			if _, there := slices.BinarySearchFunc(want, name, func(e baseline.Entry, p string) int { return baseline.ComparePaths(e.Path, p) }); there {
				continue
			}
			e := file("", baseline.Flags(i%16))
			switch i % 3 {
			case 1:
				e = folder("", baseline.Flags(i%16))
			case 2:
				e = baseline.Entry{Type: baseline.Symlink, Mode: 0o777, Link: name, Flags: baseline.Flags(i % 16)}
			}
			want = edit(want, name, become(e))
		}
		if all := compare(t, want, want, nil); len(all) != 0 {
			t.Fatalf("the same: %v", all)
		}
		victim := want[int(which)%len(want)]
		changed := victim
		what := mutate(&changed, choice, value)
		one := func(name string, kind diff.Kind, have []baseline.Entry) diff.Difference {
			t.Helper()
			all := compare(t, want, have, nil)
			if len(all) != 1 || all[0].Kind != kind || all[0].Path != victim.Path {
				t.Fatalf("%s %+v -> %+v: told %v", name, victim, changed, all)
			}
			all[0].Finding()
			return all[0]
		}
		d := one("changed", diff.Changed, edit(want, victim.Path, become(changed)))
		if what != "" && !slices.Contains(d.What, what) {
			t.Fatalf("%+v -> %+v: told %v, want %s", victim, changed, d.What, what)
		}
		one("missing", diff.Missing, edit(want, victim.Path, nil))
		full := want
		want = edit(want, victim.Path, nil)
		one("new", diff.New, full)
	})
}

// Verifies: SR-077
func TestComparisonOf200000EntriesIsSmall(t *testing.T) {
	entry := func(i int) baseline.Entry {
		e := file(fmt.Sprintf("/usr%03d/lib%03d", i/1000, i%1000), baseline.Exec)
		if i%1000 == 0 {
			e = folder(fmt.Sprintf("/usr%03d", i/1000), 0)
		}
		return e
	}
	var b bytes.Buffer
	w, err := baseline.NewWriter(&b)
	for i := range 200_000 {
		if err == nil {
			err = w.Write(entry(i))
		}
	}
	if err == nil {
		_, err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	text := b.Bytes()
	r, err := baseline.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, most, told := heap(), uint64(0), 0
	err = diff.Compare(r, func(yield func(baseline.Entry, error) bool) {
		for i := range 200_000 {
			e := entry(i)
			if i%20_000 == 10_000 {
				most = max(most, heap())
				e.Mode ^= 1
			}
			if !yield(e, nil) {
				return
			}
		}
	}, func(diff.Difference) { told++ })
	if err != nil || told != 10 {
		t.Errorf("%d told, %v", told, err)
	}
	t.Logf("%d bytes of text compared in %d bytes of memory", len(text), most-before)
	if most > before+256<<10 {
		t.Errorf("it held %d bytes", most-before)
	}
	runtime.KeepAlive(text)
}
