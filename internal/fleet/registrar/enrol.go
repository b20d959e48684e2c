package registrar

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"ward/internal/fleet/issue"
	"ward/internal/fleet/register"
	"ward/internal/trust/enrolment"
)

// Acts of issuing, in the record of certificates.
const (
	actEnrol  = "enrol"
	actRenew  = "renew"
	actAnswer = "answer"
)

var (
	errTenant  = errors.New("this registrar enrols devices of another tenant")
	errCSRKey  = errors.New("the certification request is for a key that was not in the request for the challenge")
	errCSRName = errors.New("the certification request names another device")
	errNoCert  = errors.New("no certificate of the device (mutual TLS)")
	errNotOurs = errors.New("not a reporting certificate of this device")
)

// judge verifies a request and asks whether its TPM may be this device. In this
// order: the tenant is this one; the device was manufactured; the TPM is one of a
// known maker and the keys are its own; the list of manufactured devices has no
// other TPM for it; nor has the register.
func (r *Registrar) judge(now time.Time, request enrolment.Request) (*enrolment.Proof, register.Claim, error) {
	var none register.Claim
	if request.Tenant != r.config.Tenant {
		return nil, none, refuse(http.StatusForbidden, "tenant", "the tenant is set at manufacture; ask the registrar of that tenant", fmt.Errorf("%w: %q", errTenant, request.Tenant))
	}
	if err := r.checkSerial(request.Serial, nil); err != nil {
		return nil, none, err
	}
	proof, err := request.Verify(enrolment.Terms{Makers: r.config.Makers, PolicyKey: r.config.PolicyKey, Now: now})
	if err != nil {
		return nil, none, ofRequest(err)
	}
	ek := proof.EK()
	if err := r.checkSerial(proof.Serial(), &ek); err != nil {
		return nil, none, err
	}
	claim := register.Claim{Tenant: proof.Tenant(), Device: proof.Serial(), EK: ek, AK: proof.AK()}
	if err := r.config.Devices.Admits(now, claim); err != nil {
		return nil, none, ofRegister(err)
	}
	return proof, claim, nil
}

func (r *Registrar) checkSerial(serial string, ek *[32]byte) error {
	err := r.config.Serials.Check(serial, ek)
	switch {
	case errors.Is(err, ErrSerialUnknown):
		return refuse(http.StatusForbidden, "serial", "the manufacturer adds it to the list of manufactured devices, or it was set wrongly at manufacture", err)
	case errors.Is(err, ErrSerialOtherEK):
		return refuse(http.StatusForbidden, "serial-ek", doReplace+", and the list of manufactured devices gets the new endorsement key", err)
	case err != nil:
		return ofFault(err)
	}
	return nil
}

// Challenge verifies a request, JSON, and returns a challenge for its TPM, JSON.
// Every error is a *Refusal.
func (r *Registrar) Challenge(now time.Time, body []byte) ([]byte, error) {
	request, err := enrolment.ParseRequest(body)
	if err != nil {
		return nil, ofRequest(err)
	}
	proof, _, err := r.judge(now, request)
	if err != nil {
		return nil, err
	}
	blob, secret, err := proof.Credential(rand.Reader)
	if err != nil {
		return nil, ofFault(err)
	}
	id, err := r.challenges.add(now, proof, secret, r.config.ChallengeLifetime)
	if err != nil {
		return nil, err
	}
	answer, err := enrolment.EncodeChallenge(enrolment.Challenge{
		Version: enrolment.Version, ID: id, Credential: blob, Expires: int(r.config.ChallengeLifetime / time.Second),
	})
	if err != nil {
		return nil, ofFault(err)
	}
	r.count("challenged")
	return answer, nil
}

// Basic is HTTP Basic: a challenge's id and its secret in hex. The zero value is
// none.
type Basic struct{ ID, Password string }

// Enroll gives a certificate to who opened a challenge, for one of its keys, once.
// The certification request is DER. Every error is a *Refusal.
func (r *Registrar) Enroll(ctx context.Context, now time.Time, basic Basic, der []byte) ([]*x509.Certificate, error) {
	proof, err := r.open(now, basic)
	if err != nil {
		return nil, err
	}
	csr, err := parseCSR(der)
	if err != nil {
		return nil, err
	}
	return r.answer(ctx, now, actEnrol, basic.ID, proof, csr)
}

