// Package pace says when something is tried again at a registrar: pauses that
// double with jitter, longer ones after a refusal, and what an error says of it
// (RFC 9110, section 15). Times are monotonic: no clock that jumps moves them.
package pace

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"math/rand/v2"
	"time"
)

const (
	// firstTry and lastTry bound the pauses between two attempts at the registrar.
	firstTry = 5 * time.Second
	lastTry  = time.Hour
	// refusedPause is the pause after a refusal: somebody has to do something
	// first. It is spread by a quarter both ways.
	refusedPause = 4 * time.Hour
)

// Retry paces one task. The zero value is due.
type Retry struct {
	Next  time.Time // zero: at once
	Fails int       // since the last success
	wait  time.Duration
}

// Due says whether it is time.
func (t *Retry) Due() bool { return !time.Now().Before(t.Next) }

// Failed doubles the pause, with full jitter in its upper half, and waits at
// least as long as the other side asked for.
func (t *Retry) Failed(least time.Duration) {
	t.Fails++
	t.wait = min(max(2*t.wait, firstTry), lastTry)
	t.Next = time.Now().Add(max(least, t.wait/2+rand.N(t.wait/2)))
}

// Done sets the next time after a success, spread by a quarter both ways.
func (t *Retry) Done(every time.Duration) {
	t.Fails, t.wait = 0, 0
	t.Next = time.Now().Add(Spread(every))
}

// Refused sets the next time after a refusal.
func (t *Retry) Refused(least time.Duration) {
	t.Fails++
	t.Next = time.Now().Add(max(least, Spread(refusedPause)))
}

// Spread moves a pause by a quarter at most, both ways.
func Spread(d time.Duration) time.Duration { return d - d/4 + rand.N(d/2+1) }

// RenewAt is when a certificate is renewed: from two thirds of its lifetime, and
// within the next twelfth of it. Where in it follows from the certificate, so
// that it stays when the device is started again, and a fleet is spread.
func RenewAt(leaf *x509.Certificate) time.Time {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	sum := sha256.Sum256(leaf.Raw)
	part := binary.BigEndian.Uint32(sum[:]) >> 16 // 16 bits of chance
	return leaf.NotBefore.Add(life/3*2 + life/12/(1<<16)*time.Duration(part))
}
