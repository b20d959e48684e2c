package mqtt

import (
	"errors"
	"testing"
)

// FuzzFrame feeds the same bytes whole and one by one: where the packets end
// must not depend on how the network cuts them.
func FuzzFrame(f *testing.F) {
	f.Add([]byte{0x20, 2, 0, 0, 0x30, 5, 0, 1, 'a', 'x', 'y', 0xd0, 0})
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{0x32, 6, 0, 2, 'a', 'b', 0, 7, 0x30, 3, 0, 9, 'a'})
	f.Add([]byte{0x90, 4, 0, 1, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var whole, single frame
		err := whole.watch(b)
		var errSingle error
		for i := 0; i < len(b) && errSingle == nil; i++ {
			errSingle = single.watch(b[i : i+1])
		}
		if (err == nil) != (errSingle == nil) || err == nil && whole != single {
			t.Errorf("whole: %v %+v, byte by byte: %v %+v", err, whole, errSingle, single)
		}
		if err != nil && !errors.Is(err, ErrProtocol) {
			t.Errorf("error %v", err)
		}
		if whole.left > maxPacket {
			t.Errorf("a packet of %d bytes is let through", whole.left)
		}
	})
}
