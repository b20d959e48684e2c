package registrar_test

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ward/internal/fleet/issue"
	"ward/internal/fleet/register"
	"ward/internal/fleet/registrar"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/enrolment/enrolmenttest"
)

// BenchmarkEnrol is a whole enrolment of a new device with both certificates, with
// what is synced to disk, but without TLS.
func BenchmarkEnrol(b *testing.B) {
	dir, maker := b.TempDir(), enrolmenttest.NewMaker(b)
	must(b, issue.MakeCA(time.Now(), filepath.Join(dir, "ca"), "Acme Fleet", nil))
	must(b, os.Mkdir(filepath.Join(dir, "devices"), 0o700))
	ca, err := issue.LoadCA(filepath.Join(dir, "ca/ca.crt"), filepath.Join(dir, "ca/ca.key"), time.Hour, "")
	must(b, err)
	roots, err := issue.LoadRoots(filepath.Join(dir, "ca/ca.crt"))
	must(b, err)
	devices, err := register.Open(filepath.Join(dir, "devices"))
	must(b, err)
	r, err := registrar.New(registrar.Config{
		Tenant: tenant, Devices: devices, Serials: registrar.AnySerial(), Makers: []*x509.Certificate{maker.Root}, PolicyKey: &maker.PolicyKey,
		Authority: ca, CA: ca, Roots: roots,
	})
	must(b, err)
	n := 0
	for b.Loop() {
		b.StopTimer()
		n++
		d := maker.NewDevice(b, fmt.Sprint("pump-", n))
		request, err := enrolment.EncodeRequest(d.Request(tenant))
		must(b, err)
		csrs := [][]byte{csrDER(b, d.Signer(enrolment.Reporting), ""), csrDER(b, d.Signer(enrolment.Service), "")}
		b.StartTimer()
		text, err := r.Challenge(time.Now(), request)
		must(b, err)
		b.StopTimer()
		c, err := enrolment.ParseChallenge(text)
		must(b, err)
		basic := registrar.Basic{ID: c.ID, Password: hex.EncodeToString(d.Activate(c.Credential))}
		b.StartTimer()
		for _, csr := range csrs {
			if _, err := r.Enroll(b.Context(), time.Now(), basic, csr); err != nil {
				b.Fatal(err)
			}
		}
	}
}
