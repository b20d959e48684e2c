package idstore_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"ward/internal/agent/identity/idstore"
	"ward/internal/format/tss2"
	"ward/internal/trust/enrolment"
)

var made = time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)

// testKey is a key as a TPM would hand it out, and the certificate for it.
type testKey struct {
	private *ecdsa.PrivateKey
	file    tss2.File
	chain   [][]byte
}

func public(k *ecdsa.PrivateKey) []byte {
	raw, err := k.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	template := tpm2.ECCSRKTemplate
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: raw[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: raw[33:]},
	})
	return tpm2.Marshal(template)
}

func newKey(t testing.TB) testKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pump-1"}, NotBefore: made, NotAfter: made.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	file := tss2.File{Kind: tss2.Loadable, EmptyAuth: true, Parent: 0x81000001, Public: public(k), Private: bytes.Repeat([]byte{7}, 126)}
	return testKey{k, file, [][]byte{der}}
}

func sealed() tss2.File {
	template := tpm2.TPMTPublic{
		Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{}),
		Unique:     tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{Buffer: make([]byte, 32)}),
	}
	return tss2.File{Kind: tss2.Sealed, Parent: 0x81000001, Public: tpm2.Marshal(template), Private: bytes.Repeat([]byte{9}, 100)}
}

func revocations(t testing.TB) []byte {
	t.Helper()
	k := newKey(t)
	issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, KeyUsage: x509.KeyUsageCRLSign, SubjectKeyId: []byte{1}}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: made, NextUpdate: made.AddDate(0, 1, 0)}, issuer, k.private)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func device(t testing.TB) idstore.Device {
	return idstore.Device{Tenant: "acme", Serial: "SN-000123", SRK: newKey(t).file.Public, Made: made}
}

// dump is everything that a store holds, in words.
func dump(s *idstore.Store) string {
	var b strings.Builder
	d, err := s.Device()
	fmt.Fprintln(&b, "device", d.Version, d.Tenant, d.Serial, d.Made, len(d.SRK), err)
	for _, use := range []enrolment.Use{enrolment.Reporting, enrolment.Service} {
		all, err := s.Generations(use)
		fmt.Fprintln(&b, use, err)
		for _, g := range all {
			fmt.Fprintf(&b, "  %d %x chain %d connected %v\n", g.Number, g.Key.Public[len(g.Key.Public)-4:], len(g.Chain), g.Connected)
		}
	}
	names, err := s.Secrets()
	fmt.Fprintln(&b, "secrets", names, err)
	for _, n := range names {
		f, err := s.Secret(n)
		fmt.Fprintln(&b, "  ", n, len(f.Public), err)
	}
	a, err := s.Auth("journal")
	fmt.Fprintf(&b, "auth %x %v\n", a, err)
	crl, err := s.CRL()
	fmt.Fprintln(&b, "crl", len(crl), err)
	roots, err := s.Roots()
	fmt.Fprintln(&b, "roots", len(roots), err)
	f, err := s.Floor()
	fmt.Fprintln(&b, "floor", f, err)
	return b.String()
}

// Verifies: SR-047
func TestEmptyStore(t *testing.T) {
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		s := idstore.Open(dir)
		if _, err := s.Device(); !errors.Is(err, idstore.ErrNone) {
			t.Errorf("device: %v", err)
		}
		if all, err := s.Generations(enrolment.Reporting); len(all) != 0 || err != nil {
			t.Errorf("generations %v %v", all, err)
		}
		if names, err := s.Secrets(); len(names) != 0 || err != nil {
			t.Errorf("secrets %v %v", names, err)
		}
		_, secret := s.Secret("x")
		_, auth := s.Auth("journal")
		_, crl := s.CRL()
		_, roots := s.Roots()
		_, floor := s.Floor()
		chain := s.SetChain(idstore.Generation{Use: enrolment.Reporting, Number: 1}, newKey(t).chain)
		for i, err := range []error{secret, auth, crl, roots, floor} {
			if !errors.Is(err, idstore.ErrNone) {
				t.Errorf("%d: %v", i, err)
			}
		}
		if chain == nil {
			t.Error("a chain is stored for no key")
		}
		must(t, s.Wipe())
	}
}

