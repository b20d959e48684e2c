package release

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"ward/internal/format/dsse"
)

// Bounds of what is read.
const (
	maxText   = 128  // product, board, version
	maxReason = 1024 // why a register is not judged
)

var (
	// ErrSchema: the manifest is of a version that this package does not read.
	ErrSchema = errors.New("manifest of another schema")
	// ErrManifest: the payload is no manifest or breaks one of its rules.
	ErrManifest = errors.New("not a release manifest")
)

// Verified is a manifest whose signatures were verified. Only Open makes one;
// the zero Verified and the nil one hold an empty manifest, which names nothing
// and thus accepts nothing.
type Verified struct {
	manifest Manifest
	digest   [32]byte
	signers  []string
}

// Manifest returns a copy of what the release says.
func (v *Verified) Manifest() Manifest {
	if v == nil {
		return Manifest{}
	}
	m := v.manifest
	m.Boot = m.Boot.clone()
	m.IdentityPolicy, m.Update = m.IdentityPolicy.clone(), m.Update.clone()
	m.Posture, m.Watch = m.Posture.Clone(), m.Watch.Clone()
	if m.SBOM != nil {
		sbom := *m.SBOM
		m.SBOM = &sbom
	}
	return m
}

// Digest is the SHA-256 of the payload, the name by which fleet and device
// speak of a release.
func (v *Verified) Digest() [32]byte {
	if v == nil {
		return [32]byte{}
	}
	return v.digest
}

// Signers lists the key ids of the distinct keys that signed.
func (v *Verified) Signers() []string {
	if v == nil {
		return nil
	}
	return slices.Clone(v.signers)
}

// Open verifies an envelope with a threshold of release keys and reads the
// manifest in it. Errors wrap dsse.ErrMalformed, dsse.ErrSignature or
// dsse.ErrPayloadType, and behind a good signature ErrSchema or ErrManifest.
func Open(envelope []byte, keys *dsse.Keyring, threshold int) (*Verified, error) {
	payload, signers, err := keys.Open(envelope, PayloadType, threshold)
	if err != nil {
		return nil, fmt.Errorf("open release manifest: %w", err)
	}
	m, err := Parse(payload)
	if err != nil {
		return nil, fmt.Errorf("open release manifest: %w", err)
	}
	return &Verified{manifest: m, digest: sha256.Sum256(payload), signers: signers}, nil
}

// Sign encodes a manifest and signs it with every key. The policy key may not be
// among them: who can sign releases must not be able to approve boot states too.
func Sign(m Manifest, signers ...crypto.Signer) ([]byte, error) {
	payload, err := Encode(m)
	if err != nil {
		return nil, err
	}
	for _, s := range signers {
		if public, err := x509.MarshalPKIXPublicKey(s.Public()); m.IdentityPolicy != nil && err == nil && bytes.Equal(public, m.IdentityPolicy.PolicyKey) {
			return nil, errors.New("sign release manifest: a release key is the policy key of the manifest: take two keys")
		}
	}
	envelope, err := dsse.Sign(PayloadType, payload, signers...)
	if err != nil {
		return nil, fmt.Errorf("sign release manifest: %w", err)
	}
	return envelope, nil
}

// Encode gives the payload of a manifest: one line of JSON in a fixed order. A
// manifest that Parse would refuse is an error.
func Encode(m Manifest) ([]byte, error) {
	if m.Schema != SchemaVersion {
		return nil, fmt.Errorf("encode release manifest: %w: schema %d, want %d", ErrSchema, m.Schema, SchemaVersion)
	}
	m.BuildTime = m.BuildTime.UTC()
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("encode release manifest: %w: %w", ErrManifest, err)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		return nil, fmt.Errorf("encode release manifest: %w", err)
	}
	return b.Bytes(), nil
}

