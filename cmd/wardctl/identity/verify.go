package identity

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/cmd/wardctl/onsite"
	"ward/internal/cli"
)

func newVerify() *cobra.Command {
	var config, broker string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Try this device's identity at the fleet's broker, and name the step that fails",
		Long: `Connect to the configured brokers with the device's key, as root, and name the step
that fails: our certificate, our key in the TPM, name resolution, connection, TLS
version, the server's chain, name, time, usage, keys and revocation, whether the
broker takes our certificate, and our CONNECT. The daemon may run: the trial has a
client id of its own, sends nothing and subscribes to nothing.

Exit status: 0 every step is good, 1 a step failed, 3 a step could not be tried
(no network, no TPM), or root is needed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			device, err := onsite.Open(cmd, config)
			if err != nil {
				return err
			}
			brokers := device.Settings.Uplink.Brokers
			if broker != "" {
				brokers = []string{broker}
			}
			if len(brokers) == 0 {
				return cli.Fail(cli.Usage, "no broker is configured (uplink.brokers): give --broker")
			}
			if err := device.OpenTPM(); err != nil {
				return err
			}
			defer device.Close()
			now := time.Now()
			if floor, err := device.Store.Floor(); err == nil && floor.After(now) {
				now = floor
			}
			trials := []*trial{}
			for _, b := range brokers {
				t := newTrial(device, b)
				t.run(cmd.Context(), device.Settings.Uplink.ServerName, now)
				trials = append(trials, t)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				err = cli.JSON(out, map[string]any{"brokers": trials})
			} else {
				for _, t := range trials {
					t.print(out)
				}
			}
			if err != nil {
				return err
			}
			return cli.Quiet(verdict(trials))
		},
	}
	onsite.Flag(cmd, &config)
	cmd.Flags().StringVar(&broker, "broker", "", "try `URL` (tls://host:port) in the place of the configured brokers")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func verdict(trials []*trial) int {
	status := cli.Good
	for _, t := range trials {
		switch t.worst() {
		case isBad:
			return cli.Findings
		case undecided:
			status = cli.NotDecided
		}
	}
	return status
}

func (t *trial) print(w io.Writer) {
	const indent = 26
	fmt.Fprintf(w, "%s\n", t.Broker)
	for _, s := range t.Steps {
		fmt.Fprintf(w, "  %-9s  %-13s", s.State, s.Step)
		if s.Detail != "" {
			fmt.Fprintf(w, "  %s", console.Wrap(s.Detail, indent))
		}
		fmt.Fprintln(w)
		if s.Remedy != "" {
			fmt.Fprintf(w, "%*sdo: %s\n", indent, "", console.Wrap(s.Remedy, indent+4))
		}
	}
}