// A key's life: made, certified, connected, followed by the next, removed.
//
// Verifies: SR-047
func TestGenerations(t *testing.T) {
	dir := t.TempDir()
	s := idstore.Open(dir)
	one, two := newKey(t), newKey(t)
	g, err := s.Add(enrolment.Reporting, one.file)
	must(t, err)
	if g.Number != 1 || g.Chain != nil || g.Connected {
		t.Errorf("first generation %+v", g)
	}
	if err := s.SetChain(g, two.chain); err == nil {
		t.Error("a chain for another key is stored")
	}
	if err := s.SetChain(g, nil); err == nil {
		t.Error("an empty chain is stored")
	}
	must(t, s.SetChain(g, one.chain))
	must(t, s.SetConnected(g))
	next, err := s.Add(enrolment.Reporting, two.file)
	must(t, err)
	must(t, s.Prune(enrolment.Reporting))
	all, err := s.Generations(enrolment.Reporting)
	must(t, err)
	if len(all) != 2 || all[0].Number != 2 || all[1].Number != 1 || !all[1].Connected || len(all[1].Chain) != 1 || !bytes.Equal(all[1].Key.Private, one.file.Private) {
		t.Fatalf("generations %+v: the one that works must stay until the next has connected", all)
	}
	must(t, s.SetChain(next, two.chain))
	must(t, s.SetConnected(next))
	must(t, s.Prune(enrolment.Reporting))
	all, err = idstore.Open(dir).Generations(enrolment.Reporting)
	must(t, err)
	if len(all) != 1 || all[0].Number != 2 || !all[0].Connected {
		t.Errorf("generations %+v, want the second alone", all)
	}
	if other, err := s.Generations(enrolment.Service); len(other) != 0 || err != nil {
		t.Errorf("service keys %v %v", other, err)
	}
	if _, err := s.Add("other", one.file); err == nil {
		t.Error("a use that is none")
	}
	if _, err := s.Add(enrolment.Reporting, sealed()); err == nil {
		t.Error("a sealed secret is stored as a key")
	}
	if err := s.SetSecret("x", one.file); err == nil {
		t.Error("a key is stored as a sealed secret")
	}
}

// Verifies: SR-047
func TestModesAndOwner(t *testing.T) {
	dir := t.TempDir()
	if os.Geteuid() == 0 {
		must(t, os.Chown(dir, 901, 902))
	}
	s := idstore.Open(dir)
	k := newKey(t)
	must(t, s.SetDevice(device(t)))
	g, err := s.Add(enrolment.Reporting, k.file)
	must(t, err)
	must(t, s.SetChain(g, k.chain))
	must(t, s.SetConnected(g))
	must(t, s.SetSecret("db", sealed()))
	must(t, s.SetAuth("journal", bytes.Repeat([]byte{1}, 32)))
	want := map[string]fs.FileMode{
		".": fs.ModeDir | 0o750, "device.json": 0o644, "reporting": fs.ModeDir | 0o750, "reporting/0001": fs.ModeDir | 0o750,
		"reporting/0001/key.pem": 0o640, "reporting/0001/chain.pem": 0o644, "reporting/0001/connected": 0o644,
		"secrets": fs.ModeDir | 0o750, "secrets/db.pem": 0o640, "auth": fs.ModeDir | 0o750, "auth/journal": 0o600,
	}
	root := filepath.Join(dir, idstore.Folder)
	must(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		must(t, err)
		name, _ := filepath.Rel(root, path)
		info, err := e.Info()
		must(t, err)
		if info.Mode() != want[name] {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), want[name])
		}
		if st := info.Sys().(*syscall.Stat_t); os.Geteuid() == 0 && (st.Uid != 901 || st.Gid != 902) {
			t.Errorf("%s belongs to %d:%d, want the state folder's owner", name, st.Uid, st.Gid)
		}
		delete(want, name)
		return nil
	}))
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

