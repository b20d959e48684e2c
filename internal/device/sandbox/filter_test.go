package sandbox

import (
	"cmp"
	"encoding/binary"
	"flag"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the golden programs anew")

const somebody = 4711 // a process id for programs on paper

// The filter's bytes for each processor: as the kernel gets them, eight bytes an
// instruction, and in words. A call that is added or lost shows here.
func TestGoldenPrograms(t *testing.T) {
	for name, p := range processors {
		program := filter(p, somebody)
		var text strings.Builder
		for i, s := range program {
			var b [8]byte
			binary.NativeEndian.PutUint16(b[:], s.Code)
			b[2], b[3] = s.Jt, s.Jf
			binary.NativeEndian.PutUint32(b[4:], s.K)
			fmt.Fprintf(&text, "%3d  %x  %s\n", i, b, words(i, s))
		}
		file := filepath.Join("testdata", "filter-"+name+".txt")
		if *update {
			if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if text.String() != string(want) {
			t.Errorf("the program for %s is not the one of %s; look at the difference behind -update", name, file)
		}
	}
}

func words(i int, s unix.SockFilter) string {
	jump := func(what string) string {
		return fmt.Sprintf("if %s %#x go to %d else %d", what, s.K, i+1+int(s.Jt), i+1+int(s.Jf))
	}
	switch s.Code {
	case loadWord:
		return fmt.Sprintf("load %d", s.K)
	case ifEqual:
		return jump("=")
	case ifAtLeast:
		return jump(">=")
	case ifBits:
		return jump("has")
	}
	if s.K == unix.SECCOMP_RET_ALLOW {
		return "allow"
	}
	return fmt.Sprintf("refuse with %d", s.K&0xffff)
}

// asked is what the kernel tells the filter of a call, struct seccomp_data.
type asked struct {
	number, arch uint32
	arguments    [6]uint64
}

// judge runs a program as the kernel does and says whether the call is allowed.
func judge(t *testing.T, program []unix.SockFilter, a asked) bool {
	t.Helper()
	var data [64]byte
	binary.LittleEndian.PutUint32(data[0:], a.number)
	binary.LittleEndian.PutUint32(data[4:], a.arch)
	for i, v := range a.arguments {
		binary.LittleEndian.PutUint64(data[16+8*i:], v)
	}
	var accumulator uint32
	for at := 0; at < len(program); at++ {
		s, holds := program[at], false
		switch s.Code {
		case loadWord:
			accumulator = binary.LittleEndian.Uint32(data[s.K:])
			continue
		case answer:
			return s.K == unix.SECCOMP_RET_ALLOW
		case ifEqual:
			holds = accumulator == s.K
		case ifAtLeast:
			holds = accumulator >= s.K
		case ifBits:
			holds = accumulator&s.K != 0
		default:
			t.Fatalf("instruction %d has the code %#x", at, s.Code)
		}
		if holds {
			at += int(s.Jt)
		} else {
			at += int(s.Jf)
		}
	}
	t.Fatal("the program has no end")
	return false
}

// Verifies: SR-105
func TestFilterJudgesEveryCallOfBothProcessors(t *testing.T) {
	for name, p := range processors {
		program := filter(p, somebody)
		if len(program) > toAllow {
			t.Fatalf("%s: %d instructions are more than a jump can skip", name, len(program))
		}
		refused := make(map[uint32]bool)
		for _, c := range denied {
			if n := p.number(c); n != none {
				refused[uint32(n)] = true
			}
		}
		special := make(map[uint32]bool)
		for _, j := range judged {
			special[uint32(p.number(j.call))] = true
		}
		for n := range uint32(1024) {
			if special[n] {
				continue
			}
			for _, v := range []uint64{0, 1, somebody, ^uint64(0)} {
				if got := judge(t, program, asked{n, p.audit, [6]uint64{v, v, v, v, v, v}}); got == refused[n] {
					t.Errorf("%s: call %d with %#x: allowed %v", name, n, v, got)
				}
			}
		}
		number := func(amd64 uint16) uint32 {
			for _, j := range judged {
				if j.amd64 == amd64 {
					return uint32(p.number(j.call))
				}
			}
			t.Fatalf("no rule for call %d of amd64", amd64)
			return 0
		}
		for _, row := range []struct {
			what      string
			call      uint16 // of amd64
			arguments [6]uint64
			allowed   bool
		}{
			{"kill oneself", 62, [6]uint64{somebody, 15}, true},
			{"kill another", 62, [6]uint64{1, 15}, false},
			{"kill the own group", 62, [6]uint64{0, 15}, false},
			{"kill all", 62, [6]uint64{1<<64 - 1, 15}, false},
			{"kill another whose upper half the kernel does not read", 62, [6]uint64{somebody<<32 | 1, 15}, false},
			{"signal a thread of one's own", 234, [6]uint64{somebody, 99, 23}, true},
			{"signal a thread of another", 234, [6]uint64{somebody + 1, 99, 23}, false},
			{"a thread", 56, [6]uint64{0x50f00}, true},
			{"a process", 56, [6]uint64{17}, false},
			{"a process in a user namespace", 56, [6]uint64{0x10000000 | 17}, false},
			{"memory", 9, [6]uint64{0, 4096, 3, 34}, true},
			{"memory for code", 9, [6]uint64{0, 4096, 5, 34}, false},
			{"memory to write code in", 9, [6]uint64{0, 4096, 7, 34}, false},
			{"protect", 10, [6]uint64{0, 4096, 1}, true},
			{"make code of memory", 10, [6]uint64{0, 4096, 5}, false},
			{"make code of memory, with a key", 329, [6]uint64{0, 4096, 4}, false},
			{"a local socket", 41, [6]uint64{1, 1}, true},
			{"a socket", 41, [6]uint64{2, 1}, true},
			{"a socket of IPv6", 41, [6]uint64{10, 1}, true},
			{"a socket of netlink", 41, [6]uint64{16, 3}, true},
			{"raw packets", 41, [6]uint64{17, 3}, false},
			{"the kernel's ciphers", 41, [6]uint64{38, 5}, false},
			{"Bluetooth", 41, [6]uint64{31, 3}, false},
			{"a pair", 53, [6]uint64{1, 1}, true},
			{"a pair of another family", 53, [6]uint64{30, 1}, false},
		} {
			if got := judge(t, program, asked{number(row.call), p.audit, row.arguments}); got != row.allowed {
				t.Errorf("%s: %s: allowed %v", name, row.what, got)
			}
		}
		for _, arch := range []uint32{0, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM, unix.AUDIT_ARCH_X86_64 ^ unix.AUDIT_ARCH_AARCH64 ^ p.audit} {
			if judge(t, program, asked{number: 39, arch: arch}) {
				t.Errorf("%s: a call of the table %#x is allowed", name, arch)
			}
		}
		if p.beyond != 0 && judge(t, program, asked{number: p.beyond | 39, arch: p.audit}) {
			t.Errorf("%s: a call of the x32 table is allowed", name)
		}
	}
}

// The numbers are those of x/sys/unix, which takes them from the kernel.
func TestNumbersAreTheKernels(t *testing.T) {
	names := namesOfCalls(t)
	if want := len(denied) + len(judged); len(names) != want {
		t.Fatalf("%d of %d calls have a name behind them", len(names), want)
	}
	for name, p := range processors {
		kernel := numbers(t, name)
		for c, called := range names {
			want, ok := kernel[called]
			if got := p.number(c); ok != (got != none) || ok && uint16(want) != got {
				t.Errorf("%s on %s: %d, want %d (there: %v)", called, name, got, want, ok)
			}
		}
	}
}

// namesOfCalls reads the comments of calls.go: each holds a call's name first.
func namesOfCalls(t *testing.T) map[call]string {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "calls.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	byLine := make(map[int]string)
	for _, g := range file.Comments {
		name, _, _ := strings.Cut(strings.TrimPrefix(g.List[0].Text, "// "), ":")
		byLine[set.Position(g.Pos()).Line] = name
	}
	names := make(map[call]string)
	ast.Inspect(file, func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok || len(lit.Elts) != 2 {
			return true
		}
		var pair [2]uint16
		for i, e := range lit.Elts {
			if number, ok := e.(*ast.BasicLit); ok {
				v, _ := strconv.Atoi(number.Value)
				pair[i] = uint16(v)
			} else {
				pair[i] = none
			}
		}
		names[call{pair[0], pair[1]}] = byLine[set.Position(lit.Pos()).Line]
		return true
	})
	return names
}

// numbers reads the SYS_ constants of x/sys/unix for a processor.
func numbers(t *testing.T, processor string) map[string]int {
	t.Helper()
	p, err := build.Import("golang.org/x/sys/unix", ".", build.FindOnly)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(p.Dir, "zsysnum_linux_"+processor+".go"))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]int)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[1] == "=" && strings.HasPrefix(f[0], "SYS_") {
			n, err := strconv.Atoi(f[2])
			if err != nil {
				t.Fatal(err)
			}
			all[strings.ToLower(strings.TrimPrefix(f[0], "SYS_"))] = n
		}
	}
	return all
}

