package tpm_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"ward/internal/device/tpm"
	"ward/internal/format/endorsement"
	"ward/internal/trust/credential"
	"ward/internal/trust/policy"
)

// tools runs tpm2-tools against the software TPM at a socket.
type tools struct {
	t      *testing.T
	socket string
	dir    string
}

func newTools(t *testing.T, socket string) tools {
	t.Helper()
	for _, program := range []string{"tpm2_createek", "socat"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed: run 'make deps'", program)
		}
	}
	return tools{t, socket, t.TempDir()}
}

func (x tools) run(name string, args ...string) {
	x.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = x.dir
	cmd.Env = append(os.Environ(), "TPM2TOOLS_TCTI=cmd:socat - UNIX-CONNECT:"+x.socket)
	if out, err := cmd.CombinedOutput(); err != nil {
		x.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func (x tools) read(name string) []byte {
	x.t.Helper()
	b, err := os.ReadFile(filepath.Join(x.dir, name))
	if err != nil {
		x.t.Fatal(err)
	}
	return b
}

func (x tools) write(name string, b []byte) {
	x.t.Helper()
	if err := os.WriteFile(filepath.Join(x.dir, name), b, 0o600); err != nil {
		x.t.Fatal(err)
	}
}

// A credential file of tpm2-tools: magic, version, TPM2B_ID_OBJECT and
// TPM2B_ENCRYPTED_SECRET.
var credentialFile = []byte{0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1}

// What Ward protects tpm2_activatecredential opens, and what tpm2_makecredential
// protects Ward opens.
func TestCredentialsOfTPM2Tools(t *testing.T) {
	d := manufactured(t)
	x := newTools(t, d.socket)
	secret := []byte("thirty-two bytes of credential !")
	for n, algorithm := range map[int]string{0: "ecc", 3: "rsa"} {
		p := endorsement.Profiles[n]
		ek := endorsementOf(t, d.TPM, p)
		x.write("secret", secret)
		x.run("tpm2_createek", "-c", "ek.ctx", "-G", algorithm, "-u", "ek.pub")
		x.run("tpm2_flushcontext", "-t")
		x.run("tpm2_makecredential", "-T", "none", "-u", "ek.pub", "-s", "secret", "-n", hex.EncodeToString(d.keys.AK.Name), "-o", "theirs")
		theirs := bytes.TrimPrefix(x.read("theirs"), credentialFile)
		size := 2 + int(binary.BigEndian.Uint16(theirs))
		got, err := d.Activate(t.Context(), ek, tpm.HandleAK, credential.Blob{Credential: theirs[2:size], Secret: theirs[size+2:]})
		if err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%s: made by tpm2_makecredential: %q, %v", p.Name, got, err)
		}
		ours, err := credential.Make(rand.Reader, ek.Public, d.keys.AK.Name, secret)
		if err != nil {
			t.Fatal(err)
		}
		file := binary.BigEndian.AppendUint16(bytes.Clone(credentialFile), uint16(len(ours.Credential)))
		file = binary.BigEndian.AppendUint16(append(file, ours.Credential...), uint16(len(ours.Secret)))
		x.write("ours", append(file, ours.Secret...))
		x.run("tpm2_startauthsession", "--policy-session", "-S", "session")
		x.run("tpm2_policysecret", "-S", "session", "-c", "e")
		x.run("tpm2_activatecredential", "-c", "0x81001000", "-C", "ek.ctx", "-i", "ours", "-o", "opened", "-P", "session:session")
		x.run("tpm2_flushcontext", "session")
		x.run("tpm2_flushcontext", "-t")
		if got := x.read("opened"); !bytes.Equal(got, secret) {
			t.Errorf("%s: opened by tpm2_activatecredential: %q", p.Name, got)
		}
	}
}

// tpm2_policynv, tpm2_policypcr, tpm2_policycommandcode and tpm2_policyauthorize
// come to the digests that are signed without a TPM.
func TestPoliciesOfTPM2Tools(t *testing.T) {
	d := manufactured(t)
	x := newTools(t, d.socket)
	extend(t, d.socket, 7, 11)
	approval := d.approve(t, 2).Approvals[0]
	approved, err := approval.Digest(d.key)
	if err != nil {
		t.Fatal(err)
	}
	boot, raise := policy.BootPolicy(d.key), policy.Raise{To: base + 2}
	permitted := raise.Digest(d.key)
	x.write("most", approval.Operand())
	x.write("to", raise.Operand())
	x.write("key", d.key.Name)
	x.write("reference", approval.Reference())
	for _, c := range []struct {
		name     string
		commands [][]string
		want     policy.Digest
	}{
		{"boot state", [][]string{
			{"tpm2_policynv", "-S", "session", "-C", "0x1801000", "-i", "most", "0x1801000", "ule"},
			{"tpm2_policypcr", "-S", "session", "-l", "sha256:7,11,12", "-L", "digest"},
		}, approved},
		{"raise", [][]string{
			{"tpm2_policynv", "-S", "session", "-C", "0x1801000", "-i", "to", "0x1801000", "ult"},
			{"tpm2_policycommandcode", "-S", "session", "-L", "digest", "TPM2_CC_NV_Increment"},
		}, permitted},
		{"boot policy", [][]string{
			{"tpm2_policyauthorize", "-S", "session", "-n", "key", "-q", "reference", "-L", "digest"},
		}, boot},
	} {
		x.run("tpm2_startauthsession", "-S", "session")
		for _, command := range c.commands {
			x.run(command[0], command[1:]...)
		}
		x.run("tpm2_flushcontext", "session")
		if got := x.read("digest"); !bytes.Equal(got, c.want[:]) {
			t.Errorf("%s: tpm2-tools %x, computed %x", c.name, got, c.want)
		}
	}
}
