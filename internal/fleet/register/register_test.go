package register_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ward/internal/fleet/register"
	"ward/internal/trust/quote/quotetest"
)

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func publicPEM(t testing.TB, key *ecdsa.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// board is a main board with its TPM.
type board struct {
	ek [32]byte
	ak *ecdsa.PublicKey
}

func newBoard(t testing.TB, name string) board {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return board{sha256.Sum256([]byte(name)), &k.PublicKey}
}

func (b board) as(device string) register.Claim {
	return register.Claim{Tenant: "acme", Device: device, EK: b.ek, AK: b.ak}
}

func (b board) id() string { return hex.EncodeToString(b.ek[:]) }

func open(t testing.TB, dir string) *register.Register {
	t.Helper()
	r, err := register.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Verifies: SR-031
func TestRegistry(t *testing.T) {
	dir := t.TempDir()
	r, err := register.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := register.Open(filepath.Join(dir, "none")); err == nil {
		t.Error("a folder that is not there was opened")
	}
	one, two := publicPEM(t, &quotetest.Key(t).PublicKey), publicPEM(t, &quotetest.Key(t).PublicKey)
	for _, c := range []struct {
		name    string
		device  string
		key     []byte
		replace bool
		reason  string
		want    string // act, or what the error says
	}{
		{"first", "pump-1", one, false, "", "add"},
		{"the same again", "pump-1", one, false, "", ""},
		{"another", "pump-1", two, false, "", "another attestation key is registered"},
		{"another without a reason", "pump-1", two, true, "", "takes a reason"},
		{"another with a reason of two lines", "pump-1", two, true, "a\nb", "takes a reason"},
		{"the key of another device", "pump-2", one, false, "", "another device's: pump-1 of acme"},
		{"replaced", "pump-1", two, true, "main board", "replace"},
		{"the old key is free", "pump-2", one, false, "", "add"},
		{"a name that leads elsewhere", "../pump", one, false, "", "letters, digits"},
		{"no key", "pump-3", []byte("hello"), false, "", "not an attestation key"},
		{"replace where there is none", "pump-3", publicPEM(t, &quotetest.Key(t).PublicKey), true, "", "add"},
	} {
		act, err := r.Add(begin, "acme", c.device, c.key, c.replace, c.reason)
		switch {
		case err != nil && (c.want == "" || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		case err == nil && act == nil && c.want != "", err == nil && act != nil && act.Act != c.want:
			t.Errorf("%s: %+v, want %q", c.name, act, c.want)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "acts.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) != 4 || !strings.Contains(lines[1], `"act":"replace"`) || !strings.Contains(lines[1], `"reason":"main board"`) {
		t.Errorf("record of acts:\n%s", b)
	}
	k, err := r.Lookup(begin, "acme", "pump-1")
	if err != nil || k == nil || !strings.Contains(lines[1], k.ID) {
		t.Errorf("%+v, %v", k, err)
	}
	// A file that somebody took away leaves the device its key.
	if err := os.Remove(filepath.Join(dir, "acme", "pump-1.ak.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Add(begin, "acme", "pump-1", publicPEM(t, &quotetest.Key(t).PublicKey), false, ""); !errors.Is(err, register.ErrOtherKey) {
		t.Errorf("registered another key where the file was taken away: %v", err)
	}
	if act, err := r.Add(begin, "acme", "pump-1", two, false, ""); err != nil || act == nil || act.Act != "add" {
		t.Errorf("the key that was taken away: %+v, %v", act, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "acts.jsonl"), []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Add(begin, "acme", "pump-7", publicPEM(t, &quotetest.Key(t).PublicKey), false, ""); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a record of acts that cannot be read: %v", err)
	}
	if k, err := r.Lookup(begin, "acme", "pump-9"); k != nil || err != nil {
		t.Errorf("a device that is not registered: %+v, %v", k, err)
	}
}

// One TPM is one device and one device one TPM, also where files were taken away,
// until an operator opens the device, for one other TPM, once.
//
// Verifies: SR-035
func TestOneTPMOneDevice(t *testing.T) {
	dir := t.TempDir()
	a, b, c, e := newBoard(t, "a"), newBoard(t, "b"), newBoard(t, "c"), newBoard(t, "e")
	again := board{a.ek, newBoard(t, "").ak} // its TPM was cleared
	file := filepath.Join(dir, "acme", "pump-1.ak.pem")
	operator := open(t, dir) // another process
	for _, step := range []struct {
		name  string
		do    func() error
		claim register.Claim
		want  error
		life  int
	}{
		{"first", nil, a.as("pump-1"), nil, 1},
		{"again", nil, a.as("pump-1"), nil, 1},
		{"the same TPM as another device", nil, a.as("pump-2"), register.ErrTaken, 0},
		{"another TPM", nil, b.as("pump-1"), register.ErrOtherTPM, 0},
		{"another attestation key", nil, again.as("pump-1"), register.ErrOtherKey, 0},
		{"another TPM with the attestation key", nil, board{b.ek, a.ak}.as("pump-1"), register.ErrOtherTPM, 0},
		{"the attestation key as another device", nil, board{b.ek, a.ak}.as("pump-2"), register.ErrTaken, 0},
		{"the file is gone", func() error { return os.Remove(file) }, b.as("pump-1"), register.ErrOtherTPM, 0},
		{"the TPM's own way back", nil, a.as("pump-1"), nil, 1},
		{"the file was exchanged", func() error { return os.WriteFile(file, publicPEM(t, b.ak), 0o600) }, a.as("pump-1"), register.ErrOtherKey, 0},
		{"for whom it was exchanged", func() error { return nil }, b.as("pump-1"), register.ErrOtherTPM, 0},
		{"the file is back", func() error { return os.WriteFile(file, publicPEM(t, a.ak), 0o600) }, a.as("pump-1"), nil, 1},
		{"open", func() error { _, err := operator.Replace(begin, "acme", "pump-1", "main board", ""); return err }, a.as("pump-1"), nil, 1},
		{"another TPM through the opening", nil, b.as("pump-1"), nil, 2},
		{"the opening is closed", nil, c.as("pump-1"), register.ErrOtherTPM, 0},
		{"the old board", nil, a.as("pump-1"), register.ErrOtherTPM, 0},
		{"the old board as another device", nil, a.as("pump-2"), register.ErrTaken, 0},
		{"open for one TPM", func() error { _, err := operator.Replace(begin, "acme", "pump-1", "main board", c.id()); return err }, a.as("pump-1"), register.ErrOtherTPM, 0},
		{"that one", nil, c.as("pump-1"), nil, 3},
		{"revoked", func() error { _, err := operator.Revoke(begin, "acme", "pump-1", "stolen"); return err }, c.as("pump-1"), register.ErrRevoked, 0},
		{"another TPM for a revoked one", nil, newBoard(t, "d").as("pump-1"), register.ErrRevoked, 0},
		{"the thief comes through an opening", func() error { _, err := operator.Replace(begin, "acme", "pump-1", "new board", ""); return err }, c.as("pump-1"), register.ErrRevoked, 0},
		{"the new board does", nil, newBoard(t, "d").as("pump-1"), nil, 4},
		{"open for the revoked one", func() error { _, err := operator.Replace(begin, "acme", "pump-1", "found", c.id()); return err }, c.as("pump-1"), nil, 5},
		{"a name that leads elsewhere", nil, a.as("../pump"), errName, 0},
		{"another board again", func() error { _, err := operator.Replace(begin, "acme", "pump-1", "board", ""); return err }, e.as("pump-1"), nil, 6},
		{"and back to the one that was forgiven", func() error { _, err := operator.Replace(begin, "acme", "pump-1", "board", ""); return err }, c.as("pump-1"), nil, 7},
	} {
		if step.do != nil {
			if err := step.do(); err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
		}
		r := open(t, dir) // each is another process
		if err := r.Admits(begin, step.claim); !is(err, step.want) {
			t.Errorf("%s: admits %v, want %v", step.name, err, step.want)
		}
		life, err := r.Enrol(begin, step.claim)
		if !is(err, step.want) || life != step.life {
			t.Errorf("%s: life %d, %v, want %d, %v", step.name, life, err, step.life, step.want)
		}
		if err == nil {
			k, err := open(t, dir).Lookup(begin, step.claim.Tenant, step.claim.Device)
			if err != nil || k == nil || !k.Public.Equal(step.claim.AK) {
				t.Errorf("%s: the verifier sees %+v, %v", step.name, k, err)
			}
		}
	}
	record, err := os.ReadFile(filepath.Join(dir, "acts.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var acts []string
	for line := range strings.Lines(string(record)) {
		_, after, _ := strings.Cut(line, `"act":"`)
		act, _, _ := strings.Cut(after, `"`)
		acts = append(acts, act)
	}
	if got, want := strings.Join(acts, " "), "enrol open replace open replace revoke open replace open replace open replace open replace"; got != want {
		t.Errorf("acts %s\nwant %s", got, want)
	}
	if n := strings.Count(string(record), `"reason":"main board"`); n != 4 {
		t.Errorf("reason of the board in %d acts\n%s", n, record)
	}
	d, err := operator.Device("acme", "pump-1")
	if err != nil || d.Life != 7 || d.EK != c.id() || d.Open || d.Revoked != nil {
		t.Errorf("%+v, %v", d, err)
	}
	if ok, err := operator.Replaced("acme", "pump-1", d.AK); err != nil || !ok {
		t.Errorf("the verifier does not hear of the replacement: %v, %v", ok, err)
	}
}

var errName = errors.New("some error")

func is(err, want error) bool {
	return want == nil && err == nil || errors.Is(err, want) || want == errName && err != nil
}

// A key that an operator registered is bound to the TPM that proves it.
//
// Verifies: SR-035
func TestAddedThenEnrolled(t *testing.T) {
	dir := t.TempDir()
	r, a, b := open(t, dir), newBoard(t, "a"), newBoard(t, "b")
	if _, err := r.Add(begin, "acme", "pump-1", publicPEM(t, a.ak), false, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Enrol(begin, b.as("pump-1")); !errors.Is(err, register.ErrOtherKey) {
		t.Errorf("another key: %v", err)
	}
	if life, err := r.Enrol(begin, a.as("pump-1")); err != nil || life != 1 {
		t.Errorf("%d, %v", life, err)
	}
	if _, err := r.Enrol(begin, board{b.ek, a.ak}.as("pump-1")); !errors.Is(err, register.ErrOtherTPM) {
		t.Errorf("another TPM: %v", err)
	}
	// A key file that no act speaks of is a device's too.
	if err := os.WriteFile(filepath.Join(dir, "acme", "pump-8.ak.pem"), publicPEM(t, b.ak), 0o600); err != nil {
		t.Fatal(err)
	}
	r = open(t, dir)
	if _, err := r.Enrol(begin, b.as("pump-2")); !errors.Is(err, register.ErrTaken) {
		t.Errorf("the key of a file without an act: %v", err)
	}
	if _, err := r.Enrol(begin, newBoard(t, "c").as("pump-8")); !errors.Is(err, register.ErrOtherKey) {
		t.Errorf("another key than that of a file without an act: %v", err)
	}
	for name, err := range map[string]error{
		"no reason":      second(r.Revoke(begin, "acme", "pump-1", " ")),
		"unknown device": second(r.Revoke(begin, "acme", "pump-7", "stolen")),
		"no digest":      second(r.Replace(begin, "acme", "pump-1", "x", "abc")),
		"no device name": second(r.Replace(begin, "acme", "a/b", "x", "")),
	} {
		if err == nil {
			t.Errorf("%s: done", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func issue(t testing.TB, r *register.Register, serial int64, device string, life int, end time.Time) error {
	t.Helper()
	return r.Record(begin, register.Issued{Act: "enrol", Tenant: "acme", Device: device, Use: "reporting", Life: life, Serial: register.SerialNumber(big.NewInt(serial)), NotAfter: end, SPKI: register.KeyDigest([]byte(device))})
}

func good(r *register.Register, serial int64, device string) error {
	i, d, err := r.Certificate(begin, &x509.Certificate{SerialNumber: big.NewInt(serial), RawSubjectPublicKeyInfo: []byte(device)})
	if err == nil && (i.Device != device || d.Device != device) {
		err = fmt.Errorf("it is of %+v, %+v", i, d)
	}
	return err
}

// What was issued to a revoked device, or before its TPM was replaced, is revoked;
// what was issued after it is good.
//
// Verifies: SR-035
func TestRevocations(t *testing.T) {
	dir := t.TempDir()
	r, end := open(t, dir), begin.Add(24*time.Hour)
	for n, device := range []string{"pump-1", "pump-2"} {
		if _, err := r.Enrol(begin, newBoard(t, device).as(device)); err != nil {
			t.Fatal(err)
		}
		if err := issue(t, r, int64(1000+n), device, 1, end); err != nil {
			t.Fatal(err)
		}
	}
	if err := issue(t, r, 7, "pump-1", 1, begin.Add(-keepDays)); err != nil { // long over
		t.Fatal(err)
	}
	if err := good(r, 1000, "pump-1"); err != nil {
		t.Errorf("a good one: %v", err)
	}
	if err := good(r, 1000, "pump-2"); !errors.Is(err, register.ErrUnknown) {
		t.Errorf("another device's: %v", err)
	}
	if err := good(r, 4, "pump-1"); !errors.Is(err, register.ErrUnknown) {
		t.Errorf("never issued: %v", err)
	}
	revoked := begin.Add(time.Hour)
	if _, err := open(t, dir).Revoke(revoked, "acme", "pump-1", "stolen"); err != nil {
		t.Fatal(err)
	}
	if err := good(r, 1000, "pump-1"); !errors.Is(err, register.ErrRevoked) {
		t.Errorf("of a revoked device: %v", err)
	}
	if err := issue(t, r, 1001001, "pump-1", 1, end); !errors.Is(err, register.ErrRevoked) {
		t.Errorf("issued while it was revoked: %v", err)
	}
	wants := func(when string, want ...string) {
		t.Helper()
		all, err := open(t, dir).Revocations(begin.Add(2 * time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, v := range all {
			got = append(got, fmt.Sprint(v.Serial, " ", v.When.Sub(begin), " ", v.Superseded))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	wants("revoked", "1000 1h0m0s false", "1001001 1h0m0s false")
	for _, device := range []string{"pump-1", "pump-2"} {
		if _, err := r.Replace(begin, "acme", device, "board", ""); err != nil {
			t.Fatal(err)
		}
		if life, err := r.Enrol(begin.Add(90*time.Minute), newBoard(t, "new "+device).as(device)); err != nil || life != 2 {
			t.Fatal(life, err)
		}
	}
	if err := issue(t, r, 2000, "pump-1", 2, end); err != nil {
		t.Fatal(err)
	}
	wants("replaced", "1000 1h0m0s true", "1001 1h30m0s true", "1001001 1h0m0s true")
	if got, err := r.Certificates(begin); err != nil || len(got["acme/pump-1"]) != 3 {
		t.Errorf("%d certificates, %v", len(got), err)
	}
	if all, err := open(t, dir).Revocations(end.Add(keepDays)); err != nil || len(all) != 0 {
		t.Errorf("revocations of what has long expired: %v, %v", all, err)
	}

	// Acts that were taken away are missed, and give nobody the device.
	for _, gone := range []string{"acts.jsonl", "acme/pump-1.ak.pem", "acme/pump-2.ak.pem"} {
		if err := os.Remove(filepath.Join(dir, gone)); err != nil {
			t.Fatal(err)
		}
	}
	for name, err := range map[string]error{
		"enrol":       second(r.Enrol(begin, newBoard(t, "thief").as("pump-1"))),
		"admit":       r.Admits(begin, newBoard(t, "thief").as("pump-1")),
		"good":        good(r, 2000, "pump-1"),
		"revocations": second(r.Revocations(begin)),
	} {
		if err == nil || !strings.Contains(err.Error(), "restore it from its backup") {
			t.Errorf("%s without the acts: %v", name, err)
		}
	}
}

// No device fills the record, whatever has hold of it.
//
// Verifies: SR-036
func TestOften(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	if _, err := r.Enrol(begin, newBoard(t, "a").as("pump-1")); err != nil {
		t.Fatal(err)
	}
	for n := range 120 {
		if err := r.Often(begin, "acme", "pump-1"); err != nil {
			t.Fatalf("certificate %d: %v", n, err)
		}
		if err := issue(t, r, int64(n+1), "pump-1", 1, begin.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	for name, r := range map[string]*register.Register{"this process": r, "another": open(t, dir)} {
		if err := r.Often(begin.Add(59*time.Minute), "acme", "pump-1"); !errors.Is(err, register.ErrOften) {
			t.Errorf("%s: %v", name, err)
		}
		if err := r.Often(begin, "acme", "pump-2"); err != nil {
			t.Errorf("%s, another device: %v", name, err)
		}
		if err := r.Often(begin.Add(time.Hour+time.Second), "acme", "pump-1"); err != nil {
			t.Errorf("%s, an hour later: %v", name, err)
		}
	}
}

const keepDays = 31 * 24 * time.Hour

// A line that a power cut cut off does not count, and hinders nothing; a line that
// cannot be read stops everything.
//
// Verifies: SR-035
func TestCutAndDamagedRecords(t *testing.T) {
	dir := t.TempDir()
	r, a := open(t, dir), newBoard(t, "a")
	if _, err := r.Enrol(begin, a.as("pump-1")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "acts.jsonl")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.ReplaceAll(whole, []byte("pump-1"), []byte("pump-2"))
	for cut := range len(other) - 1 {
		if err := os.WriteFile(file, append(bytes.Clone(whole), other[:cut]...), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, r := range map[string]*register.Register{"from the begin": open(t, dir), "as it grew": r} {
			if all, err := r.Devices(); err != nil || len(all) != 1 {
				t.Fatalf("cut at %d, %s: %+v, %v", cut, name, all, err)
			}
		}
	}
	if err := os.WriteFile(file, append(bytes.Clone(whole), strings.Repeat("x", 3000)...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Enrol(begin, newBoard(t, "b").as("pump-3")); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || bytes.Contains(b, []byte("x\n")) || b[len(b)-1] != '\n' {
		t.Errorf("the cut line is still there: %s, %v", b, err)
	}
	if all, err := open(t, dir).Devices(); err != nil || len(all) != 2 || all[1].Device != "pump-3" {
		t.Errorf("%+v, %v", all, err)
	}
	for name, line := range map[string]string{
		"no JSON": "hello\n", "no name": "{}\n", "an act that is not known": `{"act":"adopt","tenant":"acme","device":"pump-1"}` + "\n",
		"too long": strings.Repeat("x", 9000) + "\n",
	} {
		if err := os.WriteFile(file, append(bytes.Clone(whole), line...), 0o600); err != nil {
			t.Fatal(err)
		}
		r := open(t, dir) // records only grow under one that is open
		for range 2 {     // it does not get better by trying again
			if _, err := r.Enrol(begin, newBoard(t, "c").as("pump-4")); err == nil || !strings.Contains(err.Error(), "line 2") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := r.Devices(); err == nil {
			t.Errorf("%s: devices are listed", name)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "issued.jsonl"), []byte(`{"tenant":"acme","device":"pump-1","serial":"xyz"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir).Revocations(begin); err == nil || !strings.Contains(err.Error(), "issued.jsonl: line 1") {
		t.Errorf("a damaged record of certificates: %v", err)
	}
}

// Many at once, through several openings of the folder as several processes have
// them: one TPM wins each device, and no line is lost.
//
// Verifies: SR-035
func TestManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	const writers, devices = 4, 6
	var all sync.WaitGroup
	won := make([][devices]bool, writers)
	for w := range writers {
		r := open(t, dir)
		for d := range devices {
			b := newBoard(t, fmt.Sprint("board ", w, d))
			all.Go(func() {
				life, err := r.Enrol(begin, b.as(fmt.Sprint("pump-", d)))
				if err != nil && !errors.Is(err, register.ErrOtherTPM) {
					t.Error(err)
				}
				if err == nil {
					won[w][d] = true
					if err := issue(t, r, int64(100*w+d+1), fmt.Sprint("pump-", d), life, begin.Add(time.Hour)); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	all.Wait()
	r := open(t, dir)
	if all, err := r.Devices(); err != nil || len(all) != devices {
		t.Errorf("%d devices, %v", len(all), err)
	}
	for d := range devices {
		winners := 0
		for w := range writers {
			if won[w][d] {
				winners++
			}
		}
		certs, err := r.Certificates(begin)
		if n := len(certs[fmt.Sprint("acme/pump-", d)]); winners != 1 || err != nil || n != 1 {
			t.Errorf("device %d: %d winners, %d certificates, %v", d, winners, n, err)
		}
	}
}
