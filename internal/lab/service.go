package lab

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"ward/internal/agent/localapi"
	"ward/internal/lab/clinic"
	"ward/internal/lab/works"
)

const (
	localSocket = "/run/ward/wardd.sock"
	signerFile  = "/tmp/signer"
	signedText  = "a clinical service's handshake"
)

// sign asks the device, as a program on it does, for a signature by the key of a
// use. A refusal is no error.
func (s *Stage) sign(ctx context.Context, use string) (clinic.Answer, error) {
	program, err := s.GuestProgram(ctx, "signer")
	if err != nil {
		return clinic.Answer{}, err
	}
	if err := s.vm.Put(ctx, signerFile, 0o755, program); err != nil {
		return clinic.Answer{}, err
	}
	r, err := s.vm.Run(ctx, signerFile, localSocket, use, signedText)
	if err != nil {
		return clinic.Answer{}, err
	}
	if r.Exit != 0 {
		return clinic.Answer{}, fmt.Errorf("signer: exit status %d: %s", r.Exit, r.Stderr)
	}
	return clinic.Parse(r.Stdout)
}

// serviceKey has the service key sign, as a clinical service sees it.
func (s *Stage) serviceKey(ctx context.Context) (*x509.Certificate, error) {
	a, err := s.sign(ctx, "service")
	if err != nil {
		return nil, err
	}
	cert, err := a.Verify(s.PKI.Fleet.Cert, "urn:ward:"+works.Tenant+":"+DeviceID+":service", signedText)
	return cert, s.explain(err)
}

// serviceShut wants the service key refused for a cause that the fleet is told
// since the mark, and the reporting key at work. It returns the refusal.
func (s *Stage) serviceShut(ctx context.Context, mark int, code string) (string, error) {
	a, err := s.sign(ctx, "service")
	if err != nil {
		return "", err
	}
	if a.Status != http.StatusConflict || len(a.Signature) > 0 {
		return "", s.explain(fmt.Errorf("the service key signs, or is refused otherwise: status %d, %s", a.Status, a.Refused))
	}
	reporting, err := s.sign(ctx, "reporting")
	if err != nil {
		return "", err
	}
	if reporting.Refused != "" {
		return "", fmt.Errorf("the reporting key is refused: %s", reporting.Refused)
	}
	r, err := s.AwaitFinding(ctx, mark, code, "")
	if err != nil {
		return "", err
	}
	s.Line.Say("fleet", "%s: %s: %s", r.Device, code, r.Event.Finding.Detail)
	return a.Refused, nil
}

// identity is what the daemon tells of the device's certificates.
func (s *Stage) identity(ctx context.Context) (localapi.Identity, error) {
	r, err := s.vm.Run(ctx, "/usr/bin/wardctl", "status", "--json")
	if err != nil {
		return localapi.Identity{}, err
	}
	var st localapi.Status
	if err := json.Unmarshal(r.Stdout, &st); err != nil {
		return localapi.Identity{}, fmt.Errorf("read status: %w: %s", err, r.Stderr)
	}
	return st.Identity, nil
}

// use finds the certificate of a use; the zero value: there is none.
func use(id localapi.Identity, name string) localapi.IdentityUse {
	for _, u := range id.Uses {
		if u.Use == name {
			return u
		}
	}
	return localapi.IdentityUse{}
}

// awaitGeneration waits until the key of a use is of a generation and connected,
// or issued for one that connects to nothing of the lab's.
func (s *Stage) awaitGeneration(ctx context.Context, name, state string, generation int) (localapi.IdentityUse, error) {
	ctx, cancel := context.WithTimeout(ctx, alertTime)
	defer cancel()
	var last localapi.Identity
	for {
		id, err := s.identity(ctx)
		if err == nil {
			last = id
			if u := use(id, name); u.State == state && u.Generation == generation {
				return u, nil
			}
		}
		select {
		case <-ctx.Done():
			return localapi.IdentityUse{}, s.explain(fmt.Errorf("%s key of generation %d is not %s: %+v", name, generation, state, last))
		case <-time.After(200 * time.Millisecond):
		}
	}
}
