package logs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/internal/cli"
	"ward/internal/format/ima"
	"ward/internal/format/imasig"
	"ward/internal/format/pcr"
	"ward/internal/trust/finding"
	"ward/internal/trust/measured"
)

func NewIMA() *cobra.Command {
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

--key names a file of certificates or public keys (PEM or DER) against which the
entries' signatures are verified; it may be given more than once.

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
	var keyFiles []string
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
			keys, err := readKeys(keyFiles)
			if err != nil {
				return err
			}
			sum, fs, err := readIMA(cmd, args[0], looker{bank: bank, keys: keys})
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
				console.PrintFindings(out, "Findings", fs)
			}
			if err != nil {
				return err
			}
			return console.Status(fs, !isEmpty(sum))
		},
	}
	cmd.Flags().StringVar(&bankName, "bank", pcr.SHA256.String(), "the `bank`: sha1, sha256, sha384 or sha512")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	keyFlag(cmd, &keyFiles)
	return cmd
}

func keyFlag(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringArrayVar(files, "key", nil, "verify signatures against the keys in `FILE`")
}

// maxKeyFile bounds a file of keys: a distribution's bundle has 200 KiB.
const maxKeyFile = 1 << 20

// readKeys reads the keys of all files that were given; without any it is nil.
func readKeys(files []string) (imasig.Keys, error) {
	var all imasig.Keys
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, console.Unreadable(name, err)
		}
		b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
		f.Close()
		if err == nil && len(b) > maxKeyFile {
			err = fmt.Errorf("longer than %d bytes", maxKeyFile)
		}
		var keys imasig.Keys
		if err == nil {
			keys, err = imasig.ParseKeys(b)
		}
		if err != nil {
			return nil, console.Unreadable(name, err)
		}
		all = append(all, keys...)
	}
	return all, nil
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

// looker is what a list's entries are looked at for, beside the appraisal.
type looker struct {
	bank pcr.Algorithm
	keys imasig.Keys                           // nil: signatures are not verified
	each func(ima.Entry, imasig.Results) error // nil: nobody asks
}

// readIMA reads a list once, as a stream, and lets l look at each entry. The error
// is for input that cannot be read at all: not even its first entry.
func readIMA(cmd *cobra.Command, name string, l looker) (measured.Summary, []finding.Finding, error) {
	in, err := console.OpenInput(cmd, name)
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
		return measured.Summary{}, nil, console.Unreadable(name, fmt.Errorf("at offset 0: %w", err))
	}

	beside, feed := io.Pipe()
	done := make(chan looked, 1)
	go func() {
		done <- l.look(beside)
		io.Copy(io.Discard, beside)
	}()
	sum, fs := measured.Judge(io.TeeReader(buffered, feed), measured.Against{Bank: l.bank})
	feed.Close()
	found := <-done
	if found.broken != nil && found.broken.Index == 0 {
		return sum, nil, console.Unreadable(name, found.broken)
	}
	return sum, append(append([]finding.Finding{}, fs...), found.findings...), found.err
}

type looked struct {
	findings []finding.Finding
	broken   *ima.MalformedError // what ended the reading, if that did
	err      error               // of each
}

// maxLooked bounds the findings of one kind that look makes.
const maxLooked = 64

// look goes through a list as far as it can be read. The appraisal looks at the
// bank's own hash; beyond it, look finds entries whose content is not what the
// list's hash is of (in a file nothing else tells that it was changed), and
// signatures that are not by the key that they name.
func (l looker) look(list io.Reader) looked {
	var r looked
	counts := make(map[finding.Code]int)
	find := func(e ima.Entry, code finding.Code, detail string) {
		if counts[code]++; counts[code] <= maxLooked {
			r.findings = append(r.findings, finding.New(code, detail).At(e.PCR).AtIndex(e.Index).AtOffset(e.Offset).On(e.Path))
		}
	}
	d, err := ima.NewDecoder(list)
	for err == nil {
		var e ima.Entry
		if e, err = d.Next(); err != nil {
			break
		}
		if len(e.TemplateHash) != l.bank.Size() && !e.Rehashes() {
			find(e, finding.IMAPCRDiffers, "the entry's content does not hash to the list's hash")
		}
		var results imasig.Results
		if l.each != nil || l.keys != nil {
			results = imasig.Verify(e, l.keys)
		}
		for _, one := range results.All() {
			if one.Result.State == imasig.Bad {
				find(e, finding.IMASignature, fmt.Sprintf("%s: %s", one.Name, one.Result))
			}
		}
		if l.each != nil && r.err == nil {
			r.err = l.each(e, results)
		}
	}
	errors.As(err, &r.broken)
	return r
}
