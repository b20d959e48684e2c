package localapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// Where the identity is renewed, enrolled and used.
const (
	renewPath  = "/v1/identity/renew"
	enrollPath = "/v1/identity/enroll"
	signPath   = "/v1/identity/sign"
	chainPath  = "/v1/identity/chain"
)

// Identity is the device's certificates.
type Identity struct {
	State     string        `json:"state"`
	NotAfter  *time.Time    `json:"notAfter,omitempty"` // of the reporting certificate in use
	Detail    string        `json:"detail,omitempty"`
	Uses      []IdentityUse `json:"uses,omitempty"`
	Registrar string        `json:"registrar,omitempty"` // empty: certificates come by files
	NextTry   *time.Time    `json:"nextTry,omitempty"`   // when the registrar is asked again, after a failure
	Serial    string        `json:"serial,omitempty"`    // how the hardware's serial number compares
	CRL       *time.Time    `json:"crl,omitempty"`       // when the fleet's revocation list was made
	CRLNext   *time.Time    `json:"crlNext,omitempty"`   // when the next one is due
	Roots     int           `json:"roots,omitempty"`     // of the fleet that are believed
	Learned   int           `json:"learnedRoots,omitempty"`
	Signed    uint64        `json:"signed,omitempty"` // signatures made for other programs since the daemon's start
}

// IdentityUse is the certificate of one use.
type IdentityUse struct {
	Use        string     `json:"use"`   // "reporting", "service"
	State      string     `json:"state"` // connected, issued (not connected yet), pending, none
	Generation int        `json:"generation,omitempty"`
	NotAfter   *time.Time `json:"notAfter,omitempty"`
	DaysLeft   int        `json:"daysLeft,omitempty"`
	RenewAt    *time.Time `json:"renewAt,omitempty"`
	Pending    string     `json:"pending,omitempty"` // why there is none, or none newer
}

// Signature is what Sign answers: ASN.1, ECDSA with SHA-256.
type Signature struct {
	Signature []byte `json:"signature"`
}

type signRequest struct {
	Use    string `json:"use"`
	Digest []byte `json:"digest"` // SHA-256
}

type chainAnswer struct {
	Chain string `json:"chain"` // PEM, leaf first
}

// RenewIdentity and EnrollIdentity are the actions that have certificates issued
// now: root alone.
func RenewIdentity(do func(ctx context.Context) (Identity, error)) Action {
	return Action{Pattern: "POST " + renewPath, Who: Root, Do: func(ctx context.Context, _ Request) (any, error) { return do(ctx) }}
}

// EnrollIdentity is RenewIdentity for a device without a certificate.
func EnrollIdentity(do func(ctx context.Context) (Identity, error)) Action {
	return Action{Pattern: "POST " + enrollPath, Who: Root, Do: func(ctx context.Context, _ Request) (any, error) { return do(ctx) }}
}

// SignWithIdentity is the action that signs a SHA-256 digest with the key of a
// use, for the asker "uid 0, pid 17".
func SignWithIdentity(sign func(ctx context.Context, by, use string, digest [32]byte) ([]byte, error)) Action {
	return Action{Pattern: "POST " + signPath, Who: Signers, Do: func(ctx context.Context, r Request) (any, error) {
		var in signRequest
		if err := json.Unmarshal(r.Body, &in); err != nil {
			return nil, Refuse(http.StatusBadRequest, `want {"use":"service","digest":"base64 of a SHA-256"}: %v`, err)
		}
		if len(in.Digest) != 32 {
			return nil, Refuse(http.StatusBadRequest, "the digest has %d bytes, want the 32 of a SHA-256", len(in.Digest))
		}
		b, err := sign(ctx, r.From, in.Use, [32]byte(in.Digest))
		return Signature{b}, err
	}}
}

// IdentityChain is the action that gives the certificate of a use.
func IdentityChain(chain func(use string) ([]byte, error)) Action {
	return Action{Pattern: "GET " + chainPath, Who: Signers, Do: func(_ context.Context, r Request) (any, error) {
		text, err := chain(r.Query.Get("use"))
		return chainAnswer{string(text)}, err
	}}
}

// RenewIdentity has the certificates renewed now. A *Refusal says why not.
func (c *Client) RenewIdentity(ctx context.Context) (Identity, error) {
	var i Identity
	return i, c.Do(ctx, renewPath, nil, &i)
}

// EnrollIdentity has the device enrolled now. A *Refusal says why not.
func (c *Client) EnrollIdentity(ctx context.Context) (Identity, error) {
	var i Identity
	return i, c.Do(ctx, enrollPath, nil, &i)
}

// Sign signs a SHA-256 digest with the key of a use, "reporting" or "service". A
// *Refusal of status 409 says that the boot state is not approved.
func (c *Client) Sign(ctx context.Context, use string, digest [32]byte) ([]byte, error) {
	var s Signature
	err := c.Do(ctx, signPath, signRequest{use, digest[:]}, &s)
	return s.Signature, err
}

// Chain is the certificate of a use with those above it, PEM.
func (c *Client) Chain(ctx context.Context, use string) ([]byte, error) {
	var a chainAnswer
	err := c.get(ctx, chainPath, url.Values{"use": {use}}, &a)
	return []byte(a.Chain), err
}
