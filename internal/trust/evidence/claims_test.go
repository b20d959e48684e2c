package evidence_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ward/internal/trust/evidence"
	"ward/internal/trust/posture"
)

// told makes claims with values of a length.
func told(claims, values, length int) []posture.Claim {
	var out []posture.Claim
	for i := range claims {
		c := posture.Claim{Name: fmt.Sprintf("claim.%03d", i)}
		for j := range values {
			c.Values = append(c.Values, fmt.Sprintf("%04d%s", j, strings.Repeat("x", length-4)))
		}
		out = append(out, c)
	}
	return out
}

// The digest that quotes sign is SHA-256 over the domain and the two fields, taken
// apart by hand (RFC 8949, appendix B).
//
// Verifies: SR-095
func TestClaimsGolden(t *testing.T) {
	none, some := evidence.Evidence{}, evidence.Evidence{
		Posture: []posture.Claim{{Name: "a", Values: []string{"b"}, More: 2}, {Name: "c", Absent: true}},
		Running: []byte{7},
	}
	for encoded, e := range map[string]*evidence.Evidence{
		"a0": &none,
		"a2" + "15" + "82" + "85" + "6161" + "81" + "6162" + "02" + "f4" + "60" + "85" + "6163" + "80" + "00" + "f5" + "60" + "16" + "4107": &some,
	} {
		b, err := hex.DecodeString(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := e.Claims(), sha256.Sum256(append([]byte("ward claims v1\n"), b...)); got != want {
			t.Errorf("digest %x, want %x", got, want)
		}
	}
	// What is told in another field is another digest, and so is every change.
	digests := map[[32]byte]string{none.Claims(): "nothing", some.Claims(): "something"}
	for name, change := range map[string]func(e *evidence.Evidence){
		"another name":     func(e *evidence.Evidence) { e.Posture[0].Name = "b" },
		"another value":    func(e *evidence.Evidence) { e.Posture[0].Values = []string{"c"} },
		"a value more":     func(e *evidence.Evidence) { e.Posture[0].Values = []string{"b", "c"} },
		"more left out":    func(e *evidence.Evidence) { e.Posture[0].More = 3 },
		"not absent":       func(e *evidence.Evidence) { e.Posture[1].Absent = false },
		"an error":         func(e *evidence.Evidence) { e.Posture[1] = posture.Claim{Name: "c", Error: "d"} },
		"a claim less":     func(e *evidence.Evidence) { e.Posture = e.Posture[:1] },
		"something runs":   func(e *evidence.Evidence) { e.Running = []byte{6} },
		"nothing runs":     func(e *evidence.Evidence) { e.Running = nil },
		"nothing is told":  func(e *evidence.Evidence) { e.Posture = nil },
		"the other tenant": nil, // it is signed by other means
	} {
		e := evidence.Evidence{Posture: slices.Clone(some.Posture), Running: some.Running}
		if change == nil {
			if e.Tenant = "other"; e.Claims() != some.Claims() {
				t.Errorf("%s changes the digest", name)
			}
			continue
		}
		change(&e)
		if other, ok := digests[e.Claims()]; ok {
			t.Errorf("%s has the digest of %s", name, other)
		}
		digests[e.Claims()] = name
	}
}

// Claims that are too long are cut, and say so; what is set can always be written,
// and is read as it was set.
//
// Verifies: SR-095
func TestSetPosture(t *testing.T) {
	hostile := []posture.Claim{
		{Name: "z", Values: []string{"\x1b[2J"}}, {Name: ""}, {Name: "bad\nname"}, {Name: "y", Absent: true, Error: "x"},
		{Name: "x", More: -1}, {Name: "w", Values: []string{"b", "a"}}, {Name: "v", Values: []string{"v"}}, {Name: "v", Values: []string{"u"}},
		{Name: strings.Repeat("n", 65)},
	}
	var reasons []posture.Claim
	for i := range 200 {
		reasons = append(reasons, posture.Claim{Name: fmt.Sprintf("%03d%s", i, strings.Repeat("n", 60)), Error: strings.Repeat("e", 512)})
	}
	for name, c := range map[string]struct {
		told    []posture.Claim
		running int
		claims  int
		cut     bool
	}{
		"nothing":                {nil, 0, 0, false},
		"a usual device":         {told(40, 10, 30), evidence.MaxRunning, 40, false},
		"modules of a desktop":   {append(told(40, 10, 30), posture.Claim{Name: "modules", Values: told(1, 1024, 20)[0].Values}), 0, 41, true},
		"all that there can be":  {told(128, 1024, 512), evidence.MaxRunning, 128, true},
		"more than there can be": {told(200, 1, 5), 0, 128, false},
		"reasons without end":    {reasons, evidence.MaxRunning, 128, false},
		"hostile":                {hostile, 0, 5, false},
	} {
		e := evidence.Evidence{Running: make([]byte, c.running)}
		if c.running == 0 {
			e.Running = nil
		}
		e.SetPosture(c.told)
		b, err := evidence.Encode(e)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		again, err := evidence.Parse(b)
		if err != nil || !cmp.Equal(again.Posture, e.Posture) || again.Claims() != e.Claims() {
			t.Errorf("%s: %v, %s", name, err, cmp.Diff(e.Posture, again.Posture))
		}
		if len(e.Posture) != c.claims {
			t.Errorf("%s: %d claims, want %d", name, len(e.Posture), c.claims)
		}
		more, values, had := 0, 0, 0
		for _, p := range e.Posture {
			more, values = more+p.More, values+len(p.Values)
		}
		for _, p := range c.told[:min(len(c.told), 128)] {
			had += len(p.Values)
		}
		if (more > 0) != c.cut || name != "hostile" && more+values != had {
			t.Errorf("%s: %d values of %d, %d left out", name, values, had, more)
		}
		if c.cut && len(b) < evidence.MaxClaims/2 {
			t.Errorf("%s: cut down to %d bytes", name, len(b))
		}
	}
	e := evidence.Evidence{}
	e.SetPosture(hostile)
	for _, p := range e.Posture {
		if p.Name != "v" && p.Error == "" {
			t.Errorf("%+v hides what was told", p)
		}
	}
	if first := e.Posture[0]; first.Name != "v" || first.Values[0] != "v" {
		t.Errorf("of two claims of one name %+v stays", first)
	}
}
