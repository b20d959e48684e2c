// Package factory is the verbs of a device's first and last day: provision and
// decommission. docs/manufacture.md has their place on a production line.
package factory

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/cmd/wardctl/onsite"
	"ward/internal/agent/identity/idstore"
	"ward/internal/cli"
	"ward/internal/device/anchors"
	"ward/internal/device/tpm"
	"ward/internal/provision"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/policy"
)

// maxSerial bounds a file with a serial number, in bytes.
const maxSerial = 256

// provisioning are the flags of provision.
type provisioning struct {
	config, tenant, serial, serialFile, policyKey, vault string
	withoutPolicy, asJSON                                bool
	base                                                 uint64
}

// NewProvision makes the verb provision.
func NewProvision() *cobra.Command {
	var f provisioning
	cmd := &cobra.Command{
		Use:   "provision --tenant T --serial S --vault FILE",
		Short: "Make this device's keys, counters and owner: the factory step",
		Long: `Make what a device needs before it leaves the factory, as root with the daemon
stopped: storage root and attestation key, the anti-rollback counter at its base,
the journal's counters, the first reporting and service key, the record of who the
device is; last the TPM gets an owner. Each step is printed with its time.

The random authorisations of the TPM's owner and lockout hierarchies go into the
vault file, which the factory keeps and the device must not: it is written before
the TPM is given them. A run that was cut off is repeated with the same vault file;
what is there is kept. A TPM that has an owner whose vault file is not given, and
a device that has another identity are refused before anything is made; a TPM whose
counters are above the base, when its counter is made.

The last line is the device's line in the registrar's list of serial numbers.

Exit status: 0 the device is provisioned, 1 refused, 2 bad usage, 3 the TPM does
not answer or root is needed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	onsite.Flag(cmd, &f.config)
	flags.StringVar(&f.tenant, "tenant", "", "the operator's or manufacturer's `name` at the fleet")
	flags.StringVar(&f.serial, "serial", "", "the manufacturer's serial `number`: it becomes the device id")
	flags.StringVar(&f.serialFile, "serial-file", "", "`FILE` with the serial number, as the board's firmware gives it")
	flags.StringVar(&f.policyKey, "policy-key", "", "public policy key, PEM `FILE`; else the one of the trust anchors")
	flags.BoolVar(&f.withoutPolicy, "without-policy-key", false, "make no rollback counter and no service key")
	flags.Uint64Var(&f.base, "base", 0, "`value` that the rollback counter is stepped to; else the release's")
	flags.StringVar(&f.vault, "vault", "", "`FILE` for the TPM's authorisations, or with those of an earlier run")
	flags.BoolVar(&f.asJSON, "json", false, "print JSON")
	cmd.MarkFlagsMutuallyExclusive("serial", "serial-file")
	cmd.MarkFlagsOneRequired("serial", "serial-file")
	cmd.MarkFlagsMutuallyExclusive("policy-key", "without-policy-key")
	for _, name := range []string{"tenant", "vault"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
	cmd.AddCommand(newProvisionVolume())
	return cmd
}

func (f *provisioning) run(cmd *cobra.Command) error {
	device, err := onsite.Open(cmd, f.config)
	if err != nil {
		return err
	}
	if err := device.Stopped(cmd.Context()); err != nil {
		return err
	}
	o, err := f.options(cmd, device)
	if err != nil {
		return err
	}
	if err := device.OpenTPM(); err != nil {
		return err
	}
	defer device.Close()
	out := cmd.OutOrStdout()
	if !f.asJSON {
		o.Progress = func(s provision.Step) { printStep(out, s) }
	}
	made, err := provision.Run(cmd.Context(), device.Chip, device.Store, o)
	if err != nil {
		return onsite.Explain(fmt.Errorf("provision: %w", err))
	}
	r := f.report(o, made)
	if f.asJSON {
		return cli.JSON(out, r)
	}
	r.print(out)
	return nil
}

func (f *provisioning) options(cmd *cobra.Command, device *onsite.Device) (provision.Options, error) {
	o := provision.Options{Tenant: f.tenant, Serial: f.serial, Now: time.Now(), Base: f.base}
	if f.serialFile != "" {
		b, err := console.ReadAll(cmd, f.serialFile, maxSerial)
		if err != nil {
			return o, err
		}
		o.Serial = strings.Trim(string(b), "\x00 \t\r\n") // a device tree's ends with a zero
	}
	if !f.withoutPolicy {
		if err := f.policy(cmd, device, &o); err != nil {
			return o, err
		}
	}
	return o, f.openVault(device.Settings.Paths.State, &o)
}

// policy finds the policy key, and the base that the release says.
func (f *provisioning) policy(cmd *cobra.Command, device *onsite.Device, o *provision.Options) error {
	var key policy.Key
	var err error
	if f.policyKey != "" {
		key, err = anchors.ReadPolicyKey(f.policyKey)
	} else {
		key, err = device.PolicyKey()
	}
	if err != nil {
		return cli.Fail(cli.Usage, "%w: give --policy-key, or --without-policy-key for a device without a service key", err)
	}
	o.PolicyKey = &key
	if cmd.Flags().Changed("base") {
		return nil
	}
	p, err := device.IdentityPolicy(key)
	if err != nil {
		return cli.Fail(cli.Usage, "give --base: the release does not say it: %w", err)
	}
	o.Base = p.Base
	return nil
}

// openVault reads the vault file of an earlier run, or has a new one written.
func (f *provisioning) openVault(state string, o *provision.Options) error {
	file, err := filepath.Abs(f.vault)
	if err != nil {
		return err
	}
	if inside, err := filepath.Rel(state, file); err == nil && inside != ".." && !strings.HasPrefix(inside, "../") {
		return cli.Fail(cli.Usage, "--vault %s: it lies in the device's state, and must not stay on the device", f.vault)
	}
	o.Keep = func(v provision.Vault) error {
		b, err := v.Encode()
		if err != nil {
			return err
		}
		return onsite.WriteNew(file, 0o600, b)
	}
	b, err := anchors.Read(file, provision.MaxVault)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		var v provision.Vault
		if v, err = provision.ParseVault(b); err == nil {
			o.Vault = &v
		}
	}
	if err != nil {
		return cli.Fail(cli.Usage, "read vault file %s: %w", f.vault, err)
	}
	return nil
}

func printStep(w io.Writer, s provision.Step) {
	fmt.Fprintf(w, "ok  %-17s %8.1f ms", s.Name, float64(s.Took.Microseconds())/1000)
	if s.Note != "" {
		fmt.Fprintf(w, "  %s", console.Wrap(s.Note, 34))
	}
	fmt.Fprintln(w)
}

// provisioned is the JSON of provision.
type provisioned struct {
	Tenant  string    `json:"tenant"`
	Serial  string    `json:"serial"`
	EK      string    `json:"ek,omitempty"` // SHA-256 of its SubjectPublicKeyInfo
	Counter uint64    `json:"rollbackCounter,omitempty"`
	Keys    []madeKey `json:"keys"`
	Steps   []step    `json:"steps"`
	TookMS  float64   `json:"tookMs"`
	Vault   string    `json:"vault"`
}

type madeKey struct {
	What string `json:"what"`
	Name string `json:"name"` // TPM2B_NAME, base 16
}

type step struct {
	Name   string  `json:"name"`
	TookMS float64 `json:"tookMs"`
	Note   string  `json:"note,omitempty"`
}

func (f *provisioning) report(o provision.Options, made provision.Result) provisioned {
	r := provisioned{Tenant: o.Tenant, Serial: o.Serial, EK: made.EK, Counter: made.Counter, Vault: f.vault, Keys: []madeKey{
		{"storage root key", hex.EncodeToString(made.Keys.SRK.Name)}, {"attestation key", hex.EncodeToString(made.Keys.AK.Name)},
	}}
	for _, use := range []enrolment.Use{enrolment.Reporting, enrolment.Service} {
		if g, ok := made.Uses[use]; ok {
			r.Keys = append(r.Keys, madeKey{string(use) + " key", nameOf(g)})
		}
	}
	for _, s := range made.Steps {
		ms := float64(s.Took.Microseconds()) / 1000
		r.Steps, r.TookMS = append(r.Steps, step{s.Name, ms, s.Note}), r.TookMS+ms
	}
	return r
}

func nameOf(g idstore.Generation) string {
	key, err := tpm.Blob{Public: g.Key.Public}.Key()
	if err != nil {
		return ""
	}
	return hex.EncodeToString(key.Name)
}

func (r provisioned) print(w io.Writer) {
	fmt.Fprintf(w, "    %-17s %8.1f ms\n", "together", r.TookMS)
	fmt.Fprintf(w, "The TPM's authorisations are in %s: take it to the vault, it must not stay here.\n", r.Vault)
	if r.EK != "" {
		fmt.Fprintf(w, "%s,%s\n", r.Serial, r.EK)
	}
}
