// Package posture is wardctl's verb about the state of the running system beside its
// files: what the daemon's collectors read (docs/posture.md), held against what the
// signed release expects. Where no daemon answers, the same collectors read here.
package posture

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"ward/cmd/wardctl/console"
	"ward/cmd/wardctl/onsite"
	"ward/internal/agent/attester"
	"ward/internal/agent/localapi"
	"ward/internal/cli"
	"ward/internal/device/dm"
	device "ward/internal/device/posture"
	"ward/internal/device/posture/privileged"
	"ward/internal/device/posture/system"
	"ward/internal/trust/finding"
	"ward/internal/trust/posture"
	"ward/internal/trust/release"
)

// How a claim stands.
const (
	expected = "expected"
	differs  = "differs"
	unread   = "not read"
	recorded = "recorded"
)

// told is what is known of the posture; its JSON is the verb's output.
type told struct {
	localapi.Posture
	Offline  bool              `json:"offline"` // read here, not by the daemon
	States   map[string]string `json:"states"`  // by claim: expected, differs, not read, recorded
	Findings []finding.Finding `json:"findings"`
}

type source struct {
	socket, config, root string
	direct               bool
}

// New makes the verb posture.
func New(socket string) *cobra.Command {
	var from source
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "posture",
		Short: "Say how this system is set: kernel, mounts, sockets, accounts, tasks, debug interfaces",
		Long: `Say how this system is set beside its files, and where that is not as the signed
release expects: kernel and boot, mounts and their protection, listening sockets
with their programs, accounts that can log in, tasks that start by themselves,
privileged files, debug interfaces, the clock, the disks. Each claim has a name, by
which the release's rules and the findings call it.

The daemon answers with its latest look. Where it does not, or with --direct, the
same is read here and now: as root all of it; of the TPM nothing. The output of
--direct --json on a golden device is what wardrelease posture makes rules of.

Exit status: 0 everything is as expected, 1 findings, 3 no release could be
verified to judge by, or nothing was read yet.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := from.ask(cmd)
			if err != nil {
				return err
			}
			t.judge()
			if asJSON {
				err = cli.JSON(cmd.OutOrStdout(), t)
			} else {
				t.print(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			return console.Status(t.Findings, t.Release.Verified && len(t.Claims) > 0)
		},
	}
	f := cmd.Flags()
	f.StringVar(&from.socket, "socket", socket, "the daemon's local `socket`")
	onsite.Flag(cmd, &from.config)
	f.BoolVar(&from.direct, "direct", false, "read here and now, also where the daemon answers")
	f.StringVar(&from.root, "root", "/", "the device's files, `DIR` where they are a copy")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// ask asks the daemon, else the collectors.
func (s *source) ask(cmd *cobra.Command) (told, error) {
	if !s.direct && s.root == "/" {
		p, err := localapi.NewClient(s.socket).Posture(cmd.Context())
		if err == nil {
			return told{Posture: p, Findings: []finding.Finding{}}, nil
		}
		if !errors.Is(err, localapi.ErrDown) {
			return told{}, console.Down(err, s.socket)
		}
	}
	on, err := onsite.Open(cmd, s.config)
	if err != nil {
		return told{}, err
	}
	t := told{Offline: true, Findings: []finding.Finding{}}
	r, found := attester.LoadRelease(on.Settings.Paths.Release, on.Settings.Paths.Trust, on.Settings.ReleaseThreshold)
	if t.Findings = append(t.Findings, found...); r != nil {
		m := r.Manifest()
		t.Release = localapi.Release{Product: m.Product, Board: m.Board, Version: m.Version, Digest: release.Digest(r.Digest()).String(), Verified: true}
		t.Policy = m.Posture
	} else {
		t.Release.Reason = "see the findings"
	}
	t.At, t.Claims = time.Now().UTC().Truncate(time.Second), s.collect(t.Policy)
	return t, nil
}

// collect reads all claims.
func (s *source) collect(policy *posture.Policy) []posture.Claim {
	root := os.DirFS(s.root)
	c := system.Config{
		Files:  sync.OnceValues(func() (privileged.Files, error) { return privileged.Walk(root) }),
		Policy: func() *posture.Policy { return policy }, TablesError: fs.ErrNotExist,
	}
	if s.root == "/" {
		c.Tables, c.TablesError = dm.Tables()
	}
	var claims []posture.Claim
	for _, one := range append(device.Kernel(), system.Collectors(c)...) {
		claims = append(claims, one.Collect(root))
	}
	return claims
}

// judge holds the claims against the release's rules and the defaults.
func (t *told) judge() {
	t.States = make(map[string]string)
	for _, c := range t.Claims {
		rule := t.Policy.RuleOf(c.Name)
		if rule == nil {
			for _, d := range posture.DefaultRules() {
				if d.Claim == c.Name {
					rule = &d
				}
			}
		}
		switch {
		case c.Error != "":
			t.States[c.Name] = unread
		case rule == nil || rule.Mode == posture.Recorded:
			t.States[c.Name] = recorded
		default:
			t.States[c.Name] = expected
		}
	}
	if len(t.Claims) == 0 {
		return
	}
	for _, j := range posture.Judgements(t.Policy, t.Claims) {
		if t.States[j.Claim] == expected {
			t.States[j.Claim] = differs
		}
		t.Findings = append(t.Findings, j.Finding)
	}
}

// shown bounds the values of a claim that stand on its lines.
const shown = 12

func (t *told) print(w io.Writer) {
	switch {
	case t.Release.Verified:
		console.Row(w, "Release", "%s %s for %s, manifest %.16s", t.Release.Product, t.Release.Version, t.Release.Board, t.Release.Digest)
		if t.Policy == nil {
			console.Row(w, "", "it expects no posture: what Ward holds for dangerous anywhere is judged, the rest recorded")
		}
	default:
		console.Row(w, "Release", "not verified: %s", console.OrNothing(t.Release.Reason))
	}
	switch {
	case len(t.Claims) == 0:
		console.Row(w, "Posture", "wardd has not looked yet: ask again in a minute")
	case t.Offline:
		console.Row(w, "Posture", "%d claims, read here", len(t.Claims))
	default:
		console.Row(w, "Posture", "%d claims, read by wardd at %s", len(t.Claims), t.At.UTC().Format("2006-01-02 15:04:05"))
	}
	console.PrintFindings(w, "Findings", t.Findings)
	if len(t.Claims) > 0 {
		fmt.Fprintln(w)
	}
	for _, c := range t.Claims {
		printClaim(w, c, t.States[c.Name])
	}
}

func printClaim(w io.Writer, c posture.Claim, state string) {
	fmt.Fprintf(w, "%-8s  %s", state, c.Name)
	switch {
	case c.Error != "":
		fmt.Fprintf(w, ": %s\n", console.Wrap(c.Error, 10))
		return
	case c.Absent:
		fmt.Fprintln(w, ": not there")
		return
	case len(c.Values)+c.More == 0:
		fmt.Fprintln(w, ": none")
		return
	case len(c.Values) == 1 && c.More == 0 && len(c.Name)+len(c.Values[0]) < 66:
		fmt.Fprintf(w, ": %s\n", c.Values[0])
		return
	}
	fmt.Fprintln(w)
	n := min(len(c.Values), shown)
	for _, v := range c.Values[:n] {
		fmt.Fprintf(w, "%10s%s\n", "", strings.TrimSpace(v))
	}
	if rest := len(c.Values) - n + c.More; rest > 0 {
		fmt.Fprintf(w, "%10sand %d more: --json has them\n", "", rest)
	}
}
