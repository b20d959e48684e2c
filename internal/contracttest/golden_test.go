package contracttest_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"ward/internal/contracttest"
	"ward/internal/format/chain"
	"ward/internal/format/dsse"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/provision"
	"ward/internal/trust/evidence"
	"ward/internal/trust/posture"
	"ward/internal/trust/receipt"
)

var update = flag.Bool("update", false, "write the golden messages of docs/contract anew")

// sums lists the golden messages with their SHA-256, as sha256sum writes it.
const sums = "SHA256SUMS"

func contract(t testing.TB, name string) string {
	t.Helper()
	root, err := contracttest.Root()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "docs/contract", name)
}

func example(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(contract(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// oneLine is an example in JSON, without the line's end.
func oneLine(t testing.TB, name string) []byte {
	return bytes.TrimSuffix(example(t, name), []byte("\n"))
}

// key is a key of the examples alone: who reads this can sign with it. Its
// signatures are deterministic (RFC 6979), so that the examples stay as they are.
type key struct{ *ecdsa.PrivateKey }

func (k key) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return k.PrivateKey.Sign(nil, digest, o)
}

func newKey(t testing.TB, purpose string) key {
	t.Helper()
	seed := sha256.Sum256([]byte("ward example key: " + purpose))
	curve := elliptic.P256()
	d := new(big.Int).SetBytes(seed[:])
	private, err := ecdsa.ParseRawPrivateKey(curve, d.FillBytes(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return key{private}
}

func (k key) pem(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// document is evidence with every field but the event log's digest; what a TPM and
// a kernel would have written are words here.
func document(t testing.TB) []byte {
	t.Helper()
	b, err := evidence.Encode(evidence.Evidence{
		Tenant: "acme", Device: "pump-1", Boot: "2a1b3c4d-0000-4000-8000-000000000001", Time: time.Date(2026, 3, 1, 12, 0, 1, 0, time.UTC),
		Nonce: bytes.Repeat([]byte{1}, 32), Record: evidence.Record{Epoch: 2, Sequence: 41, Head: chain.Next([]byte("a record"))},
		Release: pcr.SHA256.Sum([]byte("manifest")), SBOM: pcr.SHA256.Sum([]byte("SBOM")),
		Bank: pcr.SHA256, PCRs: pcr.Values{0: bytes.Repeat([]byte{6}, 32), 10: bytes.Repeat([]byte{7}, 32)},
		BootQuote: evidence.Quote{Attest: []byte("TPMS_ATTEST"), Signature: []byte("TPMT_SIGNATURE")},
		ListQuote: evidence.Quote{Attest: []byte("TPMS_ATTEST 10"), Signature: []byte("TPMT_SIGNATURE 10")},
		EventLog:  []byte("binary_bios_measurements"), UserLogError: "not there: no such file", IMA: []byte("binary_runtime_measurements"),
		From: ima.Checkpoint{Entries: 412, PCR: bytes.Repeat([]byte{8}, 32)}, IMATruncated: true,
		Posture: []posture.Claim{
			{Name: "kernel.lockdown", Values: []string{"integrity"}},
			{Name: "net.listening", Values: []string{"tcp 0.0.0.0:8443 /usr/bin/pump", "tcp 127.0.0.1:22 ?"}, More: 2},
			{Name: "storage.wear", Absent: true}, {Name: "users.login", Error: "open /etc/shadow: permission denied"},
		},
		Running: []byte("components"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// diagnose writes a map of integer keys in CBOR's diagnostic notation (RFC 8949,
// section 8), a line a key.
func diagnose(t testing.TB, b []byte) []byte {
	t.Helper()
	var m map[int]cbor.RawMessage
	if err := cbor.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	out.WriteString("{\n")
	for _, k := range slices.Sorted(maps.Keys(m)) {
		text, err := cbor.Diagnose(m[k])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "  %d: %s,\n", k, text)
	}
	out.WriteString("}\n")
	return []byte(out.String())
}

// golden compares what the code writes now with an example.
func golden(t testing.TB, name string, now []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(contract(t, name), now, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := example(t, name); !bytes.Equal(want, now) {
		t.Errorf("%s is written as\n%s\nand the contract says\n%s", name, now, want)
	}
}

// The signed examples and those in CBOR are what the code writes, and open with
// the keys beside them.
//
// Verifies: SR-063
func TestSignedExamples(t *testing.T) {
	fleet, device := newKey(t, "fleet"), newKey(t, "device")
	golden(t, "fleet-key.pem", fleet.pem(t))
	golden(t, "device-key.pem", device.pem(t))
	fleetKeys, err := dsse.ParseKeyring(example(t, "fleet-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	deviceKeys, err := dsse.ParseKeyring(example(t, "device-key.pem"))
	if err != nil {
		t.Fatal(err)
	}

	var r receipt.Receipt
	if err := json.Unmarshal(example(t, "receipt-payload.json"), &r); err != nil {
		t.Fatal(err)
	}
	b, err := receipt.Sign(r, fleet)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "receipt.json", append(b, '\n'))
	if v, err := receipt.Verify(oneLine(t, "receipt.json"), fleetKeys, r.Tenant, r.Device); err != nil || v.Receipt() != r {
		t.Errorf("receipt %+v, error %v", v.Receipt(), err)
	}

	var c receipt.Challenge
	if err := json.Unmarshal(example(t, "challenge-payload.json"), &c); err != nil {
		t.Fatal(err)
	}
	if b, err = receipt.SignChallenge(c, fleet); err != nil {
		t.Fatal(err)
	}
	golden(t, "challenge.json", append(b, '\n'))
	if _, err := receipt.VerifyChallenge(oneLine(t, "challenge.json"), fleetKeys, c.Tenant, c.Device); err != nil {
		t.Error(err)
	}

	last := oneLine(t, "event-device-decommissioned.json")
	if b, err = dsse.Sign(provision.FarewellType, last, device); err != nil {
		t.Fatal(err)
	}
	golden(t, "farewell.json", append(b, '\n'))
	if e, err := provision.VerifyFarewell(oneLine(t, "farewell.json"), deviceKeys); err != nil || e.Source.Device != "pump-0001" {
		t.Errorf("farewell of %q, error %v", e.Source.Device, err)
	}
	if err := contracttest.Document("farewell", last); err != nil {
		t.Error(err)
	}
	if err := contracttest.Document("farewell", oneLine(t, "event-daemon-stopped.json")); err == nil {
		t.Error("another event is a farewell")
	}

	golden(t, "evidence.cbor", document(t))
	golden(t, "evidence.diag", diagnose(t, document(t)))
	parts, err := evidence.Split([16]byte([]byte("example document")), document(t))
	if err != nil || len(parts) != 1 {
		t.Fatal(len(parts), err)
	}
	golden(t, "evidence-part.cbor", parts[0])
	golden(t, "evidence-part.diag", diagnose(t, parts[0]))
}

// What was published stays: an example that changes, or goes, breaks who built on
// it. docs/contract/README.md says when that may be.
//
// Verifies: SR-063
func TestExamplesStay(t *testing.T) {
	entries, err := os.ReadDir(contract(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	var now strings.Builder
	for _, e := range entries {
		if e.Name() == sums || e.Name() == "README.md" {
			continue
		}
		fmt.Fprintf(&now, "%s  %s\n", hexSum(example(t, e.Name())), e.Name())
	}
	if *update {
		if err := os.WriteFile(contract(t, sums), []byte(now.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	published := string(example(t, sums))
	for line := range strings.Lines(published) {
		if !strings.Contains(now.String(), line) {
			t.Errorf("changed or gone since it was published: %s", line)
		}
	}
	for line := range strings.Lines(now.String()) {
		if !strings.Contains(published, line) {
			t.Errorf("not in %s: add the line %s", sums, line)
		}
	}
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
