package backend

import "testing"

func TestBoundedBuffer(t *testing.T) {
	b := newBoundedBuffer(10)
	for _, text := range []string{"first line\n", "second\n", "third\n"} {
		if n, err := b.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
	}
	if got := b.String(); got != "ond\nthird\n" {
		t.Errorf("kept %q, want the newest 10 bytes", got)
	}
	if got := b.lastLine(); got != "third" {
		t.Errorf("last line %q", got)
	}
	if got := newBoundedBuffer(10).lastLine(); got != "" {
		t.Errorf("last line of nothing %q", got)
	}
}
