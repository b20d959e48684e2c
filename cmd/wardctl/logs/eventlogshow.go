package logs

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/internal/cli"
	"ward/internal/format/bootevent"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/trust/event"
	"ward/internal/trust/finding"
	"ward/internal/trust/secureboot"
)

// eventReport is one event in what "eventlog show --json" prints.
type eventReport struct {
	Index    int                   `json:"index"`
	Offset   int64                 `json:"offset"`
	PCR      int                   `json:"pcr"`
	Type     eventlog.EventType    `json:"type"`
	Digests  map[string]pcr.Digest `json:"digests"`
	Rehashes map[string]bool       `json:"rehashes"` // the data hash to the digest
	Data     pcr.Digest            `json:"data"`
	Text     string                `json:"text"`
	Decoded  bootevent.Decoded     `json:"decoded"` // kind, what the digest is of, fields
}

// showReport is what "eventlog show --json" prints.
type showReport struct {
	CryptoAgile     bool                     `json:"cryptoAgile"`
	Spec            eventlog.SpecID          `json:"spec"`
	Algorithms      []eventlog.AlgorithmSize `json:"algorithms"`
	StartupLocality *uint8                   `json:"startupLocality"`
	Bank            string                   `json:"bank"`       // that secureBoot was told from; "" for none
	SecureBoot      secureboot.State         `json:"secureBoot"` // by the log; that it gives the TPM's PCR 7 is not known here
	Events          []eventReport            `json:"events"`
	Anomalies       []eventlog.Anomaly       `json:"anomalies"`
	Findings        []finding.Finding        `json:"findings"`
}

func newEventLogShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "List an event log for people",
		Long: `List an event log for people, below a summary. What an event says about itself is
marked "untrusted:" where no digest vouches for it, and "untrusted label" where
the digest is of what stands behind the first words alone. The state of Secure
Boot is what the log shows; whether it gives the PCR 7 that the TPM held only the
device can tell.` + eventLogStatus,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			log, fs, err := readEventLog(cmd, args[0])
			if err != nil {
				return err
			}
			if log == nil {
				log = &eventlog.Log{}
			}
			out := cmd.OutOrStdout()
			if asJSON {
				err = cli.JSON(out, newShowReport(log, fs))
			} else {
				printSummary(out, log)
				printEvents(out, log)
				console.PrintFindings(out, "Findings", fs)
			}
			if err != nil {
				return err
			}
			return console.Status(fs, len(log.Events) > 0)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON with all fields")
	return cmd
}

func newShowReport(log *eventlog.Log, fs []finding.Finding) showReport {
	r := showReport{
		CryptoAgile: log.CryptoAgile, Spec: log.Spec, StartupLocality: log.StartupLocality,
		Algorithms: append([]eventlog.AlgorithmSize{}, log.Algorithms...),
		Events:     make([]eventReport, 0, len(log.Events)),
		Anomalies:  append([]eventlog.Anomaly{}, log.Anomalies...),
		Findings:   fs,
	}
	bank, known := judgedBank(log)
	if known {
		r.Bank = bank.String()
	}
	r.SecureBoot = secureboot.Derive(log, bank)
	for _, e := range log.Events {
		v := eventReport{
			Index: e.Index, Offset: e.Offset, PCR: e.PCR, Type: e.Type,
			Digests: make(map[string]pcr.Digest), Rehashes: make(map[string]bool),
			Data: append(pcr.Digest{}, e.Data...), Decoded: bootevent.Decode(e),
		}
		v.Text = v.Decoded.Describe()
		for _, d := range slices.Backward(e.Digests) { // of two, the first counts
			v.Digests[d.Algorithm.String()] = d.Digest
			v.Rehashes[d.Algorithm.String()] = e.Rehashes(d.Algorithm)
		}
		r.Events = append(r.Events, v)
	}
	return r
}

// judgedBank is the bank that Secure Boot is told from: sha256 where the log has
// it, else the last that can be computed; false where there is none.
func judgedBank(log *eventlog.Log) (bank pcr.Algorithm, ok bool) {
	for _, a := range log.Algorithms {
		if a.Algorithm.Size() > 0 && bank != pcr.SHA256 {
			bank = a.Algorithm
		}
	}
	return bank, bank != 0
}

// printSummary says what a reader wants to know first.
func printSummary(w io.Writer, log *eventlog.Log) {
	if len(log.Events) == 0 {
		return
	}
	form := "SHA-1"
	if log.CryptoAgile {
		form = "crypto-agile"
	}
	names := make([]string, 0, len(log.Algorithms))
	for _, a := range log.Algorithms {
		names = append(names, a.Algorithm.String())
	}
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s %s\n", name, console.Wrap(event.Visible(fmt.Sprintf(format, args...)), len("secure boot  ")))
	}
	line("log", "%s, events %d", form, len(log.Events))
	line("banks", "%s", strings.Join(names, ", "))
	if log.StartupLocality != nil {
		line("started", "at locality %d", *log.StartupLocality)
	}
	bank, _ := judgedBank(log)
	s := secureboot.Derive(log, bank)
	line("secure boot", "%s", secureBootText(s))
	for _, a := range s.Authorities {
		line("started by", "%s %s", a.Variable, a.Key)
	}
	if s.Shim.SBAT.Measured || s.Shim.Insecure.Measured {
		line("shim", "SBAT level %s, verifies nothing: %s", console.OrNothing(s.Shim.SBAT.Date), s.Shim.Insecure)
	}
	for _, p := range s.Problems {
		line("not known", "%s", p.Detail)
	}
	fmt.Fprintln(w)
}

// secureBootText is the state in one line.
func secureBootText(s secureboot.State) string {
	text := s.Enabled.String()
	for _, m := range []struct {
		name string
		s    secureboot.Switch
	}{{"setup mode", s.SetupMode}, {"audit mode", s.AuditMode}, {"deployed mode", s.DeployedMode}, {"firmware debugger", s.Debugger}} {
		if m.s.Measured {
			text += ", " + m.name + " " + m.s.String()
		}
	}
	for _, v := range []struct {
		name string
		k    secureboot.Keys
	}{{"PK", s.PK}, {"KEK", s.KEK}, {"db", s.DB}, {"dbx", s.DBX}} {
		if v.k.Measured {
			text += fmt.Sprintf(", %s %d", v.name, len(v.k.Keys))
		}
	}
	return text
}

// shownDigest is how many bytes of a digest the table has room for.
const shownDigest = 6

func printEvents(w io.Writer, log *eventlog.Log) {
	if len(log.Events) == 0 {
		return
	}
	fmt.Fprintf(w, "%4s %3s  %-12s  %-32s %s\n", "#", "PCR", "DIGEST", "TYPE", "WHAT")
	for _, e := range log.Events {
		digest := ""
		if n := len(e.Digests); n > 0 {
			longest := e.Digests[n-1].Digest
			digest = longest[:min(shownDigest, len(longest))].String()
		}
		fmt.Fprintf(w, "%4d %3d  %-12s  %-32s %s\n", e.Index, e.PCR, digest, strings.TrimPrefix(e.Type.String(), "EV_"), bootevent.Describe(e))
	}
}
