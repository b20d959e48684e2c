package register

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"ward/internal/trust/presence"
)

// maxSerial bounds a certificate's serial number, in bytes (RFC 5280, section
// 4.1.2.2).
const maxSerial = 20

// Issued is one line of the record of certificates.
type Issued struct {
	Time     time.Time `json:"time"`
	Act      string    `json:"act"` // "enrol", "renew" or "answer"
	Tenant   string    `json:"tenant"`
	Device   string    `json:"device"`
	Use      string    `json:"use"`
	Life     int       `json:"life"`   // of the device
	Serial   string    `json:"serial"` // of the certificate, hex
	NotAfter time.Time `json:"notAfter"`
	SPKI     string    `json:"spki"` // SHA-256 of the key's SubjectPublicKeyInfo, hex
}

// Revocation is a certificate that lost its worth before its time.
type Revocation struct {
	Serial     *big.Int
	When       time.Time
	Superseded bool // another TPM took the device's place
	NotAfter   time.Time
}

// certificates is what the record of certificates says: those that have not
// expired.
type certificates struct {
	bySerial map[string]Issued
	lives    map[string]int // by place: the last life that a certificate was issued in
	recent   map[string][]time.Time
}

// maxHourly bounds the certificates that one device is given within an hour: its
// record must not fill the disk, whatever has hold of it. Certificates of a minute
// and a half, as in tests, keep within it.
const maxHourly = 120

func (c *certificates) reset() {
	*c = certificates{bySerial: make(map[string]Issued), lives: make(map[string]int), recent: make(map[string][]time.Time)}
}

func (c *certificates) take(now time.Time, keep time.Duration) func(line []byte) error {
	return func(line []byte) error {
		var i Issued
		if err := json.Unmarshal(line, &i); err != nil {
			return err
		}
		if err := presence.CheckNames(i.Tenant, i.Device); err != nil {
			return err
		}
		if b, err := hex.DecodeString(i.Serial); err != nil || len(b) == 0 || len(b) > maxSerial {
			return fmt.Errorf("serial number %.60q is none", i.Serial)
		}
		if i.Life < 1 {
			return fmt.Errorf("life %d is none", i.Life)
		}
		if now.Before(i.NotAfter.Add(keep)) {
			c.bySerial[i.Serial] = i
		}
		name := place(i.Tenant, i.Device)
		c.lives[name] = max(c.lives[name], i.Life)
		if hour := now.Add(-time.Hour); i.Time.After(hour) {
			c.recent[name] = append(slices.DeleteFunc(c.recent[name], hour.After), i.Time)
		}
		return nil
	}
}

// keepExpired is how long an expired certificate stays on the revocation list: it
// must be seen on one that came after its end (RFC 5280, section 3.3).
const keepExpired = 30 * 24 * time.Hour

func (r *Register) readIssued(now time.Time) error {
	return r.issued.follow(r.certs.reset, r.certs.take(now, keepExpired))
}

// whole returns what the record of acts says of a device, nil when it says
// nothing. The record of certificates is its witness: acts that are missing are an
// error, for whoever takes them away could take over a device.
func (r *Register) whole(name string) (*Device, error) {
	d, life := r.state.devices[name], 0
	if d != nil {
		life = d.Life
	}
	if r.certs.lives[name] > life {
		return nil, fmt.Errorf("read record %s: acts on %s are missing, for certificates were issued after them: restore it from its backup", r.acts.path, name)
	}
	return d, nil
}

// KeyDigest writes the SHA-256 of a key's SubjectPublicKeyInfo as the record does.
func KeyDigest(spki []byte) string {
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:])
}

// SerialNumber writes a certificate's serial number as the record does.
func SerialNumber(n *big.Int) string { return hex.EncodeToString(n.Bytes()) }

