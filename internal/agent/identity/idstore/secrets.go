package idstore

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"ward/internal/device/statefile"
	"ward/internal/format/tss2"
)

const (
	secretFolder = Folder + "/secrets"
	authFolder   = Folder + "/auth"
	pemSuffix    = ".pem"
	// authSize is the size of an authorisation value, in bytes (tpm.NewAuth).
	authSize = 32
)

// ErrName: not a name for a secret or a value.
var ErrName = errors.New("want 1 to 63 small letters, digits and '-'")

func checkName(name string) error {
	if !named(name) {
		return fmt.Errorf("%.80q is no name: %w", name, ErrName)
	}
	return nil
}

// Secret reads a sealed secret by its name, SetSecret stores one.
func (s *Store) Secret(name string) (tss2.File, error) {
	if err := checkName(name); err != nil {
		return tss2.File{}, fmt.Errorf("read secret: %w", err)
	}
	var f tss2.File
	err := s.read(secretFolder+"/"+name+pemSuffix, maxKey, func(b []byte) (err error) {
		f, err = parseSecret(b)
		return err
	})
	return f, err
}

func parseSecret(text []byte) (tss2.File, error) {
	f, err := tss2.Parse(text)
	if err == nil && f.Kind != tss2.Sealed {
		return tss2.File{}, errors.New("it holds no sealed secret")
	}
	return f, err
}

// SetSecret stores a sealed secret, in place of one of the same name.
func (s *Store) SetSecret(name string, f tss2.File) error {
	text := f.PEM()
	err := checkName(name)
	if err == nil {
		_, err = parseSecret(text)
	}
	if err != nil {
		return fmt.Errorf("store secret: %w", err)
	}
	return s.write(secretFolder, name+pemSuffix, text, modeKey)
}

// Secrets lists the names of the sealed secrets, sorted.
func (s *Store) Secrets() ([]string, error) {
	var all []string
	err := s.with(func(f *statefile.Folder) error {
		entries, err := f.List(secretFolder, maxEntries)
		for _, e := range entries {
			name, is := strings.CutSuffix(e.Name(), pemSuffix)
			if is && e.Type().IsRegular() && checkName(name) == nil {
				all = append(all, name)
			}
		}
		return damaged(secretFolder, err)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return all, err
}

// Auth is an authorisation value of an NV index that is Ward's own, by the
// index's name ("journal").
func (s *Store) Auth(name string) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("read authorisation value: %w", err)
	}
	var value []byte
	err := s.read(authFolder+"/"+name, maxKey, func(b []byte) (err error) {
		value, err = hex.DecodeString(strings.TrimSuffix(string(b), "\n"))
		if err == nil && len(value) != authSize {
			err = fmt.Errorf("%d bytes, want %d", len(value), authSize)
		}
		if err != nil {
			err = errors.New("want 64 digits of base 16") // what the file holds is secret
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return value, nil
}

// SetAuth stores an authorisation value of 32 bytes.
func (s *Store) SetAuth(name string, value []byte) error {
	err := checkName(name)
	if err == nil && len(value) != authSize {
		err = fmt.Errorf("%d bytes, want %d", len(value), authSize)
	}
	if err != nil {
		return fmt.Errorf("store authorisation value: %w", err)
	}
	return s.write(authFolder, name, []byte(hex.EncodeToString(value)+"\n"), modeSecret)
}