// Reenroll gives a certificate to a device that shows its reporting certificate:
// for the same key, or, with a challenge, for one that lives beside the same
// attestation key. Every error is a *Refusal.
func (r *Registrar) Reenroll(ctx context.Context, now time.Time, shown []*x509.Certificate, basic Basic, der []byte) ([]*x509.Certificate, error) {
	if len(shown) == 0 {
		return nil, refuse(http.StatusForbidden, "certificate", doEnrol, errNoCert)
	}
	if _, err := r.config.Roots.Verify(now, shown[0], shown[1:]...); err != nil {
		return nil, refuse(http.StatusForbidden, "certificate", doEnrol, err)
	}
	issued, device, err := r.config.Devices.Certificate(now, shown[0])
	if err != nil {
		return nil, ofRegister(err)
	}
	if issued.Use != string(enrolment.Reporting) || issued.Tenant != r.config.Tenant {
		return nil, refuse(http.StatusForbidden, "certificate", "show the reporting certificate", errNotOurs)
	}
	csr, err := parseCSR(der)
	if err != nil {
		return nil, err
	}
	if equal(csr.PublicKey, shown[0].PublicKey) {
		if err := checkName(csr, issued.Device); err != nil {
			return nil, err
		}
		return r.issue(ctx, now, actRenew, device.Life, issue.Want{Tenant: issued.Tenant, Device: issued.Device, Use: enrolment.Reporting, CSR: csr})
	}
	proof, err := r.open(now, basic)
	if err != nil {
		return nil, err
	}
	ak, err := register.KeyID(proof.AK())
	if err != nil {
		return nil, ofFault(err)
	}
	if proof.Tenant() != issued.Tenant || proof.Serial() != issued.Device || ak != device.AK {
		return nil, refuse(http.StatusForbidden, "other-ak", doReplace, errors.New("the challenge is another device's or another attestation key's than the certificate"))
	}
	return r.answer(ctx, now, actRenew, basic.ID, proof, csr)
}

func (r *Registrar) open(now time.Time, basic Basic) (*enrolment.Proof, error) {
	if basic == (Basic{}) {
		return nil, refuse(http.StatusUnauthorized, "no-secret", doAgain, errNoBasic)
	}
	return r.challenges.open(now, basic.ID, basic.Password)
}

func parseCSR(der []byte) (*x509.CertificateRequest, error) {
	csr, err := issue.ParseCSR(der)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "csr", "make the certification request with the device's P-256 key", err)
	}
	return csr, nil
}

func checkName(csr *x509.CertificateRequest, device string) error {
	if name := csr.Subject.CommonName; name != "" && name != device {
		return refuse(http.StatusForbidden, "csr-name", "leave the name out, or give the device's", fmt.Errorf("%w: %.80q", errCSRName, name))
	}
	return nil
}

// useOf says what a certification request is for, by its key: one that was proved.
func useOf(proof *enrolment.Proof, csr *x509.CertificateRequest) (enrolment.Use, error) {
	use := proof.Use(csr.PublicKey)
	if use == "" {
		return "", refuse(http.StatusForbidden, "csr-key", doAgain+", which names this key", errCSRKey)
	}
	return use, checkName(csr, proof.Serial())
}

// answer enrols the device of an opened challenge. A challenge that gave no
// certificate, for no fault of the device, may be used again.
func (r *Registrar) answer(ctx context.Context, now time.Time, act, id string, proof *enrolment.Proof, csr *x509.CertificateRequest) ([]*x509.Certificate, error) {
	use, err := useOf(proof, csr)
	if err != nil {
		return nil, err
	}
	if err := r.challenges.spend(id, use); err != nil {
		return nil, err
	}
	certs, err := r.enrol(ctx, now, act, proof, use, csr)
	var refusal *Refusal
	if errors.As(err, &refusal) && refusal.Wait > 0 {
		r.challenges.giveBack(id, use)
	}
	return certs, err
}

