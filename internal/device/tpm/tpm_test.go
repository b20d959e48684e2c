package tpm_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"ward/internal/device/tpm"
	"ward/internal/format/pcr"
)

func TestAbsent(t *testing.T) {
	if _, err := tpm.Open(filepath.Join(t.TempDir(), "tpmrm0")); !errors.Is(err, tpm.ErrAbsent) {
		t.Errorf("a path with nothing: %v, want ErrAbsent", err)
	}
	if _, err := tpm.Open(t.TempDir()); err == nil || errors.Is(err, tpm.ErrAbsent) {
		t.Errorf("a folder: %v, want an error that is not ErrAbsent", err)
	}
}

func TestReadPCRs(t *testing.T) {
	socket := startTPM(t, false)
	extend(t, socket, 7, 23)
	d := open(t, socket)
	all := make([]int, pcr.Count)
	for i := range all {
		all[i] = i
	}
	for _, bank := range []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384} {
		got, err := d.ReadPCRs(t.Context(), bank, all)
		if err != nil {
			t.Fatal(err)
		}
		want, err := pcr.NewBank(bank)
		if err != nil {
			t.Fatal(err)
		}
		for i := range all {
			if i == 7 || i == 23 {
				if err := want.Extend(i, bytes.Repeat([]byte{byte(i)}, bank.Size())); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got[i], want.Value(i)) {
				t.Errorf("%s PCR %d: %s, want %s", bank, i, got[i], want.Value(i))
			}
		}
	}
	if _, err := d.ReadPCRs(t.Context(), pcr.SM3256, []int{0}); err == nil {
		t.Error("a bank that the TPM does not have was read")
	}
	if _, err := d.ReadPCRs(t.Context(), pcr.SHA256, []int{24}); err == nil {
		t.Error("PCR 24 was read")
	}
}

// extend extends registers in every bank with bytes of their own number.
func extend(t *testing.T, socket string, indexes ...int) {
	t.Helper()
	conn, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, i := range indexes {
		var digests []tpm2.TPMTHA
		for _, a := range []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384} {
			digests = append(digests, tpm2.TPMTHA{HashAlg: tpm2.TPMAlgID(a), Digest: bytes.Repeat([]byte{byte(i)}, a.Size())})
		}
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(i), Auth: tpm2.PasswordAuth(nil)},
			Digests:   tpm2.TPMLDigestValues{Digests: digests},
		}.Execute(conn)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestProvisionIsIdempotent(t *testing.T) {
	d := open(t, startTPM(t, false))
	if _, err := d.ReadPublic(t.Context(), tpm.HandleAK); !errors.Is(err, tpm.ErrNoKey) {
		t.Errorf("before manufacture: %v, want ErrNoKey", err)
	}
	first, err := d.ProvisionKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := d.ProvisionKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range [][2]tpm.Key{{first.SRK, second.SRK}, {first.AK, second.AK}} {
		if !bytes.Equal(k[0].Name, k[1].Name) || len(k[0].Name) != 34 {
			t.Errorf("key 0x%08x: name %x, then %x", k[0].Handle, k[0].Name, k[1].Name)
		}
	}
	if err := d.EvictKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, handle := range []uint32{tpm.HandleSRK, tpm.HandleAK} {
		if _, err := d.ReadPublic(t.Context(), handle); !errors.Is(err, tpm.ErrNoKey) {
			t.Errorf("key 0x%08x after it was removed: %v", handle, err)
		}
	}
	if err := d.EvictKeys(t.Context()); err != nil {
		t.Errorf("removed twice: %v", err)
	}
}

func TestProvisionLeavesOthersKeys(t *testing.T) {
	socket := startTPM(t, false)
	conn, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	other, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		InPublic:      tpm2.New2B(tpm2.ECCSRKTemplate),
	}.Execute(conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.EvictControl{
		Auth:         tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		ObjectHandle: tpm2.NamedHandle{Handle: other.ObjectHandle, Name: other.Name}, PersistentHandle: tpm2.TPMIDHPersistent(tpm.HandleAK),
	}).Execute(conn); err != nil {
		t.Fatal(err)
	}
	d := open(t, socket)
	if _, err := d.ProvisionKeys(t.Context()); !errors.Is(err, tpm.ErrOccupied) {
		t.Errorf("provision: %v, want ErrOccupied", err)
	}
	if err := d.EvictKeys(t.Context()); err != nil {
		t.Errorf("evict: %v", err)
	}
	k, err := d.ReadPublic(t.Context(), tpm.HandleAK)
	if err != nil || !bytes.Equal(k.Name, other.Name.Buffer) {
		t.Errorf("the other key: %v, %x, want %x", err, k.Name, other.Name.Buffer)
	}
}

