package stage

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
	// LocalSocket is the daemon's socket on the device.
	LocalSocket = "/run/ward/wardd.sock"
	signerFile  = "/tmp/signer"
	signedText  = "a clinical service's handshake"
)

// Sign asks the device, as a program on it does, for a signature by the key of a
// use. A refusal is no error.
func (s *Stage) Sign(ctx context.Context, use string) (clinic.Answer, error) {
	program, err := s.GuestProgram(ctx, "signer")
	if err != nil {
		return clinic.Answer{}, err
	}
	if err := s.VM.Put(ctx, signerFile, 0o755, program); err != nil {
		return clinic.Answer{}, err
	}
	r, err := s.VM.Run(ctx, signerFile, LocalSocket, use, signedText)
	if err != nil {
		return clinic.Answer{}, err
	}
	if r.Exit != 0 {
		return clinic.Answer{}, fmt.Errorf("signer: exit status %d: %s", r.Exit, r.Stderr)
	}
	return clinic.Parse(r.Stdout)
}

// ServiceKey has the service key sign, as a clinical service sees it.
func (s *Stage) ServiceKey(ctx context.Context) (*x509.Certificate, error) {
	a, err := s.Sign(ctx, "service")
	if err != nil {
		return nil, err
	}
	cert, err := a.Verify(s.PKI.Fleet.Cert, "urn:ward:"+works.Tenant+":"+DeviceID+":service", signedText)
	return cert, s.Explain(err)
}

// ServiceShut wants the service key refused for a cause that the fleet is told
// since the mark, and the reporting key at work. It returns the refusal.
func (s *Stage) ServiceShut(ctx context.Context, mark int, code string) (string, error) {
	a, err := s.Sign(ctx, "service")
	if err != nil {
		return "", err
	}
	if a.Status != http.StatusConflict || len(a.Signature) > 0 {
		return "", s.Explain(fmt.Errorf("the service key signs, or is refused otherwise: status %d, %s", a.Status, a.Refused))
	}
	reporting, err := s.Sign(ctx, "reporting")
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

// Identity is what the daemon tells of the device's certificates.
func (s *Stage) Identity(ctx context.Context) (localapi.Identity, error) {
	r, err := s.VM.Run(ctx, "/usr/bin/wardctl", "status", "--json")
	if err != nil {
		return localapi.Identity{}, err
	}
	var st localapi.Status
	if err := json.Unmarshal(r.Stdout, &st); err != nil {
		return localapi.Identity{}, fmt.Errorf("read status: %w: %s", err, r.Stderr)
	}
	return st.Identity, nil
}

// Use finds the certificate of a use; the zero value: there is none.
func Use(id localapi.Identity, name string) localapi.IdentityUse {
	for _, u := range id.Uses {
		if u.Use == name {
			return u
		}
	}
	return localapi.IdentityUse{}
}

// AwaitGeneration waits until the key of a use is of a generation and connected,
// or issued for one that connects to nothing of the lab's.
func (s *Stage) AwaitGeneration(ctx context.Context, name, state string, generation int) (localapi.IdentityUse, error) {
	ctx, cancel := context.WithTimeout(ctx, AlertTime)
	defer cancel()
	var last localapi.Identity
	for {
		id, err := s.Identity(ctx)
		if err == nil {
			last = id
			if u := Use(id, name); u.State == state && u.Generation == generation {
				return u, nil
			}
		}
		select {
		case <-ctx.Done():
			return localapi.IdentityUse{}, s.Explain(fmt.Errorf("%s key of generation %d is not %s: %+v", name, generation, state, last))
		case <-time.After(200 * time.Millisecond):
		}
	}
}
