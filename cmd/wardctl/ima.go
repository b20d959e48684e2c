package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"ward/internal/cli"
	"ward/internal/format/ima"
	"ward/internal/format/pcr"
	"ward/internal/trust/finding"
	"ward/internal/trust/measured"
)

func newIMA() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ima",
		Short: "Read the kernel's measurement list from a file",
		Long: `Read the kernel's measurement list from a file, on any machine, in its binary or
its ASCII form. On a device it is /sys/kernel/security/ima/binary_runtime_measurements.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newIMAReplay(), newIMAShow())
	return cmd
}

const imaStatus = `

FILE may be "-" for standard input.

Exit status: 0 nothing is wrong with the list itself, 1 findings, 2 the file is no
IMA list, 3 the list is empty.`

// imaReport is what "ima replay --json" prints.
type imaReport struct {
	Bank       string            `json:"bank"`
	Entries    int               `json:"entries"`
	Violations int               `json:"violations"`
	PCR        pcr.Digest        `json:"pcr"`
	Findings   []finding.Finding `json:"findings"`
}

func newIMAReplay() *cobra.Command {
	var asJSON bool
	var bankName string
	cmd := &cobra.Command{
		Use:   "replay FILE",
		Short: "Compute the PCR 10 that a measurement list gives",
		Long: `Compute the PCR 10 that a measurement list gives, and say what is wrong with the
