package provision_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ward/internal/agent/identity/idstore"
	"ward/internal/agent/identity/issued"
	"ward/internal/device/tpm"
	"ward/internal/device/tpm/swtpmtest"
	"ward/internal/fleet/issue"
	"ward/internal/format/pcr"
	"ward/internal/provision"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/policy"
	"ward/internal/trust/serverauth"
)

// plant is a manufactured device with a maker's certificate, and an authority that
// issues for it.
type plant struct {
	*line
	machine *swtpmtest.TPM
	state   string
	makers  []*x509.Certificate
	dir     string
	ca      *issue.CA
	roots   []*x509.Certificate
}

func newPlant(t testing.TB) *plant {
	t.Helper()
	p := &plant{line: newLine(t), machine: swtpmtest.Start(t, true), state: t.TempDir(), dir: t.TempDir()}
	_, err := provision.Run(t.Context(), p.chip(t), p.store(), p.options())
	must(t, err)
	p.makers, err = p.machine.Makers()
	must(t, err)
	p.ca, p.roots = authority(t, p.dir, "Fleet")
	return p
}

func authority(t testing.TB, dir, name string) (*issue.CA, []*x509.Certificate) {
	t.Helper()
	dir = filepath.Join(dir, name)
	must(t, issue.MakeCA(time.Now(), dir, name, nil))
	ca, err := issue.LoadCA(filepath.Join(dir, issue.CACertFile), filepath.Join(dir, issue.CAKeyFile), issue.DefaultLifetime, "")
	must(t, err)
	roots, err := issue.LoadCertificates(filepath.Join(dir, issue.CACertFile))
	must(t, err)
	return ca, roots
}

func (p *plant) chip(t testing.TB) *tpm.TPM { return open(t, p.machine.Socket) }
func (p *plant) store() *idstore.Store      { return idstore.Open(p.state) }

// boot is an approval of the state that the device is in.
func (p *plant) boot(t testing.TB) *tpm.Boot {
	t.Helper()
	values, err := p.chip(t).ReadPCRs(t.Context(), pcr.SHA256, []int{7, 11, 12})
	must(t, err)
	a, err := policy.Approval{Bank: pcr.SHA256, Values: values, AtMost: base + 1}.Sign(rand.Reader, p.signer)
	must(t, err)
	return &tpm.Boot{Key: p.key, Approvals: []policy.Approval{a}}
}

// answer is the registrar: it judges the application as it was read from its file,
// issues, and seals.
func (p *plant) answer(t testing.TB, a enrolment.Application, ca *issue.CA, change func(*enrolment.Issued)) enrolment.Answer {
	t.Helper()
	b, err := enrolment.EncodeApplication(a)
	must(t, err)
	a, err = enrolment.ParseApplication(b)
	must(t, err)
	proof, err := a.Verify(enrolment.Terms{Makers: p.makers, PolicyKey: &p.key, Now: time.Now()})
	must(t, err)
	given := enrolment.Issued{Tenant: a.Tenant, Device: a.Serial, Chains: make(map[enrolment.Use][][]byte)}
	for _, der := range a.CSRs {
		csr, err := issue.ParseCSR(der)
		must(t, err)
		use := proof.Use(csr.PublicKey)
		chain, err := ca.Issue(t.Context(), time.Now(), issue.Want{Tenant: a.Tenant, Device: a.Serial, Use: use, CSR: csr})
		must(t, err)
		for _, c := range chain {
			given.Chains[use] = append(given.Chains[use], c.Raw)
		}
	}
	given.CRL = p.crl(t, ca, 5)
	if change != nil {
		change(&given)
	}
	sealed, err := proof.Seal(rand.Reader, given)
	must(t, err)
	b, err = enrolment.EncodeAnswer(sealed)
	must(t, err)
	sealed, err = enrolment.ParseAnswer(b)
	must(t, err)
	return sealed
}

func (p *plant) crl(t testing.TB, ca *issue.CA, number int64) []byte {
	t.Helper()
	der, err := ca.CRL(time.Now(), big.NewInt(number), issue.DefaultCRLLifetime, nil)
	must(t, err)
	return der
}