// What is damaged is named, and hides nothing that is whole.
//
// Verifies: SR-047, SR-017
func TestDamage(t *testing.T) {
	k, other := newKey(t), newKey(t)
	pemOf := func(t *testing.T, name string) []byte {
		dir := t.TempDir()
		s := idstore.Open(dir)
		g, err := s.Add(enrolment.Reporting, other.file)
		must(t, err)
		must(t, s.SetChain(g, other.chain))
		b, err := os.ReadFile(filepath.Join(dir, g.Path(), name))
		must(t, err)
		return b
	}
	fill := func(b []byte) func(*testing.T, string) {
		return func(t *testing.T, path string) { must(t, os.WriteFile(path, b, 0o600)) }
	}
	instead := func(make func(path string) error) func(*testing.T, string) {
		return func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, make(path)) }
	}
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, []byte("not Ward's"), 0o600))
	half := func(t *testing.T, path string) {
		b, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, b[:len(b)/2], 0o600))
	}
	long := fill(bytes.Repeat([]byte("x"), 2<<20))
	link := instead(func(path string) error { return os.Symlink(outside, path) })
	fifo := instead(func(path string) error { return syscall.Mkfifo(path, 0o600) })
	folder := instead(func(path string) error { return os.Mkdir(path, 0o700) })
	all := map[string]func(*testing.T, string){"cut": half, "empty": fill(nil), "endless": long, "nonsense": fill([]byte("hello")), "link": link, "pipe": fifo, "folder": folder}
	with := func(name string, f func(*testing.T, string)) map[string]func(*testing.T, string) {
		m := map[string]func(*testing.T, string){name: f}
		for n, g := range all {
			m[n] = g
		}
		return m
	}
	cases := map[string]map[string]func(*testing.T, string){
		"device.json":              with("other version", fill([]byte(`{"version":2}`))),
		"reporting/0001/key.pem":   all,
		"reporting/0001/chain.pem": with("another key's", func(t *testing.T, path string) { fill(pemOf(t, "chain.pem"))(t, path) }),
		"secrets/db.pem":           with("a key", func(t *testing.T, path string) { fill(pemOf(t, "key.pem"))(t, path) }),
		"auth/journal":             with("short", fill([]byte("0011\n"))),
		"crl.der":                  all,
		"roots.pem":                with("another type", fill([]byte("-----BEGIN KEY-----\nMAA=\n-----END KEY-----\n"))),
		"floor":                    all,
	}
	for file, damages := range cases {
		for name, damage := range damages {
			t.Run(file+" "+name, func(t *testing.T) {
				dir := t.TempDir()
				s := idstore.Open(dir)
				whole(t, s, k)
				damage(t, filepath.Join(dir, idstore.Folder, file))
				var err error
				switch {
				case strings.HasPrefix(file, "device"):
					_, err = s.Device()
				case strings.HasPrefix(file, "reporting"):
					var gs []idstore.Generation
					gs, err = s.Generations(enrolment.Reporting)
					if len(gs) != 1 || gs[0].Number != 2 {
						t.Errorf("generations %+v, want the whole one", gs)
					}
					g, addErr := s.Add(enrolment.Reporting, other.file)
					if addErr != nil || g.Number != 3 {
						t.Errorf("the next generation is %d, %v", g.Number, addErr)
					}
				case strings.HasPrefix(file, "secrets"):
					_, err = s.Secret("db")
				case strings.HasPrefix(file, "auth"):
					_, err = s.Auth("journal")
				case file == "crl.der":
					_, err = s.CRL()
				case file == "roots.pem":
					_, err = s.Roots()
				case file == "floor":
					_, err = s.Floor()
				}
				if !errors.Is(err, idstore.ErrDamaged) || errors.Is(err, idstore.ErrNone) || !strings.Contains(err.Error(), filepath.Base(file)) {
					t.Errorf("error %v, want damage and the file's name", err)
				}
				if strings.Contains(fmt.Sprint(err), "0011") {
					t.Errorf("the error shows a secret: %v", err)
				}
			})
		}
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != "not Ward's" {
		t.Errorf("what a link led to now holds %q, %v", b, err)
	}
}

// whole fills a store with two generations and everything else.
func whole(t testing.TB, s *idstore.Store, k testKey) {
	t.Helper()
	must(t, s.SetDevice(device(t)))
	for range 2 {
		g, err := s.Add(enrolment.Reporting, k.file)
		must(t, err)
		must(t, s.SetChain(g, k.chain))
	}
	must(t, s.SetSecret("db", sealed()))
	must(t, s.SetAuth("journal", bytes.Repeat([]byte{0x5a}, 32)))
	must(t, s.SetCRL(revocations(t)))
	must(t, s.SetRoots(k.chain))
	must(t, s.SetFloor(made))
}

// What is not the store's does not disturb it.
//
// Verifies: SR-047
func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	s := idstore.Open(dir)
	whole(t, s, newKey(t))
	before := dump(s)
	at := filepath.Join(dir, idstore.Folder)
	must(t, os.WriteFile(at+"/reporting/readme", nil, 0o600))
	must(t, os.WriteFile(at+"/reporting/0009", nil, 0o600)) // a file, no folder
	must(t, os.Symlink(at+"/reporting/0001", at+"/reporting/0007"))
	must(t, os.Mkdir(at+"/reporting/0000", 0o700))
	must(t, os.Mkdir(at+"/reporting/12345", 0o700))
	must(t, os.Mkdir(at+"/reporting/0003.new", 0o700))
	must(t, os.WriteFile(at+"/secrets/UPPER.pem", nil, 0o600))
	must(t, os.WriteFile(at+"/secrets/db.pem.new", nil, 0o600))
	if after := dump(s); after != before {
		t.Errorf("before\n%safter\n%s", before, after)
	}
	for _, name := range []string{"", "..", "../device", "a/b", "A", ".x", strings.Repeat("a", 64)} {
		if err := s.SetSecret(name, sealed()); err == nil {
			t.Errorf("a secret is called %q", name)
		}
		if err := s.SetAuth(name, make([]byte, 32)); err == nil {
			t.Errorf("a value is called %q", name)
		}
	}
}

