package system

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"syscall"

	"ward/internal/device/posture"
	"ward/internal/device/posture/bounded"
	claim "ward/internal/trust/posture"
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

// Setuid tells each set-user-id and set-group-id program of the last walk with mode,
// owner and group: "/usr/bin/su 4755 0:0".
func Setuid(files func() (Files, error)) posture.Collector {
	return fileList(claim.Setuid, files, func(f Files) []File { return f.Setuid })
}

// WorldWritable tells each program of the last walk that everybody may write.
func WorldWritable(files func() (Files, error)) posture.Collector {
	return fileList(claim.WorldWritable, files, func(f Files) []File { return f.Writable })
}

func fileList(name string, files func() (Files, error), of func(Files) []File) posture.Collector {
	return posture.Collector{Name: name, Collect: func(fs.FS) claim.Claim {
		found, err := files()
		if err != nil {
			return posture.Failed(name, err)
		}
		var values []string
		for _, f := range of(found) {
			values = append(values, fmt.Sprintf("%s %04o %d:%d", bounded.Word(f.Path), permissions(f.Mode), f.UID, f.GID))
		}
		return posture.Value(name, values...)
	}}
}

// permissions are the twelve bits of a mode as chmod(1) takes them.
func permissions(m fs.FileMode) uint32 {
	bits := uint32(m.Perm())
	for _, b := range []struct {
		mode fs.FileMode
		bit  uint32
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if m&b.mode != 0 {
			bits |= b.bit
		}
	}
	return bits
}

// FSVerity tells whether the kernel demands signatures of fs-verity files
// ("require-signatures 0"; Documentation/filesystems/fsverity.rst) and how many
// files of the last walk fs-verity protects ("files 120").
func FSVerity(files func() (Files, error)) posture.Collector {
	return posture.Collector{Name: claim.FSVerity, Collect: func(root fs.FS) claim.Claim {
		var values []string
		switch required, err := bounded.Text(root, "proc/sys/fs/verity/require_signatures"); {
		case err == nil:
			values = append(values, "require-signatures "+bounded.Word(required))
		case !bounded.Absent(err):
			return posture.Failed(claim.FSVerity, err)
		}
		if files != nil {
			found, err := files()
			if err != nil {
				return posture.Failed(claim.FSVerity, err)
			}
			if found.FSVerity >= 0 {
				values = append(values, fmt.Sprintf("files %d", found.FSVerity))
			}
		}
		if len(values) == 0 {
			return posture.Absent(claim.FSVerity)
		}
		return posture.Value(claim.FSVerity, values...)
	}}
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

// Add takes a file in where it matters.
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
		f.Setuid = insert(f.Setuid, one)
	}
	if m&0o002 != 0 && m&0o111 != 0 {
		f.Writable = insert(f.Writable, one)
	}
}

// insert keeps a list bounded: what a claim cannot tell is counted by its last place.
func insert(list []File, f File) []File {
	if i, ok := slices.BinarySearchFunc(list, f, func(a, b File) int { return cmp.Compare(a.Path, b.Path) }); !ok && len(list) < 2*claim.MaxValues {
		return slices.Insert(list, i, f)
	}
	return list
}
