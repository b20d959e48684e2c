// Package proof is the verbs that collect a device's evidence and appraise it on
// any machine.
package proof

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/internal/agent/attester"
	"ward/internal/agent/identity"
	"ward/internal/agent/localapi"
	"ward/internal/cli"
	"ward/internal/config"
	"ward/internal/device/bootclock"
	"ward/internal/device/securityfs"
	"ward/internal/device/tpm"
	"ward/internal/trust/evidence"
	"ward/internal/trust/posture"
)

func NewEvidence() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "evidence",
		Short: "Collect what proves a device's boot, and appraise it anywhere",
		Long: `Collect what proves a device's boot (quotes of its TPM, event logs, measurement
list) into one file, and appraise such a file on any machine, by the same rules
as the device and the fleet.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newEvidenceCollect(), newEvidenceVerify(), newEvidenceShow(), newEvidenceExtract())
	return cmd
}

// defaultConfig is where the released image has the daemon's configuration.
const defaultConfig = "/etc/ward/wardd.toml"

func newEvidenceCollect() *cobra.Command {
	var out, nonce, configFile string
	cmd := &cobra.Command{
		Use:   "collect -o FILE",
		Short: "Collect this device's evidence into a file, also when its daemon is dead",
		Long: `Collect this device's evidence into a file: quotes by the attestation key in its
TPM, the firmware's event log, what user space measured, and the kernel's
measurement list. Run it as root on the device; the daemon need not run. Whoever
verifies the file later gives the same nonce; without one the file proves what
was, and not when.

What cannot be read is noted in the file, and is for the verifier to judge.

Exit status: 0 everything was collected, 1 something could not be read (one line
each), 2 bad usage, or the file cannot be written.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			question, err := parseNonce(nonce)
			if err != nil {
				return err
			}
			settings, err := config.Load(configFile)
			if err != nil {
				if cmd.Flags().Changed("config") {
					return err
				}
				settings = config.Default()
			}
			document, err := collectEvidence(cmd, settings, question)
			if err != nil {
				return err
			}
			if err := writeOutput(cmd, out, document); err != nil {
				return err
			}
			e, err := evidence.Parse(document)
			if err != nil {
				return err
			}
			return reportCollected(cmd.ErrOrStderr(), e)
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "write the evidence to `FILE`, \"-\" for standard output")
	cmd.Flags().StringVar(&nonce, "nonce", "", "the verifier's question, `HEX` of at most 64 bytes")
	cmd.Flags().StringVar(&configFile, "config", defaultConfig, "the daemon's configuration `FILE`, for the paths")
	if err := cmd.MarkFlagRequired("output"); err != nil {
		panic(err)
	}
	return cmd
}

func parseNonce(text string) ([]byte, error) {
	nonce, err := hex.DecodeString(text)
	if err != nil || len(nonce) > evidence.MaxNonce {
		return nil, cli.Fail(cli.Usage, "--nonce %.40q: want hexadecimal digits of at most %d bytes", text, evidence.MaxNonce)
	}
	return nonce, nil
}

func collectEvidence(cmd *cobra.Command, c config.Config, nonce []byte) ([]byte, error) {
	boot, err := bootclock.ID(os.DirFS("/proc"))
	if err != nil {
		boot = "unknown"
	}
	tenant, device, err := identity.Subject(c.Paths.State)
	if err != nil {
		tenant, device = "", ""
	}
	chip := tpm.NewLazy(c.TPM.Device)
	defer chip.Close()
	a := attester.New(attester.Config{
		Release: c.Paths.Release, Trust: c.Paths.Trust, Threshold: c.ReleaseThreshold, Tenant: tenant, Device: device, Boot: boot,
		SecurityFS: os.DirFS(c.Paths.SecurityFS()), SysFS: os.DirFS(c.Paths.SysFS), UserLogFS: os.DirFS(attester.UserLogFolder), TPM: chip,
		MaxList: securityfs.MaxIMA, Posture: func() []posture.Claim { return told(cmd, c.Paths.Socket) },
	})
	return a.Evidence(cmd.Context(), attester.Question{Nonce: nonce})
}

// told is what the daemon says of the device's state beside its files; without a
// daemon the evidence has no claims about it.
func told(cmd *cobra.Command, socket string) []posture.Claim {
	p, err := localapi.NewClient(socket).Posture(cmd.Context())
	if err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "wardctl: no claims about the device's state: %v\n", err)
		return nil
	}
	return p.Claims
}

// reportCollected names what is missing.
func reportCollected(w io.Writer, e evidence.Evidence) error {
	missing := false
	for _, p := range []struct{ name, why string }{
		{"registers", e.PCRError}, {"quotes", e.QuoteError}, {"event log", e.EventLogError}, {"user space log", e.UserLogError}, {"measurement list", e.IMAError},
	} {
		if p.why != "" {
			missing = true
			fmt.Fprintf(w, "wardctl: no %s: %s\n", p.name, p.why)
		}
	}
	if e.IMATruncated {
		missing = true
		fmt.Fprintln(w, "wardctl: the measurement list is longer than what is collected of it")
	}
	if missing {
		return cli.Quiet(cli.Findings)
	}
	return nil
}

// writeOutput writes a file that only its owner reads; "-" is standard output.
func writeOutput(cmd *cobra.Command, name string, b []byte) error {
	if name == "-" {
		_, err := cmd.OutOrStdout().Write(b)
		return err
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		return cli.Fail(cli.Usage, "write evidence: %w", err)
	}
	return nil
}

// readEvidence reads a document; the error is for input that is none.
func readEvidence(cmd *cobra.Command, name string) (evidence.Evidence, error) {
	b, err := console.ReadAll(cmd, name, evidence.MaxSize)
	if err != nil {
		return evidence.Evidence{}, err
	}
	e, err := evidence.Parse(b)
	if err != nil {
		return evidence.Evidence{}, console.Unreadable(name, fmt.Errorf("at offset 0: %w", err))
	}
	return e, nil
}

func newEvidenceExtract() *cobra.Command {
	return &cobra.Command{
		Use:   "extract FILE DIR",
		Short: "Write the parts of an evidence file into a folder, for other tools",
		Long: `Write the parts of an evidence file into a folder, for other tools: eventlog.bin,
userlog.json, ima.bin, pcrs.json, and of each quote the bytes that were signed,
the signature and the registers as tpm2_checkquote takes them (boot.msg, boot.sig,
boot.pcrs, list.msg, list.sig, list.pcrs). Parts that are not there are not
written.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := readEvidence(cmd, args[0])
			if err != nil {
				return err
			}
			if err := os.MkdirAll(args[1], 0o700); err != nil {
				return cli.Fail(cli.Usage, "write parts: %w", err)
			}
			for _, p := range parts(e) {
				if len(p.content) == 0 {
					continue
				}
				if err := os.WriteFile(filepath.Join(args[1], p.name), p.content, 0o600); err != nil {
					return cli.Fail(cli.Usage, "write parts: %w", err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%-13s %d bytes\n", p.name, len(p.content))
			}
			return nil
		},
	}
}
