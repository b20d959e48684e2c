package identity

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/cmd/wardctl/onsite"
	"ward/internal/agent/identity/roots"
	"ward/internal/agent/localapi"
	"ward/internal/cli"
	"ward/internal/provision"
	"ward/internal/trust/enrolment"
)

// newEnroll enrols through the daemon, or by files.
func newEnroll(defaultSocket string) *cobra.Command {
	var config, request, install string
	cmd := &cobra.Command{
		Use:   "enroll [--request FILE | --install FILE]",
		Short: "Enrol this device now: at the registrar, or without a network by files",
		Long: `Without a file, have the daemon enrol the device at the configured registrar now,
as root: its TPM proves itself, and the registrar issues certificates for new keys.
The daemon does so by itself when there is no certificate, or it has expired. What
works is kept until the new identity has connected.

Where there is no network, two files do it, and the daemon need not run. --request
writes one for the registrar: what this TPM says of itself and of the device's keys,
and requests for their certificates. A technician carries it to a machine beside the
registrar,

  wardfleet registrar answer REQUEST -o ANSWER ...

and the answer back: --install has the TPM open it, checks it whole, and stores the
certificates. Only the TPM that made the request can open the answer, and the file
holds no secret of the device.

The service key asks for a certificate only in an approved boot state; where it
cannot, that is told, and the reporting key is enrolled alone.

Exit status: 0 done, 1 refused, or the service key was left out, 2 not allowed, or
the file cannot be read or written, 3 not done yet, the daemon or the TPM does not
answer, or root is needed.`,
		Args: cobra.NoArgs,
	}
	throughDaemon := issue(defaultSocket, cmd, (*localapi.Client).EnrollIdentity)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if request == "" && install == "" {
			return throughDaemon(cmd, args)
		}
		device, err := onsite.Open(cmd, config)
		if err != nil {
			return err
		}
		if request != "" {
			return apply(cmd, device, request)
		}
		return accept(cmd, device, install)
	}
	onsite.Flag(cmd, &config)
	cmd.Flags().StringVar(&request, "request", "", "write the request to `FILE`, which must not be there yet")
	cmd.Flags().StringVar(&install, "install", "", "take the answer from `FILE`, \"-\" for standard input")
	cmd.MarkFlagsMutuallyExclusive("request", "install")
	return cmd
}

func apply(cmd *cobra.Command, device *onsite.Device, file string) error {
	if err := device.OpenTPM(); err != nil {
		return err
	}
	defer device.Close()
	boot, bootErr := device.Boot()
	a, left, err := provision.Application(cmd.Context(), device.Chip, device.Store, boot)
	if err != nil {
		return onsite.Explain(err)
	}
	b, err := enrolment.EncodeApplication(a)
	if err != nil {
		return err
	}
	if err := onsite.WriteNew(file, 0o644, b); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	for _, k := range a.Keys {
		fmt.Fprintf(out, "ok      %s key\n", k.Use)
	}
	for _, l := range left {
		why := l.Err
		if boot == nil {
			why = bootErr
		}
		fmt.Fprintf(out, "left    %s key: %s\n", l.Use, console.Wrap(why.Error(), 8))
	}
	fmt.Fprintf(out, "Have %s answered: wardfleet registrar answer\n", file)
	if len(left) > 0 {
		return cli.Quiet(cli.Findings)
	}
	return nil
}

func accept(cmd *cobra.Command, device *onsite.Device, file string) error {
	b, err := console.ReadAll(cmd, file, enrolment.MaxAnswer)
	if err != nil {
		return err
	}
	answer, err := enrolment.ParseAnswer(b)
	if err != nil {
		return console.Unreadable(file, err)
	}
	trusted, err := roots.Read(filepath.Join(device.Settings.Paths.Trust, "fleet"))
	if err != nil {
		return cli.Fail(cli.NotDecided, "%w", err)
	}
	if err := device.OpenTPM(); err != nil {
		return err
	}
	defer device.Close()
	if err := provision.Install(cmd.Context(), device.Chip, device.Store, answer, trusted, time.Now()); err != nil {
		return onsite.Explain(err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "Enrolled %s of %s; wardd takes the certificates within a minute.\n", answer.Device, answer.Tenant)
	return err
}
