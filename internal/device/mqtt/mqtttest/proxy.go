package mqtttest

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// maxSeen bounds what a Proxy keeps of the bytes that pass it.
const maxSeen = 4 << 20

// Proxy is an HTTP proxy that knows CONNECT alone.
type Proxy struct {
	listener net.Listener
	answer   func(net.Conn, *http.Request) bool

	mu      sync.Mutex
	targets []string
	seen    bytes.Buffer
}

// StartProxy starts one. answer may deal with a request itself and then gives
// false; nil has every request carried out.
func StartProxy(t testing.TB, answer func(net.Conn, *http.Request) bool) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: l, answer: answer}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	return p
}

// URL is its address.
func (p *Proxy) URL() string { return "http://" + p.listener.Addr().String() }

func (p *Proxy) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	request, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.targets = append(p.targets, request.Method+" "+request.RequestURI)
	p.mu.Unlock()
	if p.answer != nil && !p.answer(conn, request) {
		return
	}
	out, err := net.Dial("tcp", request.RequestURI)
	if err != nil {
		_, _ = io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	defer out.Close()
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(conn, io.TeeReader(out, p))
		_ = conn.Close()
	}()
	_, _ = io.Copy(out, io.TeeReader(r, p))
}

// Write takes what passes.
func (p *Proxy) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen.Len() < maxSeen {
		p.seen.Write(b)
	}
	return len(b), nil
}

// Seen is what passed, in both directions.
func (p *Proxy) Seen() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.seen.Bytes())
}

// Targets are the requests so far: method and target.
func (p *Proxy) Targets() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.targets...)
}