// Parse reads a manifest that nobody has vouched for; on a device only Open
// calls it. It checks, in this order:
//
//  1. the size, and that it is an object with a schema number;
//  2. the schema number, else ErrSchema: another schema may have other fields;
//  3. strict JSON (dsse.DecodeJSON): unknown and repeated fields are named;
//  4. product, board, version and build time are there;
//  5. the bank is sha256, PCR numbers are 0 to 23, digests have its length, each
//     firmware has a name of its own;
//  6. an exact register has one value for each firmware, one that is judged by
//     events has rules, a recorded one a reason and nothing else;
//  7. composites are those of the values;
//  8. the file baseline's digest and absolute path;
//  9. the identity policy, if there is one: a P-256 policy key, 1 to 128 distinct
//     boot states that the release itself accepts, over PCR 7, 11 and 12 or the
//     registers of a composite, each approved by that key for counters of at most
//     base + rollbackIndex, and a permission to raise the counter to that and no
//     further;
//  10. the update rules, the expected posture, how the device is watched and the
//     SBOM's digest, media type and path, if there are some.
func Parse(payload []byte) (Manifest, error) {
	if len(payload) > dsse.MaxSize {
		return Manifest{}, fmt.Errorf("%w: %d bytes, at most %d are read", ErrManifest, len(payload), dsse.MaxSize)
	}
	var version struct {
		Schema *int `json:"schema"`
	}
	if err := json.Unmarshal(payload, &version); err != nil {
		return Manifest{}, fmt.Errorf("%w: parse JSON: %w", ErrManifest, err)
	}
	if version.Schema == nil {
		return Manifest{}, fmt.Errorf("%w: the schema number is missing", ErrManifest)
	}
	if *version.Schema != SchemaVersion {
		return Manifest{}, fmt.Errorf("%w: schema %d, this version reads %d", ErrSchema, *version.Schema, SchemaVersion)
	}
	var m Manifest
	if err := dsse.DecodeJSON(payload, &m); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if err := m.check(); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return m, nil
}

// check is steps 4 to 10 of Parse.
func (m *Manifest) check() error {
	for _, f := range []struct{ name, text string }{{"product", m.Product}, {"board", m.Board}, {"version", m.Version}} {
		if err := checkText(f.text, maxText); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	if m.BuildTime.IsZero() || m.BuildTime.Nanosecond() != 0 || m.BuildTime.Location() != time.UTC {
		return errors.New("buildTime: want a time in UTC, in whole seconds")
	}
	if err := m.Boot.check(); err != nil {
		return fmt.Errorf("boot.%w", err)
	}
	if m.Files.Digest.IsZero() {
		return errors.New("files.digest: is missing")
	}
	if err := checkText(m.Files.Path, maxReason); err != nil || !strings.HasPrefix(m.Files.Path, "/") {
		return errors.New("files.path: want an absolute path")
	}
	if m.IdentityPolicy != nil {
		if err := m.IdentityPolicy.check(m); err != nil {
			return fmt.Errorf("identityPolicy.%w", err)
		}
	}
	if m.Update != nil {
		if err := m.Update.check(); err != nil {
			return fmt.Errorf("update.%w", err)
		}
	}
	if err := m.Posture.Check(); err != nil {
		return fmt.Errorf("posture.%w", err)
	}
	if err := m.Watch.Check(); err != nil {
		return fmt.Errorf("watch.%w", err)
	}
	return m.SBOM.check()
}

func (s *SBOM) check() error {
	if s == nil {
		return nil
	}
	if s.Digest.IsZero() {
		return errors.New("sbom.digest: is missing")
	}
	if err := checkText(s.MediaType, maxText); err != nil {
		return fmt.Errorf("sbom.mediaType: %w", err)
	}
	if s.Path != "" && (checkText(s.Path, maxReason) != nil || !strings.HasPrefix(s.Path, "/")) {
		return errors.New("sbom.path: want an absolute path")
	}
	return nil
}

// checkText refuses what could mislead a reader of a table or a log.
func checkText(s string, longest int) error {
	if s == "" {
		return errors.New("is missing")
	}
	if len(s) > longest {
		return fmt.Errorf("%d bytes, at most %d", len(s), longest)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return errors.New("holds characters that cannot be printed")
	}
	return nil
}
