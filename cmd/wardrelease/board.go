package main

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"

	"ward/cmd/wardrelease/disk"
	"ward/cmd/wardrelease/running"
	"ward/internal/format/pcr"
	"ward/internal/trust/profile"
	"ward/internal/trust/release"
)

// maxBoard bounds a board profile.
const maxBoard = 256 << 10

// boardFlags say which board it is and how it judges its registers.
type boardFlags struct {
	file, name string
	pcrs       []string
}

func (b *boardFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&b.file, "board", "", "board profile, `FILE` board.toml: name, [[pcr]] tables, [posture] and [watch]")
	f.StringVar(&b.name, "board-name", "", "`NAME` of the board, where there is no profile")
	f.StringArrayVar(&b.pcrs, "pcr", nil, "how registers are judged instead of as the profile says, `LIST` of N=exact, N=events or N=recorded:REASON")
	cmd.MarkFlagsOneRequired("board", "board-name")
}

// board is what the flags say.
type board struct {
	name, product string
	rules         map[int]profile.Rule
	running       running.Tables
}

func (b *boardFlags) read() (board, error) {
	out := board{rules: profile.DefaultRules()}
	if b.file != "" {
		var err error
		if out, err = readBoard(b.file); err != nil {
			return board{}, err
		}
	}
	if b.name != "" {
		out.name = b.name
	}
	if len(b.pcrs) > 0 {
		var err error
		if out.rules, err = parseRules(b.pcrs); err != nil {
			return board{}, err
		}
	}
	return out, nil
}

// boardProfile is the part of a board.toml that a release is made from; the
// rest of the profile is for those who build the image.
type boardProfile struct {
	Name    string `toml:"name"`
	Product string `toml:"product"`
	PCRs    []struct {
		Index  int      `toml:"index"`
		Mode   string   `toml:"mode"`
		Reason string   `toml:"reason"`
		Any    []string `toml:"any"`
		User   []string `toml:"user"`
	} `toml:"pcr"`
	running.Tables
}

// readBoard reads a profile and how it judges the registers.
func readBoard(name string) (board, error) {
	var p boardProfile
	b, err := disk.Read(name, maxBoard)
	if err != nil {
		return board{}, err
	}
	meta, err := toml.Decode(string(b), &p)
	if err != nil {
		return board{}, fmt.Errorf("%s: %w", name, err)
	}
	for _, k := range meta.Undecoded() {
		if k[0] == "pcr" {
			return board{}, fmt.Errorf("%s: unknown key %s, want index, mode, reason, any and user", name, k)
		}
		if !running.Known(k) {
			return board{}, fmt.Errorf("%s: unknown key %s", name, k)
		}
	}
	if p.Name == "" {
		return board{}, fmt.Errorf("%s: the board's name is missing", name)
	}
	if len(p.PCRs) == 0 {
		return board{}, fmt.Errorf("%s: no [[pcr]] table: name each register with its mode", name)
	}
	out := board{name: p.Name, product: p.Product, running: p.Tables, rules: make(map[int]profile.Rule)}
	for _, r := range p.PCRs {
		rule := profile.Rule{Mode: release.Mode(r.Mode), Reason: r.Reason, Any: r.Any, User: r.User}
		if err := addRule(out.rules, r.Index, rule); err != nil {
			return board{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return out, nil
}

// parseRules reads "0=exact,1=recorded:reason"; a reason may hold commas.
func parseRules(texts []string) (map[int]profile.Rule, error) {
	rules := make(map[int]profile.Rule)
	for _, text := range texts {
		var items []string
		for part := range strings.SplitSeq(text, ",") {
			number, _, ok := strings.Cut(part, "=")
			if _, err := strconv.Atoi(number); (!ok || err != nil) && len(items) > 0 {
				items[len(items)-1] += "," + part
				continue
			}
			items = append(items, part)
		}
		for _, item := range items {
			number, judged, _ := strings.Cut(item, "=")
			n, err := strconv.Atoi(number)
			if err != nil {
				return nil, fmt.Errorf("--pcr %q: want N=exact, N=events or N=recorded:REASON", item)
			}
			mode, reason, _ := strings.Cut(judged, ":")
			if err := addRule(rules, n, profile.Rule{Mode: release.Mode(mode), Reason: reason}); err != nil {
				return nil, fmt.Errorf("--pcr %q: %w", item, err)
			}
		}
	}
	return rules, nil
}

func addRule(rules map[int]profile.Rule, n int, r profile.Rule) error {
	if n < 0 || n >= pcr.Count {
		return fmt.Errorf("pcr %d: want 0 to %d", n, pcr.Count-1)
	}
	if _, twice := rules[n]; twice {
		return fmt.Errorf("pcr %d: given twice", n)
	}
	if r.Mode != release.Exact && r.Mode != release.Events && r.Mode != release.Recorded {
		return fmt.Errorf("pcr %d: mode %q, want exact, events or recorded", n, r.Mode)
	}
	if r.Mode == release.Recorded && r.Reason == "" {
		return fmt.Errorf("pcr %d: a recorded register needs a reason", n)
	}
	rules[n] = r
	return nil
}

// judged counts the registers that are more than recorded.
func judged(b release.Boot) int {
	n := 0
	for r := range maps.Values(b.PCRs) {
		if r.Judged() {
			n++
		}
	}
	return n
}
