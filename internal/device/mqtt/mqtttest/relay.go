package mqtttest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Relay carries TCP connections to a target, and does it badly when told to.
type Relay struct {
	listener net.Listener

	mu      sync.Mutex
	target  string
	conns   map[net.Conn]bool
	cut     int  // a connection is cut when this many bytes have passed; 0: never
	swallow bool // nothing passes, and nobody is told
	rate    int  // bytes a second in each direction; 0: as fast as they come
	cuts    int
	passed  int
}

// StartRelay starts one.
func StartRelay(t testing.TB, target string) *Relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{listener: l, target: target, conns: make(map[net.Conn]bool)}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go r.serve(in)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); r.Drop() })
	return r
}

// Address is its host and port.
func (r *Relay) Address() string { return r.listener.Addr().String() }

// CutAfter cuts every connection when n bytes from the client have passed; 0 for never.
func (r *Relay) CutAfter(n int) { r.change(func() { r.cut = n }) }

// Swallow has the connections stand and nothing pass.
func (r *Relay) Swallow(on bool) { r.change(func() { r.swallow = on }) }

// Slow lets n bytes a second pass in each direction; 0 for all.
func (r *Relay) Slow(n int) { r.change(func() { r.rate = n }) }

// Cuts is how many connections were cut after their bytes.
func (r *Relay) Cuts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cuts
}

// Passed is how many bytes have passed from clients.
func (r *Relay) Passed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.passed
}

// Drop cuts every connection.
func (r *Relay) Drop() {
	r.change(func() {
		for c := range r.conns {
			_ = c.Close()
		}
	})
}

func (r *Relay) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *Relay) serve(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", r.target)
	if err != nil {
		return
	}
	defer out.Close()
	r.change(func() { r.conns[in], r.conns[out] = true, true })
	defer r.change(func() { delete(r.conns, in); delete(r.conns, out) })
	go func() {
		r.carry(in, out, false)
		_ = in.Close()
	}()
	r.carry(out, in, true)
}

func (r *Relay) carry(to, from net.Conn, counted bool) {
	buffer, passed := make([]byte, 1<<10), 0
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		r.mu.Lock()
		cut, swallow, rate := r.cut, r.swallow, r.rate
		if counted && cut > 0 && passed+n >= cut {
			r.cuts++
			n = max(0, cut-passed)
		} else {
			cut = 0
		}
		if counted {
			r.passed += n
		}
		r.mu.Unlock()
		if swallow {
			continue
		}
		if rate > 0 {
			time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
		}
		if _, err := to.Write(buffer[:n]); err != nil || cut > 0 {
			return
		}
		passed += n
	}
}
