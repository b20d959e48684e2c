package process

import (
	"fmt"
	"strconv"
	"strings"
)

// maxMappings bounds the list; the kernel's own default bound is 65,530.
const maxMappings = 1 << 16

// Mapping is one part of the address space.
type Mapping struct {
	Path       string // a file's path, a name in brackets, or nothing; escaped as the kernel does
	Writable   bool
	Executable bool
	Private    int // KiB of it that are no file's: written to, in memory or swapped out
}

func (m Mapping) name() string {
	if m.Path == "" {
		return "memory without a name"
	}
	return m.Path
}

// ParseMaps reads smaps, proc_pid_smaps(5): for each mapping a line with its
// addresses, access, offset, device, inode and path, and lines "Name: value" behind
// it. Of these Anonymous and Swap must be there.
func ParseMaps(text []byte) ([]Mapping, error) {
	var all []Mapping
	counted := 0 // lines about the last mapping that must be there
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		f := strings.Fields(line)
		if len(f) == 0 {
			return nil, fmt.Errorf("mapping %d: an empty line", len(all))
		}
		if name, ok := strings.CutSuffix(f[0], ":"); ok {
			if name != "Anonymous" && name != "Swap" {
				continue
			}
			if len(all) == 0 || len(f) != 3 || f[2] != "kB" {
				return nil, fmt.Errorf("mapping %d: line %q", len(all), shorten(line))
			}
			n, err := strconv.ParseUint(f[1], 10, 31)
			if err != nil {
				return nil, fmt.Errorf("mapping %d: %s: %w", len(all), name, err)
			}
			all[len(all)-1].Private += int(n)
			counted++
			continue
		}
		if counted != 2*len(all) {
			return nil, fmt.Errorf("mapping %d: how much of it is private is not told", len(all))
		}
		if len(f) < 5 || len(f[1]) != 4 || len(all) == maxMappings {
			return nil, fmt.Errorf("mapping %d: line %q", len(all)+1, shorten(line))
		}
		m := Mapping{Writable: f[1][1] == 'w', Executable: f[1][2] == 'x'}
		if at := indexField(line, 5); at >= 0 {
			m.Path = line[at:]
		}
		all = append(all, m)
	}
	if counted != 2*len(all) || len(all) == 0 {
		return nil, fmt.Errorf("mapping %d: the text ends inside it", len(all))
	}
	return all, nil
}

// indexField is where the n-th field of a line begins, counted from 0.
func indexField(line string, n int) int {
	for i, c := range []byte(line) {
		if c != ' ' && (i == 0 || line[i-1] == ' ') {
			if n == 0 {
				return i
			}
			n--
		}
	}
	return -1
}

func shorten(s string) string { return s[:min(len(s), 80)] }
