package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/cmd/wardctl/onsite"
	"ward/internal/agent/identity/idstore"
	"ward/internal/cli"
	"ward/internal/device/tpm"
	"ward/internal/provision"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/policy"
)

// shown is the JSON of show.
type shown struct {
	Tenant  string     `json:"tenant"`
	Device  string     `json:"device"`
	Made    *time.Time `json:"made,omitempty"`
	TPM     string     `json:"tpm"` // "this", "other" or "unknown"
	Keys    []shownKey `json:"keys"`
	Secrets []string   `json:"secrets"`
	Floor   *time.Time `json:"timeFloor,omitempty"`
	// Problems are what is wrong; empty: nothing is.
	Problems []string `json:"problems"`
}

type shownKey struct {
	Use         string            `json:"use"`
	Where       string            `json:"where"` // a TPM handle, or a file in the state directory
	Name        string            `json:"name"`  // TPM2B_NAME, base 16
	Policy      string            `json:"policy"`
	Generation  int               `json:"generation,omitempty"`
	State       string            `json:"state,omitempty"` // "pending", "issued" or "connected"
	Certificate *shownCertificate `json:"certificate,omitempty"`
	Chain       []string          `json:"chain,omitempty"` // subjects, the leaf's issuer first
}

type shownCertificate struct {
	Subject  string    `json:"subject"`
	URI      string    `json:"uri,omitempty"`
	Issuer   string    `json:"issuer"`
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"notAfter"`
	DaysLeft int       `json:"daysLeft"`
	SHA256   string    `json:"sha256"`
}

func newShow() *cobra.Command {
	var config string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the device's keys, where they live, and their certificates",
		Long: `Show who this device is, its keys and where they live, what they are bound to,
and their certificates with the days left. It is read from the files and the TPM,
as root; the daemon need not run.

Exit status: 0 nothing is wrong, 1 something is (a certificate is missing or has
expired, a file is damaged, the TPM is another one), 3 the device was never
provisioned, or root is needed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			device, err := onsite.Open(cmd, config)
			if err != nil {
				return err
			}
			s, err := look(cmd.Context(), device, time.Now())
			if err != nil {
				return onsite.Explain(err)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				err = cli.JSON(out, s)
			} else {
				s.print(out)
			}
			if err == nil && len(s.Problems) > 0 {
				err = cli.Quiet(cli.Findings)
			}
			return err
		},
	}
	onsite.Flag(cmd, &config)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func look(ctx context.Context, device *onsite.Device, now time.Time) (shown, error) {
	s := shown{TPM: "unknown", Keys: []shownKey{}, Secrets: []string{}, Problems: []string{}}
	d, err := device.Store.Device()
	switch {
	case errors.Is(err, idstore.ErrNone):
		return s, provision.ErrNotProvisioned
	case errors.Is(err, idstore.ErrDamaged):
		s.problem("%v", err)
	case err != nil:
		return s, err
	default:
		s.Tenant, s.Device, s.Made = d.Tenant, d.Serial, &d.Made
	}
	s.lookAtTPM(ctx, device, d)
	bound := boundTo(device)
	for _, use := range []enrolment.Use{enrolment.Reporting, enrolment.Service} {
		all, err := device.Store.Generations(use)
		if err != nil && !errors.Is(err, idstore.ErrDamaged) {
			return s, err
		}
		if err != nil {
			s.problem("%v", err)
		}
		if len(all) == 0 && use == enrolment.Reporting {
			s.problem("there is no reporting key: run wardctl provision")
		}
		for i, g := range all {
			s.Keys = append(s.Keys, s.describe(g, bound, now, i == 0))
		}
	}
	if names, err := device.Store.Secrets(); err != nil {
		s.problem("%v", err)
	} else if names != nil {
		s.Secrets = names
	}
	if floor, err := device.Store.Floor(); err == nil {
		s.Floor = &floor
	}
	return s, nil
}

func (s *shown) problem(format string, args ...any) {
	s.Problems = append(s.Problems, strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " "))
}