// A TPM holds three loaded objects at most: what is not flushed shows soon.
func TestNothingStaysLoaded(t *testing.T) {
	socket := startTPM(t, false)
	d := open(t, socket)
	if _, err := d.ProvisionKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: 0x80000000, PropertyCount: 8}.Execute(conn)
	if err != nil {
		t.Fatal(err)
	}
	handles, err := rsp.CapabilityData.Data.Handles()
	if err != nil || len(handles.Handle) != 0 {
		t.Errorf("loaded after provisioning: %v, %v", handles, err)
	}
}

// Verifies: SR-012
func TestKeysCannotLeaveTheTPM(t *testing.T) {
	socket := startTPM(t, false)
	keys, signing, err := open(t, socket).ProvisionSigning(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []tpm.Key{keys.AK, signing} {
		public, err := tpm2.Unmarshal[tpm2.TPMTPublic](k.Area)
		if err != nil {
			t.Fatal(err)
		}
		a := public.ObjectAttributes
		if !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin || a.EncryptedDuplication || !a.NoDA || !a.SignEncrypt || a.Decrypt {
			t.Errorf("key 0x%08x: attributes %+v", k.Handle, a)
		}
		if want := k.Handle == tpm.HandleAK; a.Restricted != want {
			t.Errorf("key 0x%08x: restricted %t", k.Handle, a.Restricted)
		}
		_, err = tpm2.Duplicate{
			ObjectHandle: tpm2.AuthHandle{
				Handle: tpm2.TPMHandle(k.Handle), Name: tpm2.TPM2BName{Buffer: k.Name},
				Auth: tpm2.Policy(tpm2.TPMAlgSHA256, 16, tpm2.PolicyCallback(duplicatePolicy)),
			},
			NewParentHandle: tpm2.TPMRHNull,
			Symmetric:       tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull},
		}.Execute(conn)
		if !errors.Is(err, tpm2.TPMRCAttributes) && !errors.Is(err, tpm2.TPMRCPolicyFail) {
			t.Errorf("key 0x%08x: duplicate: %v, want the TPM's refusal", k.Handle, err)
		}
	}
}

// Verifies: SR-012
func TestCertificationTiesTheKeyToTheTPM(t *testing.T) {
	d := open(t, startTPM(t, false))
	keys, err := d.ProvisionKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	blob, err := d.CreateKey(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := blob.Key()
	if err != nil {
		t.Fatal(err)
	}
	certified, err := d.CertifyKey(t.Context(), blob)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := tpm2.Unmarshal[tpm2.TPMTSignature](certified.Signature)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := sig.Signature.ECDSA()
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(certified.Attest)
	if !ecdsa.Verify(keys.AK.Public, digest[:], bigInt(ec.SignatureR.Buffer), bigInt(ec.SignatureS.Buffer)) {
		t.Error("the certification is not signed by the attestation key")
	}
	attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](certified.Attest)
	if err != nil {
		t.Fatal(err)
	}
	info, err := attest.Attested.Certify()
	if err != nil || !bytes.Equal(info.Name.Buffer, key.Name) {
		t.Errorf("certified: %v, %v, want the key's name", info, err)
	}
}

func TestSigner(t *testing.T) {
	d := open(t, startTPM(t, false))
	if _, err := d.Signer(t.Context(), tpm.HandleSigning); !errors.Is(err, tpm.ErrNoKey) {
		t.Errorf("signer without a key: %v, want ErrNoKey", err)
	}
	if _, _, err := d.ProvisionSigning(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := d.Signer(t.Context(), tpm.HandleSigning)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			digest := sha256.Sum256([]byte{byte(i)})
			sig, err := s.Sign(rand.Reader, digest[:], crypto.SHA256)
			if err != nil {
				t.Errorf("sign %d: %v", i, err)
				return
			}
			if !ecdsa.VerifyASN1(s.Public().(*ecdsa.PublicKey), digest[:], sig) {
				t.Errorf("signature %d is wrong", i)
			}
		})
	}
	group.Wait()
	long := sha512.Sum512(nil)
	if _, err := s.Sign(rand.Reader, long[:], crypto.SHA512); err == nil {
		t.Error("a SHA-512 digest was signed")
	}
	if _, err := s.Sign(rand.Reader, long[:31], crypto.SHA256); err == nil {
		t.Error("a digest of 31 bytes was signed")
	}
}

func TestEKCertificate(t *testing.T) {
	bare := open(t, startTPM(t, false))
	if _, err := bare.EKCertificate(t.Context()); !errors.Is(err, tpm.ErrNoCertificate) {
		t.Errorf("a TPM without one: %v, want ErrNoCertificate", err)
	}
	d := open(t, startTPM(t, true))
	der, err := d.EKCertificate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if pub, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || pub.Curve.Params().Name != "P-384" {
		t.Errorf("EK certificate for %T, want the P-384 one", cert.PublicKey)
	}
}

func TestCanceled(t *testing.T) {
	d := open(t, startTPM(t, false))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.ReadPCRs(ctx, pcr.SHA256, []int{0}); !errors.Is(err, context.Canceled) {
		t.Errorf("read with an ended context: %v", err)
	}
}
