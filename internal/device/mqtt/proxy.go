package mqtt

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
)

// maxHead bounds the head of an HTTP answer, in bytes: the bound that servers
// have for what a client sends them (Apache 8 KiB a line, nginx 32 KiB in all);
// an answer to CONNECT or to an upgrade has some hundred bytes.
const maxHead = 16 << 10

// proxyError is a proxy that answered and did not open the way.
type proxyError struct{ text string }

func (e *proxyError) Error() string { return e.text }

func refusedBy(format string, args ...any) error {
	return &proxyError{fmt.Sprintf(format, args...)}
}

// openProxy asks for a tunnel to host:port (CONNECT, RFC 9110, section 9.3.6).
// Nothing of the proxy's answer is used but its status; and since the client
// speaks first in TLS, nothing may come behind the answer.
func openProxy(conn net.Conn, target string) error {
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", target); err != nil {
		return err
	}
	limited := &io.LimitedReader{R: conn, N: maxHead}
	r := bufio.NewReader(limited)
	answer, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	switch {
	case err != nil && limited.N == 0:
		return refusedBy("the proxy's answer has a head of more than %d bytes", maxHead)
	case err == io.ErrUnexpectedEOF || err == io.EOF:
		return refusedBy("the proxy hangs up")
	case err != nil:
		if _, network := err.(net.Error); network {
			return err
		}
		return refusedBy("the proxy does not answer in HTTP")
	case answer.StatusCode/100 != 2:
		return refusedBy("the proxy refuses: %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	case r.Buffered() > 0:
		return refusedBy("the proxy speaks before the broker can")
	}
	return nil
}