// filterAndTell installs the filter alone: this process keeps every privilege, so
// that what refuses is the filter. No call would do harm if it went through:
// their arguments make nothing of them.
func filterAndTell() int {
	said := told{Calls: make(map[string]string)}
	if err := everyThread(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		said.Error = err.Error()
	}
	tried, tell := make(chan func() error), make(chan error)
	go func() { // a thread that was there before
		runtime.LockOSThread()
		for f := range tried {
			tell <- f()
		}
	}()
	tried <- func() error { return nil }
	<-tell
	if err := installFilter(); err != nil {
		said.Error = cmp.Or(said.Error, err.Error())
	}
	try := func(name string, number uintptr, arguments ...uintptr) {
		var a [6]uintptr
		copy(a[:], arguments)
		tried <- func() error {
			_, _, errno := syscall.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
			if errno != 0 {
				return errno
			}
			return nil
		}
		said.Calls[name] = errorText(<-tell)
	}
	p := processors[runtime.GOARCH]
	for i, c := range denied {
		if n := p.number(c); n != none {
			try(fmt.Sprintf("denied %d: call %d", i, n), uintptr(n))
		}
	}
	page, size := uintptr(0), uintptr(os.Getpagesize())
	private := uintptr(unix.MAP_PRIVATE | unix.MAP_ANON)
	self := uintptr(os.Getpid())
	try("kill parent", unix.SYS_KILL, uintptr(os.Getppid()), 0)
	try("kill group", unix.SYS_KILL, 0, 0)
	try("kill self", unix.SYS_KILL, self, 0)
	try("tgkill self", unix.SYS_TGKILL, self, self, 0)
	try("tgkill parent", unix.SYS_TGKILL, uintptr(os.Getppid()), uintptr(os.Getppid()), 0)
	try("map code", unix.SYS_MMAP, page, size, unix.PROT_READ|unix.PROT_EXEC, private, ^uintptr(0))
	try("map data", unix.SYS_MMAP, page, size, unix.PROT_READ|unix.PROT_WRITE, private, ^uintptr(0))
	try("protect as code", unix.SYS_MPROTECT, page, 0, unix.PROT_EXEC)
	try("raw packets", unix.SYS_SOCKET, unix.AF_PACKET, unix.SOCK_RAW)
	try("netlink", unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT)
	try("fork", unix.SYS_CLONE, uintptr(unix.SIGCHLD))
	if p.beyond != 0 {
		try("x32", uintptr(p.beyond)|unix.SYS_GETPID)
	}
	said.Calls["runtime"] = runtimeWorks()
	return print(said)
}

