package identity

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
	// bootPause is the pause after the TPM refused the service key. Within a boot
	// only new approvals can change that.
	bootPause = time.Hour
	// crlEvery and rootsEvery are how often the registrar is asked for what changes
	// seldom, spread by a quarter.
	crlEvery   = 24 * time.Hour
	rootsEvery = 7 * 24 * time.Hour
	// crlLeast is the shortest pause, whatever a list says of its next update.
	crlLeast = 10 * time.Minute
	// patience is how often a registrar may be out of reach before that is said.
	patience = 3
)

// task is something that is done at the registrar now and then.
type task string

const (
	taskReporting task = "reporting"
	taskService   task = "service"
	taskCRL       task = "crl"
	taskRoots     task = "roots"
)

// retry paces a task. Its times are monotonic: no clock that jumps moves them.
type retry struct {
	next  time.Time // zero: at once
	wait  time.Duration
	fails int
}

func (t *retry) due() bool { return !time.Now().Before(t.next) }

// failed doubles the pause, with full jitter in its upper half, and waits at
// least as long as the other side asked for.
func (t *retry) failed(least time.Duration) {
	t.fails++
	t.wait = min(max(2*t.wait, firstTry), lastTry)
	t.next = time.Now().Add(max(least, t.wait/2+rand.N(t.wait/2)))
}

// done sets the next time after a success, spread by a quarter both ways.
func (t *retry) done(every time.Duration) {
	t.fails, t.wait = 0, 0
	t.next = time.Now().Add(spread(every))
}

// refused sets the next time after a refusal.
func (t *retry) refused(least time.Duration) {
	t.fails++
	t.next = time.Now().Add(max(least, spread(refusedPause)))
}

func spread(d time.Duration) time.Duration { return d - d/4 + rand.N(d/2+1) }

// renewAt is when a certificate is renewed: from two thirds of its lifetime, and
// within the next twelfth of it. Where in it follows from the certificate, so
// that it stays when the device is started again, and a fleet is spread.
func renewAt(leaf *x509.Certificate) time.Time {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	sum := sha256.Sum256(leaf.Raw)
	part := binary.BigEndian.Uint32(sum[:]) >> 16 // 16 bits of chance
	return leaf.NotBefore.Add(life/3*2 + life/12/(1<<16)*time.Duration(part))
}
