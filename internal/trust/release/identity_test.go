package release_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"ward/internal/format/dsse"
	"ward/internal/format/pcr"
	"ward/internal/trust/policy"
	"ward/internal/trust/release"
)

const base = 20

// fixedKey is a key that is the same in every run, so that signatures are too.
func fixedKey(t testing.TB, n byte) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{n}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func policyKey(t testing.TB, k crypto.Signer) policy.Key {
	t.Helper()
	key, err := policy.NewKey(k.Public().(*ecdsa.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// bound is a manifest of two firmware that differ in PCR 7, and of a user space
// that extends PCR 11 once; not approved yet.
func bound() release.Manifest {
	exact := func(first, second byte, events ...release.ReferenceEvent) release.Reference {
		return release.Reference{Mode: release.Exact, UserEvents: events, Values: []release.Value{
			{Digest: repeat(first), Firmware: "1.0"}, {Digest: repeat(second), Firmware: "2.0"}}}
	}
	m := manifest()
	m.RollbackIndex = 3
	m.Boot = release.Boot{
		Bank: "sha256", Firmware: []string{"1.0", "2.0"},
		PCRs: map[int]release.Reference{
			0: {Mode: release.Recorded, Reason: "varies"},
			4: exact(4, 4), 5: {Mode: release.Events},
			7:  exact(7, 8),
			11: exact(11, 11, release.ReferenceEvent{Type: "user", Digest: repeat(9), Text: "enter-initrd"}),
			12: exact(0, 0),
		},
	}
	return m
}

func approved(t testing.TB, m release.Manifest, a release.Approval, key crypto.Signer) release.Manifest {
	t.Helper()
	out, err := m.Approve(a, key)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Verifies: SR-037
func TestApprove(t *testing.T) {
	key := fixedKey(t, 1)
	m := approved(t, bound(), release.Approval{Base: base}, key)
	text := encode(t, m)
	golden(t, "manifest-bound.v1.json", text)
	if again := encode(t, approved(t, bound(), release.Approval{Base: base}, key)); !bytes.Equal(again, text) {
		t.Error("approved twice, the bytes differ")
	}
	read, err := release.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	p := read.IdentityPolicy
	if !reflect.DeepEqual(p, m.IdentityPolicy) || len(p.Approvals) != 4 || p.Raise == nil || p.Raise.To != base+3 || p.Base != base {
		t.Fatalf("identity policy %+v", p)
	}
	named, err := p.Key()
	if err != nil || !bytes.Equal(named.Name, policyKey(t, key).Name) {
		t.Errorf("key %x, %v", named.Name, err)
	}
	// Each firmware, before and after user space has extended PCR 11.
	extended := sha256.Sum256(append(repeat(11), repeat(9)...))
	var want []pcr.Values
	for _, seven := range []byte{7, 8} {
		for _, eleven := range [][]byte{repeat(11), extended[:]} {
			want = append(want, pcr.Values{7: repeat(seven), 11: eleven, 12: repeat(0)})
		}
	}
	for i, a := range p.Approvals {
		if !reflect.DeepEqual(a.Values, want[i]) || a.AtMost != base+3 || a.Bank != pcr.SHA256 {
			t.Errorf("approval %d: %+v", i, a)
		}
		if fit, ok := policy.Choose(p.Approvals, pcr.SHA256, want[i]); !ok || !bytes.Equal(fit.Signature, a.Signature) {
			t.Errorf("state %d is not found", i)
		}
	}

	other := approved(t, bound(), release.Approval{Base: base, PCRs: []int{4, 7}, NoRaise: true}, key)
	if p := other.IdentityPolicy; len(p.Approvals) != 2 || p.Raise != nil || len(other.Boot.Composites) != 2 {
		t.Errorf("other registers: %+v, composites %+v", p, other.Boot.Composites)
	}
	encode(t, approved(t, other, release.Approval{Base: base, PCRs: []int{4, 7}}, key)) // signed anew
	same := bound()
	same.Boot.PCRs[7].Values[1].Digest = repeat(7)
	if p := approved(t, same, release.Approval{Base: base}, key).IdentityPolicy; len(p.Approvals) != 2 {
		t.Errorf("two firmware with the same registers: %d approvals, want 2", len(p.Approvals))
	}
}

// Verifies: SR-037
func TestApproveRefuses(t *testing.T) {
	long := make([]release.ReferenceEvent, 128)
	for i := range long {
		long[i] = release.ReferenceEvent{Type: "user", Digest: repeat(byte(i))}
	}
	for _, tt := range []struct {
		name   string
		change func(*release.Manifest)
		a      release.Approval
		says   string
	}{
		{"no base", nil, release.Approval{}, "identityPolicy.base: 0"},
		{"more than a counter holds", nil, release.Approval{Base: 1<<64 - 2}, "more than a counter can hold"},
		{"a recorded register", nil, release.Approval{Base: base, PCRs: []int{0, 7}}, "PCR 0 is recorded and has no exact value: varies"},
		{"one judged by events", nil, release.Approval{Base: base, PCRs: []int{5}}, "PCR 5 is judged by its events"},
		{"one that is not there", nil, release.Approval{Base: base, PCRs: []int{3}}, "PCR 3 is not in the manifest"},
		{"out of order", nil, release.Approval{Base: base, PCRs: []int{7, 4}}, "ascending"},
		{"none", nil, release.Approval{Base: base, PCRs: []int{}}, "ascending"},
		{"one twice", nil, release.Approval{Base: base, PCRs: []int{7, 7}}, "ascending"},
		{"too many steps", func(m *release.Manifest) {
			r := m.Boot.PCRs[11]
			r.UserEvents = long
			m.Boot.PCRs[11] = r
		}, release.Approval{Base: base}, "more than 128"},
	} {
		m := bound()
		if tt.change != nil {
			tt.change(&m)
		}
		out, err := m.Approve(tt.a, fixedKey(t, 1))
		if err == nil {
			_, err = release.Encode(out)
		}
		if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.says)
		}
	}
	p384, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), bytes.Repeat([]byte{1}, 48))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bound().Approve(release.Approval{Base: base}, p384); !errors.Is(err, policy.ErrKey) {
		t.Errorf("a key on P-384: %v", err)
	}
}

