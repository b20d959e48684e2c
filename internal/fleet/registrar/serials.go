package registrar

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"ward/internal/trust/presence"
)

// maxSerials bounds a list of serial numbers, in bytes: more than a million lines
// with a digest each.
const maxSerials = 128 << 20

// Why a serial number is refused.
var (
	ErrSerialUnknown = errors.New("the serial number is not in the list of manufactured devices")
	ErrSerialOtherEK = errors.New("the list of manufactured devices has another endorsement key for this serial number")
)

// Serials are the manufactured devices: a file with a serial number a line,
// optionally followed by a comma and the SHA-256 of its endorsement key's
// SubjectPublicKeyInfo in hex. Blank lines and such that begin with # do not
// count. The file is read again when it changes.
type Serials struct {
	path string // empty: any serial number

	mu   sync.Mutex
	info os.FileInfo // that was read
	list map[string]string
}

// AnySerial takes every serial number.
func AnySerial() *Serials { return &Serials{} }

// OpenSerials reads a list.
func OpenSerials(path string) (*Serials, error) {
	s := &Serials{path: path}
	return s, s.read()
}

// Check says whether a device was manufactured with this serial number, and, where
// the list tells it and ek is known, with this endorsement key. ErrSerialUnknown,
// ErrSerialOtherEK; any other error: the list cannot be read, and says nothing.
func (s *Serials) Check(serial string, ek *[32]byte) error {
	if s.path == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.read(); err != nil {
		return err
	}
	digest, ok := s.list[serial]
	switch {
	case !ok:
		return fmt.Errorf("%w: %s", ErrSerialUnknown, serial)
	case digest != "" && ek != nil && digest != hex.EncodeToString(ek[:]):
		return fmt.Errorf("%w: %s", ErrSerialOtherEK, serial)
	}
	return nil
}

func (s *Serials) read() error {
	f, err := os.Open(s.path)
	if err != nil {
		return fmt.Errorf("read serial numbers: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read serial numbers: %w", err)
	}
	if s.info != nil && os.SameFile(s.info, info) && s.info.Size() == info.Size() && s.info.ModTime().Equal(info.ModTime()) {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSerials+1))
	if err == nil && len(b) > maxSerials {
		err = fmt.Errorf("%s: more than %d bytes", s.path, maxSerials)
	}
	if err != nil {
		return fmt.Errorf("read serial numbers: %w", err)
	}
	list, err := parseSerials(b)
	if err != nil {
		return fmt.Errorf("read serial numbers %s: %w", s.path, err)
	}
	s.info, s.list = info, list
	return nil
}

// parseSerials reads the lines: digest by serial number, "" where there is none.
func parseSerials(b []byte) (map[string]string, error) {
	list := make(map[string]string)
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		serial, digest, pinned := strings.Cut(line, ",")
		if err := presence.CheckNames("tenant", serial); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		digest = strings.ToLower(digest)
		if b, err := hex.DecodeString(digest); pinned && (err != nil || len(b) != 32) {
			return nil, fmt.Errorf("line %d: want SERIAL or SERIAL,SHA-256 of the endorsement key in hex", n)
		}
		if before, ok := list[serial]; ok && before != digest {
			return nil, fmt.Errorf("line %d: serial number %s has another endorsement key above", n, serial)
		}
		list[serial] = digest
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return list, nil
}
