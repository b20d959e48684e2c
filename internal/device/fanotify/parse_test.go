package fanotify

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// golden reads bytes of testdata: hexadecimal, with comments behind #.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		b, err := hex.DecodeString(strings.Join(strings.Fields(line), ""))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

func littleEndian(t testing.TB) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the bytes were taken on a little-endian machine")
	}
}

// The bytes are what Linux 6.18 gave for a file created in a folder of tmpfs, one of
// ext4, an overflow and a program that was run.
func TestGoldenEvents(t *testing.T) {
	littleEndian(t)
	for _, row := range []struct {
		file   string
		mask   uint64
		fd     int32
		pidfd  int32
		handle int
		name   string
	}{
		{"tmpfs-create.hex", unix.FAN_CREATE, -1, 11, 12, "a\nb"},
		{"ext4-attrib.hex", unix.FAN_ATTRIB | unix.FAN_ONDIR, -1, 12, 8, "."},
		{"overflow.hex", unix.FAN_Q_OVERFLOW, -1, -1, 0, ""},
		{"exec.hex", unix.FAN_OPEN_EXEC, 13, -1, 0, ""},
	} {
		r, rest, err := next(golden(t, row.file))
		if err != nil || len(rest) != 0 {
			t.Errorf("%s: %v, rest %x", row.file, err, rest)
			continue
		}
		if r.mask != row.mask || r.fd != row.fd || r.pidfd != row.pidfd || len(r.handle) != row.handle || string(r.name) != row.name {
			t.Errorf("%s: %+v", row.file, r)
		}
	}
}

func TestEventsThatAreNone(t *testing.T) {
	littleEndian(t)
	whole := golden(t, "tmpfs-create.hex")
	change := func(at int, with ...byte) []byte {
		b := append([]byte(nil), whole...)
		copy(b[at:], with)
		return b
	}
	for name, b := range map[string][]byte{
		"nothing":                       {},
		"cut in the head":               whole[:20],
		"cut behind the head":           whole[:40],
		"longer than what was read":     change(0, 0xff, 0xff),
		"length of nothing":             change(0, 0, 0, 0, 0),
		"another version":               change(4, 9),
		"a head shorter than one":       change(6, 8, 0),
		"a head longer than the event":  change(6, 0xff, 0xff),
		"an info record of nothing":     change(24+2, 0, 0),
		"an info record beyond the end": change(24+2, 0xff, 0),
		"a handle beyond its record":    change(24+4+8, 0x7f),
		"a handle beyond any":           change(24+4+8, 0xff, 0xff, 0xff, 0xff),
		"a name with a slash":           change(24+4+16+12, '/'),
	} {
		if _, _, err := next(b); !errors.Is(err, errRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What one event holds does not reach into the next one, and every one is shorter
// than what it was cut from.
func FuzzEvents(f *testing.F) {
	for _, name := range []string{"tmpfs-create.hex", "ext4-attrib.hex", "overflow.hex", "exec.hex"} {
		b := golden(f, name)
		f.Add(b)
		f.Add(append(b, b...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for n := 0; len(b) > 0; n++ {
			r, rest, err := next(b)
			if len(rest) >= len(b) || len(r.name) > maxName || len(r.handle) > maxHandle {
				t.Fatalf("%d of %d bytes left, %+v", len(rest), len(b), r)
			}
			if err != nil && rest == nil && (r.fd != -1 || r.pidfd != -1) {
				t.Fatalf("a descriptor of bytes that are no event: %+v", r)
			}
			b = rest
		}
	})
}

func FuzzMounts(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n")
	f.Add("1 1 0:2 / /a\\040b\\134 rw - tmpfs none rw\nx\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, _ := parseMounts(strings.NewReader(text))
		if fs := real(all); len(fs) > len(all) {
			t.Fatalf("%d file systems of %d mounts", len(fs), len(all))
		}
		marked([]byte(text))
	})
}

func TestMountTable(t *testing.T) {
	const table = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
23 22 0:21 / /proc rw - proc proc rw
24 22 254:0 /srv /bound\040here rw - ext4 /dev/root rw
25 22 0:30 / /tmp rw - tmpfs tmpfs rw,size=100k
26 22 259:1 /sub /data rw - ext4 /dev/x rw
27 22 259:1 / /all rw - ext4 /dev/x rw
28 22 nonsense
29 22 0:31 / /odd\012name rw - overlay overlay rw
`
	all, unread := parseMounts(strings.NewReader(table))
	if unread != 1 || len(all) != 7 {
		t.Fatalf("%d mounts, %d unread", len(all), unread)
	}
	var got []string
	for _, m := range real(all) {
		got = append(got, m.kind+" "+m.point)
	}
	if want := "ext4 /|tmpfs /tmp|ext4 /all|overlay /odd\nname"; strings.Join(got, "|") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := marked([]byte("pos:\t0\nfanotify flags:0 event-flags:8000\nfanotify sdev:fe00000 mflags:0 mask:1000 ignored_mask:0\nfanotify ino:1 sdev:1\n")); len(got) != 1 || got[0] != 254<<20 {
		t.Errorf("marked %x", got)
	}
}

func TestProcess(t *testing.T) {
	stat := []byte("42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1")
	if got := startOf(stat); got != 12345*ticks {
		t.Errorf("started %v", got)
	}
	if got := effectiveUID([]byte("Name:\tx\nUid:\t1000\t0\t1000\t1000\n")); got != 0 {
		t.Errorf("uid %d", got)
	}
	if got := effectiveUID(nil); got != ^uint32(0) {
		t.Errorf("no uid reads as %d", got)
	}
	if got := cgroupOf([]byte("1:name=x:/y\n0::/system.slice/a.service\n")); got != "/system.slice/a.service" {
		t.Errorf("cgroup %q", got)
	}
	me := originOf(os.Getpid(), -1)
	if exe, _ := os.Executable(); me.Exe != exe || me.UID != uint32(os.Geteuid()) || me.Started == 0 {
		t.Errorf("%+v", me)
	}
	if gone := originOf(1<<22, -1); gone.Exe != "" || gone.PID != 1<<22 {
		t.Errorf("%+v", gone)
	}
}