// Often says whether a device was given too many certificates (ErrOften).
func (r *Register) Often(now time.Time, tenant, device string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.readIssued(now); err != nil {
		return err
	}
	name := place(tenant, device)
	recent := slices.DeleteFunc(r.certs.recent[name], now.Add(-time.Hour).After)
	if r.certs.recent[name] = recent; len(recent) >= maxHourly {
		return fmt.Errorf("issue certificate to %s of %s: %w", device, tenant, ErrOften)
	}
	return nil
}

// Record records a certificate before anybody is given it. ErrRevoked: meanwhile
// the device was revoked or another TPM took its place; the certificate is
// recorded, and revoked by that, and must not be given away.
func (r *Register) Record(now time.Time, i Issued) error {
	i.Time, i.NotAfter = now.UTC(), i.NotAfter.UTC()
	return r.change(func() error {
		if err := r.readIssued(now); err != nil {
			return err
		}
		d, err := r.whole(place(i.Tenant, i.Device))
		if err != nil {
			return err
		}
		if d == nil {
			return fmt.Errorf("record certificate of %s of %s: %w", i.Device, i.Tenant, ErrUnknown)
		}
		line, err := r.issued.append(i)
		if err != nil {
			return err
		}
		if err := r.certs.take(now, keepExpired)(line); err != nil {
			return err
		}
		if d.Revoked != nil || d.Life != i.Life {
			r.late++
			return fmt.Errorf("record certificate of %s of %s: %w", i.Device, i.Tenant, ErrRevoked)
		}
		return nil
	})
}

// Certificate returns what the record says of a certificate, and of its device.
// ErrUnknown: it was never issued here; ErrRevoked: it lost its worth.
func (r *Register) Certificate(now time.Time, cert *x509.Certificate) (Issued, Device, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(r.read(), r.readIssued(now)); err != nil {
		return Issued{}, Device{}, err
	}
	serial := SerialNumber(cert.SerialNumber)
	i, ok := r.certs.bySerial[serial]
	if !ok || i.SPKI != KeyDigest(cert.RawSubjectPublicKeyInfo) {
		return Issued{}, Device{}, fmt.Errorf("look up certificate %s: %w", serial, ErrUnknown)
	}
	d, err := r.whole(place(i.Tenant, i.Device))
	if err != nil {
		return Issued{}, Device{}, err
	}
	if d.Revoked != nil || i.Life != d.Life {
		return Issued{}, Device{}, fmt.Errorf("look up certificate %s of %s of %s: %w", serial, i.Device, i.Tenant, ErrRevoked)
	}
	return i, *d, nil
}

// Revocations lists the certificates that are revoked, by serial number. Not for
// use within CRL's function, which holds the register.
func (r *Register) Revocations(now time.Time) ([]Revocation, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(r.read(), r.readIssued(now)); err != nil {
		return nil, err
	}
	var all []Revocation
	for serial, i := range r.certs.bySerial {
		d, err := r.whole(place(i.Tenant, i.Device))
		if err != nil {
			return nil, err
		}
		v := Revocation{Serial: new(big.Int), NotAfter: i.NotAfter}
		switch {
		case !now.Before(i.NotAfter.Add(keepExpired)):
			delete(r.certs.bySerial, serial)
			continue
		case i.Life > 0 && i.Life <= len(d.ends):
			v.When, v.Superseded = d.ends[i.Life-1], true
		case d.Revoked != nil:
			v.When = *d.Revoked
		default:
			continue
		}
		v.Serial.SetString(i.Serial, 16)
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b Revocation) int { return a.Serial.Cmp(b.Serial) })
	return all, nil
}

// Certificates lists what was issued and has not expired, oldest first, by
// "tenant/device".
func (r *Register) Certificates(now time.Time) (map[string][]Issued, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.readIssued(now); err != nil {
		return nil, err
	}
	all := make(map[string][]Issued)
	for _, i := range r.certs.bySerial {
		if now.Before(i.NotAfter) {
			name := place(i.Tenant, i.Device)
			all[name] = append(all[name], i)
		}
	}
	for _, of := range all {
		slices.SortFunc(of, func(a, b Issued) int { return a.Time.Compare(b.Time) })
	}
	return all, nil
}
