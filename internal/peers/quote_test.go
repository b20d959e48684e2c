package peers

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"ward/internal/device/tpm"
	"ward/internal/format/chain"
	"ward/internal/format/pcr"
	"ward/internal/trust/quote"
)

// Everything that this module asks of Ward about quotes stands in this file.

// quoted are the registers that the quotes of these tests are over.
var quoted = []int{0, 4, 7, 11}

const quotedList = "sha256:0,4,7,11"

func openTPM(t *testing.T, socket string) *tpm.TPM {
	t.Helper()
	d, err := tpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// tool runs a tool of tpm2-tools on a software TPM.
func tool(t *testing.T, socket, name string, args ...string) {
	t.Helper()
	out, a, err := run(name, append(args, "-T", "cmd:socat STDIO UNIX-CONNECT:"+socket)...)
	if err != nil || a != Follows {
		t.Fatalf("%s %q: %s %v: %s", name, args, a, err, out)
	}
}

// extendSome extends two of the quoted registers.
func extendSome(t *testing.T, socket string) {
	t.Helper()
	digest := sha256.Sum256([]byte("measured"))
	tool(t, socket, "tpm2_pcrextend", "4:sha256="+hex.EncodeToString(digest[:]), "7:sha256="+hex.EncodeToString(digest[:]))
}

// A quote that Ward's TPM code made is good for tpm2_checkquote, and is not once
// anything about it is another.
//
// Verifies: SR-001
func TestToolChecksOurQuote(t *testing.T) {
	Need(t, "tpm2_checkquote", "tpm2_pcrextend", "socat")
	socket := StartTPM(t)
	extendSome(t, socket)
	d := openTPM(t, socket)
	keys, err := d.ProvisionKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	question := quote.Qualifying([]byte("a nonce of the fleet"), chain.Hash{1, 2, 3}, [32]byte{})
	q, values, err := d.Quote(t.Context(), question, pcr.SHA256, quoted)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := quote.Verify(q, keys.AK.Public, question, pcr.SHA256, values); err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	for _, c := range []struct {
		name   string
		key    *ecdsa.PublicKey
		change func(attest, signature, registers []byte, question *[32]byte)
		want   Answer
	}{
		{"as it is", keys.AK.Public, func(_, _, _ []byte, _ *[32]byte) {}, Follows},
		{"another key", keys.SRK.Public, func(_, _, _ []byte, _ *[32]byte) {}, Refuses},
		{"another question", keys.AK.Public, func(_, _, _ []byte, q *[32]byte) { q[5] ^= 1 }, Refuses},
		{"another register", keys.AK.Public, func(_, _, r []byte, _ *[32]byte) { r[40] ^= 1 }, Refuses},
		{"another statement", keys.AK.Public, func(a, _, _ []byte, _ *[32]byte) { a[len(a)-1] ^= 1 }, Refuses},
		{"another signature", keys.AK.Public, func(_, s, _ []byte, _ *[32]byte) { s[len(s)-1] ^= 1 }, Refuses},
	} {
		attest, signature, asked := append([]byte{}, q.Attest...), append([]byte{}, q.Signature...), question
		var registers []byte
		for _, i := range quoted {
			registers = append(registers, values[i]...)
		}
		c.change(attest, signature, registers, &asked)
		file := func(name string, b []byte) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		der, err := x509.MarshalPKIXPublicKey(c.key)
		if err != nil {
			t.Fatal(err)
		}
		out, got, err := run("tpm2_checkquote", "-u", file("ak.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
			"-m", file("attest", attest), "-s", file("signature", signature), "-f", file("registers", registers),
			"-F", "values", "-l", quotedList, "-g", "sha256", "-q", hex.EncodeToString(asked[:]))
		if err != nil || got != c.want {
			t.Errorf("%s: tpm2_checkquote %s, want %s: %v: %s", c.name, got, c.want, err, out)
		}

		// Ward's own verdict is the same.
		held := make(pcr.Values)
		for n, i := range quoted {
			held[i] = registers[32*n : 32*n+32]
		}
		_, err = quote.Verify(quote.Quote{Attest: attest, Signature: signature}, c.key, asked, pcr.SHA256, held)
		if (err == nil) != (c.want == Follows) {
			t.Errorf("%s: quote.Verify: %v", c.name, err)
		}
	}
}

// A quote that tpm2_quote made with a P-256 key is verified.
//
// Verifies: SR-001
func TestWardVerifiesTheToolsQuote(t *testing.T) {
	Need(t, "tpm2_quote", "tpm2_createprimary", "tpm2_flushcontext", "tpm2_pcrextend", "socat")
	socket := StartTPM(t)
	extendSome(t, socket)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	tool(t, socket, "tpm2_createprimary", "-C", "o", "-G", "ecc256:ecdsa-sha256:null", "-c", file("ak.ctx"),
		"-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign")
	tool(t, socket, "tpm2_readpublic", "-c", file("ak.ctx"), "-f", "pem", "-o", file("ak.pem"))
	tool(t, socket, "tpm2_flushcontext", "-t")
	question := quote.Qualifying([]byte("a nonce of the fleet"), chain.Hash{}, [32]byte{})
	tool(t, socket, "tpm2_quote", "-c", file("ak.ctx"), "-l", quotedList, "-q", hex.EncodeToString(question[:]),
		"-m", file("attest"), "-s", file("signature"), "-o", file("registers"), "-F", "values", "-g", "sha256")

	read := func(name string) []byte {
		b, err := os.ReadFile(file(name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	block, _ := pem.Decode(read("ak.pem"))
	if block == nil {
		t.Fatal("tpm2_readpublic wrote no PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	registers := read("registers")
	if len(registers) != 32*len(quoted) {
		t.Fatalf("tpm2_quote wrote %d bytes of registers", len(registers))
	}
	values := make(pcr.Values)
	for n, i := range quoted {
		values[i] = registers[32*n : 32*n+32]
	}
	q := quote.Quote{Attest: read("attest"), Signature: read("signature")}
	v, err := quote.Verify(q, key.(*ecdsa.PublicKey), question, pcr.SHA256, values)
	if err != nil {
		t.Fatal(err)
	}
	if pcr.IsReset(pcr.SHA256, 4, v.Values()[4]) || !pcr.IsReset(pcr.SHA256, 11, v.Values()[11]) {
		t.Errorf("verified values %v", v.Values())
	}
	question[0] ^= 1
	if _, err := quote.Verify(q, key.(*ecdsa.PublicKey), question, pcr.SHA256, values); !errors.Is(err, quote.ErrNonce) {
		t.Errorf("another question gives %v", err)
	}
}
