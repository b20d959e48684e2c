package proof

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/cmd/wardctl/logs"
	"ward/internal/cli"
	"ward/internal/format/dsse"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/baseline"
	"ward/internal/trust/evidence"
	"ward/internal/trust/finding"
	"ward/internal/trust/quote"
	"ward/internal/trust/release"
)

// Bounds of the files beside the evidence, in bytes.
const (
	maxKey      = 64 << 10
	maxBaseline = 256 << 20 // 200,000 files and more
)

// verifyFlags are the flags of "evidence verify".
type verifyFlags struct {
	release, ak, nonce, baseline, eventLog string
	releaseKeys                            []string
	threshold                              int
	asJSON                                 bool
}

func newEvidenceVerify() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify FILE --release FILE --release-key FILE --ak FILE",
		Short: "Appraise an evidence file against a signed release",
		Long: `Appraise an evidence file against a signed release, by the rules of the device and
the fleet: the quotes are by this device's attestation key and answer the nonce,
the logs give the quoted registers, the registers hold what the release names, and
what ran is in the release.

The attestation key is a PEM public key, a TPM2B_PUBLIC, or a certificate. Without
--baseline what ran is replayed and not judged. Without --nonce the file may be an
old one: it proves what was, and not when.

FILE may be "-" for standard input.

Exit status: 0 affirming, 1 findings (warning or contraindicated), 2 a file cannot
be read at all, 3 it could not be decided: this is not a pass.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.release, "release", "", "the signed release manifest `FILE`")
	flags.StringArrayVar(&f.releaseKeys, "release-key", nil, "a release key, PEM public key `FILE`; may be given several times")
	flags.IntVar(&f.threshold, "threshold", 1, "how many release keys must have signed, `N`")
	flags.StringVar(&f.ak, "ak", "", "the device's attestation key `FILE`")
	flags.StringVar(&f.nonce, "nonce", "", "what the device was asked, `HEX`")
	flags.StringVar(&f.baseline, "baseline", "", "the release's file baseline `FILE`")
	flags.StringVar(&f.eventLog, "eventlog", "", "the event log `FILE` where the evidence names it by digest only")
	flags.BoolVar(&f.asJSON, "json", false, "print JSON")
	for _, name := range []string{"release", "release-key", "ak"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
	return cmd
}

func (f *verifyFlags) run(cmd *cobra.Command, name string) error {
	e, err := readEvidence(cmd, name)
	if err != nil {
		return err
	}
	policy := appraisal.Policy{}
	if policy.Nonce, err = parseNonce(f.nonce); err != nil {
		return err
	}
	verified, err := f.openRelease(cmd)
	if err != nil {
		return err
	}
	b, err := console.ReadAll(cmd, f.ak, maxKey)
	if err != nil {
		return err
	}
	if policy.AK, err = quote.ParseKey(b); err != nil {
		return console.Unreadable(f.ak, err)
	}
	if policy.Baseline, err = f.openBaseline(cmd, verified); err != nil {
		return err
	}
	if err := f.addEventLog(cmd, &e); err != nil {
		return err
	}
	r := appraisal.Appraise(e, verified, policy, time.Now())
	out := cmd.OutOrStdout()
	if f.asJSON {
		if r.Findings == nil {
			r.Findings = []finding.Finding{}
		}
		err = cli.JSON(out, r)
	} else {
		printAppraisal(out, e, verified, policy, r)
	}
	if err != nil {
		return err
	}
	switch r.Verdict {
	case appraisal.Affirming:
		return console.Status(r.Findings, true)
	case appraisal.None:
		return cli.Quiet(cli.NotDecided)
	}
	return cli.Quiet(cli.Findings)
}

// openRelease verifies the manifest; one that is not signed as it must be is
// input that this verb cannot judge by.
func (f *verifyFlags) openRelease(cmd *cobra.Command) (*release.Verified, error) {
	var pem []byte
	for _, file := range f.releaseKeys {
		b, err := console.ReadAll(cmd, file, maxKey)
		if err != nil {
			return nil, err
		}
		pem = append(append(pem, b...), '\n')
	}
	keys, err := dsse.ParseKeyring(pem)
	if err != nil {
		return nil, cli.Fail(cli.Usage, "--release-key: %w", err)
	}
	envelope, err := console.ReadAll(cmd, f.release, dsse.MaxSize)
	if err != nil {
		return nil, err
	}
	verified, err := release.Open(envelope, keys, max(f.threshold, 1))
	if err != nil {
		return nil, console.Unreadable(f.release, err)
	}
	return verified, nil
}

func (f *verifyFlags) openBaseline(cmd *cobra.Command, r *release.Verified) (*baseline.Index, error) {
	if f.baseline == "" {
		return nil, nil
	}
	b, err := console.ReadAll(cmd, f.baseline, maxBaseline)
	if err != nil {
		return nil, err
	}
	index, err := baseline.LoadIndex(bytes.NewReader(b), int64(len(b)), r.Manifest().Files.Digest)
	if err != nil {
		return nil, console.Unreadable(f.baseline, err)
	}
	return index, nil
}

// addEventLog puts a log into evidence that names it by digest.
func (f *verifyFlags) addEventLog(cmd *cobra.Command, e *evidence.Evidence) error {
	if f.eventLog == "" {
		if len(e.EventLogDigest) > 0 {
			e.EventLogError = "the evidence names the event log by its digest alone: give it with --eventlog"
		}
		return nil
	}
	b, err := console.ReadAll(cmd, f.eventLog, logs.MaxEventLog)
	if err != nil {
		return err
	}
	if digest := sha256.Sum256(b); len(e.EventLogDigest) > 0 && !bytes.Equal(digest[:], e.EventLogDigest) {
		return cli.Fail(cli.Usage, "%s: SHA-256 %x, the evidence names the event log %s", f.eventLog, digest, e.EventLogDigest)
	}
	if len(e.EventLog) == 0 {
		e.EventLog = b
	}
	return nil
}

// quotedDigest is the pcrDigest of the boot quote as the registers beside it give it;
// nil where there is no quote. That they do is what the appraisal decides.
func quotedDigest(e evidence.Evidence) []byte {
	_, registers, err := quote.Untrusted(quote.Quote(e.BootQuote))
	if err != nil {
		return nil
	}
	h := sha256.New()
	for _, n := range registers {
		h.Write(e.PCRs[n])
	}
	return h.Sum(nil)
}

func printAppraisal(w io.Writer, e evidence.Evidence, v *release.Verified, p appraisal.Policy, r appraisal.Result) {
	m := v.Manifest()
	console.Row(w, "Verdict", "%s: %s", strings.ToUpper(r.Verdict.String()), console.VerdictWords[r.Verdict.String()])
	console.Row(w, "Device", "%s of %s, boot %s", console.OrNothing(e.Device), console.OrNothing(e.Tenant), console.OrNothing(e.Boot))
	console.Row(w, "Release", "%s %s for %s", m.Product, m.Version, m.Board)
	freshness := "unknown: no nonce was given"
	if len(p.Nonce) > 0 && r.Claims[appraisal.ClaimQuote] == appraisal.Affirming {
		freshness = "the quotes answer this nonce"
	} else if len(p.Nonce) > 0 {
		freshness = "not shown"
	}
	console.Row(w, "Freshness", "%s", freshness)
	console.Row(w, "Seen", "%d events of the boot, %d measured files", r.Events, r.IMAEntries)
	if digest := quotedDigest(e); digest != nil {
		console.Row(w, "Quoted", "%x; the first checkpoints of this boot in the device's record name it", digest)
	}
	fmt.Fprintln(w, "\nClaims")
	for _, c := range appraisal.Claims() {
		fmt.Fprintf(w, "  %-11s %s\n", c, r.Claims[c])
	}
	fmt.Fprintln(w, "\nRegisters")
	for _, n := range slices.Sorted(maps.Keys(r.PCRs)) {
		if p := r.PCRs[n]; p.State != appraisal.Reset {
			fmt.Fprintf(w, "  %2d  %-11s %s\n", n, p.State, p.Measured)
		}
	}
	console.PrintFindings(w, "Findings", r.Findings)
}
