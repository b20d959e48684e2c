package disk

import (
	"bytes"
	"context"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ward/internal/format/luks2"
	"ward/internal/lab/tool"
)

// IEEE 1619-2018, annex B, vector 10: XTS-AES-256, data unit 0xff.
const (
	vectorKey    = "2718281828459045235360287471352662497757247093699959574966967627" + "3141592653589793238462643383279502884197169399375105820974944592"
	vectorNumber = 0xff
	vectorCipher = "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b5d31e276f8fe4a8d66b317f9ac683f44680a86ac35adfc3345befecb4bb188fd" +
		"5776926c49a3095eb108fd1098baec70aaa66999a72a82f27d848b21d4a741b0c5cd4d5fff9dac89aeba122961d03a757123e9870f8acf1000020887891429ca" +
		"2a3e7a7d7df7b10355165c8b9a6d0a7de8b062c4500dc4cd120c0f7418dae3d0b5781c34803fa75421c790dfe1de1834f280d7667b327f6c8cd7557e12ac3a0f" +
		"93ec05c52e0493ef31a12d3d9260f79a289d6a379bc70c50841473d1a8cc81ec583e9645e07b8d9670655ba5bbcfecc6dc3966380ad8fecb17b6ba02469a020a" +
		"84e18e8f84252070c13e9f1f289be54fbc481457778f616015e1327a02b140f1505eb309326d68378f8374595c849d84f4c333ec4423885143cb47bd71c5edae" +
		"9be69a2ffeceb1bec9de244fbe15992b11b77c040f12bd8f6a975a44a0f90c29a9abc3d4d893927284c58754cce294529f8614dcd2aba991925fedc4ae74ffac" +
		"6e333b93eb4aff0479da9a410e4450e0dd7ae4c6e2910900575da401fc07059f645e8b7e9bfdef33943054ff84011493c27b3429eaedb4ed5376441a77ed4385" +
		"1ad77f16f541dfd269d50d6a5f14fb0aab1cbb4c1550be97f7ab4066193c4caa773dad38014bd2092fa755c824bb5e54c4f36ffda9fcea70b9c6e693e148c151"
)

func TestXTSAgainstTheStandard(t *testing.T) {
	key, err := hex.DecodeString(vectorKey)
	if err != nil {
		t.Fatal(err)
	}
	x, err := newXTS(key)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 3*sector)
	for i := range b {
		b[i] = byte(i)
	}
	x.encrypt(b, vectorNumber-1)
	if got := hex.EncodeToString(b[sector : 2*sector]); got != vectorCipher {
		t.Errorf("sector %#x is %s", vectorNumber, got)
	}
	if bytes.Equal(b[:sector], b[2*sector:]) {
		t.Error("two sectors with the same content are the same")
	}
	if _, err := newXTS(key[:32]); err == nil {
		t.Error("a key of 32 bytes: no error")
	}
}

// The header holds what was asked for, both passphrases open the same volume key,
// and what is behind the header is the file system under that key.
//
// Verifies: SR-040
func TestMakeVolume(t *testing.T) {
	if _, err := tool.Look("cryptsetup"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	const size = 6 << 20
	const planted = "planted: a patient's name"
	plain, image := filepath.Join(dir, "plain"), filepath.Join(dir, "volume")
	content := bytes.Repeat([]byte(planted), int(PlainSize(size))/len(planted)+1)[:PlainSize(size)]
	if err := os.WriteFile(plain, content, 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := hex.DecodeString(vectorKey)
	if err != nil {
		t.Fatal(err)
	}
	v := Volume{Passphrase: []byte("sealed\x00with any byte"), Recovery: "000011-000022", Key: key, Token: []byte(`{"type":"ward-tpm2","keyslots":["0"],"ward-key":"QUFB"}`)}
	const uuid = "0a6c1f4e-7f52-4a39-9d0e-5741524c4415"
	if err := MakeVolume(t.Context(), image, size, "ward-data", uuid, v, plain); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) != size || bytes.Contains(raw, []byte(planted)) || bytes.Contains(raw, v.Passphrase) || bytes.Contains(raw, []byte(v.Recovery)) {
		t.Errorf("%d bytes, or something stands in them in the open", len(raw))
	}
	h, err := luks2.Parse(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	a := h.Area
	if h.Label != "ward-data" || h.UUID != uuid || len(a.Keyslots) != 2 || a.Keyslots[0].KDF != "pbkdf2" || a.Keyslots[1].KDF != "argon2id" ||
		len(a.Tokens) != 1 || len(a.Segments) != 1 || a.Segments[0].Offset != dataOffset || a.Segments[0].Encryption != "aes-xts-plain64" {
		t.Errorf("header %+v", h)
	}
	for slot, passphrase := range map[string][]byte{"0": v.Passphrase, "1": []byte(v.Recovery)} {
		if got := dumpVolumeKey(t.Context(), t, image, slot, passphrase); !bytes.Equal(got, key) {
			t.Errorf("key slot %s opens volume key %x", slot, got)
		}
	}
	x, err := newXTS(key)
	if err != nil {
		t.Fatal(err)
	}
	x.encrypt(content, 0)
	if !bytes.Equal(raw[dataOffset:], content) {
		t.Error("behind the header is something else")
	}
}

// dumpVolumeKey has cryptsetup open a key slot.
func dumpVolumeKey(ctx context.Context, t *testing.T, image, slot string, passphrase []byte) []byte {
	t.Helper()
	program, err := tool.Look("cryptsetup")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "volume-key")
	cmd := exec.CommandContext(ctx, program, "luksDump", "--batch-mode", "--disable-locks", "--dump-volume-key", "--volume-key-file", file,
		"--key-slot", slot, "--key-file", "-", image)
	cmd.Stdin = bytes.NewReader(passphrase)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cryptsetup: %v: %s", err, strings.TrimSpace(string(out)))
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
