package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"ward/internal/format/pcr"
	"ward/internal/trust/release"
)

// maxBoard bounds a board profile.
const maxBoard = 256 << 10

// boardProfile is the part of a board.toml that a release is made from; the
// rest of the profile is for those who build the image.
type boardProfile struct {
	Name    string `toml:"name"`
	Product string `toml:"product"`
	PCRs    []struct {
		Index  int    `toml:"index"`
		Mode   string `toml:"mode"`
		Reason string `toml:"reason"`
	} `toml:"pcr"`
}

// readBoard reads a profile and how it judges the registers.
func readBoard(name string) (boardProfile, map[int]release.Rule, error) {
	var p boardProfile
	b, err := readFile(name, maxBoard)
	if err != nil {
		return p, nil, err
	}
	meta, err := toml.Decode(string(b), &p)
	if err != nil {
		return p, nil, fmt.Errorf("%s: %w", name, err)
	}
	for _, k := range meta.Undecoded() {
		if k[0] == "pcr" {
			return p, nil, fmt.Errorf("%s: unknown key %s, want index, mode and reason", name, k)
		}
	}
	if p.Name == "" {
		return p, nil, fmt.Errorf("%s: the board's name is missing", name)
	}
	if len(p.PCRs) == 0 {
		return p, nil, fmt.Errorf("%s: no [[pcr]] table: name each register with its mode", name)
	}
	rules := make(map[int]release.Rule)
	for _, r := range p.PCRs {
		if err := addRule(rules, r.Index, r.Mode, r.Reason); err != nil {
			return p, nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return p, rules, nil
}

// parseRules reads "0=exact,1=recorded:reason"; a reason may hold commas.
func parseRules(texts []string) (map[int]release.Rule, error) {
	rules := make(map[int]release.Rule)
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
				return nil, fmt.Errorf("--pcr %q: want N=exact or N=recorded:REASON", item)
			}
			mode, reason, _ := strings.Cut(judged, ":")
			if err := addRule(rules, n, mode, reason); err != nil {
				return nil, fmt.Errorf("--pcr %q: %w", item, err)
			}
		}
	}
	return rules, nil
}

func addRule(rules map[int]release.Rule, n int, mode, reason string) error {
	if n < 0 || n >= pcr.Count {
		return fmt.Errorf("pcr %d: want 0 to %d", n, pcr.Count-1)
	}
	if _, twice := rules[n]; twice {
		return fmt.Errorf("pcr %d: given twice", n)
	}
	r := release.Rule{Mode: release.Mode(mode), Reason: reason}
	if r.Mode != release.Exact && r.Mode != release.Recorded {
		return fmt.Errorf("pcr %d: mode %q, want exact or recorded", n, mode)
	}
	if r.Mode == release.Recorded && reason == "" {
		return fmt.Errorf("pcr %d: a recorded register needs a reason", n)
	}
	rules[n] = r
	return nil
}
