package early

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"ward/internal/device/sandbox"
)

// closing is something that was opened.
type closing struct {
	name   string
	closed *[]string
}

func (c closing) Close() error {
	*c.closed = append(*c.closed, c.name)
	return errors.New("it was closed by the kernel")
}

// What cannot be opened early keeps nothing else from being opened and is told, and
// what was opened is closed at the end.
//
// Verifies: SR-106
func TestPrivilegedStartOpensWhatItCanAndSaysWhatItCannot(t *testing.T) {
	var closed []string
	var said strings.Builder
	e := open([]opener{
		{"changes of files", func(e *Opened) error { e.hold(closing{"watch", &closed}); return nil }},
		{"logins", func(*Opened) error { return errors.New("operation not permitted") }},
		{"tables of block devices", func(e *Opened) error {
			e.hold(closing{"tables", &closed})
			return errors.New("one of two is not to be read")
		}},
	}, slog.New(slog.NewTextHandler(&said, nil)))
	all := sandbox.Set(1<<sandbox.DACReadSearch | 1<<sandbox.SysPtrace)
	e.lacking(sandbox.Report{Effective: all})
	want := []string{"logins: operation not permitted", "tables of block devices: one of two is not to be read"}
	if !slices.Equal(e.Blind, want) {
		t.Errorf("blind for %q, want %q", e.Blind, want)
	}
	e.lacking(sandbox.Report{Effective: all &^ (1 << sandbox.SysPtrace)})
	want = append(want, "what other users' programs execute and have open: wardd was started without cap_sys_ptrace")
	if !slices.Equal(e.Blind, want) {
		t.Errorf("blind for %q, want %q", e.Blind, want)
	}
	for _, w := range want {
		sees, _, _ := strings.Cut(w, ":")
		if !strings.Contains(said.String(), sees) {
			t.Errorf("the log does not name %q: %s", sees, said.String())
		}
	}
	if len(closed) != 0 {
		t.Errorf("closed at once: %q", closed)
	}
	e.Close()
	e.Close()
	if !slices.Equal(closed, []string{"tables", "watch"}) {
		t.Errorf("closed %q", closed)
	}
}