func (p *plant) apply(t testing.TB, boot *tpm.Boot) (enrolment.Application, []provision.Left) {
	t.Helper()
	a, left, err := provision.Application(t.Context(), p.chip(t), p.store(), boot)
	must(t, err)
	return a, left
}

// files is everything in the state folder.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	must(t, filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		all[name] = string(b)
		return err
	}))
	return all
}

func same(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// The way there and back by files, with a TPM that its maker has certified, and a
// key that signs only in the approved boot state.
//
// Verifies: SR-048
func TestDisconnectedEnrolment(t *testing.T) {
	p := newPlant(t)
	a, left := p.apply(t, p.boot(t))
	if len(left) != 0 || len(a.Keys) != 2 || len(a.CSRs) != 2 {
		t.Fatalf("application %+v, left out %v", a, left)
	}
	must(t, provision.Install(t.Context(), p.chip(t), p.store(), p.answer(t, a, p.ca, nil), p.roots, time.Now()))
	for _, use := range []enrolment.Use{enrolment.Reporting, enrolment.Service} {
		all, err := p.store().Generations(use)
		must(t, err)
		if len(all) != 1 || len(all[0].Chain) == 0 || all[0].Chain[0].URIs[0].String() != issued.URI("acme", "SN-000123", use) || all[0].Connected != (use == enrolment.Service) {
			t.Errorf("%s: %+v", use, all)
		}
	}
	if crl, err := p.store().CRL(); err != nil || len(crl) == 0 {
		t.Errorf("revocation list: %v", err)
	}
	if floor, err := p.store().Floor(); err != nil || time.Since(floor) > time.Hour {
		t.Errorf("floor %v, %v", floor, err)
	}

	// An older list is not taken, and the rest is.
	older := p.answer(t, a, p.ca, func(i *enrolment.Issued) { i.CRL = p.crl(t, p.ca, 4) })
	before, err := p.store().CRL()
	must(t, err)
	must(t, provision.Install(t.Context(), p.chip(t), p.store(), older, p.roots, time.Now()))
	if now, err := p.store().CRL(); err != nil || string(now) != string(before) {
		t.Errorf("the older list is stored: %v", err)
	}
}

// The service key cannot ask in a boot state that is not approved; the reporting
// key asks all the same.
//
// Verifies: SR-048
func TestApplicationInAnotherBootState(t *testing.T) {
	p := newPlant(t)
	for name, c := range map[string]struct {
		boot *tpm.Boot
		want error
	}{
		"no approvals": {nil, nil},
		"none that fits": {func() *tpm.Boot {
			b := p.boot(t)
			b.Approvals[0].Values[11] = make([]byte, 32)
			b.Approvals[0].Values[11][0] = 1
			return b
		}(), tpm.ErrBootState},
	} {
		a, left := p.apply(t, c.boot)
		if len(a.Keys) != 1 || a.Keys[0].Use != enrolment.Reporting || len(left) != 1 || left[0].Use != enrolment.Service || c.want != nil && !errors.Is(left[0].Err, c.want) {
			t.Errorf("%s: keys %d, left out %+v", name, len(a.Keys), left)
		}
		must(t, provision.Install(t.Context(), p.chip(t), p.store(), p.answer(t, a, p.ca, nil), p.roots, time.Now()))
	}
}

// What is refused, and that it changes nothing.
//
// Verifies: SR-048
func TestAnswersRefused(t *testing.T) {
	p := newPlant(t)
	boot := p.boot(t)
	a, _ := p.apply(t, boot)
	other := newPlant(t)
	theirs, _ := other.apply(t, nil)
	foreign, _ := authority(t, p.dir, "Foreign")
	must(t, p.store().SetSecret("kept", sealedBy(t, p.chip(t))))
	before := files(t, p.state)
	answer := p.answer(t, a, p.ca, nil)
	changed := answer
	changed.Sealed = append([]byte(nil), answer.Sealed...)
	changed.Sealed[len(changed.Sealed)-1] ^= 1
	renamed := answer
	renamed.Device = "SN-2"
	swap := func(i *enrolment.Issued) {
		i.Chains[enrolment.Reporting], i.Chains[enrolment.Service] = i.Chains[enrolment.Service], i.Chains[enrolment.Reporting]
	}
	otherKeys := func(i *enrolment.Issued) { i.Chains = otherChains(t, other) }
	for name, c := range map[string]struct {
		answer enrolment.Answer
		now    time.Time
		want   error
	}{
		"for another TPM":              {other.answer(t, theirs, other.ca, nil), time.Now(), enrolment.ErrOtherTPM},
		"changed on its way":           {changed, time.Now(), enrolment.ErrOtherTPM},
		"for another device":           {renamed, time.Now(), provision.ErrOtherDevice},
		"by another authority":         {p.answer(t, a, foreign, func(i *enrolment.Issued) { i.CRL = nil }), time.Now(), nil},
		"uses exchanged":               {p.answer(t, a, p.ca, swap), time.Now(), issued.ErrProfile},
		"another device's keys":        {p.answer(t, a, p.ca, otherKeys), time.Now(), issued.ErrProfile},
		"list of another authority":    {p.answer(t, a, p.ca, func(i *enrolment.Issued) { i.CRL = p.crl(t, foreign, 9) }), time.Now(), serverauth.ErrCRLSignature},
		"list that is none":            {p.answer(t, a, p.ca, func(i *enrolment.Issued) { i.CRL = []byte("x") }), time.Now(), serverauth.ErrCRLFormat},
		"expired":                      {answer, time.Now().AddDate(5, 0, 0), nil},
		"certificates that are none":   {p.answer(t, a, p.ca, func(i *enrolment.Issued) { i.Chains[enrolment.Reporting] = [][]byte{{1}} }), time.Now(), issued.ErrProfile},
		"one good and one expired key": {p.answer(t, a, p.ca, func(i *enrolment.Issued) { i.Chains[enrolment.Service] = otherChains(t, other)[enrolment.Service] }), time.Now(), issued.ErrProfile},
	} {
		t.Run(name, func(t *testing.T) {
			err := provision.Install(t.Context(), p.chip(t), p.store(), c.answer, p.roots, c.now)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want %v", err, c.want)
			}
			if !same(before, files(t, p.state)) {
				t.Error("the refused answer changed the store")
			}
		})
	}
	// The store of this device beside another TPM: nothing is signed, nothing opens.
	if _, _, err := provision.Application(t.Context(), other.chip(t), p.store(), nil); !errors.Is(err, tpm.ErrOtherTPM) {
		t.Errorf("application of a copied disk: %v, want ErrOtherTPM", err)
	}
	if err := provision.Install(t.Context(), other.chip(t), p.store(), answer, p.roots, time.Now()); err == nil {
		t.Error("a copied disk installs an answer")
	}
	// A clock of 1970: what the certificates say of the time counts.
	must(t, provision.Install(t.Context(), p.chip(t), p.store(), answer, p.roots, time.Unix(0, 0)))
}

func otherChains(t *testing.T, p *plant) map[enrolment.Use][][]byte {
	a, _ := p.apply(t, p.boot(t))
	var out map[enrolment.Use][][]byte
	p.answer(t, a, p.ca, func(i *enrolment.Issued) { out = i.Chains })
	return out
}

// A device that was never manufactured, or whose TPM has no certificate.
//
// Verifies: SR-048
func TestApplicationRefuses(t *testing.T) {
	machine := swtpmtest.Start(t, false)
	empty := idstore.Open(t.TempDir())
	if _, _, err := provision.Application(context.Background(), open(t, machine.Socket), empty, nil); !errors.Is(err, provision.ErrNotProvisioned) {
		t.Errorf("no record: %v", err)
	}
	l, state := newLine(t), t.TempDir()
	_, err := provision.Run(t.Context(), open(t, machine.Socket), idstore.Open(state), l.options())
	must(t, err)
	if _, _, err := provision.Application(t.Context(), open(t, machine.Socket), idstore.Open(state), nil); !errors.Is(err, tpm.ErrNoCertificate) {
		t.Errorf("no certificate of the TPM: %v", err)
	}
}
