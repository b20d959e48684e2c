package registrar

import (
	"crypto/x509"
	"errors"
	"math/big"
	"sync"
	"time"

	"ward/internal/fleet/issue"
	"ward/internal/fleet/register"
)

// revocations is the revocation list in memory.
type revocations struct {
	mu       sync.Mutex
	der      []byte
	made     time.Time
	revision uint64
}

var errNoList = errors.New("the upstream authority publishes the revocation list")

// CRL returns the revocation list, DER. It is made anew when a third of its time
// is over, and when something was revoked; its number grows also over restarts.
func (r *Registrar) CRL(now time.Time) ([]byte, error) {
	if r.config.CA == nil {
		return nil, errNoList
	}
	revision, err := r.config.Devices.Revision(now)
	if err != nil {
		return nil, err
	}
	l := &r.list
	l.mu.Lock()
	defer l.mu.Unlock()
	if age := now.Sub(l.made); l.der != nil && l.revision == revision && age >= 0 && age < r.config.CRLLifetime/3 {
		return l.der, nil
	}
	der, entries, err := NewCRL(now, r.config.Devices, r.config.CA, r.config.CRLLifetime)
	if err != nil {
		return nil, err
	}
	l.der, l.made, l.revision = der, now, revision
	r.count("lists")
	r.config.Log.Info("revocation list", "entries", entries, "bytes", len(der))
	return der, nil
}

// NewCRL makes the next revocation list, DER, and keeps it in the register.
func NewCRL(now time.Time, devices *register.Register, ca *issue.CA, lifetime time.Duration) (der []byte, entries int, err error) {
	revoked, err := devices.Revocations(now)
	if err != nil {
		return nil, 0, err
	}
	list := make([]x509.RevocationListEntry, len(revoked))
	for i, v := range revoked {
		list[i] = x509.RevocationListEntry{SerialNumber: v.Serial, RevocationTime: v.When, ReasonCode: issue.ReasonCessation}
		if v.Superseded {
			list[i].ReasonCode = issue.ReasonSuperseded
		}
	}
	err = devices.CRL(func(last []byte) ([]byte, error) {
		number := big.NewInt(now.Unix()) // above all that were made before, also where the last was lost
		if before, err := ca.VerifyCRL(last); err == nil && before.Number != nil && before.Number.Cmp(number) >= 0 {
			number.Add(before.Number, big.NewInt(1))
		}
		der, err = ca.CRL(now, number, lifetime, list)
		return der, err
	})
	return der, len(list), err
}
