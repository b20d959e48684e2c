package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"ward/cmd/wardrelease/disk"
	"ward/internal/cli"
	"ward/internal/format/dsse"
	"ward/internal/trust/finding"
	"ward/internal/trust/release"
)

// What inspect says about the signatures.
const (
	signatureGood       = "verified"
	signatureBad        = "not valid"
	signatureNotChecked = "not checked"
)

// inspection is the result of inspect; its JSON is the verb's output.
type inspection struct {
	Signature string            `json:"signature"`
	Signers   []string          `json:"signers"`
	Threshold int               `json:"threshold"`
	Digest    string            `json:"digest,omitempty"` // of the payload
	Manifest  *release.Manifest `json:"manifest,omitempty"`
	Findings  []finding.Finding `json:"findings"`
}

func newInspect() *cobra.Command {
	var trust string
	var keyFiles []string
	var threshold int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect RELEASE.dsse",
		Short: "Show what a signed release manifest says, and whether its signatures hold",
		Long: "Show what a signed release manifest says. With release keys, its signatures are verified first, and a manifest whose signatures do not hold is not shown.\n" +
			"Without keys it is shown as an untrusted one, and the exit status is 3.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if threshold < 1 {
				return cli.Fail(cli.Usage, "--threshold %d: want at least 1", threshold)
			}
			keys, err := readKeyring(trust, keyFiles)
			if err != nil {
				return err
			}
			envelope, err := disk.Read(args[0], dsse.MaxSize)
			if err != nil {
				return err
			}
			result, status, err := inspect(envelope, keys, threshold)
			if err != nil {
				return cli.Fail(cli.Usage, "%s: %w: take the manifest from the release again", args[0], err)
			}
			if asJSON {
				err = cli.JSON(cmd.OutOrStdout(), result)
			} else {
				err = result.print(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			return cli.Quiet(status)
		},
	}
	cmd.Flags().StringVar(&trust, "trust", "", "folder `DIR` of trust anchors as on a device: keys are DIR/release/*.pem")
	cmd.Flags().StringArrayVar(&keyFiles, "key", nil, "release key `FILE` in PEM (repeatable)")
	cmd.Flags().IntVar(&threshold, "threshold", 1, "`N` distinct keys must have signed")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return cmd
}

// readKeyring reads the release keys; nil when none were named.
func readKeyring(trust string, files []string) (*dsse.Keyring, error) {
	if trust == "" && len(files) == 0 {
		return nil, nil
	}
	if trust != "" {
		dir := filepath.Join(trust, "release")
		if _, err := os.ReadDir(dir); err != nil {
			return nil, err
		}
		found, err := filepath.Glob(filepath.Join(dir, "*.pem"))
		if err != nil {
			return nil, err
		}
		files = append(slices.Clone(files), found...)
	}
	var texts [][]byte
	for _, name := range files {
		text, err := disk.Read(name, disk.MaxKey)
		if err != nil {
			return nil, err
		}
		if _, err := dsse.ParseKeyring(text); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		texts = append(texts, text)
	}
	return dsse.ParseKeyring(texts...)
}

// inspect reads an envelope. The error says that it cannot be read at all.
func inspect(envelope []byte, keys *dsse.Keyring, threshold int) (*inspection, int, error) {
	r := &inspection{Signature: signatureNotChecked, Signers: []string{}, Threshold: threshold, Findings: []finding.Finding{}}
	if keys.Len() == 0 {
		e, err := dsse.Parse(envelope)
		if err != nil {
			return nil, 0, err
		}
		if keys != nil {
			r.Findings = append(r.Findings, finding.New(finding.ReleaseNoTrust, "no key in the folder of trust anchors"))
		}
		if e.UntrustedPayloadType != release.PayloadType {
			return nil, 0, fmt.Errorf("payload type %q, want %q", e.UntrustedPayloadType, release.PayloadType)
		}
		m, err := release.Parse(e.UntrustedPayload)
		if err != nil {
			return nil, 0, err
		}
		r.show(m, sha256.Sum256(e.UntrustedPayload))
		return r, cli.NotDecided, nil
	}
	v, err := release.Open(envelope, keys, threshold)
	if errors.Is(err, dsse.ErrMalformed) {
		return nil, 0, err
	}
	if err != nil {
		r.Signature = signatureGood
		code := finding.ReleaseMalformed
		switch {
		case errors.Is(err, dsse.ErrSignature):
			r.Signature, code = signatureBad, finding.ReleaseSignature
		case errors.Is(err, dsse.ErrPayloadType), errors.Is(err, release.ErrSchema):
			code = finding.ReleaseSchema
		}
		r.Findings = append(r.Findings, finding.New(code, err.Error()))
		return r, cli.Findings, nil
	}
	r.Signature, r.Signers = signatureGood, v.Signers()
	r.show(v.Manifest(), v.Digest())
	return r, cli.Good, nil
}

