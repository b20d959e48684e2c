package idstore

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"ward/internal/device/statefile"
)

const (
	crlName, rootsName, floorName = "crl.der", "roots.pem", "floor"

	// maxRoots and maxRootsBytes bound what is kept of the fleet's further roots.
	maxRoots      = 32
	maxRootsBytes = 64 << 10
	// maxFloor bounds the file with the latest moment.
	maxFloor = 64
	rootType = "CERTIFICATE"
)

// CRL is the newest revocation list of the fleet (DER). ErrNone: nothing yet.
func (s *Store) CRL() ([]byte, error) {
	var der []byte
	err := s.read(Folder+"/"+crlName, statefile.MaxSize, func(b []byte) error {
		der = b
		return checkCRL(b)
	})
	if err != nil {
		return nil, err
	}
	return der, nil
}

// SetCRL stores the revocation list. Its signature is the caller's to verify.
func (s *Store) SetCRL(der []byte) error {
	if err := checkCRL(der); err != nil {
		return fmt.Errorf("store revocation list: %w", err)
	}
	return s.write(Folder, crlName, der, modePublic)
}

func checkCRL(der []byte) error {
	_, err := x509.ParseRevocationList(der)
	return err
}

// Roots are further roots of the fleet, DER, with what vouches for them, in the
// order in which they were stored. ErrNone: nothing yet.
func (s *Store) Roots() ([][]byte, error) {
	var all [][]byte
	err := s.read(Folder+"/"+rootsName, maxRootsBytes, func(text []byte) error {
		for len(bytes.TrimSpace(text)) > 0 {
			block, rest := pem.Decode(text)
			if block == nil || block.Type != rootType {
				return fmt.Errorf("want PEM of type %s and nothing else", rootType)
			}
			all, text = append(all, block.Bytes), rest
		}
		return checkRoots(all)
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// SetRoots stores them. What vouches for them is the caller's to verify.
func (s *Store) SetRoots(der [][]byte) error {
	var text []byte
	for _, d := range der {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: rootType, Bytes: d})...)
	}
	err := checkRoots(der)
	if err == nil && len(text) > maxRootsBytes {
		err = fmt.Errorf("%d bytes, want at most %d", len(text), maxRootsBytes)
	}
	if err != nil {
		return fmt.Errorf("store roots: %w", err)
	}
	return s.write(Folder, rootsName, text, modePublic)
}

func checkRoots(all [][]byte) error {
	if len(all) == 0 || len(all) > maxRoots {
		return fmt.Errorf("%d roots, want 1 to %d", len(all), maxRoots)
	}
	for i, der := range all {
		var whole asn1.RawValue
		if rest, err := asn1.Unmarshal(der, &whole); err != nil || len(rest) > 0 {
			return fmt.Errorf("root %d is not DER", i+1)
		}
	}
	return nil
}

// Floor is the latest moment that was proved. ErrNone: nothing yet.
func (s *Store) Floor() (time.Time, error) {
	var t time.Time
	err := s.read(Folder+"/"+floorName, maxFloor, func(b []byte) (err error) {
		t, err = time.Parse(time.RFC3339, strings.TrimSuffix(string(b), "\n"))
		return err
	})
	if err != nil {
		return time.Time{}, err
	}
	return t, nil
}

// SetFloor stores the moment, to the second below. One that is not later than
// what is there changes nothing.
func (s *Store) SetFloor(t time.Time) error {
	t = t.UTC().Truncate(time.Second)
	if t.Year() < 1 || t.Year() > 9999 {
		return errors.New("store time floor: not a moment that can be written")
	}
	if old, err := s.Floor(); err == nil && !t.After(old) {
		return nil
	}
	return s.write(Folder, floorName, []byte(t.Format(time.RFC3339)+"\n"), modePublic)
}