// lookAtTPM says whether the TPM is the one of manufacture.
func (s *shown) lookAtTPM(ctx context.Context, device *onsite.Device, d idstore.Device) {
	if err := device.OpenTPM(); err != nil {
		s.problem("the TPM does not answer: %v", err)
		return
	}
	defer device.Close()
	for _, k := range []struct {
		use    string
		handle uint32
	}{{"storage root", tpm.HandleSRK}, {"attestation", tpm.HandleAK}} {
		key, err := device.Chip.ReadPublic(ctx, k.handle)
		if err != nil {
			s.problem("%s key: %v", k.use, err)
			continue
		}
		s.Keys = append(s.Keys, shownKey{Use: k.use, Where: fmt.Sprintf("TPM 0x%08x", k.handle), Name: hex.EncodeToString(key.Name), Policy: "none"})
		if k.handle != tpm.HandleSRK || d.SRK == nil {
			continue
		}
		s.TPM = "this"
		if string(key.Area) != string(d.SRK) {
			s.TPM = "other"
			s.problem("the TPM is not the one that this device was made with: none of its keys works here")
		}
	}
}

// boundTo names policies.
func boundTo(device *onsite.Device) func([]byte) string {
	key, err := device.PolicyKey()
	return func(p []byte) string {
		switch {
		case p == nil:
			return "none"
		case err != nil:
			return "boot state, policy key unknown"
		}
		if want := policy.BootPolicy(key); string(p) != string(want[:]) {
			return "another policy key's"
		}
		return "approved boot state"
	}
}

func (s *shown) describe(g idstore.Generation, bound func([]byte) string, now time.Time, newest bool) shownKey {
	k := shownKey{Use: string(g.Use), Where: g.Path() + "/key.pem", Generation: g.Number, State: "pending"}
	if key, err := (tpm.Blob{Public: g.Key.Public}).Key(); err == nil {
		k.Name = hex.EncodeToString(key.Name)
	}
	if p, err := provision.PolicyOf(g.Key); err == nil {
		k.Policy = bound(p)
	}
	if k.Policy == "another policy key's" {
		s.problem("the %s key %d is bound to another policy key than the device's", g.Use, g.Number)
	}
	if g.Chain == nil {
		if newest && g.Number == 1 {
			s.problem("the %s key has no certificate yet: enrol the device", g.Use)
		}
		return k
	}
	k.State = "issued"
	if g.Connected {
		k.State = "connected"
	}
	leaf := g.Chain[0]
	sum := sha256.Sum256(leaf.Raw)
	k.Certificate = &shownCertificate{
		Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(), Serial: hex.EncodeToString(leaf.SerialNumber.Bytes()), NotAfter: leaf.NotAfter.UTC(),
		DaysLeft: int(leaf.NotAfter.Sub(now).Hours() / 24), SHA256: hex.EncodeToString(sum[:]),
	}
	if len(leaf.URIs) > 0 {
		k.Certificate.URI = leaf.URIs[0].String()
	}
	for _, c := range g.Chain[1:] {
		k.Chain = append(k.Chain, c.Subject.String())
	}
	if newest && now.After(leaf.NotAfter) {
		s.problem("the %s certificate has expired on %s", g.Use, leaf.NotAfter.UTC().Format(time.DateOnly))
	}
	return k
}

func (s shown) print(w io.Writer) {
	console.Row(w, "Device", "%s of %s", console.OrNothing(s.Device), console.OrNothing(s.Tenant))
	if s.Made != nil {
		console.Row(w, "", "made %s, TPM: %s", s.Made.UTC().Format(time.DateOnly), map[string]string{"this": "the one it was made with", "other": "another one", "unknown": "does not answer"}[s.TPM])
	}
	for _, k := range s.Keys {
		k.print(w)
	}
	if len(s.Secrets) > 0 {
		console.Row(w, "Secrets", "%s", strings.Join(s.Secrets, ", "))
	}
	for _, p := range s.Problems {
		console.Row(w, "Problem", "%s", p)
	}
}

func (k shownKey) print(w io.Writer) {
	fmt.Fprintln(w)
	title := k.Use + " key"
	if k.Generation > 0 {
		title += fmt.Sprintf(", generation %d, %s", k.Generation, k.State)
	}
	fmt.Fprintf(w, "%s\n", title)
	console.Row(w, "  where", "%s", k.Where)
	console.Row(w, "  name", "%s", k.Name)
	console.Row(w, "  policy", "%s", k.Policy)
	c := k.Certificate
	if c == nil {
		return
	}
	console.Row(w, "  for", "%s  %s", c.Subject, c.URI)
	console.Row(w, "  issuer", "%s, serial %s", c.Issuer, c.Serial)
	console.Row(w, "  until", "%s, %d days left", c.NotAfter.Format(time.DateOnly), c.DaysLeft)
	if len(k.Chain) > 0 {
		console.Row(w, "  chain", "%s", strings.Join(k.Chain, " < "))
	}
}
