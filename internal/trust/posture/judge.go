package posture

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"ward/internal/trust/finding"
)

// maxListed is how many values a finding lists; the rest is a count.
const maxListed = 8

// every is the time between two looks where the release says nothing.
const every = 15 * time.Minute

// Every is the time between two looks.
func (p *Policy) Every() time.Duration {
	if p == nil || p.EverySeconds == 0 {
		return every
	}
	return time.Duration(p.EverySeconds) * time.Second
}

// Subject is what a finding about a claim is about.
func Subject(claim string) string { return "posture/" + claim }

// Judgement is what is wrong with one claim.
type Judgement struct {
	Claim   string
	Finding finding.Finding
}

// Judge compares what was read with what the release expects, and where it has
// no rule with the default of the table. The findings come in the order of
// Judgements.
func Judge(policy *Policy, claims []Claim) []finding.Finding {
	var all []finding.Finding
	for _, j := range Judgements(policy, claims) {
		all = append(all, j.Finding)
	}
	return all
}

// Judgements is Judge with the claims' names: at most one for each claim, those
// of the release's rules first, then those of the defaults.
//
// It looks at every rule in this order: is the claim known, was it read, could it
// be read, is there such a thing, and do the values agree by the rule's mode.
func Judgements(policy *Policy, claims []Claim) []Judgement {
	var all []Judgement
	tell := func(claim string, code finding.Code, detail string) {
		all = append(all, Judgement{claim, finding.New(code, claim+": "+detail)})
	}
	judge := func(r *Rule, required bool) {
		d, known := Lookup(r.Claim)
		if !known {
			tell(r.Claim, finding.PostureRuleUnknown, "nothing of that name is known")
			return
		}
		if r.Mode == Recorded {
			return
		}
		i := slices.IndexFunc(claims, func(c Claim) bool { return c.Name == r.Claim })
		if i < 0 {
			if required {
				tell(r.Claim, finding.PostureRuleUnknown, "nothing on this device reads it")
			}
			return
		}
		code, detail := r.compare(d, &claims[i])
		if code != "" {
			tell(r.Claim, code, detail)
		}
	}
	if policy != nil {
		for i := range policy.Rules {
			judge(&policy.Rules[i], true)
		}
	}
	for i := range table {
		if r := table[i].rule(); r != nil && policy.RuleOf(r.Claim) == nil {
			judge(r, false)
		}
	}
	return all
}

// RuleOf is the release's rule about a claim, nil where it has none.
func (p *Policy) RuleOf(claim string) *Rule {
	if p == nil {
		return nil
	}
	if i := slices.IndexFunc(p.Rules, func(r Rule) bool { return r.Claim == claim }); i >= 0 {
		return &p.Rules[i]
	}
	return nil
}

// compare returns the code of what is wrong and a line about it, no code where
// the claim is as the rule wants it.
func (r *Rule) compare(d *Definition, c *Claim) (finding.Code, string) {
	switch {
	case c.Error != "":
		return finding.PostureUnreadable, c.Error
	case c.Absent && r.Optional:
		return "", ""
	case c.Absent:
		return d.without(), "this device has no such thing" + listed("; expected ", r.Values)
	}
	extra, missing := Difference(r.Values, c.Values)
	if r.Mode == Within {
		missing = nil
	}
	if r.Mode == Contains {
		if extra = nil; c.More > 0 && len(missing) > 0 {
			return finding.PostureUnreadable, "more values than can be compared: " + strconv.Itoa(c.More)
		}
	}
	switch {
	case len(extra) > 0 || c.More > 0 && r.Mode != Contains:
		line := "not released" + listed(": ", extra) + listed("; not there: ", missing)
		if c.More > 0 {
			line += "; left out: " + strconv.Itoa(c.More)
		}
		return d.Code, line
	case len(missing) > 0:
		return d.without(), "not there" + listed(": ", missing)
	}
	return "", ""
}

// without is the code where something is not there.
func (d *Definition) without() finding.Code {
	if d.Missing != "" {
		return d.Missing
	}
	return d.Code
}

// Difference is what have has beyond want, and what of want it lacks. Both are
// sorted.
func Difference(want, have []string) (extra, missing []string) {
	for len(want) > 0 || len(have) > 0 {
		switch {
		case len(want) == 0 || len(have) > 0 && have[0] < want[0]:
			extra, have = append(extra, have[0]), have[1:]
		case len(have) == 0 || want[0] < have[0]:
			missing, want = append(missing, want[0]), want[1:]
		default:
			want, have = want[1:], have[1:]
		}
	}
	return extra, missing
}

// listed writes values behind a word, nothing where there are none.
func listed(before string, values []string) string {
	if len(values) == 0 {
		return ""
	}
	rest := len(values) - maxListed
	line := before + strings.Join(values[:min(len(values), maxListed)], ", ")
	if rest > 0 {
		line += " and " + strconv.Itoa(rest) + " more"
	}
	return line
}

// Conceal returns the claims as they may leave the device: in those whose values
// hold paths, each word that begins with "/" goes through hide, unless the
// release names the value itself. Values stay sorted, so that Judge says of both
// the same.
func Conceal(policy *Policy, claims []Claim, hide func(path string) string) []Claim {
	out := slices.Clone(claims)
	for i := range out {
		c := &out[i]
		d, known := Lookup(c.Name)
		if len(c.Values) == 0 || known && !d.Paths {
			continue
		}
		var named []string
		if r := policy.RuleOf(c.Name); r != nil {
			named = r.Values
		} else if known {
			named = d.Expect
		}
		values := slices.Clone(c.Values)
		for n, v := range values {
			if _, same := slices.BinarySearch(named, v); !same {
				values[n] = concealed(v, hide)
			}
		}
		slices.Sort(values)
		c.Values = slices.Compact(values)
	}
	return out
}

// concealed hides the paths among a value's words.
func concealed(value string, hide func(string) string) string {
	words := strings.Split(value, " ")
	for i, w := range words {
		before, path, is := w, "", false
		if at := strings.IndexByte(w, '/'); at == 0 || at > 0 && strings.IndexByte("=:|", w[at-1]) >= 0 {
			before, path, is = w[:at], w[at:], true
		}
		if is && len(path) > 1 {
			words[i] = before + hide(path)
		}
	}
	return strings.Join(words, " ")
}
