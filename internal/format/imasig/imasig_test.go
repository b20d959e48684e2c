package imasig_test

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ward/internal/format/ima"
	"ward/internal/format/imasig"
	"ward/internal/format/pcr"
)

// The files of testdata were made by testdata/make.sh with openssl and evmctl,
// which verified what they made.

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func keys(t testing.TB, names ...string) imasig.Keys {
	t.Helper()
	var all imasig.Keys
	for _, name := range names {
		k, err := imasig.ParseKeys(read(t, name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, k...)
	}
	return all
}

// payload is the digest of what is signed.
func payload(t testing.TB, a pcr.Algorithm) []byte { return a.Sum(read(t, "payload")) }

// entry makes an entry of a template from its fields, through the decoder.
func entry(t testing.TB, template string, fields ...[]byte) ima.Entry {
	t.Helper()
	le := binary.LittleEndian
	var data []byte
	for _, f := range fields {
		data = append(le.AppendUint32(data, uint32(len(f))), f...)
	}
	list := append(le.AppendUint32(nil, 10), pcr.SHA1.Sum(data)...)
	list = append(le.AppendUint32(list, uint32(len(template))), template...)
	list = append(le.AppendUint32(list, uint32(len(data))), data...)
	d, err := ima.NewDecoder(bytes.NewReader(list))
	if err != nil {
		t.Fatal(err)
	}
	e, err := d.Next()
	if err != nil {
		t.Fatal(err)
	}
	return e.Clone()
}

func ng(prefix string, digest []byte) []byte { return append([]byte(prefix+":\x00"), digest...) }

// signed is an entry of the template ima-sig.
func signed(t testing.TB, algorithm string, digest, signature []byte) ima.Entry {
	t.Helper()
	return entry(t, "ima-sig", ng(algorithm, digest), []byte("/usr/bin/a\x00"), signature)
}

func verity(t testing.TB, template string, signature []byte) ima.Entry {
	t.Helper()
	return entry(t, template, ng("verity:sha256", payload(t, pcr.SHA256)), []byte("/usr/bin/a\x00"), signature)
}

// modsig is an entry of ima-modsig, with the digest of the file before its
// appended signature.
func modsig(t testing.TB, algorithm string, digest, signature []byte) ima.Entry {
	t.Helper()
	return entry(t, "ima-modsig", ng("sha256", make([]byte, 32)), []byte("/m.ko\x00"), nil, ng(algorithm, digest), signature)
}

func evm(t testing.TB, value []byte, owner uint32) ima.Entry {
	t.Helper()
	le := binary.LittleEndian
	file := read(t, "rsa.sha256.sig")
	return entry(t, "evm-sig", ng("sha256", payload(t, pcr.SHA256)), []byte("/usr/bin/a\x00"), value, []byte("security.ima\x00"),
		le.AppendUint32(nil, uint32(len(file))), file, le.AppendUint32(nil, owner), le.AppendUint32(nil, 901), le.AppendUint16(nil, 0o100755))
}

// Signatures that evmctl made and verified, of each kind of key and hash, against
// certificates in both forms and against bare keys.
//
// Verifies: SR-004
func TestFileSignatures(t *testing.T) {
	for _, name := range []string{"rsa", "p256", "p384"} {
		for _, a := range []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512} {
			e := signed(t, a.String(), payload(t, a), read(t, name+"."+a.String()+".sig"))
			for _, form := range []string{name + ".pem", name + ".der"} {
				got := imasig.Verify(e, keys(t, form)).File
				if got.State != imasig.Good || got.Key != "CN="+name+",O=Test" || got.Algorithm != a.String() || len(got.KeyID) != 8 {
					t.Errorf("%s, %s: %+v", form, a, got)
				}
			}
		}
	}
	for name, key := range map[string]string{"rsa": "rsa-bare.pem", "p256": "p256-bare.der"} {
		e := signed(t, "sha256", payload(t, pcr.SHA256), read(t, name+".sha256.sig"))
		if got := imasig.Verify(e, keys(t, key)).File; got.State != imasig.Good || got.Key != "key "+got.KeyID {
			t.Errorf("%s: %+v", key, got)
		}
	}
	if got := imasig.Verify(verity(t, "ima-sigv2", read(t, "verity.sig")), keys(t, "rsa.pem", "p256.pem")).File; got.State != imasig.Good || got.Key != "CN=p256,O=Test" {
		t.Errorf("fs-verity: %+v", got)
	}
}

