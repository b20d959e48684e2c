package logs

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/internal/format/ima"
	"ward/internal/format/imasig"
	"ward/internal/format/pcr"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/measured"
)

// entryReport is one entry in what "ima show --json" prints.
type entryReport struct {
	Index        int             `json:"index"`
	Offset       int64           `json:"offset"`
	PCR          int             `json:"pcr"`
	TemplateHash pcr.Digest      `json:"templateHash"`
	Template     string          `json:"template"`
	Digest       ima.FileDigest  `json:"digest"`
	Path         string          `json:"path"`
	Signature    pcr.Digest      `json:"signature,omitempty"`
	ModSignature pcr.Digest      `json:"modSignature,omitempty"`
	Buffer       pcr.Digest      `json:"buffer,omitempty"`
	Content      *contentReport  `json:"content,omitempty"` // of a buffer
	Signatures   *imasig.Results `json:"signatures,omitempty"`
	Inode        *ima.Inode      `json:"inode,omitempty"`  // of evm-sig
	Fields       []ima.Field     `json:"fields,omitempty"` // where there are others than those above
	Data         pcr.Digest      `json:"data"`
	Rehashes     bool            `json:"rehashes"` // the data hash to the template hash
	Violation    bool            `json:"violation"`
}

// contentReport is a measured buffer, read.
type contentReport struct {
	ima.Content
	Certificate *certificateReport `json:"certificate,omitempty"`
}

// certificateReport is a key's certificate.
type certificateReport struct {
	Subject string     `json:"subject"`
	Issuer  string     `json:"issuer"`
	Serial  string     `json:"serial"` // hexadecimal
	SHA256  pcr.Digest `json:"sha256"` // of the whole certificate
}

func newIMAShow() *cobra.Command {
	var asJSON bool
	var keyFiles []string
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "List a measurement list for people",
		Long: `List a measurement list for people: files, what the kernel measured beside them
(keys, command lines, critical data), and what their signatures are worth.` + imaStatus,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := readKeys(keyFiles)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			show := entryTable(out, len(keys) > 0)
			if asJSON {
				show = entryJSON(out)
			}
			sum, fs, err := readIMA(cmd, args[0], looker{bank: pcr.SHA256, keys: keys, each: show})
			if err != nil {
				return err
			}
			if asJSON {
				err = endEntryJSON(out, sum, fs)
			} else {
				console.PrintFindings(out, "Findings", fs)
			}
			if err := errors.Join(err, out.Flush()); err != nil {
				return err
			}
			return console.Status(fs, !isEmpty(sum))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON with all fields")
	keyFlag(cmd, &keyFiles)
	return cmd
}

// entryTable writes a line for each entry, and beneath it what a buffer holds and
// what signatures are worth. Names of the list are quoted where a terminal would
// not show them as they are.
func entryTable(w io.Writer, keys bool) func(ima.Entry, imasig.Results) error {
	return func(e ima.Entry, signatures imasig.Results) error {
		if e.Index == 0 {
			fmt.Fprintf(w, "%6s %3s  %-10s  %-19s  %s\n", "#", "PCR", "TEMPLATE", "FILE DIGEST", "PATH")
		}
		digest := e.Digest.Digest
		_, err := fmt.Fprintf(w, "%6d %3d  %-10s  %-19s  %s%s\n", e.Index, e.PCR, quoted(e.Template),
			quoted(e.Digest.Algorithm)+":"+digest[:min(shownDigest, len(digest))].String(), quoted(e.Path), mark(e))
		for _, line := range slices.Concat(contentLines(e), inodeLines(e), signatureLines(signatures, keys)) {
			fmt.Fprintf(w, "%*s%s\n", entryIndent, "", console.Wrap(event.Visible(line), entryIndent))
		}
		return err
	}
}

// entryIndent is where the table's second column begins.
const entryIndent = 7

// maxShownLine bounds what is shown of a buffer, in bytes; all of it is in the JSON.
const maxShownLine = 2000

// contentLines are what a buffer holds. What does not hash to the entry's digest
// is marked: the kernel writes no such entry.
func contentLines(e ima.Entry) []string {
	c, ok := e.Content()
	if !ok {
		return nil
	}
	line := c.Kind.String() + ": "
	switch {
	case c.Certificate != nil:
		line += fmt.Sprintf("%s, serial %x", c.Certificate.Subject, c.Certificate.SerialNumber)
	case c.Text != "":
		line += c.Text[:min(len(c.Text), maxShownLine)]
	default:
		line += fmt.Sprintf("%d bytes", len(e.Buffer))
	}
	if !c.Rehashes {
		line += " (DOES NOT HASH TO THE ENTRY'S DIGEST)"
	}
	return []string{line}
}

func inodeLines(e ima.Entry) []string {
	i, ok := e.Inode()
	if !ok {
		return nil
	}
	return []string{fmt.Sprintf("owner %d:%d, mode %06o, attributes %s", i.UID, i.GID, i.Mode, strings.Join(i.Attributes, " "))}
}

func signatureLines(signatures imasig.Results, keys bool) []string {
	var lines []string
	for _, one := range signatures.All() {
		switch s := one.Result; {
		case s.State == imasig.None:
		case s.State == imasig.UnknownKey && !keys:
			lines = append(lines, fmt.Sprintf("%s: of key %s, not verified (no --key)", one.Name, s.KeyID))
		default:
			lines = append(lines, one.Name+": "+s.String())
		}
	}
	return lines
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
func entryJSON(w io.Writer) func(ima.Entry, imasig.Results) error {
	separator := "{\n  \"entries\": [\n    "
	return func(e ima.Entry, signatures imasig.Results) error {
		r := entryReport{
			Index: e.Index, Offset: e.Offset, PCR: e.PCR, TemplateHash: e.TemplateHash, Template: e.Template,
			Digest: e.Digest, Path: e.Path, Signature: e.Signature, ModSignature: e.ModSignature, Buffer: e.Buffer,
			Data: e.Data, Rehashes: e.Rehashes(), Violation: e.Violation, Content: reportContent(e),
		}
		if signatures != (imasig.Results{}) {
			r.Signatures = &signatures
		}
		if i, ok := e.Inode(); ok {
			r.Inode, r.Fields = &i, e.Fields()
		}
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s%s", separator, b)
		separator = ",\n    "
		return err
	}
}

func reportContent(e ima.Entry) *contentReport {
	c, ok := e.Content()
	if !ok {
		return nil
	}
	r := &contentReport{Content: c}
	if x := c.Certificate; x != nil {
		r.Certificate = &certificateReport{
			Subject: x.Subject.String(), Issuer: x.Issuer.String(),
			Serial: fmt.Sprintf("%x", x.SerialNumber), SHA256: pcr.SHA256.Sum(x.Raw),
		}
	}
	return r
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
