package system

import (
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"ward/internal/device/posture/bounded"
)

// maxOpen bounds the open files of one process that are looked at: the kernel's
// usual limit of one that asks for many.
const maxOpen = 65536

// processes lists the numbers of all processes, the lowest first.
func processes(root fs.FS) ([]int, error) {
	list, err := bounded.Entries(root, "proc", maxNames)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { // as numbers
		if d := len(a.Name()) - len(b.Name()); d != 0 {
			return d
		}
		return strings.Compare(a.Name(), b.Name())
	})
	var all []int
	for _, d := range list {
		if n, err := strconv.Atoi(d.Name()); err == nil && n > 0 {
			all = append(all, n)
		}
	}
	return all, nil
}

// deletedMark is what the kernel puts behind the path of a program that is gone.
const deletedMark = " (deleted)"

// program is the path of what a process runs, as one word, "deleted" behind it
// where its file is gone; false where that cannot be seen. Its arguments are never
// read.
func program(root fs.FS, process int) (string, bool) {
	target, err := fs.ReadLink(root, "proc/"+strconv.Itoa(process)+"/exe")
	if err != nil || !strings.HasPrefix(target, "/") {
		return "", false
	}
	if gone, ok := strings.CutSuffix(target, deletedMark); ok {
		return bounded.Word(gone) + " deleted", true
	}
	return bounded.Word(target), true
}

// owners fills in the program of each socket by its inode. What no process shows
// stays empty.
func owners(root fs.FS, programs map[uint64]string) error {
	left := 0
	for _, p := range programs {
		if p == "" {
			left++
		}
	}
	if left == 0 {
		return nil
	}
	all, err := processes(root)
	if err != nil {
		return err
	}
	for _, process := range all {
		folder := "proc/" + strconv.Itoa(process) + "/fd"
		open, err := bounded.Entries(root, folder, maxOpen)
		if err != nil {
			continue // another user's, or gone: "?" says so
		}
		name := ""
		for _, d := range open {
			target, err := fs.ReadLink(root, path.Join(folder, d.Name()))
			if err != nil {
				continue
			}
			digits, ok := strings.CutPrefix(target, "socket:[")
			if !ok {
				continue
			}
			inode, err := strconv.ParseUint(strings.TrimSuffix(digits, "]"), 10, 64)
			if err != nil {
				continue
			}
			if known, wanted := programs[inode]; !wanted || known != "" {
				continue
			}
			if name == "" {
				if name, ok = program(root, process); !ok {
					name = "?"
				}
			}
			programs[inode] = name
			if left--; left == 0 {
				return nil
			}
		}
	}
	return nil
}
