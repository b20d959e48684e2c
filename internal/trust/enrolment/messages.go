package enrolment

import (
	"encoding/json"
	"errors"
	"fmt"

	"ward/internal/format/dsse"
	"ward/internal/trust/credential"
	"ward/internal/trust/event"
)

// Bounds of parts, in bytes and numbers. A maker's certificate has some 1,000
// bytes (2,500 of RSA-4096), and two or three stand above it; a public area of
// P-256 has 90, an attestation 150, a signature 72; a certification request 500.
const (
	maxCertificate = 8 << 10
	maxChain       = 8
	maxKeys        = 2 // one of each use
	maxArea        = 512
	maxAttest      = 512
	maxSignature   = 256
	maxCSR         = 8 << 10
	maxCredential  = 1 << 10 // 512 for RSA-2048
	maxCRL         = 48 << 10
	maxExpires     = 24 * 60 * 60 // seconds
)

type message interface{ check() error }

// EncodeRequest, ParseRequest and their kin write and read the messages: strict
// JSON (package dsse, DecodeJSON), bounded as a whole and in its parts. What cannot
// be read is not written. Errors wrap ErrMessage. That a message can be read says
// nothing of what it claims.
func EncodeRequest(r Request) ([]byte, error)         { return encode("request", MaxRequest, r) }
func ParseRequest(b []byte) (Request, error)          { return parse[Request]("request", MaxRequest, b) }
func EncodeChallenge(c Challenge) ([]byte, error)     { return encode("challenge", MaxRequest, c) }
func ParseChallenge(b []byte) (Challenge, error)      { return parse[Challenge]("challenge", MaxRequest, b) }
func EncodeApplication(a Application) ([]byte, error) { return encode("application", MaxRequest, a) }
func ParseApplication(b []byte) (Application, error) {
	return parse[Application]("application", MaxRequest, b)
}
func EncodeAnswer(a Answer) ([]byte, error) { return encode("answer", MaxAnswer, a) }
func ParseAnswer(b []byte) (Answer, error)  { return parse[Answer]("answer", MaxAnswer, b) }

func encode(what string, most int, m message) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("encode enrolment %s: %w: %w", what, ErrMessage, err)
	}
	b, err := json.Marshal(m)
	if err == nil && len(b) > most {
		err = fmt.Errorf("%d bytes, at most %d are read", len(b), most)
	}
	if err != nil {
		return nil, fmt.Errorf("encode enrolment %s: %w: %w", what, ErrMessage, err)
	}
	return b, nil
}

func parse[M message](what string, most int, b []byte) (M, error) {
	var m, none M
	var err error
	if len(b) > most {
		err = fmt.Errorf("%d bytes, at most %d are read", len(b), most)
	} else if err = dsse.DecodeJSON(b, &m); err == nil {
		err = m.check()
	}
	if err != nil {
		return none, fmt.Errorf("parse enrolment %s: %w: %w", what, ErrMessage, err)
	}
	return m, nil
}

func checkVersion(version int) error {
	if version != Version {
		return fmt.Errorf("version %d, this program reads %d", version, Version)
	}
	return nil
}

// checkSize checks a part that must be there.
func checkSize(what string, b []byte, most int) error {
	if len(b) == 0 || len(b) > most {
		return fmt.Errorf("%s of %d bytes, want 1 to %d", what, len(b), most)
	}
	return nil
}

func checkSizes(what string, all [][]byte, least, most, size int) error {
	if len(all) < least || len(all) > most {
		return fmt.Errorf("%d of %s, want %d to %d", len(all), what, least, most)
	}
	for _, b := range all {
		if err := checkSize(what, b, size); err != nil {
			return err
		}
	}
	return nil
}

func checkNames(tenant, device string) error {
	if err := event.CheckName(tenant); err != nil {
		return fmt.Errorf("tenant %.80q: %w", tenant, err)
	}
	if err := event.CheckName(device); err != nil {
		return fmt.Errorf("device %.80q: %w", device, err)
	}
	return nil
}

func checkBlob(b credential.Blob) error {
	if err := checkSize("credential", b.Credential, maxCredential); err != nil {
		return err
	}
	return checkSize("credential's secret", b.Secret, maxCredential)
}

func (u Use) check() error {
	if u != Reporting && u != Service {
		return fmt.Errorf("unknown use %.40q, want %q or %q", string(u), Reporting, Service)
	}
	return nil
}

// check looks at the form alone. A certificate or a name may be missing: Verify
// says so.
func (r Request) check() error {
	if err := checkVersion(r.Version); err != nil {
		return err
	}
	if len(r.EK.Certificate) > maxCertificate {
		return fmt.Errorf("certificate of %d bytes, want at most %d", len(r.EK.Certificate), maxCertificate)
	}
	if err := checkSizes("certificates above it", r.EK.Chain, 0, maxChain, maxCertificate); err != nil {
		return err
	}
	if err := checkSize("attestation key", r.AK, maxArea); err != nil {
		return err
	}
	if len(r.Keys) == 0 || len(r.Keys) > maxKeys {
		return fmt.Errorf("%d keys, want 1 to %d", len(r.Keys), maxKeys)
	}
	seen := make(map[Use]bool)
	for _, k := range r.Keys {
		if err := k.check(); err != nil {
			return err
		}
		if seen[k.Use] {
			return fmt.Errorf("two keys for the use %q", k.Use)
		}
		seen[k.Use] = true
	}
	return nil
}

func (k Key) check() error {
	if err := k.Use.check(); err != nil {
		return err
	}
	if err := checkSize("key", k.Public, maxArea); err != nil {
		return err
	}
	if err := checkSize("attestation", k.Attest, maxAttest); err != nil {
		return err
	}
	return checkSize("signature", k.Signature, maxSignature)
}

func (c Challenge) check() error {
	if err := checkVersion(c.Version); err != nil {
		return err
	}
	// It goes as a user name before a colon (RFC 7617, section 2).
	if err := event.CheckName(c.ID); err != nil {
		return fmt.Errorf("id %.80q: %w", c.ID, err)
	}
	if c.Expires < 1 || c.Expires > maxExpires {
		return fmt.Errorf("it expires in %d seconds, want 1 to %d", c.Expires, maxExpires)
	}
	return checkBlob(c.Credential)
}

func (a Application) check() error {
	if err := a.Request.check(); err != nil {
		return err
	}
	return checkSizes("certification requests", a.CSRs, 1, maxKeys, maxCSR)
}

func (a Answer) check() error {
	if err := checkVersion(a.Version); err != nil {
		return err
	}
	if err := checkNames(a.Tenant, a.Device); err != nil {
		return err
	}
	if err := checkBlob(a.Credential); err != nil {
		return err
	}
	return checkSize("sealed part", a.Sealed, MaxAnswer)
}

func (i Issued) check() error {
	if err := checkNames(i.Tenant, i.Device); err != nil {
		return err
	}
	if len(i.Chains) == 0 {
		return errors.New("no certificate")
	}
	for use, chain := range i.Chains {
		if err := use.check(); err != nil {
			return err
		}
		if err := checkSizes("certificates", chain, 1, maxChain, maxCertificate); err != nil {
			return err
		}
	}
	if len(i.CRL) > maxCRL {
		return fmt.Errorf("revocation list of %d bytes, want at most %d", len(i.CRL), maxCRL)
	}
	return nil
}