// Verifies: SR-037
func TestParseRefusesIdentityPolicies(t *testing.T) {
	good := approved(t, bound(), release.Approval{Base: base}, fixedKey(t, 1))
	thief := approved(t, bound(), release.Approval{Base: base}, fixedKey(t, 2)).IdentityPolicy
	next := bound()
	next.RollbackIndex++
	later := approved(t, next, release.Approval{Base: base}, fixedKey(t, 1)).IdentityPolicy
	strange := bound()
	strange.Boot.PCRs[7].Values[0].Digest = repeat(66)
	foreign := approved(t, strange, release.Approval{Base: base}, fixedKey(t, 1)).IdentityPolicy
	fewer := approved(t, bound(), release.Approval{Base: base, PCRs: []int{7, 12}}, fixedKey(t, 1)).IdentityPolicy
	for _, tt := range []struct {
		name   string
		change func(*release.IdentityPolicy)
		says   string
	}{
		{"no key", func(p *release.IdentityPolicy) { p.PolicyKey = []byte{} }, "policyKey: parse policy key"},
		{"no such key", func(p *release.IdentityPolicy) { p.PolicyKey = p.PolicyKey[:40] }, "policyKey: parse policy key"},
		{"another key", func(p *release.IdentityPolicy) { p.PolicyKey = thief.PolicyKey }, "approvals[0].signature"},
		{"base changed", func(p *release.IdentityPolicy) { p.Base++ }, "approvals[0].counterAtMost: 23, want base and rollback index, 24"},
		{"base 0", func(p *release.IdentityPolicy) { p.Base = 0 }, "base: 0"},
		{"no approval", func(p *release.IdentityPolicy) { p.Approvals = []policy.Approval{} }, "approvals: 0, want 1 to 128"},
		{"too many", func(p *release.IdentityPolicy) { p.Approvals = slices.Repeat(p.Approvals, 33) }, "approvals: 132"},
		{"of another release", func(p *release.IdentityPolicy) { p.Approvals = later.Approvals }, "approvals[0].counterAtMost: 24"},
		{"unsigned", func(p *release.IdentityPolicy) { p.Approvals[1].Signature = nil }, "approvals[1].signature"},
		{"signed by another", func(p *release.IdentityPolicy) { p.Approvals[1] = thief.Approvals[1] }, "approvals[1].signature"},
		{"another bank", func(p *release.IdentityPolicy) { p.Approvals[0].Bank = pcr.SHA384 }, "approvals[0].bank"},
		{"other registers", func(p *release.IdentityPolicy) { p.Approvals[0] = fewer.Approvals[0] }, "approvals[0].pcrs: [7 12], want [7 11 12] or those of a composite"},
		{"no registers", func(p *release.IdentityPolicy) { p.Approvals[0].Values = pcr.Values{} }, "approvals[0].pcrs"},
		{"a short value", func(p *release.IdentityPolicy) { p.Approvals[0].Values[7] = repeat(7)[:31] }, "approvals[0].pcrs.7: 31 bytes"},
		{"a state that the release refuses", func(p *release.IdentityPolicy) { p.Approvals[0] = foreign.Approvals[0] }, "approvals[0].pcrs: a state that the release itself does not accept under any firmware"},
		{"a state twice", func(p *release.IdentityPolicy) { p.Approvals[3] = p.Approvals[0] }, "approvals[3]: the boot state stands twice"},
		{"raise beyond", func(p *release.IdentityPolicy) { p.Raise = later.Raise }, "raise.to: 24, want base and rollback index, 23"},
		{"raise not signed", func(p *release.IdentityPolicy) { p.Raise.Signature = nil }, "raise.signature"},
		{"raise signed by another", func(p *release.IdentityPolicy) { p.Raise = thief.Raise }, "raise.signature"},
		{"an approval's signature", func(p *release.IdentityPolicy) { p.Raise.Signature = p.Approvals[0].Signature }, "raise.signature"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := release.Parse(encode(t, good)) // a copy
			if err != nil {
				t.Fatal(err)
			}
			tt.change(m.IdentityPolicy)
			text, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			_, err = release.Parse(text)
			if !errors.Is(err, release.ErrManifest) || !strings.Contains(err.Error(), "identityPolicy."+tt.says) {
				t.Errorf("error %v, want %v with %q", err, release.ErrManifest, tt.says)
			}
			if err != nil && (strings.Contains(err.Error(), "\n") || len(err.Error()) > 400) {
				t.Errorf("not one short line: %q", err)
			}
		})
	}
	text := string(encode(t, good))
	for _, tt := range []struct{ name, old, with, says string }{
		{"unknown field", `"base":20`, `"base":20,"basis":20`, `unknown field "identityPolicy.basis"`},
		{"field twice", `"base":20`, `"base":21,"base":20`, `"identityPolicy.base" stands twice`},
		{"register twice", `"pcrs":{"11":`, `"pcrs":{"011":"00","11":`, "leading zeros"},
		{"approvals null", `"approvals":[`, `"approvals":null,"posture":[`, "identityPolicy"},
		{"no identity policy but null", `"identityPolicy":{`, `"identityPolicy":null,"sbom":{`, `"identityPolicy": null`},
	} {
		if !strings.Contains(text, tt.old) {
			t.Fatalf("%q not in %s", tt.old, text)
		}
		if _, err := release.Parse([]byte(strings.Replace(text, tt.old, tt.with, 1))); !errors.Is(err, release.ErrManifest) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.says)
		}
	}
}

