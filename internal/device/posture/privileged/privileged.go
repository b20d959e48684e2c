// Package privileged finds the files that give privileges by their mode: set-user-id
// and set-group-id programs, and programs that everybody may write (inode(7)). Who
// walks over all files anyway adds each one; who has no such walk to ask has one here.
// Only metadata is looked at.
package privileged

import (
	"fmt"
	"io/fs"
	"syscall"

	"ward/internal/device/posture/bounded"
	"ward/internal/trust/posture"
)

// Files is what a walk over all files found that matters to privileges.
type Files struct {
	Setuid   []File // set-user-id or set-group-id
	Writable []File // programs that everybody may write
	FSVerity int    // how many files fs-verity protects; negative: nobody counted
}

// File is a file with what its mode and owner are.
type File struct {
	Path     string // absolute
	Mode     fs.FileMode
	UID, GID int // negative: unknown
}

// maxWalk bounds a walk, in entries.
const maxWalk = 500_000

// Walk looks at the metadata of all files, without reading any, for who has no scan
// to ask. Kernel file systems are left out. It ends with an error when there are
// more files than it looks at or a folder cannot be read.
func Walk(root fs.FS) (Files, error) {
	found := Files{FSVerity: -1}
	left := maxWalk
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			if bounded.Absent(err) && name != "." {
				return nil // it went away meanwhile
			}
			return fmt.Errorf("walk over /%s: %w", name, err)
		}
		if left--; left < 0 {
			return fmt.Errorf("walk over all files: %w of %d", bounded.ErrMany, maxWalk)
		}
		if d.IsDir() {
			if name == "proc" || name == "sys" || name == "dev" {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		found.Add("/"+name, info)
		return nil
	})
	return found, err
}

// Add takes a file in where it matters, each once.
func (f *Files) Add(path string, info fs.FileInfo) {
	m := info.Mode()
	if !m.IsRegular() || m&(fs.ModeSetuid|fs.ModeSetgid) == 0 && (m&0o002 == 0 || m&0o111 == 0) {
		return
	}
	one := File{Path: path, Mode: m, UID: -1, GID: -1}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		one.UID, one.GID = int(s.Uid), int(s.Gid)
	}
	if m&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
		f.Setuid = add(f.Setuid, one)
	}
	if m&0o002 != 0 && m&0o111 != 0 {
		f.Writable = add(f.Writable, one)
	}
}

// add keeps a list bounded: twice what a claim can tell, so that the claim says that
// there are more.
func add(list []File, f File) []File {
	if len(list) < 2*posture.MaxValues {
		list = append(list, f)
	}
	return list
}
