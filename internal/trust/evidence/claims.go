package evidence

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"ward/internal/trust/posture"
)

// Bounds of what a device says of itself, in bytes. It goes with every answer,
// so that it must leave room for what is new of the logs.
const (
	// MaxClaims bounds posture and running components together, as they are encoded.
	MaxClaims = 24 << 10
	// MaxRunning bounds the set of components: a bit for each of 65,536.
	MaxRunning = 8 << 10

	maxClaims = posture.MaxRules // how many claims; a policy can judge no more
	maxTold   = 64               // of a claim's name
)

// claims are the fields of a document that the quotes sign as a digest.
type claims struct {
	Posture []claim `cbor:"21,keyasint,omitempty"`
	Running []byte  `cbor:"22,keyasint,omitempty"`
}

// claim is a posture.Claim.
type claim struct {
	_      struct{} `cbor:",toarray"`
	Name   string
	Values []string
	More   uint32
	Absent bool
	Error  string
}

// claimsDomain keeps the digest of claims apart from every other digest.
const claimsDomain = "ward claims v1\n"

// Claims is the digest that the quotes sign for Posture and Running:
// SHA-256("ward claims v1\n" ‖ CBOR), the CBOR being the map of these two fields
// as the document has it, empty where both are.
func (e *Evidence) Claims() [32]byte {
	h := sha256.New()
	h.Write([]byte(claimsDomain))
	h.Write(e.claims().encode())
	return [32]byte(h.Sum(nil))
}

func (e *Evidence) claims() claims {
	c := claims{Running: e.Running}
	for _, p := range e.Posture {
		values := p.Values
		if values == nil {
			values = []string{}
		}
		c.Posture = append(c.Posture, claim{Name: p.Name, Values: values, More: uint32(p.More), Absent: p.Absent, Error: p.Error})
	}
	return c
}

// encode writes the two fields. Texts, numbers and lists can always be written.
func (c claims) encode() []byte {
	b, err := encMode.Marshal(c)
	if err != nil {
		panic(err)
	}
	return b
}

func (e *Evidence) setClaims(c claims) {
	e.Running = c.Running
	for _, p := range c.Posture {
		values := p.Values
		if len(values) == 0 {
			values = nil
		}
		e.Posture = append(e.Posture, posture.Claim{Name: p.Name, Values: values, More: int(p.More), Absent: p.Absent, Error: p.Error})
	}
}

// checkClaims is the part of step 5 of Parse that is about claims: each stands
// once, in order, its values in order and each once, within the bounds.
func (e *Evidence) checkClaims() error {
	if len(e.Posture) > maxClaims {
		return fmt.Errorf("%d claims, at most %d", len(e.Posture), maxClaims)
	}
	for i := range e.Posture {
		p := &e.Posture[i]
		if err := checkClaim(p); err != nil {
			return fmt.Errorf("claim %d: %w", i, err)
		}
		if i > 0 && e.Posture[i-1].Name >= p.Name {
			return fmt.Errorf("claim %d, %q, is out of order or stands twice", i, p.Name)
		}
	}
	if len(e.Running) > MaxRunning {
		return fmt.Errorf("running components of %d bytes, at most %d", len(e.Running), MaxRunning)
	}
	if size := len(e.claims().encode()); size > MaxClaims {
		return fmt.Errorf("claims of %d bytes, at most %d", size, MaxClaims)
	}
	return nil
}

func checkClaim(p *posture.Claim) error {
	if p.Name == "" || len(p.Name) > maxTold || !printable(p.Name) {
		return fmt.Errorf("a name of %d bytes: want 1 to %d, printable", len(p.Name), maxTold)
	}
	if len(p.Error) > maxReason || !printable(p.Error) {
		return fmt.Errorf("%s: a reason of %d bytes: want at most %d, printable", p.Name, len(p.Error), maxReason)
	}
	if p.More < 0 || p.More > 1<<31 || len(p.Values) > posture.MaxValues {
		return fmt.Errorf("%s: %d values and %d more", p.Name, len(p.Values), p.More)
	}
	if said := len(p.Values) > 0 || p.More > 0; p.Absent && (said || p.Error != "") {
		return errors.New(p.Name + ": it is absent, and something is said of it")
	}
	for i, v := range p.Values {
		if v == "" || len(v) > posture.MaxValue || !printable(v) {
			return fmt.Errorf("%s: a value of %d bytes: want 1 to %d, printable", p.Name, len(v), posture.MaxValue)
		}
		if i > 0 && p.Values[i-1] >= v {
			return fmt.Errorf("%s: value %d is out of order or stands twice", p.Name, i)
		}
	}
	return nil
}

// SetPosture takes over claims in the form that a document has: in the order of
// their names, the longest ones cut until all fit beside Running, with the number
// of their values that are left out. A claim that breaks the rules of a document is
// replaced by one that says so.
func (e *Evidence) SetPosture(told []posture.Claim) {
	list := ordered(told)
	sizes, total := make([]int, len(list)), len(claims{Running: e.Running}.encode())+listHead
	for i := range list {
		if err := checkClaim(&list[i]); err != nil {
			list[i] = posture.Claim{Name: list[i].Name, Error: "told in a form that cannot be sent"}
		}
		sizes[i] = sizeOf(list[i])
		total += sizes[i]
	}
	for total > MaxClaims {
		longest := 0
		for i := range sizes {
			if sizes[i] > sizes[longest] {
				longest = i
			}
		}
		c := &list[longest]
		if left := len(c.Values) / 2; len(c.Values) > 0 {
			c.More += len(c.Values) - left
			if c.Values = c.Values[:left:left]; left == 0 {
				c.Values = nil
			}
		} else { // names alone fit
			c.Error = strings.ToValidUTF8(c.Error[:len(c.Error)/2], "")
		}
		total -= sizes[longest]
		sizes[longest] = sizeOf(*c)
		total += sizes[longest]
	}
	e.Posture = list
}

// ordered are claims in the order of their names, the first of each that has one, at
// most as many as a document takes.
func ordered(told []posture.Claim) []posture.Claim {
	var list []posture.Claim
	for _, c := range told {
		if checkClaim(&posture.Claim{Name: c.Name}) != nil || len(list) == maxClaims {
			continue
		}
		at := len(list)
		for at > 0 && list[at-1].Name > c.Name {
			at--
		}
		if at > 0 && list[at-1].Name == c.Name {
			continue
		}
		list = append(list, posture.Claim{})
		copy(list[at+1:], list[at:])
		list[at] = c
	}
	return list
}

// listHead is what a list costs beside its content: the map's key and the array's
// head.
const listHead = 2 + 2

func sizeOf(c posture.Claim) int {
	e := Evidence{Posture: []posture.Claim{c}}
	return len(e.claims().encode())
}
