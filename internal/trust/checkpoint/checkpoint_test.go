package checkpoint_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-tpm/tpm2"

	"ward/internal/agent/anchor/anchortest"
	"ward/internal/device/tpm"
	"ward/internal/format/chain"
	"ward/internal/format/pcr"
	"ward/internal/trust/checkpoint"
	"ward/internal/trust/event"
	"ward/internal/trust/policy"
)

var update = flag.Bool("update", false, "capture the golden checkpoints anew from a software TPM")

const golden = "testdata/swtpm.json"

var (
	source = event.Source{Tenant: "lab", Device: "pump-0001"}
	place  = checkpoint.Place{Epoch: 1, Sequence: 41, Head: chain.Next([]byte("the record before"))}
	boot   = pcr.Digest(slices.Repeat([]byte{0xb0}, 32))
)

// capture is what a software TPM said.
type capture struct {
	AK      pcr.Digest                   `json:"ak"` // SubjectPublicKeyInfo
	Reports map[string]checkpoint.Report `json:"reports"`
}

func captured(t testing.TB) (*ecdsa.PublicKey, map[string]checkpoint.Report) {
	t.Helper()
	b, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	var c capture
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKIXPublicKey(c.AK)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*ecdsa.PublicKey), c.Reports
}

func TestCapture(t *testing.T) {
	if !*update {
		t.Skip("run with -update to capture anew")
	}
	chip := anchortest.New(t)
	der, err := x509.MarshalPKIXPublicKey(chip.AK)
	if err != nil {
		t.Fatal(err)
	}
	c := capture{AK: der, Reports: map[string]checkpoint.Report{
		"durable": chip.Report(t, checkpoint.Durable, source, place, boot),
		"orderly": chip.Report(t, checkpoint.Orderly, source, place, nil),
	}}
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(golden, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestQualifying: printf of the domain, "urn:ward:lab:pump-0001", 00, the numbers 1
// and 41, the head and the evidence, through sha256sum.
func TestQualifying(t *testing.T) {
	b := []byte("ward journal checkpoint v1\nurn:ward:lab:pump-0001\x00")
	b = binary.BigEndian.AppendUint64(b, 1)
	b = binary.BigEndian.AppendUint64(b, 41)
	b = append(append(b, place.Head[:]...), boot...)
	if got, want := checkpoint.Qualifying(source, place, boot), sha256.Sum256(b); got != want {
		t.Errorf("qualifying data %x, want %x", got, want)
	}
	const want = "a9e91fbcb343e020c483d9a23c19e815a1a116796fd83187db9e6b2453c98788"
	if got := checkpoint.Qualifying(source, place, nil); pcr.Digest(got[:]).String() != want {
		t.Errorf("qualifying data without evidence %x, want %s", got, want)
	}
}

// Verifies: SR-052
func TestGolden(t *testing.T) {
	ak, reports := captured(t)
	for name, r := range reports {
		v, err := checkpoint.Verify(r, source, place.Epoch, ak)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if string(v.Counter()) != name || v.Value() == 0 || v.Place() != place || v.Clock().Milliseconds == 0 || v.Evidence().String() != r.Evidence.String() {
			t.Errorf("%s: verified as %+v", name, v)
		}
		b, err := checkpoint.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := checkpoint.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, again); diff != "" {
			t.Errorf("%s: encoded and parsed (- before, + after): %s", name, diff)
		}
	}
}

// The example that backend teams read is a real one.
func TestContract(t *testing.T) {
	b, err := os.ReadFile("../../../docs/contract/event-journal-checkpoint.json")
	if err != nil {
		t.Fatal(err)
	}
	e, err := event.Parse(bytes.TrimSpace(b))
	if err != nil {
		t.Fatal(err)
	}
	r, err := checkpoint.Parse(e.Report)
	if err != nil {
		t.Fatal(err)
	}
	ak, reports := captured(t)
	v, err := checkpoint.Verify(r, e.Source, e.Epoch, ak)
	if err != nil || v.Place().Sequence >= e.Sequence || v.Place().Head != e.Prev {
		t.Errorf("%+v, %v", v, err)
	}
	if diff := cmp.Diff(reports["durable"], r); diff != "" {
		t.Errorf("(- captured, + in docs/contract; copy it to internal/trust/event): %s", diff)
	}
}

// What is changed about a checkpoint, by somebody without the key and by somebody
// who may use the TPM, is told; each row is one pitfall.
//
// Verifies: SR-052
func TestRefused(t *testing.T) {
	ak, reports := captured(t)
	good := reports["durable"]
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own := *ak
	for name, c := range map[string]struct {
		change func(r *checkpoint.Report, s *event.Source, epoch *uint64, key **ecdsa.PublicKey)
		want   error
	}{
		"the key of another TPM": {func(_ *checkpoint.Report, _ *event.Source, _ *uint64, key **ecdsa.PublicKey) { *key = &other.PublicKey }, checkpoint.ErrSignature},
		"no key":                 {func(_ *checkpoint.Report, _ *event.Source, _ *uint64, key **ecdsa.PublicKey) { *key = nil }, checkpoint.ErrSignature},
		"a key on another curve": {func(_ *checkpoint.Report, _ *event.Source, _ *uint64, key **ecdsa.PublicKey) {
			own.Curve = elliptic.P384()
			*key = &own
		}, checkpoint.ErrSignature},
		"a statement that was changed": {func(r *checkpoint.Report, _ *event.Source, _ *uint64, _ **ecdsa.PublicKey) {
			r.Attest = flip(r.Attest, len(r.Attest)-1)
		}, checkpoint.ErrSignature},
		"a signature that was changed": {func(r *checkpoint.Report, _ *event.Source, _ *uint64, _ **ecdsa.PublicKey) {
			r.Signature = flip(r.Signature, len(r.Signature)-1)
		}, checkpoint.ErrSignature},
		"another algorithm": {func(r *checkpoint.Report, _ *event.Source, _ *uint64, _ **ecdsa.PublicKey) {
			r.Signature = flip(r.Signature, 1)
		}, checkpoint.ErrSignature},
		"half a signature": {func(r *checkpoint.Report, _ *event.Source, _ *uint64, _ **ecdsa.PublicKey) {
			r.Signature = r.Signature[:20]
		}, checkpoint.ErrMalformed},
		"another value":  {func(r *checkpoint.Report, _ *event.Source, _ *uint64, _ **ecdsa.PublicKey) { r.Value++ }, checkpoint.ErrValue},
		"another record": {func(r *checkpoint.Report, _ *event.Source, _ *uint64, _ **ecdsa.PublicKey) { r.Sequence++ }, checkpoint.ErrRecord},
		"another head":   {func(r *checkpoint.Report, _ *event.Source, _ *uint64, _ **ecdsa.PublicKey) { r.Head[0] ^= 1 }, checkpoint.ErrRecord},
		"another boot's evidence": {func(r *checkpoint.Report, _ *event.Source, _ *uint64, _ **ecdsa.PublicKey) {
			r.Evidence = flip(r.Evidence, 0)
		}, checkpoint.ErrRecord},
		"no evidence any more": {func(r *checkpoint.Report, _ *event.Source, _ *uint64, _ **ecdsa.PublicKey) { r.Evidence = nil }, checkpoint.ErrRecord},
		"another epoch":        {func(_ *checkpoint.Report, _ *event.Source, epoch *uint64, _ **ecdsa.PublicKey) { *epoch++ }, checkpoint.ErrRecord},
		"another device":       {func(_ *checkpoint.Report, s *event.Source, _ *uint64, _ **ecdsa.PublicKey) { s.Device = "pump-0002" }, checkpoint.ErrRecord},
		"passed off as the everyday counter": {func(r *checkpoint.Report, _ *event.Source, _ *uint64, _ **ecdsa.PublicKey) {
			r.Counter = checkpoint.Orderly
		}, checkpoint.ErrIndex},
		"a counter that there is not": {func(r *checkpoint.Report, _ *event.Source, _ *uint64, _ **ecdsa.PublicKey) { r.Counter = "third" }, checkpoint.ErrMalformed},
		"no statement":                {func(r *checkpoint.Report, _ *event.Source, _ *uint64, _ **ecdsa.PublicKey) { r.Attest = nil }, checkpoint.ErrMalformed},
	} {
		r, s, epoch, key := good, source, place.Epoch, ak
		c.change(&r, &s, &epoch, &key)
		v, err := checkpoint.Verify(r, s, epoch, key)
		if !errors.Is(err, c.want) || v.Counter() != "" || v.Value() != 0 {
			t.Errorf("%s: %v, want %v; %+v", name, err, c.want, v)
		}
	}
}

func flip(b []byte, at int) []byte {
	b = slices.Clone(b)
	b[at] ^= 1
	return b
}

// Somebody with root's rights may define indexes of his own as far as the owner
// lets him, write them as he likes and have the real key certify them, and quotes
// and certificates of keys have the same signer. The Name tells.
//
// Verifies: SR-052
func TestStatementsOfTheRealTPMAboutSomethingElse(t *testing.T) {
	chip := anchortest.New(t)
	real, _ := checkpoint.Durable.Index()
	index := func(change func(*policy.Index)) policy.Index { i := real; change(&i); return i }
	auth := tpm.NewAuth()
	for name, x := range map[string]policy.Index{
		"a counter at another handle":            index(func(i *policy.Index) { i.Handle += 8 }),
		"plain data of 8 bytes":                  index(func(i *policy.Index) { i.Handle += 9; i.Attributes &^= policy.Counter }),
		"a counter that the owner may step, too": index(func(i *policy.Index) { i.Handle += 10; i.Attributes |= policy.OwnerWrite }),
	} {
		if err := chip.TPM.DefineNV(t.Context(), x, auth); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var err error
		if x.Attributes&policy.Counter != 0 {
			_, err = chip.TPM.Increment(t.Context(), x, auth)
		} else {
			err = chip.TPM.WriteNV(t.Context(), x, auth, []byte{0, 0, 0, 0, 0, 0, 0, 7})
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c, err := chip.TPM.CertifyCounter(t.Context(), x, auth, checkpoint.Qualifying(source, place, nil))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		value, err := checkpoint.UntrustedValue(c.Attest)
		if err != nil {
			t.Fatal(err)
		}
		r := checkpoint.Report{Counter: checkpoint.Durable, Value: value, Sequence: place.Sequence, Head: place.Head, Attest: c.Attest, Signature: c.Signature}
		if _, err := checkpoint.Verify(r, source, place.Epoch, chip.AK); !errors.Is(err, checkpoint.ErrIndex) {
			t.Errorf("%s: %v, want %v", name, err, checkpoint.ErrIndex)
		}
	}
	q, _, err := chip.TPM.Quote(t.Context(), checkpoint.Qualifying(source, place, nil), pcr.SHA256, []int{0, 7})
	if err != nil {
		t.Fatal(err)
	}
	r := checkpoint.Report{Counter: checkpoint.Durable, Value: 1, Sequence: place.Sequence, Head: place.Head, Attest: q.Attest, Signature: q.Signature}
	if _, err := checkpoint.Verify(r, source, place.Epoch, chip.AK); !errors.Is(err, checkpoint.ErrMalformed) {
		t.Errorf("a quote: %v, want %v", err, checkpoint.ErrMalformed)
	}
	if _, err := checkpoint.Verify(chip.Report(t, checkpoint.Durable, source, place, nil), source, place.Epoch, chip.AK); err != nil {
		t.Errorf("the real one: %v", err)
	}
}

// openssl and tpm2_print come to the same about the captured bytes.
func TestOthersAgree(t *testing.T) {
	for _, program := range []string{"openssl", "tpm2_print"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is not installed: run 'make deps'")
		}
	}
	ak, reports := captured(t)
	r := reports["durable"]
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	der, err := x509.MarshalPKIXPublicKey(ak)
	if err != nil {
		t.Fatal(err)
	}
	s, err := tpm2.Unmarshal[tpm2.TPMTSignature](r.Signature)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := s.Signature.ECDSA()
	if err != nil {
		t.Fatal(err)
	}
	signature, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(ec.SignatureR.Buffer), new(big.Int).SetBytes(ec.SignatureS.Buffer)})
	if err != nil {
		t.Fatal(err)
	}
	key := write("ak.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	attest := write("attest", r.Attest)
	out, err := exec.Command("openssl", "dgst", "-sha256", "-verify", key, "-signature", write("signature", signature), attest).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Verified OK") {
		t.Errorf("openssl: %s, %v", out, err)
	}
	out, err = exec.Command("openssl", "dgst", "-sha256", "-verify", key, "-signature", filepath.Join(dir, "signature"), write("changed", flip(r.Attest, 20))).CombinedOutput()
	if err == nil {
		t.Errorf("openssl verifies changed bytes: %s", out)
	}
	v, err := checkpoint.Verify(r, source, place.Epoch, ak)
	if err != nil {
		t.Fatal(err)
	}
	out, err = exec.Command("tpm2_print", "-t", "TPMS_ATTEST", attest).CombinedOutput()
	// tpm2-tools 5 prints what is common to all statements, and no NV certificate's end.
	if err != nil && !strings.Contains(string(out), "unsupported type 0x8014") {
		t.Fatalf("tpm2_print: %s, %v", out, err)
	}
	qualifying := checkpoint.Qualifying(source, place, r.Evidence)
	for _, want := range []string{"magic: ff544347", "type: 8014", "extraData: " + pcr.Digest(qualifying[:]).String()} {
		if !strings.Contains(string(out), want) {
			t.Errorf("tpm2_print does not say %q:\n%s", want, out)
		}
	}
	if clock := v.Clock(); !strings.Contains(string(out), "resetCount: "+decimal(uint64(clock.ResetCount))) || !strings.Contains(string(out), "clock: "+decimal(clock.Milliseconds)) {
		t.Errorf("tpm2_print and Verify differ about the clock %+v:\n%s", clock, out)
	}
}

func decimal(n uint64) string { return new(big.Int).SetUint64(n).String() }