list itself. Whether the TPM held this value only the device can tell.` + imaStatus,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			bank, err := parseBank(bankName)
			if err != nil {
				return err
			}
			sum, fs, err := readIMA(cmd, args[0], bank, nil)
			if err != nil {
				return err
			}
			r := imaReport{bank.String(), sum.Entries, sum.Violations, sum.Replayed, fs}
			if r.PCR == nil {
				r.PCR = pcr.ResetValue(bank, ima.Register)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				err = cli.JSON(out, r)
			} else {
				fmt.Fprintf(out, "%d entries, %d violations\n%s PCR %d  %s\n", r.Entries, r.Violations, r.Bank, ima.Register, r.PCR)
				printFindings(out, "Findings", fs)
			}
			if err != nil {
				return err
			}
			return errStatus(fs, !isEmpty(sum))
		},
	}
	cmd.Flags().StringVar(&bankName, "bank", pcr.SHA256.String(), "the `bank`: sha1, sha256, sha384 or sha512")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func parseBank(name string) (pcr.Algorithm, error) {
	a, err := pcr.ParseAlgorithm(name)
	if err == nil && a.New() == nil {
		err = fmt.Errorf("bank %s cannot be computed here", a)
	}
	if err != nil {
		return 0, cli.Fail(cli.Usage, "--bank: %w", err)
	}
	return a, nil
}

func isEmpty(sum measured.Summary) bool { return sum.Whole && sum.Entries == 0 }

// readIMA reads a list once, as a stream, and gives each entry to each, if
// there is one. The error is for input that cannot be read at all.
func readIMA(cmd *cobra.Command, name string, bank pcr.Algorithm, each func(ima.Entry) error) (measured.Summary, []finding.Finding, error) {
	in, err := openInput(cmd, name)
	if err != nil {
		return measured.Summary{}, nil, err
	}
	defer in.Close()
	buffered := bufio.NewReader(in)
	begin, err := buffered.Peek(512)
	if err == nil || errors.Is(err, io.EOF) {
		_, err = ima.NewDecoder(bytes.NewReader(begin))
	}
	if err != nil {
		return measured.Summary{}, nil, unreadable(name, fmt.Errorf("at offset 0: %w", err))
	}

	beside, feed := io.Pipe()
	done := make(chan lookResult, 1)
	go func() {
		done <- look(beside, bank, each)
		io.Copy(io.Discard, beside)
	}()
	sum, fs := measured.Judge(io.TeeReader(buffered, feed), measured.Against{Bank: bank})
	feed.Close()
	looked := <-done
	return sum, append(append([]finding.Finding{}, fs...), looked.findings...), looked.err
}

type lookResult struct {
	findings []finding.Finding
	err      error
}

// maxDiffering bounds the findings about entries that differ from their hash.
const maxDiffering = 64

// look goes through a list as far as it can be read. The appraisal looks at the
// bank's own hash; beyond it, look finds entries whose content is not what the
// list's hash is of: in a file nothing else tells that it was changed.
func look(list io.Reader, bank pcr.Algorithm, each func(ima.Entry) error) lookResult {
	var r lookResult
	d, err := ima.NewDecoder(list)
	for err == nil {
		var e ima.Entry
		if e, err = d.Next(); err != nil {
			break
		}
		if len(e.TemplateHash) != bank.Size() && !e.Rehashes() && len(r.findings) < maxDiffering {
			r.findings = append(r.findings, finding.New(finding.IMAPCRDiffers, "the entry's content does not hash to the list's hash").
				At(e.PCR).AtIndex(e.Index).AtOffset(e.Offset))
		}
		if each != nil && r.err == nil {
			r.err = each(e)
		}
	}
	return r
}

// entryReport is one entry in what "ima show --json" prints.
type entryReport struct {
	Index        int            `json:"index"`
	Offset       int64          `json:"offset"`
	PCR          int            `json:"pcr"`
	TemplateHash pcr.Digest     `json:"templateHash"`
	Template     string         `json:"template"`
	Digest       ima.FileDigest `json:"digest"`
	Path         string         `json:"path"`
	Signature    pcr.Digest     `json:"signature,omitempty"`
	ModSignature pcr.Digest     `json:"modSignature,omitempty"`
	Buffer       pcr.Digest     `json:"buffer,omitempty"`
	Data         pcr.Digest     `json:"data"`
	Rehashes     bool           `json:"rehashes"` // the data hash to the template hash
	Violation    bool           `json:"violation"`
}

func newIMAShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "List a measurement list for people",
		Long:  `List a measurement list for people.` + imaStatus,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := bufio.NewWriter(cmd.OutOrStdout())
			show := entryTable(out)
			if asJSON {
				show = entryJSON(out)
			}
			sum, fs, err := readIMA(cmd, args[0], pcr.SHA256, show)
			if err != nil {
				return err
			}
			if asJSON {
				err = endEntryJSON(out, sum, fs)
			} else {
				printFindings(out, "Findings", fs)
			}
			if err := errors.Join(err, out.Flush()); err != nil {
				return err
			}
			return errStatus(fs, !isEmpty(sum))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON with all fields")
	return cmd
}

func entryTable(w io.Writer) func(ima.Entry) error {
	return func(e ima.Entry) error {
		if e.Index == 0 {
			fmt.Fprintf(w, "%6s %3s  %-10s  %-19s  %s\n", "#", "PCR", "TEMPLATE", "FILE DIGEST", "PATH")
		}
		digest := e.Digest.Digest
		_, err := fmt.Fprintf(w, "%6d %3d  %-10s  %-19s  %s%s\n", e.Index, e.PCR, e.Template,
			e.Digest.Algorithm+":"+digest[:min(shownDigest, len(digest))].String(), quoted(e.Path), mark(e))
		return err
	}
}

func mark(e ima.Entry) string {
	switch {
	case e.Violation:
		return "  VIOLATION"
	case !e.Rehashes():
		return "  DIFFERS FROM ITS HASH"
	}
	return ""
}

// quoted is a name as it is, or quoted where a terminal would not show it so.
func quoted(name string) string {
	if q := fmt.Sprintf("%q", name); strings.Trim(q, `"`) != name {
		return q
	}
	return name
}

// entryJSON writes the entries of a JSON object as they come, so that memory
// does not grow with the list; endEntryJSON writes the rest.
func entryJSON(w io.Writer) func(ima.Entry) error {
	separator := "{\n  \"entries\": [\n    "
	return func(e ima.Entry) error {
		b, err := json.Marshal(entryReport{
			Index: e.Index, Offset: e.Offset, PCR: e.PCR, TemplateHash: e.TemplateHash, Template: e.Template,
			Digest: e.Digest, Path: e.Path, Signature: e.Signature, ModSignature: e.ModSignature, Buffer: e.Buffer,
			Data: e.Data, Rehashes: e.Rehashes(), Violation: e.Violation,
		})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s%s", separator, b)
		separator = ",\n    "
		return err
	}
}

func endEntryJSON(w io.Writer, sum measured.Summary, fs []finding.Finding) error {
	if sum.Entries == 0 {
		fmt.Fprint(w, "{\n  \"entries\": [")
	}
	b, err := json.MarshalIndent(fs, "  ", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\n  ],\n  \"violations\": %d,\n  \"findings\": %s\n}\n", sum.Violations, b)
	return err
}
