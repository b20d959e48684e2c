package system

import (
	"fmt"
	"io/fs"

	"ward/internal/device/posture"
	"ward/internal/device/posture/bounded"
	"ward/internal/device/posture/privileged"
	claim "ward/internal/trust/posture"
)

// Setuid tells each set-user-id and set-group-id program of the last walk with mode,
// owner and group: "/usr/bin/su 4755 0:0".
func Setuid(files func() (privileged.Files, error)) posture.Collector {
	return fileList(claim.Setuid, files, func(f privileged.Files) []privileged.File { return f.Setuid })
}

// WorldWritable tells each program of the last walk that everybody may write.
func WorldWritable(files func() (privileged.Files, error)) posture.Collector {
	return fileList(claim.WorldWritable, files, func(f privileged.Files) []privileged.File { return f.Writable })
}

func fileList(name string, files func() (privileged.Files, error), of func(privileged.Files) []privileged.File) posture.Collector {
	return collector(name, func(fs.FS) ([]string, error) {
		found, err := files()
		if err != nil {
			return nil, err
		}
		var values []string
		for _, f := range of(found) {
			values = append(values, fmt.Sprintf("%s %04o %d:%d", bounded.Word(f.Path), permissions(f.Mode), f.UID, f.GID))
		}
		return values, nil
	})
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
func FSVerity(files func() (privileged.Files, error)) posture.Collector {
	return collector(claim.FSVerity, func(root fs.FS) ([]string, error) {
		var values []string
		switch required, err := bounded.Text(root, "proc/sys/fs/verity/require_signatures"); {
		case err == nil:
			values = append(values, "require-signatures "+bounded.Word(required))
		case !bounded.Absent(err):
			return nil, err
		}
		if files != nil {
			found, err := files()
			if err != nil {
				return nil, err
			}
			if found.FSVerity >= 0 {
				values = append(values, fmt.Sprintf("files %d", found.FSVerity))
			}
		}
		if len(values) == 0 {
			return nil, errAbsent
		}
		return values, nil
	})
}