// Verifies: SR-037
func TestPolicyKeyIsNoReleaseKey(t *testing.T) {
	m := approved(t, bound(), release.Approval{Base: base}, fixedKey(t, 1))
	if _, err := release.Sign(m, fixedKey(t, 3), fixedKey(t, 1)); err == nil || !strings.Contains(err.Error(), "policy key") {
		t.Errorf("signed by the policy key: %v", err)
	}
	if _, err := release.Sign(m, fixedKey(t, 3)); err != nil {
		t.Error(err)
	}
}

// Verifies: SR-037
func TestVerifiedIdentityPolicyIsACopy(t *testing.T) {
	m := approved(t, bound(), release.Approval{Base: base}, fixedKey(t, 1))
	most := uint64(3)
	m.Update = &release.Update{From: []release.From{{AtMost: &most}}}
	v := opened(t, m)
	got := v.Manifest()
	got.IdentityPolicy.PolicyKey[3] ^= 1
	got.IdentityPolicy.Approvals[0].Values[7] = repeat(1)
	got.IdentityPolicy.Approvals[0].Signature[3] ^= 1
	got.IdentityPolicy.Raise.Signature[3] ^= 1
	*got.Update.From[0].AtMost = 9
	if !reflect.DeepEqual(v.Manifest().IdentityPolicy, m.IdentityPolicy) || *v.Manifest().Update.From[0].AtMost != 3 {
		t.Error("a verified manifest was changed")
	}
}

