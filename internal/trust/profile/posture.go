package profile

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"ward/internal/trust/posture"
)

// RootHash stands in a rule for the dm-verity root hash of the release, which differs
// with each: in the claim fs.dm-verity and on the kernel's command line.
const RootHash = "@root-hash@"

// ErrPosture: golden devices do not give the rule that is asked for.
var ErrPosture = errors.New("the golden devices do not agree")

// ofOneDevice are claims that say how one device does today, not how a release is set.
var ofOneDevice = map[string]bool{posture.DiskWear: true, posture.ClockSync: true}

// LearnPosture makes the rules of a release from the claims of golden devices, one
// rule for each claim that any of them makes, in the order of their names:
//
//   - asked for by name in modes: that mode;
//   - not read, or not whole, on any device, or about one device alone (disk.wear,
//     clock.synchronised): recorded;
//   - the same on all: equal;
//   - one value, another one on each: recorded;
//   - a set that varies: within all that were seen.
//
// A device may lack what some of the golden ones lack. The root hash of the devices'
// release, where it is known, becomes RootHash. Notes say in words what was not
// judged and why.
func LearnPosture(devices [][]posture.Claim, modes map[string]posture.Mode, rootHash []byte) (posture.Policy, []string, error) {
	claims := make(map[string][]posture.Claim) // by name, one a device
	for _, d := range devices {
		for _, c := range d {
			claims[c.Name] = append(claims[c.Name], c)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(modes)) {
		if len(claims[name]) == 0 {
			return posture.Policy{}, nil, fmt.Errorf("claim %q: no golden device makes it", name)
		}
	}
	var p posture.Policy
	var notes []string
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		told := claims[name]
		if len(told) != len(devices) {
			return posture.Policy{}, nil, fmt.Errorf("claim %q: %w: %d of %d make it", name, ErrPosture, len(told), len(devices))
		}
		r, note, err := learnRule(name, told, modes[name])
		if err != nil {
			return posture.Policy{}, nil, err
		}
		if note != "" {
			notes = append(notes, name+": "+note)
		}
		if len(rootHash) > 0 {
			r.Values = replaced(r.Values, hex.EncodeToString(rootHash), RootHash)
		}
		p.Rules = append(p.Rules, r)
	}
	return p, notes, p.Check()
}

func learnRule(name string, told []posture.Claim, asked posture.Mode) (posture.Rule, string, error) {
	r := posture.Rule{Claim: name, Mode: asked}
	var all, common []string
	same, single := true, true
	for i, c := range told {
		if why := incomplete(c); why != "" && asked != posture.Recorded {
			if asked != "" {
				return r, "", fmt.Errorf("claim %q: %w: %s", name, ErrPosture, why)
			}
			r.Mode = posture.Recorded
			return r, "recorded: " + why, nil
		}
		r.Optional = r.Optional || c.Absent
		same = same && slices.Equal(c.Values, told[0].Values) && c.Absent == told[0].Absent
		single = single && len(c.Values) == 1
		all = append(all, c.Values...)
		if i == 0 {
			common = c.Values
		}
		common = slices.DeleteFunc(slices.Clone(common), func(v string) bool { return !slices.Contains(c.Values, v) })
	}
	slices.Sort(all)
	all = slices.Compact(all)
	note := ""
	if r.Mode == "" {
		switch {
		case ofOneDevice[name]:
			r.Mode, note = posture.Recorded, "recorded: it says how one device does"
		case same:
			r.Mode = posture.Equal
		case single:
			r.Mode, note = posture.Recorded, "recorded: another value on each device"
		default:
			r.Mode, note = posture.Within, "within what was seen: it differs between the devices"
		}
	}
	switch r.Mode {
	case posture.Equal:
		if !same {
			return r, "", fmt.Errorf("claim %q: %w: it differs, want within, contains or recorded", name, ErrPosture)
		}
		r.Values = all
	case posture.Within:
		r.Values = all
	case posture.Contains:
		r.Values = common
	case posture.Recorded:
		r.Optional = false
	}
	return r, note, nil
}

// incomplete says why a claim cannot be judged by.
func incomplete(c posture.Claim) string {
	switch {
	case c.Error != "":
		return "a golden device could not read it: " + c.Error
	case c.More > 0:
		return fmt.Sprintf("a golden device left out %d of its values", c.More)
	}
	return ""
}

// BindPosture puts the root hash of a release into its rules. Rules that want one
// and a release without are an error.
func BindPosture(p *posture.Policy, rootHash []byte) (*posture.Policy, error) {
	out := p.Clone()
	if out == nil {
		return nil, nil
	}
	for i := range out.Rules {
		r := &out.Rules[i]
		if !slices.ContainsFunc(r.Values, func(v string) bool { return strings.Contains(v, RootHash) }) {
			continue
		}
		if len(rootHash) == 0 {
			return nil, fmt.Errorf("rule about %s: it names the root hash of the release, which has none", r.Claim)
		}
		r.Values = replaced(r.Values, RootHash, hex.EncodeToString(rootHash))
	}
	return out, out.Check()
}

func replaced(values []string, from, to string) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = strings.ReplaceAll(v, from, to)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if len(out) == 0 {
		return nil
	}
	return out
}
