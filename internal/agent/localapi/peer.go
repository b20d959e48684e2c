package localapi

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"ward/internal/trust/event"
)

// peer is the process at the other end, as the kernel knows it.
type peer struct {
	uid, gid uint32
	pid      int32
	groups   []uint32 // supplementary
}

func (p *peer) String() string { return fmt.Sprintf("uid %d, pid %d", p.uid, p.pid) }

// role is who the peer is to events, which name nobody.
func (p *peer) role() string {
	if p.uid == 0 {
		return event.ByRoot
	}
	return event.ByService
}

func (p *peer) mayRead(readers []uint32) bool {
	if p.uid == 0 || p.uid == uint32(os.Getuid()) || slices.Contains(readers, p.gid) {
		return true
	}
	return slices.ContainsFunc(p.groups, func(g uint32) bool { return slices.Contains(readers, g) })
}

// peerOf reads SO_PEERCRED and, for the supplementary groups, SO_PEERGROUPS
// (unix(7)).
func peerOf(c net.Conn) (*peer, error) {
	u, ok := c.(interface{ Unwrap() *net.UnixConn })
	if !ok {
		return nil, errors.New("not a UNIX connection")
	}
	raw, err := u.Unwrap().SyscallConn()
	if err != nil {
		return nil, err
	}
	var p *peer
	cerr := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
			return
		}
		p = &peer{uid: cred.Uid, gid: cred.Gid, pid: cred.Pid}
		p.groups = peerGroups(int(fd))
	})
	return p, errors.Join(cerr, err)
}

// maxGroups bounds the supplementary groups that are looked at; Linux allows
// 65536, people have a few.
const maxGroups = 1024

// peerGroups reads the supplementary groups that the peer had when it connected
// (SO_PEERGROUPS, unix(7)). A kernel that does not tell gives none.
func peerGroups(fd int) []uint32 {
	groups := make([]uint32, maxGroups)
	size := uint32(len(groups) * 4)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil
	}
	return groups[:min(int(size)/4, maxGroups)]
}

// limited bounds the number of connections at once.
type limited struct {
	*net.UnixListener
	slots chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	c, err := l.AcceptUnix()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &slot{UnixConn: c, free: l.slots}, nil
}

type slot struct {
	*net.UnixConn
	free chan struct{}
}

// Unwrap is the connection itself.
func (s *slot) Unwrap() *net.UnixConn { return s.UnixConn }

func (s *slot) Close() error {
	err := s.UnixConn.Close()
	if !errors.Is(err, net.ErrClosed) {
		<-s.free
	}
	return err
}