// Each state but Good, and no entry of these reads as one.
//
// Verifies: SR-004
func TestFileSignaturesThatAreNotGood(t *testing.T) {
	all := keys(t, "rsa.pem", "p256.pem", "p384.pem")
	sha256 := payload(t, pcr.SHA256)
	good := read(t, "p256.sha256.sig")
	with := func(at int, value ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[at:], value)
		return b
	}
	for name, c := range map[string]struct {
		e    ima.Entry
		keys imasig.Keys
		want imasig.State
	}{
		"no signature":                {signed(t, "sha256", sha256, nil), all, imasig.None},
		"template without one":        {entry(t, "ima-ng", ng("sha256", sha256), []byte("/a\x00")), all, imasig.None},
		"other file":                  {signed(t, "sha256", pcr.SHA256.Sum([]byte("x")), good), all, imasig.Bad},
		"changed signature":           {signed(t, "sha256", sha256, with(len(good)-1, good[len(good)-1]^1)), all, imasig.Bad},
		"name of another key":         {signed(t, "sha256", sha256, with(3, read(t, "rsa.sha256.sig")[3:7]...)), all, imasig.Bad},
		"key not given":               {signed(t, "sha256", sha256, good), keys(t, "rsa.pem", "p384.pem"), imasig.UnknownKey},
		"no key given":                {signed(t, "sha256", sha256, good), nil, imasig.UnknownKey},
		"version 1":                   {signed(t, "sha256", sha256, with(1, 1)), all, imasig.Unsupported},
		"version 3 of a digest":       {signed(t, "sha256", sha256, with(1, 3)), all, imasig.Bad},
		"type of an HMAC":             {signed(t, "sha256", sha256, with(0, 2)), all, imasig.Unsupported},
		"fs-verity of version 2":      {signed(t, "sha256", sha256, with(0, 6)), all, imasig.Unsupported},
		"content beside fs-verity":    {verity(t, "ima-sigv2", good), all, imasig.Unsupported},
		"another hash than signed":    {signed(t, "sha512", payload(t, pcr.SHA512), good), all, imasig.Unsupported},
		"digest of another algorithm": {signed(t, "sm3", sha256, good), all, imasig.Unsupported},
		"header of no signature":      {signed(t, "sha256", sha256, append(bytes.Clone(good[:7]), 0, 0)), all, imasig.Unsupported},
		"hash not computed (sm3)":     {signed(t, "sm3", sha256, with(2, 17)), all, imasig.Unsupported},
		"hash out of range":           {signed(t, "sha256", sha256, with(2, 200)), all, imasig.Unsupported},
		"digest too short":            {signed(t, "sha256", sha256[:20], good), all, imasig.Unsupported},
		"size too large":              {signed(t, "sha256", sha256, with(7, 0xff)), all, imasig.Unsupported},
		"cut":                         {signed(t, "sha256", sha256, good[:20]), all, imasig.Unsupported},
		"header alone":                {signed(t, "sha256", sha256, good[:9]), all, imasig.Unsupported},
		"one byte":                    {signed(t, "sha256", sha256, good[:1]), all, imasig.Unsupported},
		"fs-verity's id as a content": {verity(t, "ima-sigv2", append([]byte{3}, read(t, "verity.sig")[1:]...)), all, imasig.Unsupported},
	} {
		got := imasig.Verify(c.e, c.keys).File
		if got.State != c.want || (got.Reason == "") != (c.want == imasig.None || c.want == imasig.UnknownKey) || strings.Contains(got.String(), "\n") {
			t.Errorf("%s: %+v, want %s", name, got, c.want)
		}
	}
}

