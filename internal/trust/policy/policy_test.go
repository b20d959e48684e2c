package policy

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/format/pcr"
)

// testKey is a key that is the same in every run.
func testKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	d, _ := hex.DecodeString("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721") // RFC 6979, A.2.5
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func namedKey(t *testing.T) Key {
	t.Helper()
	key, err := NewKey(&testKey(t).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func state(n byte) pcr.Values {
	return pcr.Values{7: bytes.Repeat([]byte{n}, 32), 11: bytes.Repeat([]byte{n + 1}, 32), 12: make([]byte, 32)}
}

// Keys in the field hold these digests. That a TPM and tpm2-tools come to the same
// ones is shown in device/tpm (TestPolicyDigestsAreTheTPMs).
func TestGoldenDigests(t *testing.T) {
	key := namedKey(t)
	approval := Approval{Bank: pcr.SHA256, Values: state(1), AtMost: 1007}
	approved, err := approval.Digest(key)
	if err != nil {
		t.Fatal(err)
	}
	registers, err := Digest{}.PCR(pcr.SHA256, state(1))
	if err != nil {
		t.Fatal(err)
	}
	raise := Raise{To: 1007}.Digest(key)
	boot := BootPolicy(key)
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"name of the policy key", key.Name, "000b3839c7544673a8235a50bc1825d61413402ac3cb16b33889bd93a5173f085ae9"},
		{"name of the counter", RollbackCounter(key).Name(true), "000bd2c8ec6b48b702384d306162813cedcbf79546e41b2a25e4e5f16307a13c8c41"},
		{"registers", registers[:], "b52f8651dec91057e522a232078ea9d8e52b3e9926043c34ac75fb66e0b67d92"},
		{"boot state", approved[:], "af18075ebb170a709bd6451d17a7f32093c3fd4747e96ab55babe9d1562d0460"},
		{"boot policy", boot[:], "9391beaeb97405e0f919faa4384e19897e2a98d9709b5ad89e8184125b59284d"},
		{"raise", raise[:], "53e5bced5e22f76522d095e93f73e8db769f9114bda3bed1546ffecbcaf43d47"},
		{"message", Message(approved, approval.Reference()), "fe1246b344abb0fcac0a98d9c0c3a15a4034611515da0ca9436a76b459286e16"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// PolicySecret of the endorsement hierarchy is a constant of the EK Credential
// Profile (section B.6.2).
func TestPolicySecretOfTheEndorsementHierarchy(t *testing.T) {
	got := Digest{}.Secret([]byte{0x40, 0, 0, 0x0b}, nil)
	if want := "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"; hex.EncodeToString(got[:]) != want {
		t.Errorf("%x, want %s", got, want)
	}
}

// go-tpm's calculator comes to the same digests.
func TestDigestsAgreeWithCalculator(t *testing.T) {
	key := namedKey(t)
	index := RollbackCounter(key)
	public, err := tpm2.Unmarshal[tpm2.TPMSNVPublic](index.Area(true))
	if err != nil {
		t.Fatal(err)
	}
	name, err := tpm2.NVName(public)
	if err != nil || !bytes.Equal(name.Buffer, index.Name(true)) {
		t.Errorf("counter's name %x, go-tpm %x, %v", index.Name(true), name.Buffer, err)
	}
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](key.Area)
	if err != nil {
		t.Fatal(err)
	}
	keyName, err := tpm2.ObjectName(area)
	if err != nil || !bytes.Equal(keyName.Buffer, key.Name) {
		t.Errorf("key's name %x, go-tpm %x, %v", key.Name, keyName.Buffer, err)
	}
	calculator, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	selection, composite, err := Composite(pcr.SHA256, state(1))
	if err != nil {
		t.Fatal(err)
	}
	registers, err := tpm2.Unmarshal[tpm2.TPMLPCRSelection](selection)
	if err != nil {
		t.Fatal(err)
	}
	approval := Approval{Bank: pcr.SHA256, Values: state(1), AtMost: 9}
	handle := tpm2.NamedHandle{Handle: tpm2.TPMHandle(index.Handle), Name: tpm2.TPM2BName{Buffer: index.Name(true)}}
	for _, command := range []tpm2.PolicyCommand{
		tpm2.PolicyNV{NVIndex: handle, OperandB: tpm2.TPM2BOperand{Buffer: approval.Operand()}, Operation: tpm2.TPMEOUnsignedLE},
		tpm2.PolicyPCR{PcrDigest: tpm2.TPM2BDigest{Buffer: composite}, Pcrs: *registers},
	} {
		if err := command.Update(calculator); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := approval.Digest(key); err != nil || !bytes.Equal(got[:], calculator.Hash().Digest) {
		t.Errorf("%x, go-tpm %x, %v", got, calculator.Hash().Digest, err)
	}
	one, two := BootPolicy(key), Raise{To: 1}.Digest(key)
	calculator.Reset()
	if err := (tpm2.PolicyOr{PHashList: tpm2.TPMLDigest{Digests: []tpm2.TPM2BDigest{{Buffer: one[:]}, {Buffer: two[:]}}}}).Update(calculator); err != nil {
		t.Fatal(err)
	}
	if got := Or(one, two); !bytes.Equal(got[:], calculator.Hash().Digest) {
		t.Errorf("or: %x, go-tpm %x", got, calculator.Hash().Digest)
	}
}

// Verifies: SR-012
func TestApprovalIsSigned(t *testing.T) {
	private, key := testKey(t), namedKey(t)
	signed, err := Approval{Bank: pcr.SHA256, Values: state(1), AtMost: 5}.Sign(rand.Reader, private)
	if err != nil {
		t.Fatal(err)
	}
	if err := signed.Verify(key); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(signed)
	if err != nil {
		t.Fatal(err)
	}
	var back Approval
	if err := json.Unmarshal(text, &back); err != nil || back.Verify(key) != nil {
		t.Errorf("after JSON: %v, %v", err, back.Verify(key))
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewKey(&stranger.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(*Approval)) Approval { a := signed; f(&a); return a }
	for _, c := range []struct {
		name     string
		approval Approval
		key      Key
	}{
		{"another register value", change(func(a *Approval) { a.Values = state(2) }), key},
		{"a register less", change(func(a *Approval) { a.Values = pcr.Values{7: a.Values[7]} }), key},
		{"a later counter", change(func(a *Approval) { a.AtMost++ }), key},
		{"no signature", change(func(a *Approval) { a.Signature = nil }), key},
		{"another key", signed, other},
	} {
		if err := c.approval.Verify(c.key); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v, want ErrSignature", c.name, err)
		}
	}
	// What is signed for one purpose serves no other.
	raise, err := Raise{To: 5}.Sign(rand.Reader, private)
	if err != nil || raise.Verify(key) != nil {
		t.Fatalf("%v, %v", err, raise.Verify(key))
	}
	if (Raise{To: 6, Signature: raise.Signature}).Verify(key) == nil || (Raise{To: 5, Signature: signed.Signature}).Verify(key) == nil || raise.Verify(other) == nil {
		t.Error("a permission for another value, with an approval's signature, or by another key was taken")
	}
	if bytes.Equal(Message(BootPolicy(key), signed.Reference()), Message(BootPolicy(key), raise.Reference())) {
		t.Error("two purposes, one message")
	}
}

func TestChoose(t *testing.T) {
	approvals := []Approval{
		{Bank: pcr.SHA256, Values: nil},
		{Bank: pcr.SHA256, Values: pcr.Values{7: nil}},
		{Bank: pcr.SHA256, Values: state(1), AtMost: 1},
		{Bank: pcr.SHA256, Values: state(2), AtMost: 2},
	}
	more := state(2)
	more[0] = make([]byte, 32)
	for _, c := range []struct {
		name   string
		bank   pcr.Algorithm
		values pcr.Values
		want   uint64
	}{
		{"the first", pcr.SHA256, state(1), 1},
		{"the second, with another register", pcr.SHA256, more, 2},
		{"another state", pcr.SHA256, state(3), 0},
		{"another bank", pcr.SM3256, state(1), 0},
		{"a register missing", pcr.SHA256, pcr.Values{7: state(1)[7], 11: state(1)[11]}, 0},
		{"nothing", pcr.SHA256, nil, 0},
	} {
		if got, ok := Choose(approvals, c.bank, c.values); got.AtMost != c.want || ok != (c.want != 0) {
			t.Errorf("%s: %d, %t", c.name, got.AtMost, ok)
		}
	}
}

func TestBadInput(t *testing.T) {
	for name, values := range map[string]pcr.Values{
		"no register": nil, "PCR 24": {24: make([]byte, 32)}, "PCR -1": {-1: make([]byte, 32)}, "short value": {7: make([]byte, 31)}, "no value": {7: nil},
	} {
		if _, err := (Digest{}).PCR(pcr.SHA256, values); err == nil {
			t.Errorf("%s has a policy", name)
		}
		if err := (Approval{Bank: pcr.SHA256, Values: values}).Verify(namedKey(t)); err == nil {
			t.Errorf("%s is approved", name)
		}
		if _, err := (Approval{Bank: pcr.SHA256, Values: values}).Sign(rand.Reader, testKey(t)); err == nil {
			t.Errorf("%s was signed", name)
		}
	}
	if _, err := (Digest{}).PCR(0x7777, state(1)); err == nil {
		t.Error("an unknown bank has a policy")
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]*ecdsa.PublicKey{"none": nil, "P-384": &p384.PublicKey} {
		if _, err := NewKey(k); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v, want ErrKey", name, err)
		}
	}
	if _, err := (Raise{To: 1}).Sign(rand.Reader, p384); !errors.Is(err, ErrKey) {
		t.Errorf("sign with P-384: %v", err)
	}
	if _, err := (Raise{To: 1}).Sign(rand.Reader, broken{testKey(t)}); err == nil {
		t.Error("a signer that fails gave a signature")
	}
}

type broken struct{ *ecdsa.PrivateKey }

func (broken) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the token was pulled out")
}
