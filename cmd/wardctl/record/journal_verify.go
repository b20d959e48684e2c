package record

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/internal/agent/journal/audit"
	"ward/internal/cli"
	"ward/internal/format/chain"
	"ward/internal/format/dsse"
	"ward/internal/trust/checkpoint"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/quote"
)

// Bounds of the files beside the journal, in bytes.
const (
	maxKeyFile    = 64 << 10
	maxAnchorFile = 64 << 20 // the fleet's file of events
)

// journalReport is what "journal verify --json" prints.
type journalReport struct {
	Epoch       uint64            `json:"epoch"`
	First       uint64            `json:"first"`
	Last        uint64            `json:"last"`
	Records     int               `json:"records"`
	Shed        int               `json:"shed"` // records that lost their content for want of space
	Source      string            `json:"source"`
	Head        chain.Hash        `json:"head"`
	Checkpoints int               `json:"checkpoints"` // events that say so
	Verified    int               `json:"verified"`    // of them, by the attestation key
	Anchored    uint64            `json:"anchored"`    // the record up to which the chain is certified; 0: none
	Unanchored  uint64            `json:"unanchored"`  // records behind it
	Orderly     *journalMark      `json:"orderly,omitempty"`
	Durable     *journalMark      `json:"durable,omitempty"`
	Freshness   string            `json:"freshness"`
	Findings    []finding.Finding `json:"findings"`
}

// journalMark is the newest verified checkpoint of a counter.
type journalMark struct {
	Value  uint64 `json:"value"`
	Record uint64 `json:"record"` // its own event
}

// freshnessUnknown: a consistent older copy cannot be told from the present by
// the copy alone, nor can one that was wholly written anew.
const freshnessUnknown = "unknown: an older copy, or one written anew as a whole, would look the same; compare the head with the fleet's"

// freshnessAnchored is what checkpoints leave unknown.
const freshnessAnchored = "unknown: an older copy, or one whose end was cut off, would look the same; hold a receipt or a later checkpoint against it (--anchor)"

// journalFlags are the flags of "journal verify".
type journalFlags struct {
	ak, anchor string
	receipts   []string
	asJSON     bool
}

