package running

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ward/cmd/wardrelease/disk"
	"ward/internal/cli"
	"ward/internal/trust/posture"
	"ward/internal/trust/profile"
)

// NewPosture makes the verb posture.
func NewPosture() *cobra.Command {
	var rules []string
	var rootHash, out string
	var every int
	cmd := &cobra.Command{
		Use:   "posture CLAIMS.json... -o FILE",
		Short: "Make rules about the running system from what golden devices say of theirs",
		Long: "Make the rules by which devices of a release judge how they are set, from what one or several golden devices say (wardctl posture --direct --json, as root, on each).\n" +
			"What is the same on all must be equal; sets that vary must lie within what was seen; what has another value on each device, or could not be read, is recorded. --rule decides otherwise.\n" +
			"The dm-verity root hash of the golden devices is written as @root-hash@: build puts in that of its release.\n" +
			"A file that ends in .toml is the [posture] table of a board profile; any other is JSON. build takes both.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			modes, err := parseModes(rules)
			if err != nil {
				return err
			}
			var devices [][]posture.Claim
			for _, name := range args {
				claims, err := readClaims(name)
				if err != nil {
					return err
				}
				devices = append(devices, claims)
			}
			hash, err := goldenHash(rootHash, devices)
			if err != nil {
				return err
			}
			p, notes, err := profile.LearnPosture(devices, modes, hash)
			if errors.Is(err, profile.ErrPosture) {
				return cli.Fail(cli.Findings, "%w", err)
			}
			if err != nil {
				return err
			}
			p.EverySeconds = every
			if err := p.Check(); err != nil {
				return err
			}
			if err := disk.Write(out, encode(p, filepath.Ext(out) == ".toml")); err != nil {
				return err
			}
			judged := 0
			for _, r := range p.Rules {
				if r.Mode != posture.Recorded {
					judged++
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "rules about %d claims of %d devices: %d judged, %d recorded\n", len(p.Rules), len(devices), judged, len(p.Rules)-judged)
			for _, n := range notes {
				fmt.Fprintf(cmd.OutOrStdout(), "  %s\n", n)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&rules, "rule", nil, "how a claim is judged instead, `CLAIM=MODE`: equal, within, contains or recorded (repeatable)")
	f.StringVar(&rootHash, "verity-root-hash", "", "dm-verity root hash of the golden devices' release in `HEX` (default: that of their only verified volume)")
	f.IntVar(&every, "every", 0, "`SECONDS` between two looks (default 900)")
	f.StringVarP(&out, "output", "o", "", "write the rules to `FILE`")
	cmd.MarkFlagRequired("output")
	return cmd
}

func parseModes(rules []string) (map[string]posture.Mode, error) {
	modes := make(map[string]posture.Mode)
	for _, text := range rules {
		name, mode, ok := strings.Cut(text, "=")
		if _, known := posture.Lookup(name); !ok || !known {
			return nil, fmt.Errorf("--rule %q: want CLAIM=MODE, with a claim of docs/posture.md", text)
		}
		switch m := posture.Mode(mode); m {
		case posture.Equal, posture.Within, posture.Contains, posture.Recorded:
			modes[name] = m
		default:
			return nil, fmt.Errorf("--rule %q: want the mode equal, within, contains or recorded", text)
		}
	}
	return modes, nil
}

// readClaims reads the output of wardctl posture --json. What else is in it is no
// matter here.
func readClaims(name string) ([]posture.Claim, error) {
	b, err := disk.Read(name, maxClaims)
	if err != nil {
		return nil, err
	}
	var told struct {
		Claims []posture.Claim `json:"claims"`
	}
	if err := json.Unmarshal(b, &told); err != nil {
		return nil, fmt.Errorf("%s: %w: want the output of wardctl posture --direct --json", name, err)
	}
	if len(told.Claims) == 0 {
		return nil, fmt.Errorf("%s: no claims: want the output of wardctl posture --direct --json", name)
	}
	seen := make(map[string]bool)
	for _, c := range told.Claims {
		if _, known := posture.Lookup(c.Name); !known || seen[c.Name] {
			return nil, fmt.Errorf("%s: claim %.80q is not known, or stands twice", name, c.Name)
		}
		seen[c.Name] = true
	}
	return told.Claims, nil
}

// goldenHash is the root hash that stands for that of the release; none where it is
// not told and the devices have not one verified volume.
func goldenHash(told string, devices [][]posture.Claim) ([]byte, error) {
	if told != "" {
		hash, err := hex.DecodeString(told)
		if err != nil || len(hash) != 32 {
			return nil, fmt.Errorf("--verity-root-hash: want 64 hexadecimal digits")
		}
		return hash, nil
	}
	for _, c := range devices[0] {
		if c.Name != posture.DMVerity || len(c.Values) != 1 {
			continue
		}
		for _, word := range strings.Fields(c.Values[0]) {
			if digits, ok := strings.CutPrefix(word, "sha256:"); ok {
				if hash, err := hex.DecodeString(digits); err == nil {
					return hash, nil
				}
			}
		}
	}
	return nil, nil
}

// encode writes a policy as JSON, or as the table of a board profile. A policy is
// strings and numbers, which can always be written.
func encode(p posture.Policy, asTOML bool) []byte {
	if !asTOML {
		b, err := json.MarshalIndent(p, "", "  ")
		if err != nil {
			panic(err)
		}
		return append(b, '\n')
	}
	var b strings.Builder
	b.WriteString("[posture]\n")
	if p.EverySeconds > 0 {
		fmt.Fprintf(&b, "everySeconds = %d\n", p.EverySeconds)
	}
	for _, r := range p.Rules {
		fmt.Fprintf(&b, "\n[[posture.rules]]\nclaim = %s\nmode = %s\n", quoted(r.Claim), quoted(string(r.Mode)))
		if r.Optional {
			b.WriteString("optional = true\n")
		}
		if len(r.Values) > 0 {
			b.WriteString("values = [\n")
			for _, v := range r.Values {
				fmt.Fprintf(&b, "  %s,\n", quoted(v))
			}
			b.WriteString("]\n")
		}
	}
	return []byte(b.String())
}

// quoted is a basic string of TOML 1.0: what Go writes for printable text is one,
// and rules hold no control characters.
func quoted(s string) string { return strconv.Quote(s) }
