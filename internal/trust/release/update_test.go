package release_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"ward/internal/trust/release"
)

func upTo(n uint64) *uint64 { return &n }

// Verifies: SR-039
func TestMayInstall(t *testing.T) {
	running := bound() // index 3, version 1.2.3
	from := func(rules ...release.From) func(*release.Manifest) {
		return func(m *release.Manifest) { m.Update = &release.Update{From: rules} }
	}
	withPolicy := func(n byte, base uint64) func(*release.Manifest) {
		return func(m *release.Manifest) {
			*m = approved(t, *m, release.Approval{Base: base}, fixedKey(t, n))
		}
	}
	none := func(*release.Manifest) {}
	for _, tt := range []struct {
		name    string
		running func(*release.Manifest)
		next    func(*release.Manifest)
		says    string // empty: may
	}{
		{"the next", none, func(m *release.Manifest) { m.RollbackIndex++ }, ""},
		{"the same again", none, none, ""},
		{"another product", none, func(m *release.Manifest) { m.Product = "monitor" }, "product"},
		{"another board", none, func(m *release.Manifest) { m.Board = "qemu-aarch64" }, "board"},
		{"an older one", none, func(m *release.Manifest) { m.RollbackIndex-- }, "rollback index 2 is below the running release's, 3"},
		{"rules that fit the version", none, from(release.From{Version: "1.0.0"}, release.From{Version: "1.2.3"}), ""},
		{"rules for other versions", none, from(release.From{Version: "1.0.0"}), "install a release between them first"},
		{"rules that fit the index", none, from(release.From{AtLeast: 2, AtMost: upTo(3)}), ""},
		{"from a later index", none, from(release.From{AtLeast: 4}), "do not admit an update from version 1.2.3 with rollback index 3"},
		{"up to an earlier index", none, from(release.From{AtMost: upTo(2)}), "do not admit"},
		{"version fits, index not", none, from(release.From{Version: "1.2.3", AtLeast: 4}), "do not admit"},
		{"the first identity policy", none, withPolicy(1, base), ""},
		{"the same policy key", withPolicy(1, base), withPolicy(1, base), ""},
		{"no identity policy any more", withPolicy(1, base), none, "no identity policy"},
		{"another policy key", withPolicy(1, base), withPolicy(2, base), "another policy key"},
		{"another base", withPolicy(1, base), withPolicy(1, base+1), "counts from base 21, the running release's from 20"},
	} {
		r, n := running, bound()
		tt.running(&r)
		tt.next(&n)
		may, why := release.MayInstall(opened(t, r), opened(t, n))
		if may != (tt.says == "") || !strings.Contains(why, tt.says) || may != (why == "") {
			t.Errorf("%s: %t, %q, want %q", tt.name, may, why, tt.says)
		}
	}
	for name, pair := range map[string][2]*release.Verified{
		"running nothing": {nil, opened(t, running)}, "to nothing": {opened(t, running), nil}, "zero values": {{}, {}},
	} {
		if may, why := release.MayInstall(pair[0], pair[1]); may || why == "" {
			t.Errorf("%s: may", name)
		}
	}
}

// Verifies: SR-039
func TestParseRefusesUpdateRules(t *testing.T) {
	for name, tt := range map[string]struct {
		update release.Update
		says   string
	}{
		"no rule":              {release.Update{From: []release.From{}}, "update.from: 0 rules"},
		"too many":             {release.Update{From: make([]release.From, 257)}, "update.from: 257 rules"},
		"one that says nought": {release.Update{From: []release.From{{Version: "1"}, {}}}, "update.from[1]: admits every release"},
		"upside down":          {release.Update{From: []release.From{{AtLeast: 3, AtMost: upTo(2)}}}, "update.from[0].atMost: 2 is below"},
		"a strange version":    {release.Update{From: []release.From{{Version: "1\x1b"}}}, "update.from[0].version"},
	} {
		m := bound()
		m.Update = &tt.update
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := release.Parse(text); !errors.Is(err, release.ErrManifest) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: error %v, want one with %q", name, err, tt.says)
		}
	}
}

// Verifies: SR-038
func TestDecideRaise(t *testing.T) {
	key := fixedKey(t, 1)
	trusted := policyKey(t, key)
	other := policyKey(t, fixedKey(t, 2))
	full := opened(t, approved(t, bound(), release.Approval{Base: base}, key)) // up to 23
	silent := opened(t, approved(t, bound(), release.Approval{Base: base, NoRaise: true}, key))
	good := release.Standing{Running: full, Trusted: &trusted, Affirming: true, Confirmed: true, Counter: 21}
	for _, tt := range []struct {
		name   string
		change func(*release.Standing)
		want   release.Gate
	}{
		{"all is well", func(*release.Standing) {}, release.GateOpen},
		{"no release", func(s *release.Standing) { s.Running = nil }, release.GateUnverified},
		{"a zero release", func(s *release.Standing) { s.Running = new(release.Verified) }, release.GateUnverified},
		{"no identity policy", func(s *release.Standing) { s.Running = opened(t, bound()) }, release.GateUnbound},
		{"no trusted key", func(s *release.Standing) { s.Trusted = nil }, release.GateForeign},
		{"another trusted key", func(s *release.Standing) { s.Trusted = &other }, release.GateForeign},
		{"counter ahead", func(s *release.Standing) { s.Counter = 24 }, release.GateLockedOut},
		{"counter ahead, nothing else good", func(s *release.Standing) { *s = release.Standing{Running: full, Trusted: &trusted, Counter: 24} }, release.GateLockedOut},
		{"counter there", func(s *release.Standing) { s.Counter = 23 }, release.GateCurrent},
		{"boot not affirming", func(s *release.Standing) { s.Affirming = false }, release.GateNotAffirming},
		{"not confirmed", func(s *release.Standing) { s.Confirmed = false }, release.GateUnconfirmed},
		{"neither", func(s *release.Standing) { s.Affirming, s.Confirmed = false, false }, release.GateNotAffirming},
		{"no permission", func(s *release.Standing) { s.Running = silent }, release.GateNotPermitted},
		{"no permission, nothing else good", func(s *release.Standing) { *s = release.Standing{Running: silent, Trusted: &trusted} }, release.GateNotPermitted},
		{"counter far behind", func(s *release.Standing) { s.Counter = 0 }, release.GateOpen},
	} {
		s := good
		tt.change(&s)
		d := release.DecideRaise(s)
		if d.Gate != tt.want || d.Reason == "" {
			t.Errorf("%s: %s (%s), want %s", tt.name, d.Gate, d.Reason, tt.want)
		}
		if open := d.Gate == release.GateOpen; open != (d.Raise.To == 23) || !open && d.Raise.Signature != nil {
			t.Errorf("%s: permission %+v with gate %s", tt.name, d.Raise, d.Gate)
		}
		if open := d.Gate == release.GateOpen; open && d.Raise.Verify(trusted) != nil {
			t.Errorf("%s: the permission is not the policy key's", tt.name)
		}
	}
	if d := release.DecideRaise(release.Standing{}); d.Gate != release.GateUnverified || d.Raise.To != 0 {
		t.Errorf("nothing known: %+v", d)
	}
	for g := release.GateUnverified; g <= release.GateOpen; g++ {
		if strings.Contains(g.String(), "Gate") {
			t.Errorf("gate %d has no word", g)
		}
	}
	if release.Gate(99).String() != "Gate(99)" || release.Gate(-1).String() != "Gate(-1)" {
		t.Error("words of gates that do not exist")
	}
}
