package mqtt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// subprotocol is MQTT's in a websocket (MQTT 3.1.1, section 6).
const subprotocol = "mqtt"

// frameBuffer is what is read from and written to a websocket at once, in
// bytes; longer frames pass through it.
const frameBuffer = 4 << 10

// upgradeError is a server of the fleet's that opened no websocket for MQTT.
type upgradeError struct {
	status int // HTTP status, 0 without an answer
	err    error
}

func (e *upgradeError) Error() string { return "open websocket: " + e.err.Error() }
func (e *upgradeError) Unwrap() error { return e.err }

func (e *upgradeError) cause() Cause {
	switch {
	case e.status == http.StatusUnauthorized, e.status == http.StatusForbidden:
		return Refused
	case e.status >= http.StatusInternalServerError:
		return Unreachable // what stands before the broker has none behind it
	case e.status != 0:
		return Protocol
	}
	cause, _ := causeOfConnect(e.err, e.err)
	return cause
}

// upgrade opens a websocket inside a connection. No redirect is followed, no
// proxy of the environment used, no extension taken.
func upgrade(conn net.Conn, broker *url.URL, write time.Duration) (net.Conn, error) {
	watched := &watchedFrames{Conn: conn}
	d := websocket.Dialer{
		NetDialTLSContext: func(context.Context, string, string) (net.Conn, error) { return watched, nil },
		Subprotocols:      []string{subprotocol}, ReadBufferSize: frameBuffer, WriteBufferSize: frameBuffer,
	}
	ws, answer, err := d.Dial(broker.String(), nil)
	switch {
	case err != nil && watched.err != nil && answer == nil:
		return nil, &upgradeError{0, watched.err}
	case err != nil && answer != nil:
		return nil, &upgradeError{answer.StatusCode, fmt.Errorf("the server answers %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))}
	case err != nil:
		return nil, &upgradeError{0, broken("no HTTP answer to the request for a websocket")}
	case ws.Subprotocol() != subprotocol:
		return nil, &upgradeError{0, broken("websocket for %.40q, want %q", ws.Subprotocol(), subprotocol)}
	case answer.Header.Get("Sec-WebSocket-Extensions") != "":
		return nil, &upgradeError{0, broken("websocket with extensions that were not asked for")}
	}
	ws.SetReadLimit(maxMessage)
	return &stream{Conn: ws, beneath: watched, write: write}, nil
}

// stream is the bytes in a websocket's binary messages: where messages end means
// nothing to MQTT (section 6).
type stream struct {
	*websocket.Conn
	beneath *watchedFrames
	message io.Reader
	write   time.Duration
	writing sync.Mutex // paho's pings are written beside its other packets
}

func (s *stream) Read(p []byte) (int, error) {
	for {
		if s.message == nil {
			kind, r, err := s.NextReader()
			if err != nil {
				return 0, s.ended(err)
			}
			if kind != websocket.BinaryMessage {
				return 0, broken("websocket message of text, want binary ones")
			}
			s.message = r
		}
		n, err := s.message.Read(p)
		if err == io.EOF {
			s.message, err = nil, nil
			if n == 0 {
				continue
			}
		}
		return n, s.ended(err)
	}
}

// ended is a websocket's end as that of a plain connection: what lies beneath has
// ended, or the broker has closed it; what else the library finds wrong is the
// protocol.
func (s *stream) ended(err error) error {
	var closed *websocket.CloseError
	switch {
	case err == nil:
		return nil
	case s.beneath.err != nil && s.beneath.err != io.EOF:
		return s.beneath.err
	case errors.As(err, &closed):
		return fmt.Errorf("the broker closed the websocket (%d): %w", closed.Code, io.EOF)
	}
	return broken("%w", err)
}

func (s *stream) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.Conn.SetWriteDeadline(time.Now().Add(s.write)); err != nil {
		return 0, err
	}
	if err := s.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SetWriteDeadline does nothing: every write has a deadline of its own, which
// the library keeps in a field that only the writer may touch.
func (s *stream) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline is for reads, like SetWriteDeadline.
func (s *stream) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }
