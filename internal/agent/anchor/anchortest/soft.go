package anchortest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	"ward/internal/device/tpm"
	"ward/internal/format/tpmwire"
	"ward/internal/trust/checkpoint"
)

// maxOrderly is how far apart the values are that a TPM writes down of an orderly
// counter (MAX_ORDERLY_COUNT of the reference code): after a power cut it stands at
// the next of them.
const maxOrderly = 255

// Soft is a TPM's counters in the test's own memory and time, for tests that cut the
// power at any place and wait for days.
type Soft struct {
	mu     sync.Mutex
	key    *ecdsa.PrivateKey
	begun  time.Time
	resets uint32
	values map[checkpoint.Counter]uint64
	fault  func(op string, c checkpoint.Counter) error
	steps  map[checkpoint.Counter]int
}

// NewSoft makes one whose counters were stepped once, as manufacture does.
func NewSoft(t testing.TB) *Soft {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Soft{
		key: key, begun: time.Now(), resets: 1, steps: make(map[checkpoint.Counter]int),
		values: map[checkpoint.Counter]uint64{checkpoint.Orderly: 1, checkpoint.Durable: 1},
	}
}

// Fail has a function decide, before each operation ("key", "certify", "step"),
// whether it fails; nil: none does.
func (s *Soft) Fail(f func(op string, c checkpoint.Counter) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

func (s *Soft) failed(op string, c checkpoint.Counter) error {
	if s.fault == nil {
		return nil
	}
	return s.fault(op, c)
}

// Cut is a power cut, Reset an orderly shutdown and start.
func (s *Soft) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[checkpoint.Orderly] |= maxOrderly
	s.resets++
}

// Reset is an orderly shutdown and start.
func (s *Soft) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resets++
}

// Set puts a counter to a value, which no TPM does; 0 is one that was never stepped.
func (s *Soft) Set(c checkpoint.Counter, value uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[c] = value
}

// At is where a counter stands, and how often it was stepped.
func (s *Soft) At(c checkpoint.Counter) (value uint64, steps int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values[c], s.steps[c]
}

// AK is the attestation key.
func (s *Soft) AK() *ecdsa.PublicKey { return &s.key.PublicKey }

// Key is the attestation key.
func (s *Soft) Key(context.Context) (*ecdsa.PublicKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &s.key.PublicKey, s.failed("key", "")
}

// Step steps a counter.
func (s *Soft) Step(_ context.Context, c checkpoint.Counter) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failed("step", c); err != nil {
		return err
	}
	s.values[c]++
	s.steps[c]++
	return nil
}

// Certify certifies where a counter stands.
func (s *Soft) Certify(_ context.Context, c checkpoint.Counter, qualifying [32]byte) (attest, signature []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failed("certify", c); err != nil {
		return nil, nil, err
	}
	if s.values[c] == 0 {
		return nil, nil, fmt.Errorf("certify: %w", tpm.ErrNeverWritten)
	}
	index, _ := c.Index()
	b := binary.BigEndian.AppendUint32(nil, tpmwire.Generated)
	b = binary.BigEndian.AppendUint16(b, tpmwire.AttestNV)
	b = append(b, 0, 0) // signer's name
	b = append(append(b, 0, 32), qualifying[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(time.Since(s.begun).Milliseconds()))
	b = binary.BigEndian.AppendUint32(b, s.resets)
	b = append(b, 0, 0, 0, 0, 1) // restarts, safe
	b = append(b, make([]byte, 8)...)
	b = append(append(b, 0, 34), index.Name(true)...)
	b = append(b, 0, 0, 0, 8)
	b = binary.BigEndian.AppendUint64(b, s.values[c])
	sum := sha256.Sum256(b)
	r, v, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		return nil, nil, err
	}
	scalar := func(n *big.Int) []byte { return append([]byte{0, 32}, n.FillBytes(make([]byte, 32))...) }
	return b, append(append([]byte{0, 0x18, 0, 0x0b}, scalar(r)...), scalar(v)...), nil
}