func (r *inspection) show(m release.Manifest, digest [32]byte) {
	r.Manifest, r.Digest = &m, release.Digest(digest).String()
}

// print writes the result as a table.
func (r *inspection) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	switch r.Signature {
	case signatureNotChecked:
		fmt.Fprintf(t, "signature not checked: no release keys were given (--trust or --key); what follows is untrusted\n\n")
	default:
		fmt.Fprintf(t, "signature\t%s, threshold %d\n", r.Signature, r.Threshold)
	}
	for _, s := range r.Signers {
		fmt.Fprintf(t, "signer\t%s\n", s)
	}
	if m := r.Manifest; m != nil {
		fmt.Fprintf(t, "release\t%s %s on %s\n", m.Product, m.Version, m.Board)
		fmt.Fprintf(t, "digest\t%s\n", r.Digest)
		fmt.Fprintf(t, "rollback index\t%d\n", m.RollbackIndex)
		fmt.Fprintf(t, "built\t%s\n", m.BuildTime.Format("2006-01-02 15:04:05 UTC"))
		fmt.Fprintf(t, "baseline\t%s at %s\n", m.Files.Digest, m.Files.Path)
		if !m.Files.VerityRootHash.IsZero() {
			fmt.Fprintf(t, "verity root\t%s\n", m.Files.VerityRootHash)
		}
		if m.SBOM != nil {
			fmt.Fprintf(t, "SBOM\t%s\n", strings.TrimSpace(fmt.Sprintf("%s, %s %s", m.SBOM.Digest, m.SBOM.MediaType, m.SBOM.Path)))
		}
		printIdentity(t, m)
		printBoot(t, m.Boot)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(t, "\n%s\t%s\t%s\n\twhat to do\t%s\n", strings.ToUpper(f.Severity.String()), f.Code, f.Detail, f.Remedy)
	}
	return t.Flush()
}

// printIdentity says in a line each what opens with this release and from which
// releases it may be installed.
func printIdentity(t io.Writer, m *release.Manifest) {
	if p := m.IdentityPolicy; p != nil {
		moves := "the counter is not moved"
		if p.Raise != nil {
			moves = fmt.Sprintf("the counter moves to %d", p.Raise.To)
		}
		id := "unreadable"
		if key, err := p.Key(); err == nil {
			id, _ = dsse.KeyID(key.Public) // a P-256 key always has one
		}
		fmt.Fprintf(t, "identity policy\t%d boot states, counter at most %d, %s; policy key %s\n", len(p.Approvals), p.Base+m.RollbackIndex, moves, id)
	} else {
		fmt.Fprintf(t, "identity policy\tnone: nothing is bound to the boot state\n")
	}
	if m.Update == nil {
		return
	}
	for _, f := range m.Update.From {
		fmt.Fprintf(t, "update from\t%s\n", f)
	}
}

func printBoot(t io.Writer, b release.Boot) {
	fmt.Fprintf(t, "firmware\t%s\n", strings.Join(b.Firmware, ", "))
	if p := b.SecureBoot; p != nil {
		fmt.Fprintf(t, "Secure Boot\trequired %t, deployed mode %t, keys PK %d, KEK %d, db %d, least dbx %d\n",
			p.Required, p.Deployed, len(p.PK), len(p.KEK), len(p.DB), len(p.MinimumDBX))
	}
	fmt.Fprintf(t, "\nPCR\tMODE\t%s\n", strings.ToUpper(b.Bank))
	for _, n := range slices.Sorted(maps.Keys(b.PCRs)) {
		ref := b.PCRs[n]
		if ref.Mode == release.Recorded {
			fmt.Fprintf(t, "%d\t%s\t%s\n", n, ref.Mode, ref.Reason)
		}
		for _, v := range ref.Values {
			fmt.Fprintf(t, "%d\t%s\t%s\n", n, ref.Mode, v.Digest)
			if len(b.Firmware) > 1 {
				fmt.Fprintf(t, "\t\t  firmware %s\n", v.Firmware)
			}
			for _, e := range v.Events {
				fmt.Fprintf(t, "\t\t  %s %s %s\n", e.Digest, e.Type, e.Text)
			}
		}
		if ref.Mode == release.Events {
			fmt.Fprintf(t, "%d\t%s\t%d types of events\n", n, ref.Mode, len(ref.Rules))
		}
		for _, r := range ref.Rules {
			if r.Any {
				fmt.Fprintf(t, "\t\t  any %s that hashes to its digest\n", r.Type)
			}
			for _, d := range r.Digests {
				fmt.Fprintf(t, "\t\t  %s %s\n", d, r.Type)
			}
		}
		for _, e := range ref.UserEvents {
			fmt.Fprintf(t, "\t\t  %s by user space: %s\n", e.Digest, e.Text)
		}
	}
	for _, c := range b.Composites {
		fmt.Fprintf(t, "%s\tcomposite\t%s\n", list(c.PCRs), c.Digest)
	}
}
