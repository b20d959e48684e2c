// Package enrolment is what a device says of its TPM to be given certificates,
// and the one judgement of it: the endorsement key's certificate is of a known
// TPM maker, the attestation key is one, and the device's keys live beside it
// (TCG EK Credential Profile for TPM Family 2.0; TPM 2.0 Library, Part 1, section
// 24, and Part 3, section 18.2). That the attestation key lives in the TPM of that
// certificate is proved by a credential that only this TPM can open (package
// credential). A Proof comes out of Verify alone.
package enrolment

import (
	"errors"

	"ward/internal/trust/credential"
)

// Version is the version of the messages that this package reads.
const Version = 1

// MaxRequest bounds a request and an application, MaxAnswer an answer, in bytes.
const (
	MaxRequest = 64 << 10
	MaxAnswer  = 128 << 10
)

// Use says what a key is for.
type Use string

const (
	Reporting Use = "reporting" // towards the fleet, in every boot state
	Service   Use = "service"   // towards clinical services, in an approved boot state
)

// Request is the body of POST /.well-known/est/tpm/challenge, JSON.
type Request struct {
	Version int         `json:"version"`
	Tenant  string      `json:"tenant"`
	Serial  string      `json:"serial"` // the manufacturer's serial number: it becomes the device id
	EK      Endorsement `json:"ek"`
	AK      []byte      `json:"ak"` // TPMT_PUBLIC
	Keys    []Key       `json:"keys"`
}

// Endorsement is the TPM maker's certificate of the endorsement key.
type Endorsement struct {
	Certificate []byte   `json:"certificate,omitempty"` // DER; none: the TPM has none
	Chain       [][]byte `json:"chain,omitempty"`       // DER, those above it
}

// Key is a key with the attestation key's statement about it.
type Key struct {
	Use       Use    `json:"use"`
	Public    []byte `json:"public"`    // TPMT_PUBLIC
	Attest    []byte `json:"attest"`    // TPMS_ATTEST
	Signature []byte `json:"signature"` // TPMT_SIGNATURE
}

// Challenge is the answer to a Request, JSON.
type Challenge struct {
	Version    int             `json:"version"`
	ID         string          `json:"id"` // user name of the enrolment that follows
	Credential credential.Blob `json:"credential"`
	Expires    int             `json:"expiresSeconds"`
}

// Application is a request for a registrar that cannot be reached, with the
// certification requests (PKCS #10, DER); a file.
type Application struct {
	Request
	CSRs [][]byte `json:"csrs"`
}

// Issued is what a device is given.
type Issued struct {
	Tenant string           `json:"tenant"`
	Device string           `json:"device"`
	Chains map[Use][][]byte `json:"chains"`        // DER, leaf first
	CRL    []byte           `json:"crl,omitempty"` // DER
}

// Answer is Issued, encrypted for one TPM; a file.
type Answer struct {
	Version    int             `json:"version"`
	Tenant     string          `json:"tenant"`
	Device     string          `json:"device"`
	Credential credential.Blob `json:"credential"`
	Sealed     []byte          `json:"sealed"` // AES-256-GCM under a key derived from the credential's secret
}

// What Verify refuses; ErrMessage also what the readers of messages refuse, and
// ErrOtherTPM what Open cannot decrypt.
var (
	ErrMessage     = errors.New("not an enrolment message")
	ErrSerial      = errors.New("not a serial number that can be a device id")
	ErrEKMissing   = errors.New("no certificate of the endorsement key")
	ErrEKUntrusted = errors.New("the endorsement key's certificate is of no TPM maker that is trusted")
	ErrEKProfile   = errors.New("not a certificate of an endorsement key")
	ErrAK          = errors.New("not an attestation key")
	ErrKey         = errors.New("not a key of this TPM with the attributes that its use asks for")
	ErrOtherTPM    = errors.New("the answer is not for this TPM")
)
