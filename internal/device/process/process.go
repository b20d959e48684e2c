// Package process tells what the kernel says about this process itself: which
// file it executes, what else it could execute, whether its code was written to,
// and who traces it (proc(5): exe, smaps, status). It needs no privilege and
// reads bounded amounts.
package process

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

const (
	maxExecutable = 64 << 20 // bytes; the daemon's budget is 10 MiB
	maxMaps       = 1 << 20  // bytes; a mapping takes some 700, the daemon has some forty
	maxStatus     = 64 << 10 // bytes; it has some 1,500
	buffer        = 64 << 10
)

// State is what was seen at one look.
type State struct {
	Path    string   // of the file that is executed, as it was at the start
	Sum     [32]byte // SHA-256 of the file that is executed, also when it is gone
	Gone    bool     // it was removed, or another lies in its place
	Strange []string // what could be executed beside it: path or name of the mapping
	Written int      // KiB of its mapped code that are not the file's any more
}

// Look reads it all; the file's content is hashed anew.
func Look() (State, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return State{}, fmt.Errorf("open own executable: %w", err)
	}
	defer f.Close()
	link, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return State{}, fmt.Errorf("read path of own executable: %w", err)
	}
	s := State{Path: strings.TrimSuffix(link, " (deleted)")}
	own, err := f.Stat()
	if err != nil {
		return State{}, fmt.Errorf("read state of own executable: %w", err)
	}
	there, err := os.Stat(s.Path)
	s.Gone = err != nil || !os.SameFile(own, there)
	if s.Sum, err = Digest(f); err != nil {
		return State{}, fmt.Errorf("read own executable: %w", err)
	}
	text, err := read("/proc/self/smaps", maxMaps)
	if err != nil {
		return State{}, fmt.Errorf("read own mappings: %w", err)
	}
	maps, err := ParseMaps(text)
	if err != nil {
		return State{}, fmt.Errorf("parse own mappings: %w", err)
	}
	s.judge(maps, link)
	return s, nil
}

// judge notes what is strange about the mappings of a process that executes what
// link names. The code of a program is mapped read-only from its file: a page of it
// that is the process's own was written to through the kernel, by a tracer or a
// probe, and the others are the file's.
func (s *State) judge(maps []Mapping, link string) {
	for _, m := range maps {
		switch {
		case !m.Executable:
		case m.Path == link && !m.Writable:
			s.Written += m.Private
		case m.Path == "[vdso]" || m.Path == "[vsyscall]": // the kernel's own
		case !slices.Contains(s.Strange, m.name()):
			s.Strange = append(s.Strange, m.name())
		}
	}
}

// Digest is the SHA-256 of what is read, at most maxExecutable.
func Digest(r io.Reader) (sum [32]byte, err error) {
	h := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{io.LimitReader(r, maxExecutable+1)}, make([]byte, buffer))
	if err == nil && n > maxExecutable {
		err = fmt.Errorf("more than %d bytes", maxExecutable)
	}
	return [32]byte(h.Sum(nil)), err
}

// Tracer is the process that traces this one, 0 for none.
func Tracer() (int, error) {
	text, err := read("/proc/self/status", maxStatus)
	if err != nil {
		return 0, fmt.Errorf("read own status: %w", err)
	}
	_, rest, ok := bytes.Cut(text, []byte("\nTracerPid:\t"))
	value, _, _ := bytes.Cut(rest, []byte("\n"))
	pid, err := strconv.Atoi(string(value))
	if !ok || err != nil {
		return 0, errors.New("parse own status: no line TracerPid")
	}
	return pid, nil
}

func read(file string, most int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("more than %d bytes", most)
	}
	return b, err
}
