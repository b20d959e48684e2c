package mqtt

import (
	"fmt"
	"net"
	"time"
)

// Opcodes of websocket frames (RFC 6455, section 5.2).
const (
	frameContinued = 0x0
	frameBinary    = 0x2
	frameClose     = 0x8
	framePing      = 0x9
	framePong      = 0xa
)

const (
	// maxMessage bounds a websocket message, in bytes: several of the largest
	// MQTT packets, for brokers that put more than one into a message.
	maxMessage = 4 * maxPacket
	// maxControl bounds the content of a control frame (section 5.5).
	maxControl = 125
	// maxIdle is how many frames without content for MQTT may come in idleTime:
	// each ping is answered, and empty pieces of a message are read in a loop.
	// Brokers ping every ten seconds or less often.
	maxIdle  = 120
	idleTime = time.Minute
)

// watchedFrames watches what comes in beneath the websocket library: first the
// head of the HTTP answer, then the frames' headers.
type watchedFrames struct {
	net.Conn
	head   int    // bytes of the HTTP head
	status string // first bytes of it
	ends   int    // how much of its end was read
	begun  bool   // the head has ended, and frames follow
	frames frames
	err    error // that reading ended with
}

const (
	headEnd = "\r\n\r\n"
	// switching is how an answer begins behind which frames follow; behind
	// another comes text, which counts as the head.
	switching = "HTTP/1.1 101"
)

func (w *watchedFrames) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if bad := w.watch(p[:n], time.Now()); bad != nil {
		_ = w.Conn.Close()
		n, err = 0, bad
	}
	if err != nil && w.err == nil {
		w.err = err
	}
	return n, err
}

func (w *watchedFrames) watch(b []byte, now time.Time) error {
	for !w.begun && len(b) > 0 {
		c := b[0]
		b = b[1:]
		if w.head < len(switching) {
			w.status += string(rune(c))
		}
		switch w.head++; {
		case w.ends < len(headEnd) && c == headEnd[w.ends]:
			w.ends++
		case c == headEnd[0]:
			w.ends = 1
		default:
			w.ends = 0
		}
		if w.head > maxHead {
			return fmt.Errorf("%w: HTTP answer with a head of more than %d bytes", ErrProtocol, maxHead)
		}
		w.begun = w.ends == len(headEnd) && w.status == switching
	}
	return w.frames.watch(b, now)
}

// frames follows the headers of a stream of frames from a server (section 5.2)
// and keeps them to what MQTT in a websocket is: unmasked, binary, bounded.
type frames struct {
	header  [10]byte
	have    int    // bytes of the header that were read
	left    uint64 // bytes of the frame's content that are still to come
	message uint64 // bytes of the message so far
	open    bool   // a message has begun and its last frame has not come
	idle    int    // frames without content since
	since   time.Time
}

func (f *frames) watch(b []byte, now time.Time) error {
	for len(b) > 0 {
		if f.left > 0 {
			n := min(f.left, uint64(len(b)))
			f.left -= n
			b = b[n:]
			continue
		}
		f.header[f.have] = b[0]
		f.have++
		b = b[1:]
		if length, whole := f.length(); whole {
			f.have, f.left = 0, length
			if err := f.check(length, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// length is the frame's, once its header is there.
func (f *frames) length() (n uint64, whole bool) {
	if f.have < 2 {
		return 0, false
	}
	switch short := f.header[1] & 0x7f; {
	case short < 126:
		return uint64(short), true
	case short == 126 && f.have == 4, short == 127 && f.have == 10:
		for _, c := range f.header[2:f.have] {
			n = n<<8 | uint64(c)
		}
		return n, true
	}
	return 0, false
}

func (f *frames) check(length uint64, now time.Time) error {
	kind, last := f.header[0]&0xf, f.header[0]&0x80 != 0
	if f.header[0]&0x70 != 0 || f.header[1]&0x80 != 0 {
		return fmt.Errorf("%w: websocket frame that is masked or extended", ErrProtocol)
	}
	switch kind {
	case frameBinary, frameContinued:
		if f.open != (kind == frameContinued) {
			return fmt.Errorf("%w: websocket frame out of turn", ErrProtocol)
		}
		if !f.open {
			f.message = 0
		}
		f.open = !last
		if length > maxMessage || f.message+length > maxMessage {
			return fmt.Errorf("%w: websocket message of %d bytes, want at most %d", ErrProtocol, f.message+length, maxMessage)
		}
		f.message += length
		if length > 0 {
			return nil
		}
	case frameClose, framePing, framePong:
		if length > maxControl || !last {
			return fmt.Errorf("%w: websocket control frame of %d bytes, or in pieces", ErrProtocol, length)
		}
	default:
		return fmt.Errorf("%w: websocket frame of type %d, want binary ones", ErrProtocol, kind)
	}
	if now.Sub(f.since) > idleTime {
		f.idle, f.since = 0, now
	}
	if f.idle++; f.idle > maxIdle {
		return fmt.Errorf("%w: more than %d websocket frames without content within %s", ErrProtocol, maxIdle, idleTime)
	}
	return nil
}