// opened signs and verifies a manifest.
func opened(t testing.TB, m release.Manifest) *release.Verified {
	t.Helper()
	key := fixedKey(t, 3)
	envelope, err := release.Sign(m, key)
	if err != nil {
		t.Fatal(err)
	}
	v, err := release.Open(envelope, keyring(t, key), 1)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Who has no release keys reads the identity policy of any envelope, and takes
// only what the policy key signed.
//
// Verifies: SR-037
func TestUntrustedIdentityPolicy(t *testing.T) {
	m := approved(t, bound(), release.Approval{Base: base}, fixedKey(t, 1))
	trusted := policyKey(t, fixedKey(t, 1))
	sign := func(kind string, payload []byte) []byte {
		e, err := dsse.Sign(kind, payload, fixedKey(t, 4)) // by whomever
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	p, err := release.ParseUntrustedIdentityPolicy(sign(release.PayloadType, encode(t, m)), trusted)
	if err != nil || !reflect.DeepEqual(p, m.IdentityPolicy) {
		t.Fatalf("%+v, %v", p, err)
	}
	if p, err := release.ParseUntrustedIdentityPolicy(sign(release.PayloadType, encode(t, bound())), trusted); p != nil || err != nil {
		t.Errorf("without one: %+v, %v", p, err)
	}
	forged := bytes.Replace(encode(t, m), []byte(base64.StdEncoding.EncodeToString(m.IdentityPolicy.Approvals[0].Signature)), []byte(base64.StdEncoding.EncodeToString(m.IdentityPolicy.Approvals[1].Signature)), 1)
	for _, tt := range []struct {
		name     string
		envelope []byte
		key      policy.Key
		want     error
	}{
		{"by another key", sign(release.PayloadType, encode(t, m)), policyKey(t, fixedKey(t, 2)), release.ErrPolicyKey},
		{"no key", sign(release.PayloadType, encode(t, m)), policy.Key{}, release.ErrPolicyKey},
		{"a signature exchanged", sign(release.PayloadType, forged), trusted, release.ErrManifest},
		{"a receipt", sign("application/vnd.ward.receipt.v1+json", encode(t, m)), trusted, dsse.ErrPayloadType},
		{"schema 2", sign(release.PayloadType, []byte(`{"schema":2}`)), trusted, release.ErrSchema},
		{"no envelope", encode(t, m), trusted, dsse.ErrMalformed},
		{"nothing", nil, trusted, dsse.ErrMalformed},
	} {
		if p, err := release.ParseUntrustedIdentityPolicy(tt.envelope, tt.key); p != nil || !errors.Is(err, tt.want) {
			t.Errorf("%s: %+v, %v, want %v", tt.name, p, err, tt.want)
		}
	}
}

// What is returned is signed by the key that was given, whatever came in.
func FuzzParseUntrustedIdentityPolicy(f *testing.F) {
	m := approved(f, bound(), release.Approval{Base: base}, fixedKey(f, 1))
	trusted := policyKey(f, fixedKey(f, 1))
	envelope, err := release.Sign(m, fixedKey(f, 3))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(envelope)
	f.Add(envelope[:len(envelope)/2])
	f.Add(fmt.Appendf(nil, `{"payloadType":%q,"payload":"e30=","signatures":[]}`, release.PayloadType))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := release.ParseUntrustedIdentityPolicy(b, trusted)
		if err != nil || p == nil {
			if p != nil {
				t.Fatal("an error and a policy")
			}
			return
		}
		for _, a := range p.Approvals {
			if err := a.Verify(trusted); err != nil {
				t.Fatal(err)
			}
		}
		if p.Raise != nil && p.Raise.Verify(trusted) != nil {
			t.Fatal("the permission is not by the key")
		}
	})
}
