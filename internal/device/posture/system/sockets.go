package system

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"

	"ward/internal/device/posture"
	"ward/internal/device/posture/bounded"
	claim "ward/internal/trust/posture"
)

// socketTables are the kernel's tables of internet sockets (proc_net(5)) and the
// states in which a socket takes from anybody: TCP_LISTEN, and TCP_CLOSE for a
// datagram or raw socket that is not connected.
var socketTables = []struct{ file, protocol, state string }{
	{"tcp", "tcp", "0A"}, {"tcp6", "tcp", "0A"}, {"udp", "udp", "07"}, {"udp6", "udp", "07"},
	{"udplite", "udplite", "07"}, {"udplite6", "udplite", "07"}, {"raw", "raw", "07"}, {"raw6", "raw", "07"},
}

// maxSockets bounds sockets that listen; with more of them nothing is told.
const maxSockets = 8192

// socket is one that listens.
type socket struct {
	protocol string
	at       netip.AddrPort
	inode    uint64
}

// Sockets tells each internet socket that takes connections or datagrams from
// anybody, with the program that has it open: "tcp 0.0.0.0:22 /usr/sbin/sshd", "udp
// 127.0.0.1:323 /usr/sbin/chronyd loopback". Of several processes that of the lowest
// number counts; one that cannot be looked into, or the kernel itself, is "?". The port
// of a datagram socket that the kernel chose, and that is another one at each start, is
// "*"; the port of a raw socket is its protocol. Sockets of UNIX and vsock are not told.
func Sockets() posture.Collector {
	return collector(claim.Sockets, func(root fs.FS) ([]string, error) {
		sockets, err := listening(root)
		if err != nil {
			return nil, gone(err)
		}
		wanted := make(map[uint64]string, len(sockets))
		for _, s := range sockets {
			if s.inode != 0 {
				wanted[s.inode] = ""
			}
		}
		if err := owners(root, wanted); err != nil {
			return nil, err
		}
		low, high := localPorts(root)
		values := make([]string, 0, len(sockets))
		for _, s := range sockets {
			program := wanted[s.inode]
			if program == "" {
				program = "?"
			}
			values = append(values, s.text(low, high)+" "+program+loopback(s.at.Addr()))
		}
		return values, nil
	})
}

func (s socket) text(low, high uint16) string {
	if port := s.at.Port(); strings.HasPrefix(s.protocol, "udp") && port >= low && port <= high {
		host := s.at.Addr().String()
		if s.at.Addr().Is6() {
			host = "[" + host + "]"
		}
		return s.protocol + " " + host + ":*"
	}
	return s.protocol + " " + s.at.String()
}

func loopback(a netip.Addr) string {
	if a.Unmap().IsLoopback() {
		return " loopback"
	}
	return ""
}

// localPorts are the ports that the kernel chooses from; none where it does not say.
func localPorts(root fs.FS) (low, high uint16) {
	t, err := bounded.Text(root, "proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 1, 0
	}
	f := strings.Fields(t)
	if len(f) != 2 {
		return 1, 0
	}
	l, err := strconv.ParseUint(f[0], 10, 16)
	h, err2 := strconv.ParseUint(f[1], 10, 16)
	if err != nil || err2 != nil {
		return 1, 0
	}
	return uint16(l), uint16(h)
}

// listening reads the tables of the network of process 1, where they can be read.
func listening(root fs.FS) ([]socket, error) {
	all, err := listeningIn(root, "proc/1/net/")
	if err != nil {
		all, err = listeningIn(root, "proc/net/")
	}
	return all, err
}

func listeningIn(root fs.FS, folder string) ([]socket, error) {
	var all []socket
	for i, t := range socketTables {
		bad, first := 0, true
		err := bounded.Lines(root, folder+t.file, table, func(line string) {
			if first {
				first = false
				return
			}
			s, listens, ok := parseSocket(line, t.state)
			if !ok {
				bad++
			}
			if listens && len(all) <= maxSockets {
				s.protocol = t.protocol
				all = append(all, s)
			}
		})
		switch {
		case err != nil && bounded.Absent(err) && i > 0: // a kernel without this protocol
		case err != nil:
			return nil, err
		case bad > 0:
			return nil, fmt.Errorf("parse /%s: %d lines are none", folder+t.file, bad)
		case len(all) > maxSockets:
			return nil, fmt.Errorf("read /%s: more than %d sockets listen", folder+t.file, maxSockets)
		}
	}
	return all, nil
}

// parseSocket reads a line: "0: 0100007F:0050 00000000:0000 0A 00000000:00000000
// 00:00000000 00000000 0 0 12345 1 ...".
func parseSocket(line, state string) (s socket, listens, ok bool) {
	f := strings.Fields(line)
	if len(f) < 10 {
		return socket{}, false, false
	}
	local, ok1 := parseAddress(f[1])
	remote, ok2 := parseAddress(f[2])
	inode, err := strconv.ParseUint(f[9], 10, 64)
	if !ok1 || !ok2 || err != nil {
		return socket{}, false, false
	}
	return socket{at: local, inode: inode}, f[3] == state && remote.Port() == 0 && remote.Addr().IsUnspecified(), true
}

// parseAddress reads an address as the kernel writes it: words of 32 bits as
// numbers of this machine, and the port.
func parseAddress(s string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(s, ":")
	if !ok || len(host) != 8 && len(host) != 32 {
		return netip.AddrPort{}, false
	}
	var words [16]byte
	n, err := hex.Decode(words[:], []byte(host))
	p, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil {
		return netip.AddrPort{}, false
	}
	for i := 0; i < n; i += 4 {
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
	}
	a, ok := netip.AddrFromSlice(words[:n])
	return netip.AddrPortFrom(a, uint16(p)), ok
}