// runtimeWorks makes the Go runtime do what it needs the kernel for: new threads,
// preemption by signals of its own, growing and returning memory, a signal that
// the program waits for.
func runtimeWorks() string {
	got := make(chan os.Signal, 1)
	signal.Notify(got, unix.SIGUSR1)
	if err := unix.Kill(os.Getpid(), unix.SIGUSR1); err != nil {
		return err.Error()
	}
	<-got
	const threads = 16
	ended := make(chan bool)
	for range threads {
		go func() {
			runtime.LockOSThread() // the thread ends with the goroutine
			big := make([]byte, 4<<20)
			big[len(big)-1] = 1
			ended <- true
		}()
	}
	for range threads {
		<-ended
	}
	var spin atomic.Bool
	spin.Store(true)
	sum := 0
	go func() {
		for spin.Load() { // a loop that only a signal takes the processor from
			sum++
		}
		ended <- true
	}()
	for range 3 {
		runtime.GC()
	}
	spin.Store(false)
	<-ended
	return ""
}

// Verifies: SR-105
func TestFilterRefusesInTheKernel(t *testing.T) {
	said := run(t, "filter", asRoot())
	allowed := map[string]bool{"kill self": true, "tgkill self": true, "map data": true, "netlink": true, "runtime": true}
	if len(said.Calls) < len(allowed)+60 {
		t.Errorf("only %d calls were tried", len(said.Calls))
	}
	for name, got := range said.Calls {
		want := refused
		if allowed[name] {
			want = ""
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
