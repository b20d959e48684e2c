package fstree

import (
	"bufio"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// maxMounts bounds the mounts that are known, and maxMountLine a line about one.
const (
	maxMounts    = 4096
	maxMountLine = 16 << 10
)

// Names of file systems that hold no files of a release: the kernel's own, and
// those that a server or a program answers for. statfs(2) is not asked: it waits
// for such a program.
var (
	pseudo = []string{
		"autofs", "bdev", "binder", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "cpuset", "debugfs", "devpts", "devtmpfs",
		"efivarfs", "functionfs", "fusectl", "hugetlbfs", "mqueue", "nfsd", "nsfs", "pipefs", "proc", "pstore", "resctrl",
		"rpc_pipefs", "securityfs", "selinuxfs", "smackfs", "sockfs", "sysfs", "tracefs",
	}
	remote = []string{"9p", "afs", "ceph", "cifs", "coda", "fuse", "fuseblk", "gfs2", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs", "virtiofs"}
)

// mounts knows the file system of each mount by the kernel's number of it
// (proc_pid_mountinfo(5)).
type mounts struct {
	types map[uint64]string
}

// barrier says what kind of file system a mount is of. One that is not known is
// held for one that could block.
func (m *mounts) barrier(id uint64) Barrier {
	name, ok := m.types[id]
	if !ok { // mounted since the list was read, or the list cannot be read
		m.load()
		name = m.types[id]
	}
	base, _, _ := strings.Cut(name, ".") // fuse.sshfs
	switch {
	case slices.Contains(pseudo, base):
		return Pseudo
	case base == "" || slices.Contains(remote, base):
		return Remote
	}
	return Mounted
}

func (m *mounts) load() {
	m.types = make(map[uint64]string)
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return
	}
	defer f.Close()
	m.parse(f)
}

func (m *mounts) parse(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxMountLine)
	for lines.Scan() && len(m.types) < maxMounts {
		first, rest, _ := strings.Cut(lines.Text(), " ")
		id, err := strconv.ParseUint(first, 10, 64)
		_, rest, ok := strings.Cut(rest, " - ")
		if err != nil || !ok {
			continue
		}
		name, _, _ := strings.Cut(rest, " ")
		m.types[id] = strings.Clone(name)
	}
}
