// Package rootfs reads root trees and baselines for the verbs of wardrelease: what
// only the build host's kernel tells about a tree (inode(7), xattr(7)), and how
// two baselines differ.
package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"ward/internal/trust/baseline"
	"ward/internal/trust/baseline/build"
)

// staged reads a tree that was staged on the build host: the numbers of device
// files alone, for owners and security attributes are the build host's.
func staged() build.Host { return build.Host{Device: device} }

// mounted reads a tree that is the release's own file system, mounted on the
// build host: its owners and security attributes are the release's.
func mounted(tree string) build.Host {
	return build.Host{
		Device: device,
		Owner:  owner,
		Xattrs: func(name string) (map[string][]byte, error) { return attributes(filepath.Join(tree, name)) },
	}
}

func stat(info fs.FileInfo) (*syscall.Stat_t, error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, fmt.Errorf("read owner and device numbers of %s: not supported here", info.Name())
	}
	return st, nil
}

func device(info fs.FileInfo) (baseline.Device, error) {
	st, err := stat(info)
	if err != nil {
		return baseline.Device{}, err
	}
	return baseline.Device{Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}, nil
}

func owner(info fs.FileInfo) (uid, gid uint32, err error) {
	st, err := stat(info)
	if err != nil {
		return 0, 0, err
	}
	return st.Uid, st.Gid, nil
}

// Bounds of attributes (include/uapi/linux/limits.h).
const (
	maxNames = 64 << 10 // XATTR_LIST_MAX
	maxValue = 64 << 10 // XATTR_SIZE_MAX
)

// attributes reads the security attributes of a file, not following a link.
func attributes(file string) (map[string][]byte, error) {
	names := make([]byte, maxNames)
	n, err := unix.Llistxattr(file, names)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list attributes: %w", err)
	}
	values := make(map[string][]byte)
	for name := range bytes.SplitSeq(names[:n], []byte{0}) {
		if !strings.HasPrefix(string(name), baseline.SecurityPrefix) {
			continue
		}
		value := make([]byte, maxValue)
		k, err := unix.Lgetxattr(file, string(name), value)
		if err != nil {
			return nil, fmt.Errorf("read attribute %s: %w", name, err)
		}
		values[string(name)] = bytes.Clone(value[:k])
	}
	return values, nil
}
