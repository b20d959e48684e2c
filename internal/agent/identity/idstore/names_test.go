package idstore_test

import (
	"errors"
	"strings"
	"testing"

	"ward/internal/agent/identity/idstore"
)

// Names become file names.
func TestNamesOfSecrets(t *testing.T) {
	s := idstore.Open(t.TempDir())
	k := newKey(t)
	for _, name := range []string{"", "-a", "a/b", "..", "a.b", "A", "a b", "ä", "a\x00", strings.Repeat("a", 64)} {
		if err := s.SetSecret(name, k.file); !errors.Is(err, idstore.ErrName) {
			t.Errorf("%q: %v, want ErrName", name, err)
		}
		if _, err := s.Secret(name); !errors.Is(err, idstore.ErrName) {
			t.Errorf("read %q: %v, want ErrName", name, err)
		}
	}
	for _, name := range []string{"a", "0", "pump-license", strings.Repeat("a", 63)} {
		if _, err := s.Secret(name); errors.Is(err, idstore.ErrName) {
			t.Errorf("%q is refused: %v", name, err)
		}
	}
}