// Appended signatures that openssl made as the kernel's sign-file does.
//
// Verifies: SR-004
func TestAppendedSignatures(t *testing.T) {
	sha256, sha512 := payload(t, pcr.SHA256), payload(t, pcr.SHA512)
	all := keys(t, "p384.pem", "rsa.pem", "p256.pem")
	other := pcr.SHA512.Sum([]byte("x"))
	cut := read(t, "rsa.p7")
	oneBad := read(t, "two.p7")
	oneBad[len(oneBad)-1] ^= 1 // RSA's, the longer, stands behind
	enveloped := bytes.Clone(cut)
	enveloped[bytes.Index(cut, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02})+8] = 3
	for name, c := range map[string]struct {
		e    ima.Entry
		keys imasig.Keys
		want imasig.State
		key  string
	}{
		"RSA by issuer":            {modsig(t, "sha512", sha512, read(t, "rsa.p7")), all, imasig.Good, "CN=rsa,O=Test"},
		"ECDSA by issuer":          {modsig(t, "sha512", sha512, read(t, "p256.p7")), all, imasig.Good, "CN=p256,O=Test"},
		"RSA by key id":            {modsig(t, "sha256", sha256, read(t, "rsa-keyid.p7")), all, imasig.Good, "CN=rsa,O=Test"},
		"ECDSA by key id":          {modsig(t, "sha256", sha256, read(t, "p256-keyid.p7")), all, imasig.Good, "CN=p256,O=Test"},
		"bare key by key id":       {modsig(t, "sha256", sha256, read(t, "p256-keyid.p7")), keys(t, "p256-bare.der"), imasig.Good, "key 712d55a4"},
		"bare key by issuer":       {modsig(t, "sha512", sha512, read(t, "rsa.p7")), keys(t, "rsa-bare.pem"), imasig.Good, "key d37b3b10"},
		"bare key that is another": {modsig(t, "sha512", sha512, read(t, "rsa.p7")), keys(t, "p256-bare.der"), imasig.UnknownKey, ""},
		"two signers":              {modsig(t, "sha256", sha256, read(t, "two.p7")), all, imasig.Good, "CN=p256,O=Test"},
		"two signers, one known":   {modsig(t, "sha256", sha256, read(t, "two.p7")), keys(t, "p256.pem"), imasig.Good, "CN=p256,O=Test"},
		"none":                     {modsig(t, "sha512", sha512, nil), all, imasig.None, ""},
		"other file":               {modsig(t, "sha512", other, read(t, "rsa.p7")), all, imasig.Bad, "CN=rsa,O=Test"},
		"other file, two signers":  {modsig(t, "sha256", other[:32], read(t, "two.p7")), all, imasig.Bad, "CN=p256,O=Test"},
		"two signers, one bad":     {modsig(t, "sha256", sha256, oneBad), all, imasig.Bad, "CN=rsa,O=Test"},
		"namesake":                 {modsig(t, "sha512", sha512, cut), keys(t, "twin.pem"), imasig.UnknownKey, ""},
		"digest of another kind":   {modsig(t, "sm3", sha256, read(t, "rsa-keyid.p7")), all, imasig.Unsupported, ""},
		"enveloped data":           {modsig(t, "sha512", sha512, enveloped), all, imasig.Unsupported, ""},
		"key not given":            {modsig(t, "sha512", sha512, read(t, "rsa.p7")), keys(t, "p256.pem"), imasig.UnknownKey, ""},
		"key id not given":         {modsig(t, "sha256", sha256, read(t, "rsa-keyid.p7")), keys(t, "p256.pem"), imasig.UnknownKey, ""},
		"another hash":             {modsig(t, "sha256", sha256, read(t, "rsa.p7")), all, imasig.Unsupported, ""},
		"signed attributes":        {modsig(t, "sha256", sha256, read(t, "attributes.p7")), all, imasig.Unsupported, ""},
		"content enclosed":         {modsig(t, "sha256", sha256, read(t, "enclosed.p7")), all, imasig.Unsupported, ""},
		"cut":                      {modsig(t, "sha512", sha512, cut[:len(cut)-1]), all, imasig.Unsupported, ""},
		"bytes behind":             {modsig(t, "sha512", sha512, append(bytes.Clone(cut), 0)), all, imasig.Unsupported, ""},
		"no CMS":                   {modsig(t, "sha512", sha512, []byte("signature")), all, imasig.Unsupported, ""},
		"no digest":                {entry(t, "ima-modsig", ng("sha256", sha256), []byte("/m.ko\x00"), nil, nil, cut), all, imasig.Unsupported, ""},
		"template without digest":  {entry(t, "d-ng|n-ng|modsig", ng("sha512", sha512), []byte("/m.ko\x00"), cut), all, imasig.Unsupported, ""},
	} {
		got := imasig.Verify(c.e, c.keys).Appended
		if got.State != c.want || c.key != "" && got.Key != c.key || strings.Contains(got.String(), "\n") {
			t.Errorf("%s: %+v, want %s by %q", name, got, c.want, c.key)
		}
	}
}

