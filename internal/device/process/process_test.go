package process

import (
	"crypto/sha256"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Verifies: SR-108
func TestLookAtThisProcess(t *testing.T) {
	s, err := Look()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if s.Sum != sha256.Sum256(text) || s.Gone || len(s.Strange) > 0 || s.Written != 0 || s.Path == "" {
		t.Errorf("got %+v", s)
	}
	if pid, err := Tracer(); err != nil || pid != 0 {
		t.Errorf("traced by %d, %v", pid, err)
	}

	// Code without a file, and a page of the own code that was written to.
	page := os.Getpagesize()
	code, err := unix.Mmap(-1, 0, page, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(code)
	own := reflect.ValueOf(Look).Pointer() &^ uintptr(page-1)
	overwrite(t, own, page)
	s, err = Look()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Strange, []string{"memory without a name"}) || s.Written != page/1024 {
		t.Errorf("with strange code: %+v", s)
	}
}

// overwrite writes a page of this process's code, with what stands there, as a
// debugger does.
func overwrite(t *testing.T, at uintptr, size int) {
	t.Helper()
	f, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	b := unsafe.Slice(*(**byte)(unsafe.Pointer(&at)), size)
	if _, err := f.WriteAt(slices.Clone(b), int64(at)); err != nil {
		t.Skip(err)
	}
}

const mapped = `00400000-008ab000 r-xp 00000000 fd:01 1234                               /usr/sbin/wardd
Size:               4780 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me
7ffc0a3e1000-7ffc0a3e3000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
Swap:                  0 kB
c000000000-c000400000 rw-p 00000000 00:00 0 
Anonymous:           400 kB
Swap:                  8 kB
7f0000000000-7f0000001000 r-xp 00000000 fd:01 77      /tmp/a file\012 (deleted)
Anonymous:             4 kB
Swap:                  0 kB
`

func TestParseMaps(t *testing.T) {
	got, err := ParseMaps([]byte(mapped))
	want := []Mapping{
		{Path: "/usr/sbin/wardd", Executable: true},
		{Path: "[vdso]", Executable: true},
		{Writable: true, Private: 408},
		{Path: `/tmp/a file\012 (deleted)`, Executable: true, Private: 4},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, row := range map[string]struct {
		maps    []Mapping
		strange string
		written int
	}{
		"as it should be":            {want[:3], "", 0},
		"another file's code":        {want, `/tmp/a file\012 (deleted)`, 0},
		"a page was written":         {[]Mapping{{Path: "/usr/sbin/wardd", Executable: true, Private: 8}}, "", 8},
		"its own code writable":      {[]Mapping{{Path: "/usr/sbin/wardd", Executable: true, Writable: true}}, "/usr/sbin/wardd", 0},
		"memory that is code":        {[]Mapping{{Executable: true}, {Executable: true}}, "memory without a name", 0},
		"a probe of the kernel's":    {[]Mapping{{Path: "[uprobes]", Executable: true}}, "[uprobes]", 0},
		"a library beside the file":  {[]Mapping{{Path: "/usr/sbin/wardd.so", Executable: true}}, "/usr/sbin/wardd.so", 0},
		"the kernel's page of calls": {[]Mapping{{Path: "[vsyscall]", Executable: true}}, "", 0},
	} {
		var s State
		s.judge(row.maps, "/usr/sbin/wardd")
		if strings.Join(s.Strange, ",") != row.strange || s.Written != row.written {
			t.Errorf("%s: %+v", name, s)
		}
	}
	for name, bad := range map[string]string{
		"empty":               "",
		"cut in a mapping":    mapped[:strings.Index(mapped, "Swap")],
		"a line is missing":   strings.Replace(mapped, "Anonymous:             0 kB\n", "", 1),
		"another unit":        strings.Replace(mapped, "Anonymous:             0 kB", "Anonymous:             0 MB", 1),
		"no number":           strings.Replace(mapped, "Anonymous:             0 kB", "Anonymous:             x kB", 1),
		"no access":           strings.Replace(mapped, " r-xp ", " ", 1),
		"a value before all":  "Swap: 0 kB\n" + mapped,
		"an empty line in it": "\n" + mapped,
	} {
		if got, err := ParseMaps([]byte(bad)); err == nil {
			t.Errorf("%s: no error, but %+v", name, got)
		}
	}
}

func FuzzParseMaps(f *testing.F) {
	f.Add([]byte(mapped))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := ParseMaps(b)
		if err == nil && len(all) == 0 {
			t.Error("nothing is mapped, and that is no error")
		}
		for _, m := range all {
			_ = fmt.Sprint(m.name())
		}
	})
}