func (r *Registrar) enrol(ctx context.Context, now time.Time, act string, proof *enrolment.Proof, use enrolment.Use, csr *x509.CertificateRequest) ([]*x509.Certificate, error) {
	life, err := r.config.Devices.Enrol(now, register.Claim{Tenant: proof.Tenant(), Device: proof.Serial(), EK: proof.EK(), AK: proof.AK()})
	if err != nil {
		return nil, ofRegister(err)
	}
	return r.issue(ctx, now, act, life, issue.Want{Tenant: proof.Tenant(), Device: proof.Serial(), Use: use, CSR: csr})
}

// issue has a certificate made and records it before anybody has it.
func (r *Registrar) issue(ctx context.Context, now time.Time, act string, life int, want issue.Want) ([]*x509.Certificate, error) {
	if err := r.config.Devices.Often(now, want.Tenant, want.Device); err != nil {
		return nil, ofRegister(err)
	}
	certs, err := r.config.Authority.Issue(ctx, now, want)
	if err != nil {
		return nil, ofFault(err)
	}
	leaf := certs[0]
	serial := register.SerialNumber(leaf.SerialNumber)
	err = r.config.Devices.Record(now, register.Issued{
		Act: act, Tenant: want.Tenant, Device: want.Device, Use: string(want.Use), Life: life,
		Serial: serial, NotAfter: leaf.NotAfter, SPKI: register.KeyDigest(leaf.RawSubjectPublicKeyInfo),
	})
	if err != nil {
		return nil, ofRegister(err)
	}
	r.count("issued")
	r.config.Log.Info("issued", "act", act, "tenant", want.Tenant, "device", want.Device, "use", want.Use, "serial", serial, "notAfter", leaf.NotAfter)
	r.config.Report(Event{Kind: "issued", Time: now.UTC(), Tenant: want.Tenant, Device: want.Device, Use: string(want.Use), Act: act, Serial: serial, NotAfter: &leaf.NotAfter})
	return certs, nil
}

// maxAnswerCRL bounds the revocation list in an answer, in bytes: some thousand
// entries. A longer one the device fetches when it has a network.
const maxAnswerCRL = 40 << 10

// Answer is enrolment without a network: it takes an application and returns an
// answer, both files, which the device's TPM alone can open. Every error is a
// *Refusal.
func (r *Registrar) Answer(ctx context.Context, now time.Time, file []byte) ([]byte, error) {
	application, err := enrolment.ParseApplication(file)
	if err != nil {
		return nil, ofRequest(err)
	}
	proof, _, err := r.judge(now, application.Request)
	if err != nil {
		return nil, err
	}
	wants := make(map[enrolment.Use]*x509.CertificateRequest)
	var uses []enrolment.Use
	for _, der := range application.CSRs {
		csr, err := parseCSR(der)
		if err != nil {
			return nil, err
		}
		use, err := useOf(proof, csr)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(uses, use) {
			wants[use], uses = csr, append(uses, use)
		}
	}
	if len(uses) == 0 {
		return nil, refuse(http.StatusBadRequest, "csr", "make the application anew: wardctl identity enroll --request", errors.New("the application asks for no certificate"))
	}
	issued := enrolment.Issued{Tenant: proof.Tenant(), Device: proof.Serial(), Chains: make(map[enrolment.Use][][]byte)}
	for _, use := range uses {
		certs, err := r.enrol(ctx, now, actAnswer, proof, use, wants[use])
		if err != nil {
			return nil, err
		}
		for _, c := range certs {
			issued.Chains[use] = append(issued.Chains[use], c.Raw)
		}
	}
	if r.config.CA != nil {
		list, err := r.CRL(now)
		if err != nil {
			return nil, ofFault(err)
		}
		if len(list) <= maxAnswerCRL {
			issued.CRL = list
		}
	}
	answer, err := proof.Seal(rand.Reader, issued)
	if err != nil {
		return nil, ofFault(err)
	}
	text, err := enrolment.EncodeAnswer(answer)
	if err != nil {
		return nil, ofFault(err)
	}
	return text, nil
}

func equal(a, b crypto.PublicKey) bool {
	one, err := x509.MarshalPKIXPublicKey(a)
	if err != nil {
		return false
	}
	two, err := x509.MarshalPKIXPublicKey(b)
	return err == nil && bytes.Equal(one, two)
}
