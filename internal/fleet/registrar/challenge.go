package registrar

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"ward/internal/trust/enrolment"
)

const (
	// maxChallenges bounds the challenges that wait for an answer; each holds some
	// two kilobytes.
	maxChallenges = 10_000
	// maxPerTPM bounds those of one TPM: who repeats its request pushes out its
	// own oldest.
	maxPerTPM = 8
	// maxWrong is how many wrong secrets a challenge bears.
	maxWrong = 5
	// sweepGap is the least wait between two sweeps of expired challenges.
	sweepGap = 10 * time.Second
	// idBytes is the size of a challenge's random name.
	idBytes = 16
)

// pending is a challenge that waits for its answer.
type pending struct {
	proof   *enrolment.Proof
	secret  [sha256.Size]byte // SHA-256 of the password
	expires time.Time
	spent   []enrolment.Use // what was enrolled with it, or is being
	wrong   int
}

// challenges are those that wait, in memory.
type challenges struct {
	mu    sync.Mutex
	byID  map[string]*pending
	byEK  map[[32]byte][]string // ids, oldest first
	swept time.Time
}

func newChallenges() challenges {
	return challenges{byID: make(map[string]*pending), byEK: make(map[[32]byte][]string)}
}

var (
	errSecret  = errors.New("the challenge is not known, has expired, or its secret is another")
	errSpent   = errors.New("a certificate for this key was given with this challenge already")
	errNoBasic = errors.New("no challenge's id and secret (HTTP Basic)")
	errFull    = errors.New("too many challenges wait for an answer")
)

// add keeps a challenge and names it.
func (c *challenges) add(now time.Time, p *enrolment.Proof, secret []byte, lifetime time.Duration) (string, error) {
	b := make([]byte, idBytes)
	if _, err := rand.Read(b); err != nil {
		return "", ofFault(err)
	}
	id := hex.EncodeToString(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.swept) > sweepGap || len(c.byID) >= maxChallenges {
		c.sweep(now)
	}
	if of := c.byEK[p.EK()]; len(of) >= maxPerTPM {
		c.remove(of[0])
	}
	if len(c.byID) >= maxChallenges {
		f := refuse(http.StatusTooManyRequests, "busy", doLater, errFull)
		f.Wait = lifetime / 2
		return "", f
	}
	c.byID[id] = &pending{proof: p, secret: sha256.Sum256([]byte(hex.EncodeToString(secret))), expires: now.Add(lifetime)}
	c.byEK[p.EK()] = append(c.byEK[p.EK()], id)
	return id, nil
}

func (c *challenges) sweep(now time.Time) {
	c.swept = now
	for id, p := range c.byID {
		if !now.Before(p.expires) {
			c.remove(id)
		}
	}
}

func (c *challenges) remove(id string) {
	p := c.byID[id]
	if p == nil {
		return
	}
	delete(c.byID, id)
	ek := p.proof.EK()
	if c.byEK[ek] = slices.DeleteFunc(c.byEK[ek], func(other string) bool { return other == id }); len(c.byEK[ek]) == 0 {
		delete(c.byEK, ek)
	}
}

// open returns what was proved by whoever knows the secret.
func (c *challenges) open(now time.Time, id, password string) (*enrolment.Proof, error) {
	sum := sha256.Sum256([]byte(password))
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.byID[id]
	if p == nil || !now.Before(p.expires) {
		return nil, refuse(http.StatusUnauthorized, "secret", doAgain, errSecret)
	}
	if subtle.ConstantTimeCompare(sum[:], p.secret[:]) != 1 {
		if p.wrong++; p.wrong >= maxWrong {
			c.remove(id)
		}
		return nil, refuse(http.StatusUnauthorized, "secret", doAgain, errSecret)
	}
	return p.proof, nil
}

// spend marks a use as enrolled; only one caller gets it.
func (c *challenges) spend(id string, use enrolment.Use) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.byID[id]
	if p == nil || slices.Contains(p.spent, use) {
		return refuse(http.StatusUnauthorized, "spent", doAgain, errSpent)
	}
	p.spent = append(p.spent, use)
	return nil
}

// giveBack unmarks a use for which no certificate could be made.
func (c *challenges) giveBack(id string, use enrolment.Use) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.byID[id]; p != nil {
		p.spent = slices.DeleteFunc(p.spent, func(other enrolment.Use) bool { return other == use })
	}
}
