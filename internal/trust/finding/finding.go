// Package finding holds the one catalogue of finding codes: what Ward can say
// about a device, how grave it is, what it means and what a field engineer
// does about it. Codes are stable: a code that was released is never reused
// for another meaning. Severities follow the five steps that IEC 62443-4-2 and
// the hospital event formats can both carry.
package finding

import (
	"fmt"
	"sort"
	"strings"
)

// Code names one kind of finding, "area.what-is-wrong".
type Code string

// Area is the part of the code before the first dot.
func (c Code) Area() string {
	area, _, _ := strings.Cut(string(c), ".")
	return area
}

// Severity is how grave a finding is. The zero value is no severity at all and
// is refused by every encoder.
type Severity uint8

// Severities, from least to most grave.
const (
	Info Severity = iota + 1
	Low
	Medium
	High
	Critical
)

var severityNames = map[Severity]string{Info: "info", Low: "low", Medium: "medium", High: "high", Critical: "critical"}

func (s Severity) String() string {
	if n, ok := severityNames[s]; ok {
		return n
	}
	return "none"
}

// MarshalText writes the severity's name; an unknown severity is an error.
func (s Severity) MarshalText() ([]byte, error) {
	n, ok := severityNames[s]
	if !ok {
		return nil, fmt.Errorf("encode severity: %d is none of info, low, medium, high, critical", s)
	}
	return []byte(n), nil
}

// UnmarshalText reads a severity's name.
func (s *Severity) UnmarshalText(b []byte) error {
	for v, n := range severityNames {
		if n == string(b) {
			*s = v
			return nil
		}
	}
	return fmt.Errorf("parse severity %q: want info, low, medium, high or critical", b)
}

// Kind tells whether a finding is a state that lasts or something that happened.
type Kind string

const (
	// Condition is a state: it is raised, and cleared when it no longer holds.
	Condition Kind = "condition"
	// Incident happened at one moment and is only raised.
	Incident Kind = "incident"
)

// Definition is the catalogue's entry for one code.
type Definition struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	Kind     Kind     `json:"kind"`
	Title    string   `json:"title"`   // a short line for a table
	Meaning  string   `json:"meaning"` // what is known, and what is not
	Remedy   string   `json:"remedy"`  // what the field engineer does
	Clauses  []string `json:"clauses"` // clauses it supports, by number
}

// Finding is one statement about this device.
type Finding struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	PCR      *int     `json:"pcr,omitempty"`    // the PCR concerned
	Index    *int     `json:"index,omitempty"`  // index of the log's event or entry, from 0
	Offset   *int64   `json:"offset,omitempty"` // byte offset in the input
	Path     string   `json:"path,omitempty"`   // the file concerned
	Expected string   `json:"expected,omitempty"`
	Found    string   `json:"found,omitempty"`
	Detail   string   `json:"detail,omitempty"` // one line
	Remedy   string   `json:"remedy,omitempty"`
}

// New makes a finding of a catalogued code with its severity and remedy. It
// panics on a code that is not in the catalogue: that is a defect of the
// program, never of the input.
func New(code Code, detail string) Finding {
	d, ok := Lookup(code)
	if !ok {
		panic("finding: code " + string(code) + " is not in the catalogue")
	}
	return Finding{Code: code, Severity: d.Severity, Detail: detail, Remedy: d.Remedy}
}

// At returns the finding with a PCR number.
func (f Finding) At(pcr int) Finding { f.PCR = &pcr; return f }

// AtIndex returns the finding with the index of the log's event, from 0.
func (f Finding) AtIndex(i int) Finding { f.Index = &i; return f }

// AtOffset returns the finding with a byte offset in the input.
func (f Finding) AtOffset(o int64) Finding { f.Offset = &o; return f }

// On returns the finding with the file that it is about.
func (f Finding) On(path string) Finding { f.Path = path; return f }

// Want returns the finding with what was expected and what was found.
func (f Finding) Want(expected, found string) Finding {
	f.Expected, f.Found = expected, found
	return f
}

// Lookup returns the catalogue's entry for a code.
func Lookup(code Code) (Definition, bool) {
	d, ok := catalogue[code]
	return d, ok
}

// All returns the catalogue, sorted by code.
func All() []Definition {
	all := make([]Definition, 0, len(catalogue))
	for _, d := range catalogue {
		all = append(all, d)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Code < all[j].Code })
	return all
}

// Worst returns the gravest severity among the findings, zero when there is none.
func Worst(fs []Finding) Severity {
	var w Severity
	for _, f := range fs {
		w = max(w, f.Severity)
	}
	return w
}

// merge joins the areas' tables; a code that stands twice is a defect.
func merge(tables ...[]Definition) map[Code]Definition {
	m := make(map[Code]Definition)
	for _, t := range tables {
		for _, d := range t {
			if _, twice := m[d.Code]; twice {
				panic("finding: code " + string(d.Code) + " stands twice in the catalogue")
			}
			m[d.Code] = d
		}
	}
	return m
}
