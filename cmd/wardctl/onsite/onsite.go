// Package onsite is what those verbs of wardctl share that work as root on the
// device itself, without its daemon: settings, identity store, TPM, the approvals
// of the release, and exit statuses for what can go wrong.
package onsite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"ward/internal/agent/identity/idstore"
	"ward/internal/agent/identity/issued"
	"ward/internal/agent/localapi"
	"ward/internal/cli"
	"ward/internal/config"
	"ward/internal/device/anchors"
	"ward/internal/device/tpm"
	"ward/internal/format/dsse"
	"ward/internal/provision"
	"ward/internal/trust/enrolment"
	"ward/internal/trust/policy"
	"ward/internal/trust/release"
)

// DefaultConfig is where the released image has the daemon's configuration.
const DefaultConfig = "/etc/ward/wardd.toml"

// Device is the device that the verb runs on.
type Device struct {
	Settings config.Config
	Store    *idstore.Store
	Chip     *tpm.TPM // nil until OpenTPM
}

// Flag adds the flag for the configuration.
func Flag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "config", DefaultConfig, "the daemon's configuration `FILE`, for the paths")
}

// Open reads the settings; the built-in ones where there is no configuration.
func Open(cmd *cobra.Command, file string) (*Device, error) {
	settings, err := config.Load(file)
	if err != nil {
		if cmd.Flags().Changed("config") || !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		settings = config.Default()
	}
	return &Device{Settings: settings, Store: idstore.Open(settings.Paths.State)}, nil
}

// OpenTPM opens the TPM. The caller closes it.
func (d *Device) OpenTPM() error {
	chip, err := tpm.Open(d.Settings.TPM.Device)
	if err != nil {
		return Explain(err)
	}
	d.Chip = chip
	return nil
}

// Close closes the TPM if it is open.
func (d *Device) Close() {
	if d.Chip != nil {
		_ = d.Chip.Close()
	}
}

// Stopped refuses while the daemon runs.
func (d *Device) Stopped(ctx context.Context) error {
	_, err := localapi.NewClient(d.Settings.Paths.Socket).Status(ctx)
	if errors.Is(err, localapi.ErrDown) {
		return nil
	}
	return cli.Fail(cli.Findings, "wardd runs and answers on %s: stop it first (systemctl stop wardd)", d.Settings.Paths.Socket)
}

// PolicyKey reads the policy key among the trust anchors.
func (d *Device) PolicyKey() (policy.Key, error) {
	return anchors.PolicyKey(filepath.Join(d.Settings.Paths.Trust, "policy"))
}

// Boot reads what the policy key approved for the release. The manifest's own
// signatures are not verified: the TPM takes nothing that the policy key did not
// sign.
func (d *Device) Boot() (*tpm.Boot, error) {
	key, err := d.PolicyKey()
	if err != nil {
		return nil, err
	}
	p, err := d.IdentityPolicy(key)
	if err != nil {
		return nil, err
	}
	return &tpm.Boot{Key: key, Approvals: p.Approvals}, nil
}

// IdentityPolicy reads what a policy key signed for the release.
func (d *Device) IdentityPolicy(key policy.Key) (*release.IdentityPolicy, error) {
	file := d.Settings.Paths.Release
	envelope, err := anchors.Read(file, dsse.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("read release manifest: %w", err)
	}
	p, err := release.ParseUntrustedIdentityPolicy(envelope, key)
	if err == nil && p == nil {
		err = errors.New("it approves no boot state")
	}
	if err != nil {
		return nil, fmt.Errorf("read release manifest %s: %w", file, err)
	}
	return p, nil
}

// refusals are answers, and no failures: asking again changes nothing.
var refusals = []error{
	tpm.ErrOwned, tpm.ErrOccupied, tpm.ErrCounterAhead, tpm.ErrOtherTPM, tpm.ErrBootState, tpm.ErrRollback, tpm.ErrPolicy, tpm.ErrNoCertificate,
	tpm.ErrCertificateKey, tpm.ErrCredential, provision.ErrOtherDevice, provision.ErrVault, enrolment.ErrOtherTPM, issued.ErrProfile, idstore.ErrDamaged,
}

// Explain gives an error of the device its exit status: what was refused is a
// finding, what the operator may not read asks for root, the rest could not be
// decided.
func Explain(err error) error {
	var exit *cli.Exit
	switch {
	case err == nil || errors.As(err, &exit):
		return err
	case errors.Is(err, idstore.ErrName), errors.Is(err, provision.ErrName):
		return &cli.Exit{Status: cli.Usage, Err: err}
	case errors.Is(err, fs.ErrPermission):
		return cli.Fail(cli.NotDecided, "%w: run it as root", err)
	}
	for _, r := range refusals {
		if errors.Is(err, r) {
			return &cli.Exit{Status: cli.Findings, Err: err}
		}
	}
	return &cli.Exit{Status: cli.NotDecided, Err: err}
}
