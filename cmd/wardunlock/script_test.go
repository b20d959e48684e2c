package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ward/internal/device/tpm"
	"ward/internal/format/pcr"
	"ward/internal/format/tss2"
	"ward/internal/lab/disk"
	"ward/internal/lab/tool"
	"ward/internal/scripttest"
	"ward/internal/trust/policy"
	"ward/internal/trust/release"
	"ward/internal/trust/volume"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"wardunlock": main})
}

// Scripts on the program. Each has a manufactured device of its own: $TPM is the
// socket of its TPM, $OTHER that of another manufactured one, $CLEARED that of one
// without keys; the folder paper holds the volumes state and data with their
// passphrases, the releases old.dsse and new.dsse of index 1 and 2, and the trust
// anchors.
func TestScripts(t *testing.T) {
	for _, name := range []string{"swtpm", "cryptsetup"} {
		if _, err := tool.Look(name); err != nil {
			t.Skip(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			paper := filepath.Join(env.WorkDir, "paper")
			m := &machine{paper: paper, key: newKey(t)}
			for name, keys := range map[string]bool{"TPM": true, "OTHER": true, "CLEARED": false} {
				socket, err := startTPM(env.Defer)
				if err != nil {
					return err
				}
				env.Setenv(name, socket)
				if keys {
					if err := m.manufacture(t, socket, name == "TPM"); err != nil {
						return err
					}
				}
			}
			env.Values["machine"] = m
			return m.write(t)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": scripttest.Status,
			"extend": extend,
			"raise":  raise,
		},
	})
}

const base = 20 // of the rollback counter

type machine struct {
	paper string
	key   *ecdsa.PrivateKey // policy key
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// manufacture makes the keys and the rollback counter of a TPM and, for the one of
// the device, the volumes.
func (m *machine) manufacture(t *testing.T, socket string, volumes bool) error {
	chip, err := tpm.Open(socket)
	if err != nil {
		return err
	}
	defer chip.Close()
	if _, err := chip.ProvisionKeys(t.Context()); err != nil {
		return err
	}
	key, err := policy.NewKey(&m.key.PublicKey)
	if err != nil {
		return err
	}
	if err := chip.DefineRollback(t.Context(), key, base); err != nil || !volumes {
		return err
	}
	boot := policy.BootPolicy(key)
	for name, p := range map[string]*policy.Digest{"state": nil, "data": &boot} {
		passphrase := []byte("the passphrase of " + name)
		blob, err := chip.Seal(t.Context(), passphrase, p)
		if err != nil {
			return err
		}
		token, err := volume.Token(tss2.File{Kind: tss2.Sealed, EmptyAuth: true, Parent: tpm.HandleSRK, Public: blob.Public, Private: blob.Private})
		if err != nil {
			return err
		}
		if err := m.volume(t, name, disk.Volume{Passphrase: passphrase, Token: token, Recovery: "000011-000022", Key: bytes.Repeat([]byte{7}, 64)}); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) volume(t *testing.T, name string, v disk.Volume) error {
	const size = 6 << 20
	file := filepath.Join(m.paper, name)
	plain := file + ".plain"
	if err := errors.Join(os.MkdirAll(m.paper, 0o755), os.WriteFile(plain, make([]byte, disk.PlainSize(size)), 0o600), os.WriteFile(file+".passphrase", v.Passphrase, 0o600)); err != nil {
		return err
	}
	return disk.MakeVolume(t.Context(), file, size, "ward-"+name, "0a6c1f4e-7f52-4a39-9d0e-5741524c4415", v, plain)
}

// write writes the releases and the trust anchors.
func (m *machine) write(t *testing.T) error {
	der, err := x509.MarshalPKIXPublicKey(&m.key.PublicKey)
	if err != nil {
		return err
	}
	files := map[string][]byte{
		"trust/policy/lab.pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		"plain":                make([]byte, 1<<20),
	}
	zeros := release.Reference{Mode: release.Exact, Values: []release.Value{{Firmware: "1.0", Digest: make(pcr.Digest, 32)}}}
	for name, index := range map[string]uint64{"old": 1, "new": 2, "unbound": 3, "other": 4} {
		manifest := release.Manifest{
			Schema: release.SchemaVersion, Product: "pump", Board: "board", Version: "1.0." + strconv.FormatUint(index, 10), RollbackIndex: index,
			BuildTime: time.Date(2025, 1, 31, 0, 0, 0, 0, time.UTC), Files: release.Files{Digest: [32]byte{1}, Path: "/baseline"},
			Boot: release.Boot{Bank: "sha256", Firmware: []string{"1.0"}, PCRs: map[int]release.Reference{7: zeros, 11: zeros, 12: zeros}},
		}
		signer := m.key
		if name == "other" {
			signer = newKey(t)
		}
		if name != "unbound" {
			if manifest, err = manifest.Approve(release.Approval{Base: base}, signer); err != nil {
				return err
			}
		}
		if files[name+".dsse"], err = release.Sign(manifest, newKey(t)); err != nil { // whose signature does not matter
			return err
		}
	}
	files["short.dsse"] = files["new.dsse"][:200]
	for name, b := range files {
		name = filepath.Join(m.paper, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, b, 0o644)); err != nil {
			return err
		}
	}
	data, err := os.ReadFile(filepath.Join(m.paper, "data"))
	if err != nil {
		return err
	}
	for _, at := range []int{5000, 16<<10 + 5000} { // the JSON of both copies
		data[at] ^= 1
	}
	return os.WriteFile(filepath.Join(m.paper, "damaged"), data[:1<<20], 0o644)
}

// startTPM runs a software TPM and returns its socket.
func startTPM(later func(func())) (string, error) {
	dir, err := os.MkdirTemp("", "tpm") // a short name: unix(7)
	if err != nil {
		return "", err
	}
	later(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "socket")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket, "--flags", "startup-clear,not-need-init")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	later(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 250 {
		if conn, err := net.Dial("unix", socket); err == nil {
			return socket, conn.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return "", errors.New("swtpm does not listen")
}

// extend runs "extend SOCKET PCR": another boot state.
func extend(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.ParseUint(args[1], 10, 32)
	ts.Check(err)
	command := binary.BigEndian.AppendUint32(nil, uint32(n))
	command = append(command, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0) // an empty password
	command = append(command, 0, 0, 0, 1, 0, 0x0b)                      // one digest, SHA-256
	command = append(command, make([]byte, 32)...)
	header := binary.BigEndian.AppendUint32([]byte{0x80, 2}, uint32(10+len(command)))
	header = binary.BigEndian.AppendUint32(header, 0x182) // TPM2_PCR_Extend
	conn, err := net.Dial("unix", args[0])
	ts.Check(err)
	defer conn.Close()
	_, err = conn.Write(append(header, command...))
	ts.Check(err)
	answer := make([]byte, 10)
	_, err = io.ReadFull(conn, answer)
	ts.Check(err)
	if rc := binary.BigEndian.Uint32(answer[6:]); rc != 0 {
		ts.Fatalf("extend: the TPM answers %#x", rc)
	}
}

// raise runs "raise SOCKET VALUE": the update gate has confirmed a release.
func raise(ts *testscript.TestScript, _ bool, args []string) {
	to, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	m := ts.Value("machine").(*machine)
	permission, err := policy.Raise{To: to}.Sign(rand.Reader, m.key)
	ts.Check(err)
	key, err := policy.NewKey(&m.key.PublicKey)
	ts.Check(err)
	chip, err := tpm.Open(args[0])
	ts.Check(err)
	defer chip.Close()
	ts.Check(chip.Raise(context.Background(), key, permission))
}
