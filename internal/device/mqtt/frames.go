package mqtt

import (
	"net"
	"time"
)

const (
	// maxMessage bounds a websocket message, in bytes: several of the largest
	// MQTT packets, for brokers that put more than one into a message.
	maxMessage = 4 * maxPacket
	// firstControl is the lowest opcode of the frames that carry nothing for MQTT
	// (RFC 6455, section 5.2).
	firstControl = 0x8
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
			return broken("HTTP answer with a head of more than %d bytes", maxHead)
		}
		w.begun = w.ends == len(headEnd) && w.status == switching
	}
	return w.frames.watch(b, now)
}

// frames follows the headers of a stream of frames from a server (section 5.2),
// and counts those without content: the library keeps the others' order and form,
// and their sum to maxMessage.
type frames struct {
	header [10]byte
	have   int    // bytes of the header that were read
	left   uint64 // bytes of the frame's content that are still to come
	idle   int    // frames without content since
	since  time.Time
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
		length, whole := f.length()
		if !whole {
			continue
		}
		f.have, f.left = 0, length
		if length > 0 && f.header[0]&0xf < firstControl {
			continue
		}
		if now.Sub(f.since) > idleTime {
			f.idle, f.since = 0, now
		}
		if f.idle++; f.idle > maxIdle {
			return broken("more than %d websocket frames without content within %s", maxIdle, idleTime)
		}
	}
	return nil
}

// length is the frame's, once its header is there; one that is masked, which the
// library refuses, counts as if it were not.
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
