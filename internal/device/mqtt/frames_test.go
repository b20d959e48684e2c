package mqtt

import (
	"errors"
	"testing"
	"time"
)

// FuzzWebsocketFrames feeds the same bytes whole and one by one: where the HTTP
// head and the frames end must not depend on how the network cuts them.
func FuzzWebsocketFrames(f *testing.F) {
	head := "HTTP/1.1 101 x\r\n\r\n"
	f.Add([]byte(head + "\x82\x04\x20\x02\x00\x00\x89\x00"))
	f.Add([]byte(head + "\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte(head + "\x02\x01a\x00\x01b\x80\x00\x82\x7e\x01\x00"))
	f.Add([]byte("\r\r\n\r\n\x81"))
	f.Fuzz(func(t *testing.T, b []byte) {
		now := time.Unix(0, 0)
		var whole, single watchedFrames
		err := whole.watch(b, now)
		var errSingle error
		for i := 0; i < len(b) && errSingle == nil; i++ {
			errSingle = single.watch(b[i:i+1], now)
		}
		if (err == nil) != (errSingle == nil) || err == nil && whole.frames != single.frames {
			t.Errorf("whole: %v %+v, byte by byte: %v %+v", err, whole.frames, errSingle, single.frames)
		}
		if err != nil && !errors.Is(err, ErrProtocol) {
			t.Errorf("error of another kind: %v", err)
		}
		if whole.frames.idle > maxIdle+1 {
			t.Errorf("%d frames without content", whole.frames.idle)
		}
	})
}

// Pings that a well broker sends are no flood.
func TestPingsInTheirTime(t *testing.T) {
	var f frames
	now := time.Unix(0, 0)
	for range 10000 {
		now = now.Add(time.Second)
		if err := f.watch([]byte{0x89, 0}, now); err != nil {
			t.Fatal(err)
		}
	}
}
