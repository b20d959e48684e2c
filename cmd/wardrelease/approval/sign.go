// Package approval holds wardrelease's verbs about what the policy key signs: the
// boot states in which a release's keys and secrets open, and how far it may move
// the anti-rollback counter (package trust/policy; TPM 2.0 Library, Part 3,
// section 23.16, TPM2_PolicyAuthorize).
package approval

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ward/cmd/wardrelease/disk"
	"ward/cmd/wardrelease/keys"
	"ward/internal/cli"
	"ward/internal/format/pcr"
	"ward/internal/trust/release"
)

// New makes the verb and those beneath it.
func New() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Sign and show the boot states in which a release's keys and secrets open",
		Long: "Sign and show a release's identity policy: what the policy key approves. Keys and sealed secrets that are bound to the boot state name the policy key alone; they work with every release that it approves, and stop working with an older one when the device's rollback counter has moved.\n" +
			"The policy key is a P-256 key that wardrelease keygen makes, like a release key, and must be another one than every release key. Its public part lies in the image's trust/policy folder, alone, and never changes: objects of another policy key are made anew.\n" +
			"Order of a release: build, policy sign, sign.",
	}
	cmd.AddCommand(newSign(), newShow())
	return cmd
}

func newSign() *cobra.Command {
	var key, out, pcrs string
	var opener keys.Opener
	var a release.Approval
	cmd := &cobra.Command{
		Use:   "sign --key POLICY.pem --base N MANIFEST.json -o MANIFEST.json",
		Short: "Approve the boot states of a release manifest, before it is signed",
		Long: "Approve the boot states of a manifest: for each accepted firmware the exact values of PCR 7, 11 and 12, and of a register that user space extends later, those after each step. Each is approved for devices whose rollback counter is at most base + rollback index. A register that is not exact cannot be approved ahead; --pcr chooses others.\n" +
			"Unless --no-raise is given, the release may also move the counter to base + rollback index, once it has booted as released and its slot was marked good: from then on older releases open nothing.\n" +
			"--base is what manufacture steps the counter to. It is the same for every release of a product and policy key. The same manifest and key give the same bytes, but for a key in a TPM.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			defer opener.Close()
			text, err := disk.Read(args[0], disk.MaxManifest)
			if err != nil {
				return err
			}
			m, err := release.Parse(text)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if a.PCRs, err = parseRegisters(pcrs); err != nil {
				return fmt.Errorf("--pcr: %w", err)
			}
			signer, err := opener.Signer(cmd.Context(), key)
			if err != nil {
				return err
			}
			if m, err = m.Approve(a, signer); err != nil {
				return cli.Fail(cli.Findings, "%s: %w", args[0], err)
			}
			payload, err := release.Encode(m)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if err := disk.Write(out, payload); err != nil {
				return err
			}
			p := m.IdentityPolicy
			fmt.Fprintf(cmd.OutOrStdout(), "approved %d boot states of %s %s for counters up to %d", len(p.Approvals), m.Product, m.Version, p.Approvals[0].AtMost)
			if p.Raise != nil {
				fmt.Fprintf(cmd.OutOrStdout(), ", and moving the counter to %d", p.Raise.To)
			}
			fmt.Fprintln(cmd.OutOrStdout())
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&key, "key", "", "policy key `FILE` in PEM, P-256")
	f.Uint64Var(&a.Base, "base", 0, "what manufacture steps the rollback counter to, `N` from 1")
	f.StringVar(&pcrs, "pcr", joined(release.DefaultComposite), "registers that are approved, `LIST` in ascending order")
	f.BoolVar(&a.NoRaise, "no-raise", false, "the release does not move the counter")
	f.StringVarP(&out, "output", "o", "", "write the manifest to `FILE`; may be the one that is read")
	opener.Register(f)
	for _, name := range []string{"key", "base", "output"} {
		cmd.MarkFlagRequired(name)
	}
	return cmd
}

func parseRegisters(list string) ([]int, error) {
	var all []int
	for part := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 || n >= pcr.Count || len(all) > 0 && n <= all[len(all)-1] {
			return nil, fmt.Errorf("%q: want registers 0 to %d in ascending order, such as 7,11,12", list, pcr.Count-1)
		}
		all = append(all, n)
	}
	return all, nil
}

func joined(registers []int) string {
	var parts []string
	for _, n := range registers {
		parts = append(parts, strconv.Itoa(n))
	}
	return strings.Join(parts, ",")
}
