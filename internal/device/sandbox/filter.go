package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// processor is one of the kernel's system call tables that have a filter.
type processor struct {
	audit  uint32 // its AUDIT_ARCH, include/uapi/linux/audit.h
	beyond uint32 // calls from here on are another table's (x32); 0: there is none
	number func(call) uint16
}

var processors = map[string]processor{
	"amd64": {unix.AUDIT_ARCH_X86_64, 0x40000000, func(c call) uint16 { return c.amd64 }},
	"arm64": {unix.AUDIT_ARCH_AARCH64, 0, func(c call) uint16 { return c.arm64 }},
}

// Offsets in struct seccomp_data, include/uapi/linux/seccomp.h. Both processors
// store the lower half of a word first.
const (
	dataNumber    = 0
	dataArch      = 4
	dataArguments = 16
)

const (
	loadWord  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	ifEqual   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	ifAtLeast = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	ifBits    = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	answer    = unix.BPF_RET | unix.BPF_K

	// Targets of jumps that lie at the end; link replaces them. A jump of this
	// program skips fewer instructions.
	toAllow = 254
	toDeny  = 255
)

// filter is the program for one processor and one process, in classic BPF
// (seccomp(2)): what is denied gives EPERM, all else is allowed. Calls of another
// processor's table (int 0x80, x32) are denied as a whole.
func filter(p processor, pid uint32) []unix.SockFilter {
	program := []unix.SockFilter{
		{Code: loadWord, K: dataArch},
		{Code: ifEqual, Jf: toDeny, K: p.audit},
		{Code: loadWord, K: dataNumber},
	}
	if p.beyond != 0 {
		program = append(program, unix.SockFilter{Code: ifAtLeast, Jt: toDeny, K: p.beyond})
	}
	for _, c := range denied {
		if n := p.number(c); n != none {
			program = append(program, unix.SockFilter{Code: ifEqual, Jt: toDeny, K: uint32(n)})
		}
	}
	for _, j := range judged {
		values := j.values
		if values == nil {
			values = []uint32{pid}
		}
		program = append(program,
			unix.SockFilter{Code: ifEqual, Jf: uint8(1 + len(values)), K: uint32(p.number(j.call))},
			unix.SockFilter{Code: loadWord, K: uint32(dataArguments + 8*j.argument)})
		for i, v := range values {
			step := unix.SockFilter{Code: ifEqual, Jt: toAllow, K: v}
			switch {
			case j.test == has:
				step.Code = ifBits
			case j.test == hasNot:
				step.Code, step.Jt, step.Jf = ifBits, toDeny, toAllow
			}
			if i == len(values)-1 && j.test != hasNot {
				step.Jf = toDeny
			}
			program = append(program, step)
		}
	}
	return link(program)
}

// link puts the two answers behind the program and leads its jumps there.
func link(program []unix.SockFilter) []unix.SockFilter {
	end := len(program)
	for i := range program {
		for _, jump := range []*uint8{&program[i].Jt, &program[i].Jf} {
			switch *jump {
			case toAllow:
				*jump = uint8(end - i - 1)
			case toDeny:
				*jump = uint8(end - i)
			}
		}
	}
	return append(program,
		unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)})
}

// installFilter puts the filter on every thread of the process at once, and on
// those to come. It needs no_new_privs.
func installFilter() error {
	p, ok := processors[runtime.GOARCH]
	if !ok {
		return fmt.Errorf("there is none for %s", runtime.GOARCH)
	}
	program := filter(p, uint32(os.Getpid()))
	sock := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&sock)))
	if errno != 0 {
		return errno
	}
	if thread != 0 {
		return fmt.Errorf("thread %d has another", thread)
	}
	return nil
}
