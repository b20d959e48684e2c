package factory

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/onsite"
	"ward/internal/agent/identity/idstore"
	"ward/internal/cli"
	"ward/internal/device/anchors"
	"ward/internal/device/tpm"
	"ward/internal/provision"
)

// leaving are the flags of decommission.
type leaving struct {
	config, farewell, vault string
	yes, without            bool
}

// NewDecommission makes the verb decommission.
func NewDecommission() *cobra.Command {
	var f leaving
	cmd := &cobra.Command{
		Use:   "decommission --farewell FILE",
		Short: "End this device's life: a signed farewell, then everything is erased",
		Long: `End this device's life, as root with the daemon stopped: a last event, signed by
the reporting key, is appended to the record and written to the farewell file, for
the fleet; then identity, sealed secrets, the record and all other state of Ward
are written over and removed. It asks for the device id before.

With the vault file of manufacture Ward's counters and keys are removed from the
TPM as well; without it they stay, and are of no use without the files. The medical
application's data partition is not touched: what to do is printed. On flash,
writing over is best effort: erase the volumes' headers to be sure.

A device whose TPM is dead, and a run that was cut off after the wipe had begun,
are ended with --without-farewell.

Exit status: 0 done, 1 refused (the daemon runs, another device's vault, another
TPM), 2 bad usage or not confirmed, 3 the TPM does not answer or root is needed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	onsite.Flag(cmd, &f.config)
	flags.StringVar(&f.farewell, "farewell", "", "`FILE` for the signed farewell, which must not be there yet")
	flags.BoolVar(&f.without, "without-farewell", false, "make none")
	flags.StringVar(&f.vault, "vault", "", "vault `FILE` of manufacture")
	flags.BoolVar(&f.yes, "yes", false, "do not ask")
	cmd.MarkFlagsMutuallyExclusive("farewell", "without-farewell")
	cmd.MarkFlagsOneRequired("farewell", "without-farewell")
	return cmd
}

func (f *leaving) run(cmd *cobra.Command) error {
	device, err := onsite.Open(cmd, f.config)
	if err != nil {
		return err
	}
	if err := device.Stopped(cmd.Context()); err != nil {
		return err
	}
	record, err := device.Store.Device()
	if err != nil && !errors.Is(err, idstore.ErrNone) && !errors.Is(err, idstore.ErrDamaged) {
		return onsite.Explain(err)
	}
	id := record.Serial
	if id == "" {
		id = "unknown"
	}
	o := provision.Parting{State: device.Settings.Paths.State, Now: time.Now()}
	if err := f.fill(device, &o); err != nil {
		return err
	}
	if err := f.confirm(cmd, id, o.State); err != nil {
		return err
	}
	if err := device.OpenTPM(); err != nil {
		if !f.without || f.vault != "" {
			return err
		}
		device.Chip = tpm.New(func() (tpm.Transport, error) { return nil, tpm.ErrAbsent })
	}
	defer device.Close()
	if err := provision.Decommission(cmd.Context(), device.Chip, device.Store, o); err != nil {
		return onsite.Explain(err)
	}
	f.conclude(cmd.OutOrStdout(), record.Tenant+" "+id, o)
	return nil
}

func (f *leaving) fill(device *onsite.Device, o *provision.Parting) error {
	if f.farewell != "" {
		o.Farewell = func(b []byte) error { return onsite.WriteNew(f.farewell, 0o644, b) }
	}
	if key, err := device.PolicyKey(); err == nil {
		o.PolicyKey = &key
	}
	if f.vault == "" {
		return nil
	}
	b, err := anchors.Read(f.vault, provision.MaxVault)
	if err == nil {
		var v provision.Vault
		v, err = provision.ParseVault(b)
		o.Vault = &v
	}
	if err != nil {
		return cli.Fail(cli.Usage, "read vault file %s: %w", f.vault, err)
	}
	return nil
}

// confirm wants the device id to be typed.
func (f *leaving) confirm(cmd *cobra.Command, id, state string) error {
	if f.yes {
		return nil
	}
	fmt.Fprintf(cmd.OutOrStdout(), "Everything in %s will be erased, and the device loses its identity.\nType the device id (%s) to go on: ", state, id)
	typed, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 256)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the device id: %w", err)
	}
	if strings.TrimSpace(typed) != id {
		return cli.Fail(cli.Usage, "not confirmed: nothing was changed")
	}
	return nil
}

func (f *leaving) conclude(w io.Writer, name string, o provision.Parting) {
	fmt.Fprintf(w, "\nErased: identity, sealed secrets, record and state in %s.\n", o.State)
	switch {
	case o.Vault == nil:
		fmt.Fprintln(w, "Ward's keys and counters stay in the TPM: no vault file was given. They are of no use without what was erased.")
	case o.PolicyKey == nil:
		fmt.Fprintln(w, "Ward's keys and the journal's counters are gone from the TPM; the rollback counter stays, for there is no policy key to know it by.")
	default:
		fmt.Fprintln(w, "Ward's keys and counters are gone from the TPM; its owner's authorisation stays as in the vault.")
	}
	fmt.Fprintf(w, "At the fleet:       wardfleet devices revoke %s --devices DIR --reason decommissioned\n", strings.TrimSpace(name))
	if f.farewell != "" {
		fmt.Fprintf(w, "                    and keep %s with the device's file\n", f.farewell)
	}
	fmt.Fprint(w, "Data partition:     cryptsetup erase DEVICE (it opens never again, with no key)\nState partition:    cryptsetup erase DEVICE\n")
}
