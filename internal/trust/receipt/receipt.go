// Package receipt is what the fleet tells a device: that it holds the device's
// record up to a sequence number, with the chain head there, and with which nonce
// it asks for evidence. Both are JSON that the fleet signs, in a DSSE envelope
// (docs/schema/receipt.v1.schema.json, docs/schema/challenge.v1.schema.json). A
// receipt frees records of the journal and a challenge makes the TPM sign, so
// verified ones are types of their own that only Verify and VerifyChallenge make.
package receipt

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ward/internal/format/chain"
	"ward/internal/format/dsse"
)

// PayloadType names a receipt in its envelope. The document is closed: another
// key needs another type.
const PayloadType = "application/vnd.ward.receipt.v1+json"

// MaxSize bounds an envelope, in bytes; a receipt takes some 600.
const MaxSize = 8 << 10

// ErrForeign: the receipt is signed by the fleet, for another device.
var ErrForeign = errors.New("the receipt is for another device")

// Receipt says that the fleet holds a device's record of one epoch up to and
// with a sequence number. Head is the chain head after that record.
type Receipt struct {
	Tenant   string     `json:"tenant"`
	Device   string     `json:"device"`
	Epoch    uint64     `json:"epoch"`
	Sequence uint64     `json:"sequence"`
	Head     chain.Hash `json:"head"`
	Time     time.Time  `json:"time"` // the fleet's clock, UTC
}

// Verified is a receipt of the fleet for this device. The zero value covers
// nothing.
type Verified struct {
	receipt Receipt
	signers []string
}

// Receipt is what was signed.
func (v Verified) Receipt() Receipt { return v.receipt }

// Signers are the ids of the keys that signed it.
func (v Verified) Signers() []string { return v.signers }

// Sign makes the envelope of a receipt.
func Sign(r Receipt, signer crypto.Signer) ([]byte, error) {
	r.Time = r.Time.UTC()
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("sign receipt: %w", err)
	}
	payload, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("sign receipt: %w", err)
	}
	envelope, err := dsse.Sign(PayloadType, payload, signer)
	if err != nil {
		return nil, fmt.Errorf("sign receipt: %w", err)
	}
	return envelope, nil
}

// Verify opens an envelope. It checks, in this order:
//
//  1. the size;
//  2. a valid signature of one key of the keyring, and the payload type (dsse);
//  3. the document: strict JSON, nothing empty, epoch and sequence from 1 on;
//  4. tenant and device, else ErrForeign.
//
// Whether the head is the device's own is for its journal to say.
func Verify(envelope []byte, keys *dsse.Keyring, tenant, device string) (Verified, error) {
	if len(envelope) > MaxSize {
		return Verified{}, fmt.Errorf("verify receipt: %w: %d bytes, want at most %d", dsse.ErrMalformed, len(envelope), MaxSize)
	}
	payload, signers, err := keys.Open(envelope, PayloadType, 1)
	if err != nil {
		return Verified{}, fmt.Errorf("verify receipt: %w", err)
	}
	var r Receipt
	if err := dsse.DecodeJSON(payload, &r); err != nil {
		return Verified{}, fmt.Errorf("verify receipt: %w", err)
	}
	if err := r.check(); err != nil {
		return Verified{}, fmt.Errorf("verify receipt: %w", err)
	}
	if r.Tenant != tenant || r.Device != device {
		return Verified{}, fmt.Errorf("verify receipt: %w: %s of %s", ErrForeign, r.Device, r.Tenant)
	}
	return Verified{receipt: r, signers: signers}, nil
}

func (r Receipt) check() error {
	if r.Tenant == "" || r.Device == "" {
		return errors.New("no tenant or no device")
	}
	if r.Epoch == 0 || r.Sequence == 0 {
		return fmt.Errorf("epoch %d, sequence %d: both count from 1", r.Epoch, r.Sequence)
	}
	if r.Head == (chain.Hash{}) {
		return errors.New("no chain head")
	}
	if r.Time.IsZero() {
		return errors.New("no time")
	}
	return nil
}
