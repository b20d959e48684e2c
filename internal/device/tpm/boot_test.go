package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"ward/internal/device/tpm"
	"ward/internal/format/pcr"
	"ward/internal/trust/policy"
)

const base = 20 // what manufacture steps the rollback counter to

// bound are the registers of the default policy.
var bound = []int{7, 11, 12}

// device is a manufactured device: keys, rollback counter, a policy key at the
// manufacturer's.
type device struct {
	*tpm.TPM
	socket  string
	keys    tpm.Keys
	signing tpm.Key // of the test
	signer  *ecdsa.PrivateKey
	key     policy.Key
}

func manufactured(t testing.TB) *device {
	t.Helper()
	socket := startTPM(t, false)
	return manufacture2(t, open(t, socket), socket)
}

func manufacture2(t testing.TB, chip *tpm.TPM, socket string) *device {
	t.Helper()
	d := &device{TPM: chip, socket: socket}
	var err error
	if d.keys, d.signing, err = chip.ProvisionSigning(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d.signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if d.key, err = policy.NewKey(&d.signer.PublicKey); err != nil {
		t.Fatal(err)
	}
	if err := chip.DefineRollback(t.Context(), d.key, base); err != nil {
		t.Fatal(err)
	}
	return d
}

// approve has the manufacturer approve the state that the device is in now, for
// a release with this rollback index.
func (d *device) approve(t testing.TB, index uint64) tpm.Boot {
	t.Helper()
	values, err := d.ReadPCRs(t.Context(), pcr.SHA256, bound)
	if err != nil {
		t.Fatal(err)
	}
	a, err := policy.Approval{Bank: pcr.SHA256, Values: values, AtMost: base + index}.Sign(rand.Reader, d.signer)
	if err != nil {
		t.Fatal(err)
	}
	return tpm.Boot{Key: d.key, Approvals: []policy.Approval{a}}
}

func (d *device) raise(t testing.TB, to uint64) {
	t.Helper()
	r, err := policy.Raise{To: base + to}.Sign(rand.Reader, d.signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Raise(t.Context(), d.key, r); err != nil {
		t.Fatal(err)
	}
}

// The life of a service key and of a sealed secret: approved boot, another boot
// state, an update, and the old release after the counter has moved.
//
// Verifies: SR-012
func TestBootPolicyOverAnUpdate(t *testing.T) {
	d := manufactured(t)
	bootPolicy := policy.BootPolicy(d.key)
	extend(t, d.socket, 7, 11)
	first := d.approve(t, 1)
	key, err := d.CreateKey(t.Context(), &bootPolicy)
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("the data partition's key, 32 byte")
	sealed, err := d.Seal(t.Context(), secret, &bootPolicy)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	try := func(boot tpm.Boot) error {
		t.Helper()
		got, err := d.Unseal(t.Context(), sealed, &boot)
		if err == nil && !bytes.Equal(got, secret) {
			t.Errorf("unsealed %x", got)
		}
		s, signerErr := d.BlobSigner(t.Context(), key, func() tpm.Boot { return boot }, 5*time.Second)
		if signerErr != nil {
			t.Fatal(signerErr)
		}
		sig, signErr := s.Sign(nil, digest[:], crypto.SHA256)
		if (err == nil) != (signErr == nil) {
			t.Errorf("unseal: %v, sign: %v", err, signErr)
		}
		if signErr == nil && !ecdsa.VerifyASN1(s.Public().(*ecdsa.PublicKey), digest[:], sig) {
			t.Error("the signature is wrong")
		}
		return err
	}
	if err := try(first); err != nil {
		t.Errorf("in the approved state: %v", err)
	}
	if err := try(tpm.Boot{Key: d.key}); !errors.Is(err, tpm.ErrBootState) {
		t.Errorf("without an approval: %v", err)
	}
	extend(t, d.socket, 12) // another command line, or the next release
	if err := try(first); !errors.Is(err, tpm.ErrBootState) {
		t.Errorf("in another state: %v, want ErrBootState", err)
	}
	second := d.approve(t, 2)
	if err := try(second); err != nil {
		t.Errorf("after the update: %v", err)
	}
	both := tpm.Boot{Key: d.key, Approvals: append(first.Approvals, second.Approvals...)}
	if err := try(both); err != nil {
		t.Errorf("with the approvals of two releases: %v", err)
	}
	// The old release in a state that it approved, before and after the counter
	// has moved.
	old := d.approve(t, 1)
	if err := try(old); err != nil {
		t.Errorf("the old release, counter not moved: %v", err)
	}
	d.raise(t, 2)
	if err := try(old); !errors.Is(err, tpm.ErrRollback) {
		t.Errorf("the old release, counter moved: %v, want ErrRollback", err)
	}
	if err := try(second); err != nil {
		t.Errorf("the new release, counter moved: %v", err)
	}
}

// The TPM refuses, not the comparison before it: approvals that were tampered
// with, or are by another key, open nothing.
//
// Verifies: SR-012
func TestForgedApprovalsOpenNothing(t *testing.T) {
	d := manufactured(t)
	bootPolicy := policy.BootPolicy(d.key)
	sealed, err := d.Seal(t.Context(), []byte("secret"), &bootPolicy)
	if err != nil {
		t.Fatal(err)
	}
	good := d.approve(t, 1)
	change := func(f func(*policy.Approval)) tpm.Boot {
		a := good.Approvals[0]
		f(&a)
		return tpm.Boot{Key: d.key, Approvals: []policy.Approval{a}}
	}
	thief, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	thiefKey, err := policy.NewKey(&thief.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	raise, err := policy.Raise{To: base + 1}.Sign(rand.Reader, d.signer)
	if err != nil {
		t.Fatal(err)
	}
	unsigned := good.Approvals[0]
	unsigned.Signature = nil
	byThief, err := unsigned.Sign(rand.Reader, thief)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		boot tpm.Boot
		want error
	}{
		{"no signature", tpm.Boot{Key: d.key, Approvals: []policy.Approval{unsigned}}, policy.ErrSignature},
		{"signature cut", change(func(a *policy.Approval) { a.Signature = a.Signature[:40] }), policy.ErrSignature},
		{"a permission's signature", change(func(a *policy.Approval) { a.Signature = raise.Signature }), policy.ErrSignature},
		{"counter lifted", change(func(a *policy.Approval) { a.AtMost++ }), policy.ErrSignature},
		{"fewer registers", change(func(a *policy.Approval) { a.Values = pcr.Values{7: a.Values[7]} }), policy.ErrSignature},
		{"signed by a thief", tpm.Boot{Key: d.key, Approvals: []policy.Approval{byThief}}, policy.ErrSignature},
		{"a thief's key", tpm.Boot{Key: thiefKey, Approvals: []policy.Approval{byThief}}, tpm.ErrPolicy},
	} {
		if got, err := d.Unseal(t.Context(), sealed, &c.boot); !errors.Is(err, c.want) || got != nil {
			t.Errorf("%s: %q, %v, want %v", c.name, got, err, c.want)
		}
	}
	if _, err := d.Unseal(t.Context(), sealed, nil); !errors.Is(err, tpm.ErrPolicy) {
		t.Errorf("without a policy session: %v, want ErrPolicy", err)
	}
	if _, err := d.Unseal(t.Context(), sealed, &good); err != nil {
		t.Errorf("with the right one: %v", err)
	}
}

// Secrets of the state partition open in every boot state, and in this TPM
// alone.
//
// Verifies: SR-012
func TestSealedToTheTPMAlone(t *testing.T) {
	d, other := manufactured(t), manufactured(t)
	for _, n := range []int{1, 32, 128} {
		secret := bytes.Repeat([]byte{byte(n)}, n)
		sealed, err := d.Seal(t.Context(), secret, nil)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(sealed.Private, secret) && n > 1 {
			t.Error("the blob holds the secret in the open")
		}
		extend(t, d.socket, 7)
		if got, err := d.Unseal(t.Context(), sealed, nil); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%d bytes: %x, %v", n, got, err)
		}
		if got, err := other.Unseal(t.Context(), sealed, nil); !errors.Is(err, tpm.ErrOtherTPM) || got != nil {
			t.Errorf("another TPM: %x, %v, want ErrOtherTPM", got, err)
		}
		for at := range sealed.Private {
			if at%13 != 0 {
				continue
			}
			bad := tpm.Blob{Public: sealed.Public, Private: bytes.Clone(sealed.Private)}
			bad.Private[at] ^= 1
			if _, err := d.Unseal(t.Context(), bad, nil); err == nil {
				t.Errorf("a blob with byte %d changed was opened", at)
			}
		}
		for _, cut := range []tpm.Blob{{}, {Public: sealed.Public}, {Private: sealed.Private}, {Public: sealed.Public[:9], Private: sealed.Private}, {Public: sealed.Public, Private: sealed.Private[:9]}} {
			if _, err := d.Unseal(t.Context(), cut, nil); err == nil {
				t.Error("a blob that was cut was opened")
			}
		}
	}
	for _, n := range []int{0, 129} {
		if _, err := d.Seal(t.Context(), make([]byte, n), nil); err == nil {
			t.Errorf("%d bytes were sealed", n)
		}
	}
}

// The AK vouches for the service key and for its policy, in every boot state.
//
// Verifies: SR-012
func TestServiceKeyIsCertified(t *testing.T) {
	d := manufactured(t)
	bootPolicy := policy.BootPolicy(d.key)
	blob, err := d.CreateKey(t.Context(), &bootPolicy)
	if err != nil {
		t.Fatal(err)
	}
	extend(t, d.socket, 7)
	cert, err := d.CertifyKey(t.Context(), blob)
	if err != nil {
		t.Fatal(err)
	}
	key, err := blob.Key()
	if err != nil {
		t.Fatal(err)
	}
	attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](cert.Attest)
	if err != nil {
		t.Fatal(err)
	}
	info, err := attest.Attested.Certify()
	if err != nil || !bytes.Equal(info.Name.Buffer, key.Name) {
		t.Errorf("certified %v, %v, want %x", info, err, key.Name)
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](blob.Public)
	if err != nil {
		t.Fatal(err)
	}
	a := public.ObjectAttributes
	if !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin || a.UserWithAuth || !a.NoDA || !bytes.Equal(public.AuthPolicy.Buffer, bootPolicy[:]) {
		t.Errorf("attributes %+v, policy %x", a, public.AuthPolicy.Buffer)
	}
	if _, err := manufactured(t).CertifyKey(t.Context(), blob); !errors.Is(err, tpm.ErrOtherTPM) {
		t.Errorf("another TPM certifies: %v", err)
	}
	sealed, err := d.Seal(t.Context(), []byte{1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sealed.Key(); err == nil {
		t.Error("a sealed secret is taken for a key")
	}
	plain, err := d.CreateKey(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.BlobSigner(t.Context(), plain, nil, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	if _, err := s.Sign(nil, digest[:], crypto.SHA256); err != nil {
		t.Errorf("a key without a policy: %v", err)
	}
}

// What is computed without a TPM is what the TPM comes to.
func TestPolicyDigestsAreTheTPMs(t *testing.T) {
	d := manufactured(t)
	extend(t, d.socket, 7)
	approval := d.approve(t, 3).Approvals[0]
	conn, err := linuxudstpm.Open(d.socket)
	if err != nil {
		t.Fatal(err)
	}
	trial := func(commands ...func(tpm2.TPMHandle) error) []byte {
		t.Helper()
		s, done, err := tpm2.PolicySession(conn, tpm2.TPMAlgSHA256, 16, tpm2.Trial())
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		for _, c := range commands {
			if err := c(s.Handle()); err != nil {
				t.Fatal(err)
			}
		}
		rsp, err := tpm2.PolicyGetDigest{PolicySession: s.Handle()}.Execute(conn)
		if err != nil {
			t.Fatal(err)
		}
		return rsp.PolicyDigest.Buffer
	}
	index := policy.RollbackCounter(d.key)
	compare := func(operand []byte, how tpm2.TPMEO) func(tpm2.TPMHandle) error {
		return func(h tpm2.TPMHandle) error {
			n := tpm2.NamedHandle{Handle: tpm2.TPMHandle(index.Handle), Name: tpm2.TPM2BName{Buffer: index.Name(true)}}
			_, err := tpm2.PolicyNV{
				AuthHandle: tpm2.AuthHandle{Handle: n.Handle, Name: n.Name, Auth: tpm2.PasswordAuth(nil)}, NVIndex: n,
				PolicySession: h, OperandB: tpm2.TPM2BOperand{Buffer: operand}, Operation: how,
			}.Execute(conn)
			return err
		}
	}
	selection, composite, err := policy.Composite(approval.Bank, approval.Values)
	if err != nil {
		t.Fatal(err)
	}
	registers, err := tpm2.Unmarshal[tpm2.TPMLPCRSelection](selection)
	if err != nil {
		t.Fatal(err)
	}
	approved, err := approval.Digest(d.key)
	if err != nil {
		t.Fatal(err)
	}
	got := trial(compare(approval.Operand(), tpm2.TPMEOUnsignedLE), func(h tpm2.TPMHandle) error {
		_, err := tpm2.PolicyPCR{PolicySession: h, PcrDigest: tpm2.TPM2BDigest{Buffer: composite}, Pcrs: *registers}.Execute(conn)
		return err
	})
	if !bytes.Equal(got, approved[:]) {
		t.Errorf("approval: the TPM %x, computed %x", got, approved)
	}
	raise := policy.Raise{To: 30}
	want := raise.Digest(d.key)
	got = trial(compare(raise.Operand(), tpm2.TPMEOUnsignedLT), func(h tpm2.TPMHandle) error {
		_, err := tpm2.PolicyCommandCode{PolicySession: h, Code: tpm2.TPMCCNVIncrement}.Execute(conn)
		return err
	})
	if !bytes.Equal(got, want[:]) {
		t.Errorf("raise: the TPM %x, computed %x", got, want)
	}
	boot := policy.BootPolicy(d.key)
	got = trial(func(h tpm2.TPMHandle) error {
		_, err := tpm2.PolicyAuthorize{
			PolicySession: h, KeySign: tpm2.TPM2BName{Buffer: d.key.Name}, PolicyRef: tpm2.TPM2BDigest{Buffer: approval.Reference()},
			CheckTicket: tpm2.TPMTTKVerified{Tag: tpm2.TPMSTVerified, Hierarchy: tpm2.TPMRHNull},
		}.Execute(conn)
		return err
	})
	if !bytes.Equal(got, boot[:]) {
		t.Errorf("boot policy: the TPM %x, computed %x", got, boot)
	}
}

// Two releases may boot with the same registers: the newer one's approval counts,
// in whatever order they come.
//
// Verifies: SR-012
func TestNewerApprovalCounts(t *testing.T) {
	d := manufactured(t)
	bootPolicy := policy.BootPolicy(d.key)
	extend(t, d.socket, 7, 11)
	secret := []byte("a secret")
	sealed, err := d.Seal(t.Context(), secret, &bootPolicy)
	if err != nil {
		t.Fatal(err)
	}
	older, newer := d.approve(t, 1), d.approve(t, 2)
	d.raise(t, 2)
	if _, err := d.Unseal(t.Context(), sealed, &older); !errors.Is(err, tpm.ErrRollback) {
		t.Errorf("the older release alone: %v", err)
	}
	both := tpm.Boot{Key: d.key, Approvals: append(older.Approvals, newer.Approvals...)}
	if got, err := d.Unseal(t.Context(), sealed, &both); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("both, the older first: %v", err)
	}
}
