package approval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"ward/cmd/wardrelease/disk"
	"ward/cmd/wardrelease/keys"
	"ward/internal/cli"
	"ward/internal/format/dsse"
	"ward/internal/format/pcr"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/policy"
	"ward/internal/trust/release"
)

// What is said of a signature.
const (
	good = "good"
	bad  = "not valid"
)

// maxShown bounds what is shown of a manifest that a device would refuse.
const maxShown = 1024

// shown is the result of show; its JSON is the verb's output.
type shown struct {
	Release    string            `json:"release"` // product, version, board
	Trusted    bool              `json:"trusted"` // the policy key is the one that was given
	PolicyKey  string            `json:"policyKey"`
	AuthPolicy string            `json:"authPolicy"` // of keys and secrets
	Base       uint64            `json:"base"`
	Index      uint64            `json:"rollbackIndex"`
	Approvals  []shownApproval   `json:"approvals"`
	Raise      *shownRaise       `json:"raise,omitempty"`
	Findings   []finding.Finding `json:"findings"`
}

type shownApproval struct {
	PCRs      pcr.Values `json:"pcrs"`
	AtMost    uint64     `json:"counterAtMost"`
	Digest    string     `json:"policyDigest,omitempty"`
	Signature string     `json:"signature"`
}

type shownRaise struct {
	To        uint64 `json:"to"`
	Digest    string `json:"policyDigest"`
	Signature string `json:"signature"`
}

func newShow() *cobra.Command {
	var keyFile string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show MANIFEST.json|RELEASE.dsse",
		Short: "Show what the policy key approved for a release",
		Long: "Show the identity policy of a manifest, signed or not: the approved boot states with their registers, up to which counter each works, the digest of each policy as the TPM comes to it, and whether the signature is the policy key's. The release's own signatures are not looked at: inspect does.\n" +
			"Exit status: 0 everything is signed by the key of --policy-key, 1 something is not, or there is no identity policy, 2 the manifest cannot be read, 3 without --policy-key: the signatures are checked against the key that the manifest names itself.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var trusted []byte
			if keyFile != "" {
				var err error
				if trusted, err = keys.ReadPublic(keyFile); err != nil {
					return err
				}
				if _, err := (release.IdentityPolicy{PolicyKey: trusted}).Key(); err != nil {
					return fmt.Errorf("%s: %w", keyFile, err)
				}
			}
			text, err := disk.Read(args[0], dsse.MaxSize)
			if err != nil {
				return err
			}
			s, err := show(text, trusted)
			if err != nil {
				return cli.Fail(cli.Usage, "%s: %w", args[0], err)
			}
			if asJSON {
				err = cli.JSON(cmd.OutOrStdout(), s)
			} else {
				err = s.print(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			return cli.Quiet(s.status(keyFile != ""))
		},
	}
	cmd.Flags().StringVar(&keyFile, "policy-key", "", "policy key `FILE` in PEM, as in the image's trust/policy folder")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return cmd
}

func (s *shown) status(keyGiven bool) int {
	switch {
	case len(s.Findings) > 0:
		return cli.Findings
	case !keyGiven:
		return cli.NotDecided
	}
	return cli.Good
}

// show reads a manifest or an envelope. What a device would refuse is shown all
// the same, with the reason. The error says that it cannot be read at all.
func show(text, trusted []byte) (*shown, error) {
	if e, err := dsse.Parse(text); err == nil {
		if e.UntrustedPayloadType != release.PayloadType {
			return nil, fmt.Errorf("payload type %q, want %q", e.UntrustedPayloadType, release.PayloadType)
		}
		text = e.UntrustedPayload
	}
	_, refused := release.Parse(text)
	if errors.Is(refused, release.ErrSchema) {
		return nil, refused
	}
	var m release.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("parse manifest: %w", err)
	}
	s := &shown{Release: fmt.Sprintf("%s %s on %s", m.Product, m.Version, m.Board), Index: m.RollbackIndex, Approvals: []shownApproval{}, Findings: []finding.Finding{}}
	fail := func(format string, a ...any) {
		s.Findings = append(s.Findings, finding.New(finding.ReleaseMalformed, fmt.Sprintf(format, a...)))
	}
	if refused != nil {
		fail("a device would refuse it: %v", refused)
	}
	p := m.IdentityPolicy
	if p == nil {
		fail("it has no identity policy: nothing of this release opens what is bound to the boot state; wardrelease policy sign makes one")
		return s, nil
	}
	if len(p.Approvals) > maxShown {
		return nil, fmt.Errorf("%d approvals, at most %d are looked at", len(p.Approvals), maxShown)
	}
	s.Base = p.Base
	if trusted != nil {
		s.Trusted = bytes.Equal(trusted, p.PolicyKey)
		if !s.Trusted {
			fail("the manifest names another policy key than the one given")
		}
	} else {
		trusted = p.PolicyKey
	}
	key, err := (release.IdentityPolicy{PolicyKey: trusted}).Key()
	if err != nil {
		return s, nil // refused says so
	}
	s.fill(p, key)
	return s, nil
}

// fill appraises each signature against a key.
func (s *shown) fill(p *release.IdentityPolicy, key policy.Key) {
	s.PolicyKey, _ = dsse.KeyID(key.Public) // a P-256 key always has one
	s.AuthPolicy = hexOf(policy.BootPolicy(key))
	for _, a := range p.Approvals {
		row := shownApproval{PCRs: a.Values, AtMost: a.AtMost, Signature: said(a.Verify(key))}
		if d, err := a.Digest(key); err == nil {
			row.Digest = hexOf(d)
		}
		s.Approvals = append(s.Approvals, row)
	}
	if p.Raise != nil {
		s.Raise = &shownRaise{To: p.Raise.To, Digest: hexOf(p.Raise.Digest(key)), Signature: said(p.Raise.Verify(key))}
	}
}

func hexOf(d policy.Digest) string { return pcr.Digest(d[:]).String() }

func said(err error) string {
	if err != nil {
		return bad
	}
	return good
}

func (s *shown) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "release\t%s\n", event.Visible(s.Release))
	if s.PolicyKey != "" {
		who := "as the manifest names it; not checked against one that is trusted (--policy-key)"
		if s.Trusted {
			who = "the one given"
		}
		fmt.Fprintf(t, "policy key\t%s, %s\n", s.PolicyKey, who)
		fmt.Fprintf(t, "bound objects\tauthPolicy %s\n", s.AuthPolicy)
		fmt.Fprintf(t, "counter\tbase %d, rollback index %d\n", s.Base, s.Index)
	}
	for i, a := range s.Approvals {
		fmt.Fprintf(t, "\nboot state %d\tsignature %s, counter at most %d\n\tpolicy %s\n", i+1, a.Signature, a.AtMost, a.Digest)
		for _, n := range slices.Sorted(maps.Keys(a.PCRs)) {
			fmt.Fprintf(t, "\tPCR %d %s\n", n, a.PCRs[n])
		}
	}
	if s.Raise != nil {
		fmt.Fprintf(t, "\nraise to %d\tsignature %s\n\tpolicy %s\n", s.Raise.To, s.Raise.Signature, s.Raise.Digest)
	}
	for _, f := range s.Findings {
		fmt.Fprintf(t, "\n%s\t%s\n", f.Code, event.Visible(f.Detail))
	}
	return t.Flush()
}