// A folder of the store that is a link is neither read nor written.
//
// Verifies: SR-047
func TestLinkedFolder(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	must(t, os.Symlink(elsewhere, filepath.Join(dir, idstore.Folder)))
	s := idstore.Open(dir)
	if err := s.SetDevice(device(t)); err == nil {
		t.Error("written through a link")
	}
	inside := t.TempDir()
	must(t, os.Mkdir(inside+"/other", 0o700))
	must(t, os.Symlink("other", filepath.Join(inside, idstore.Folder)))
	if err := idstore.Open(inside).SetDevice(device(t)); err == nil {
		t.Error("written through a link within the folder")
	}
	for _, d := range []string{elsewhere, inside + "/other"} {
		if left, err := os.ReadDir(d); err != nil || len(left) > 0 {
			t.Errorf("%v %v", left, err)
		}
	}
}

// Verifies: SR-047
func TestFloorGoesForward(t *testing.T) {
	s := idstore.Open(t.TempDir())
	for _, x := range []time.Time{made, made.AddDate(-1, 0, 0), made.Add(time.Hour), made} {
		must(t, s.SetFloor(x))
	}
	if f, err := s.Floor(); err != nil || !f.Equal(made.Add(time.Hour)) {
		t.Errorf("floor %v, %v", f, err)
	}
}

// Nothing of what was stored is found on the disk, whatever stopped an earlier
// wipe.
//
// Verifies: SR-049
func TestWipe(t *testing.T) {
	dir := t.TempDir()
	s := idstore.Open(dir)
	k := newKey(t)
	whole(t, s, k)
	must(t, os.WriteFile(filepath.Join(dir, "kept"), []byte("journal"), 0o600))
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, []byte("not Ward's"), 0o600))
	must(t, os.Symlink(outside, filepath.Join(dir, idstore.Folder, "link")))
	must(t, os.Link(outside, filepath.Join(dir, idstore.Folder, "hard")))
	// An open file shows what a recovered block would hold.
	open, err := os.Open(filepath.Join(dir, idstore.Folder, "auth/journal"))
	must(t, err)
	defer open.Close()
	var steps []string
	s.SetStep(func(change string) { steps = append(steps, change) })
	must(t, s.Wipe())
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != "kept" {
		t.Errorf("left: %v %v", left, err)
	}
	b := make([]byte, 100)
	if n, _ := open.ReadAt(b, 0); bytes.Contains(b[:n], []byte("5a5a")) {
		t.Error("the value was not written over")
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != "not Ward's" {
		t.Errorf("what a link led to now holds %q, %v", b, err)
	}
	if over, gone := slices.Index(steps, "overwrite identity/auth/journal"), slices.Index(steps, "remove identity/auth/journal"); over < 0 || gone < over {
		t.Errorf("steps %q", steps)
	}
	must(t, s.Wipe())
}

// FuzzParseDevice: no panic, and what is taken is the same when it is written
// and read again.
func FuzzParseDevice(f *testing.F) {
	dir := f.TempDir()
	s := idstore.Open(dir)
	must(f, s.SetDevice(device(f)))
	b, err := os.ReadFile(filepath.Join(dir, idstore.Folder, "device.json"))
	must(f, err)
	f.Add(b)
	f.Add([]byte(`{"version":1,"tenant":"a","serial":"b","srk":"","made":"2026-11-24T10:00:00Z"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := idstore.ParseDevice(b)
		if err != nil {
			return
		}
		if err := s.SetDevice(d); err != nil {
			t.Fatalf("taken and cannot be written: %v", err)
		}
		again, err := s.Device()
		if err != nil || again.Tenant != d.Tenant || again.Serial != d.Serial || !bytes.Equal(again.SRK, d.SRK) || !again.Made.Equal(d.Made) {
			t.Errorf("%+v becomes %+v, %v", d, again, err)
		}
	})
}