func newJournalVerify() *cobra.Command {
	var f journalFlags
	cmd := &cobra.Command{
		Use:   "verify DIR|FILE",
		Short: "Verify checksums, chain and checkpoints of a journal",
		Long: `Verify a journal: every record is as it was written, follows the one before it, and
comes from one device.

With --ak, the device's attestation key (a PEM public key, a TPM2B_PUBLIC or a
certificate), every checkpoint is verified too: who changed, removed or exchanged
records that the TPM has certified is found, though he could compute everything
anew.

Whether newer records once existed cannot be told from the journal alone. --anchor
holds it against what is known from elsewhere: a checkpoint event, as "wardctl
journal anchor" prints it or as it stands in the fleet's file of events (the last
one of this device counts), or a receipt of the fleet with its --receipt-key.

Exit status: 0 consistent, 1 findings, 2 it cannot be read, 3 there is no journal,
or what --anchor names cannot be held against it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	cmd.Flags().StringVar(&f.ak, "ak", "", "the device's attestation key `FILE`")
	cmd.Flags().StringVar(&f.anchor, "anchor", "", "a checkpoint or a receipt that is known from elsewhere, `FILE`")
	cmd.Flags().StringArrayVar(&f.receipts, "receipt-key", nil, "a key of the fleet that signs receipts, PEM public key `FILE`; may be given several times")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
	return cmd
}

func (f *journalFlags) run(cmd *cobra.Command, name string) error {
	var against audit.Against
	if f.ak != "" {
		b, err := console.ReadAll(cmd, f.ak, maxKeyFile)
		if err != nil {
			return err
		}
		if against.AK, err = quote.ParseKey(b); err != nil {
			return console.Unreadable(f.ak, err)
		}
	}
	v, err := readJournal(name, against, nil)
	if err != nil {
		return err
	}
	if f.anchor != "" {
		source, err := event.ParseSource(v.Source)
		if err != nil {
			return cli.Fail(cli.NotDecided, "%s: no record in it can be read, so that nothing can be held against it", name)
		}
		if against.Known, err = f.known(cmd, source, against.AK); err != nil {
			return err
		}
		if v, err = readJournal(name, against, nil); err != nil {
			return err
		}
	}
	r := f.report(name, v)
	out := cmd.OutOrStdout()
	if f.asJSON {
		err = cli.JSON(out, r)
	} else {
		f.print(out, r)
	}
	switch {
	case err != nil:
		return err
	case len(r.Findings) > 0:
		return cli.Quiet(cli.Findings)
	case against.Known != nil && !v.Reaches:
		return cli.Quiet(cli.NotDecided)
	}
	return nil
}

// known reads what the journal is held against.
func (f *journalFlags) known(cmd *cobra.Command, source event.Source, ak *ecdsa.PublicKey) (*audit.Known, error) {
	b, err := console.ReadAll(cmd, f.anchor, maxAnchorFile)
	if err != nil {
		return nil, err
	}
	var envelope struct {
		PayloadType string `json:"payloadType"`
	}
	if json.Unmarshal(b, &envelope) == nil && envelope.PayloadType != "" {
		return f.receipt(cmd, b, source)
	}
	if ak == nil {
		return nil, cli.Fail(cli.Usage, "%s: a checkpoint is verified by the device's attestation key: give it with --ak", f.anchor)
	}
	var record []byte
	for line := range bytes.Lines(b) {
		line = bytes.TrimSpace(line)
		if e, err := event.Parse(line); err == nil && e.Type == event.Checkpoint && (e.Source == source || record == nil) {
			record = line
		}
	}
	if record == nil {
		return nil, cli.Fail(cli.Usage, "%s: neither a checkpoint event nor a receipt", f.anchor)
	}
	k, err := audit.KnownCheckpoint(record, ak)
	if err != nil {
		return nil, console.Unreadable(f.anchor, err)
	}
	return k, nil
}

func (f *journalFlags) receipt(cmd *cobra.Command, envelope []byte, source event.Source) (*audit.Known, error) {
	if len(f.receipts) == 0 {
		return nil, cli.Fail(cli.Usage, "%s: a receipt is verified by the fleet's key: give it with --receipt-key", f.anchor)
	}
	var pems [][]byte
	for _, file := range f.receipts {
		b, err := console.ReadAll(cmd, file, maxKeyFile)
		if err != nil {
			return nil, err
		}
		pems = append(pems, b)
	}
	keys, err := dsse.ParseKeyring(pems...)
	if err != nil {
		return nil, cli.Fail(cli.Usage, "--receipt-key: %w", err)
	}
	k, err := audit.KnownReceipt(bytes.TrimSpace(envelope), keys, source)
	if err != nil {
		return nil, console.Unreadable(f.anchor, err)
	}
	return k, nil
}

func (f *journalFlags) report(name string, v audit.Verification) journalReport {
	r := journalReport{
		Epoch: v.Epoch, First: v.First, Last: v.Last, Records: v.Records, Shed: v.Shed, Source: v.Source, Head: v.Head,
		Checkpoints: v.Checkpoints, Verified: v.Verified, Anchored: v.Anchored, Orderly: mark(v.Orderly), Durable: mark(v.Durable),
		Freshness: freshnessUnknown, Findings: []finding.Finding{},
	}
	if v.Anchored > 0 {
		r.Unanchored, r.Freshness = v.Last-v.Anchored, freshnessAnchored
	}
	if v.Reached != "" {
		r.Freshness = v.Reached
	}
	add := func(fs ...finding.Finding) {
		for _, f := range fs {
			r.Findings = append(r.Findings, f.On(name))
		}
	}
	if v.Torn != "" {
		add(finding.New(finding.JournalTorn, v.Torn))
	}
	for _, p := range v.Problems {
		add(finding.New(finding.JournalCorrupt, p))
	}
	if v.Dropped > 0 {
		add(finding.New(finding.JournalCorrupt, fmt.Sprintf("and %d places more", v.Dropped)))
	}
	add(v.Findings...)
	if v.Untold > 0 {
		add(finding.New(finding.JournalAnchorInvalid, fmt.Sprintf("and %d findings more about checkpoints", v.Untold)))
	}
	return r
}

func mark(m *checkpoint.Mark) *journalMark {
	if m == nil {
		return nil
	}
	return &journalMark{Value: m.Value, Record: m.Record}
}

func (f *journalFlags) print(w io.Writer, r journalReport) {
	console.Row(w, "Journal", "%s, epoch %d", console.OrNothing(r.Source), r.Epoch)
	console.Row(w, "Records", "%d, from %d to %d, %d without content", r.Records, r.First, r.Last, r.Shed)
	console.Row(w, "Head", "%s", r.Head)
	console.Row(w, "Anchored", "%s", f.anchored(r))
	console.Row(w, "Freshness", "%s", r.Freshness)
	console.Row(w, "Result", "%s", journalResult(r.Findings))
	console.PrintFindings(w, "Findings", r.Findings)
}

// anchored says how far the TPM vouches for the chain.
func (f *journalFlags) anchored(r journalReport) string {
	switch {
	case f.ak == "" && r.Checkpoints == 0:
		return "not known: there is no checkpoint"
	case f.ak == "":
		return fmt.Sprintf("not known: %d checkpoints were not verified; give the device's attestation key (--ak)", r.Checkpoints)
	case r.Anchored == 0:
		return "not at all"
	}
	text := fmt.Sprintf("up to record %d", r.Anchored)
	for _, c := range []struct {
		name string
		mark *journalMark
	}{{"orderly", r.Orderly}, {"durable", r.Durable}} {
		if c.mark != nil {
			text += fmt.Sprintf(", %s counter %d", c.name, c.mark.Value)
		}
	}
	return text + fmt.Sprintf("; %d records behind it are not; %d checkpoints verified", r.Unanchored, r.Verified)
}

func journalResult(fs []finding.Finding) string {
	switch {
	case len(fs) == 0:
		return "consistent in itself"
	case finding.Worst(fs) == finding.Info:
		return "consistent in itself up to an unfinished end"
	case finding.Worst(fs) <= finding.Medium:
		return "consistent in itself, with reservations"
	}
	return "NOT consistent: changed, damaged or incomplete"
}
