// Package quotetest makes quotes without a TPM, for tests: an attestation key in
// software and a TPMS_ATTEST in the bytes of TPM 2.0 Library, Part 2, section
// 10.12.12.
package quotetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"testing"

	"ward/internal/format/pcr"
	"ward/internal/trust/quote"
)

// Key makes an attestation key.
func Key(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Sign quotes registers of a bank as a TPM with this key and clock does.
func Sign(t testing.TB, key *ecdsa.PrivateKey, qualifying [32]byte, clock quote.Clock, bank pcr.Algorithm, values pcr.Values) quote.Quote {
	t.Helper()
	be := binary.BigEndian
	b := be.AppendUint32(nil, 0xff544347) // TPM_GENERATED_VALUE
	b = be.AppendUint16(b, 0x8018)        // TPM_ST_ATTEST_QUOTE
	b = be.AppendUint16(b, 34)
	b = append(b, 0, 0x0b)
	b = append(b, make([]byte, 32)...) // qualified signer
	b = be.AppendUint16(b, uint16(len(qualifying)))
	b = append(b, qualifying[:]...)
	b = be.AppendUint64(b, clock.Milliseconds)
	b = be.AppendUint32(b, clock.ResetCount)
	b = be.AppendUint32(b, clock.RestartCount)
	if clock.Safe {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = be.AppendUint64(b, 0x0001000200030004) // firmware version
	b = be.AppendUint32(b, 1)
	b = be.AppendUint16(b, uint16(bank))
	var bits [3]byte
	h := sha256.New()
	for _, n := range slices.Sorted(maps.Keys(values)) {
		bits[n/8] |= 1 << (n % 8)
		h.Write(values[n])
	}
	b = append(append(b, 3), bits[:]...)
	b = be.AppendUint16(b, sha256.Size)
	b = h.Sum(b)

	digest := sha256.Sum256(b)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := be.AppendUint16(be.AppendUint16(nil, 0x0018), uint16(pcr.SHA256)) // ECDSA with SHA-256
	for _, n := range [][]byte{r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))} {
		sig = append(be.AppendUint16(sig, 32), n...)
	}
	return quote.Quote{Attest: b, Signature: sig}
}