// The portable signature of attributes, owner and mode, as evmctl makes it.
//
// Verifies: SR-004
func TestEVMSignature(t *testing.T) {
	value := read(t, "evm.sig")
	hmac := append([]byte{2}, make([]byte, 20)...)
	for name, c := range map[string]struct {
		e    ima.Entry
		keys imasig.Keys
		want imasig.State
	}{
		"as signed":     {evm(t, value, 900), keys(t, "rsa.pem"), imasig.Good},
		"another owner": {evm(t, value, 0), keys(t, "rsa.pem"), imasig.Bad},
		"key not given": {evm(t, value, 900), keys(t, "p256.pem"), imasig.UnknownKey},
		"an HMAC":       {evm(t, hmac, 900), keys(t, "rsa.pem"), imasig.Unsupported},
		"another type":  {evm(t, append([]byte{3}, value[1:]...), 900), keys(t, "rsa.pem"), imasig.Unsupported},
		"cut":           {evm(t, value[:100], 900), keys(t, "rsa.pem"), imasig.Unsupported},
		"none":          {evm(t, nil, 900), keys(t, "rsa.pem"), imasig.None},
		"no owner":      {entry(t, "d-ng|n-ng|evmsig", ng("sha256", make([]byte, 32)), []byte("/a\x00"), value), keys(t, "rsa.pem"), imasig.Unsupported},
	} {
		if got := imasig.Verify(c.e, c.keys).EVM; got.State != c.want {
			t.Errorf("%s: %+v, want %s", name, got, c.want)
		}
	}
}

// Verifies: SR-004
func TestParseKeys(t *testing.T) {
	bundle := append(append(append([]byte("Bag of keys\n"), read(t, "rsa.pem")...), "-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n"...), read(t, "rsa-bare.pem")...)
	if k, err := imasig.ParseKeys(bundle); err != nil || len(k) != 2 || k[0].Name != "CN=rsa,O=Test" || k[1].Name != "key d37b3b10" {
		t.Errorf("%v, %v", k, err)
	}
	for name, b := range map[string][]byte{
		"nothing":         nil,
		"text":            []byte("no key"),
		"PEM without one": []byte("-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n"),
		"PEM of nothing":  []byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"),
		"cut":             read(t, "rsa.der")[:300],
		"a signature":     read(t, "rsa.p7"),
	} {
		if k, err := imasig.ParseKeys(b); err == nil || len(k) != 0 {
			t.Errorf("%s: %v", name, k)
		}
	}
	if k, err := imasig.ParseKeys(bytes.Repeat(read(t, "p256.pem"), 1025)); err == nil {
		t.Errorf("%d keys were taken", len(k))
	}
}

func TestZeroResultIsNone(t *testing.T) {
	if (imasig.Result{}).State != imasig.None || imasig.None.String() != "none" || imasig.State(9).String() != "unsupported" {
		t.Error("the zero value is not none")
	}
	if !crypto.SHA224.Available() {
		t.Error("a hash that signatures name is not linked")
	}
}
