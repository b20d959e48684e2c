package contracttest_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// The grammar of docs/schema/evidence.v2.cddl is read here, as much of RFC 8610 as
// it uses: rules, choices of types, integers and ranges, maps, arrays, optional and
// repeated members, and the control .size.

// rules are the types of a grammar by name.
type rules map[string]kind

// kind says what is wrong with a value as cbor decodes it.
type kind func(r rules, v any) error

var word = regexp.MustCompile(`^(?:[a-z][a-z0-9-]*|-?\d+(?:\.\.-?\d+)?|\.size|=>|[{}\[\]()=:,?*/])`)

// words splits a grammar, without comments and blanks.
func words(text string) ([]string, error) {
	var out []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, ";")
		for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
			w := word.FindString(line)
			if w == "" {
				return nil, fmt.Errorf("no word of the grammar: %q", line)
			}
			out, line = append(out, w), line[len(w):]
		}
	}
	return out, nil
}

// grammar reads words.
type grammar struct {
	words []string
	names map[string]int // how often a rule is used
}

func (g *grammar) peek() string {
	if len(g.words) == 0 {
		return ""
	}
	return g.words[0]
}

func (g *grammar) next() string {
	w := g.peek()
	if w != "" {
		g.words = g.words[1:]
	}
	return w
}

func (g *grammar) want(w string) error {
	if got := g.next(); got != w {
		return fmt.Errorf("%q where %q must stand, before %v", got, w, g.words[:min(5, len(g.words))])
	}
	return nil
}

func parseCDDL(text string) (rules, map[string]int, error) {
	w, err := words(text)
	if err != nil {
		return nil, nil, err
	}
	g, r := &grammar{words: w, names: map[string]int{}}, rules{}
	for g.peek() != "" {
		name := g.next()
		if err := g.want("="); err != nil {
			return nil, nil, err
		}
		if r[name] != nil {
			return nil, nil, fmt.Errorf("rule %s stands twice", name)
		}
		if r[name], err = g.choice(); err != nil {
			return nil, nil, fmt.Errorf("rule %s: %w", name, err)
		}
	}
	for name := range g.names {
		if r[name] == nil {
			return nil, nil, fmt.Errorf("there is no rule %s", name)
		}
	}
	return r, g.names, nil
}

func (g *grammar) choice() (kind, error) {
	first, err := g.single()
	all := []kind{first}
	for err == nil && g.peek() == "/" {
		g.next()
		var more kind
		more, err = g.single()
		all = append(all, more)
	}
	return func(r rules, v any) (err error) {
		for _, k := range all {
			if err = k(r, v); err == nil {
				return nil
			}
		}
		return err
	}, err
}

func (g *grammar) single() (kind, error) {
	switch w := g.next(); {
	case w == "{":
		return g.members("}")
	case w == "[" && g.peek() == "*":
		return g.list()
	case w == "[":
		return g.members("]")
	case w == "true" || w == "false":
		return func(_ rules, v any) error { return unless(v == (w == "true"), v, w) }, nil
	case w != "" && (w[0] == '-' || w[0] >= '0' && w[0] <= '9'):
		low, high, err := span(w)
		return func(_ rules, v any) error {
			n, ok := number(v)
			return unless(ok && n >= low && n <= high, v, w)
		}, err
	case slices.Contains([]string{"uint", "int", "bstr", "tstr"}, w):
		return g.sized(w)
	default:
		if !word.MatchString(w) || w[0] < 'a' || w[0] > 'z' {
			return nil, fmt.Errorf("%q is no type", w)
		}
		g.names[w]++
		return func(r rules, v any) error { return r[w](r, v) }, nil
	}
}

func (g *grammar) sized(base string) (kind, error) {
	low, high := 0.0, math.Inf(1)
	if g.peek() == ".size" {
		g.next()
		w := g.next()
		closing := w == "("
		if closing {
			w = g.next()
		}
		var err error
		if low, high, err = span(w); err != nil {
			return nil, err
		}
		if closing {
			if err := g.want(")"); err != nil {
				return nil, err
			}
		}
	}
	return func(_ rules, v any) error {
		n, isNumber := number(v)
		var size int
		switch v := v.(type) {
		case []byte:
			size = len(v)
			isNumber = base == "bstr"
		case string:
			size = len(v)
			isNumber = base == "tstr"
		default:
			if base == "bstr" || base == "tstr" || base == "uint" && n < 0 {
				return unless(false, v, base)
			}
			if low > 0 { // bytes of an unsigned integer
				return unless(isNumber && n < math.Pow(256, high), v, base)
			}
			return unless(isNumber, v, base)
		}
		return unless(isNumber && float64(size) >= low && float64(size) <= high, v, fmt.Sprintf("%s of %g to %g bytes", base, low, high))
	}, nil
}

// list is an array of one kind of member, as many as there are.
func (g *grammar) list() (kind, error) {
	g.next()
	each, err := g.choice()
	if err == nil {
		err = g.want("]")
	}
	return func(r rules, v any) error {
		all, ok := v.([]any)
		if !ok {
			return unless(false, v, "an array")
		}
		for _, one := range all {
			if err := each(r, one); err != nil {
				return err
			}
		}
		return nil
	}, err
}

// member of a map or an array.
type member struct {
	key      kind // of a map
	value    kind
	optional bool
	repeated bool
}

func (g *grammar) members(end string) (kind, error) {
	var all []member
	for g.peek() != end {
		var m member
		switch g.peek() {
		case "?":
			g.next()
			m.optional = true
		case "*":
			g.next()
			m.repeated = true
		}
		var err error
		if end == "]" { // the key is a name for people
			g.next()
			err = g.want(":")
		} else if m.key, err = g.choice(); err == nil {
			if w := g.next(); w != ":" && w != "=>" {
				err = fmt.Errorf("%q behind a key", w)
			}
		}
		if err == nil {
			m.value, err = g.choice()
		}
		if err != nil {
			return nil, err
		}
		all = append(all, m)
		if g.peek() == "," {
			g.next()
		} else if g.peek() != end {
			return nil, fmt.Errorf("%q where a comma or %s must stand", g.peek(), end)
		}
	}
	g.next()
	if end == "]" {
		return func(r rules, v any) error {
			list, ok := v.([]any)
			if !ok || len(list) != len(all) {
				return unless(false, v, fmt.Sprintf("an array of %d", len(all)))
			}
			for i, m := range all {
				if err := m.value(r, list[i]); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}
	return func(r rules, v any) error {
		pairs, ok := v.(map[any]any)
		if !ok {
			return unless(false, v, "a map")
		}
		left := maps.Clone(pairs)
		for _, m := range all {
			found := false
			for k, value := range left {
				if m.key(r, k) != nil || found && !m.repeated {
					continue
				}
				if err := m.value(r, value); err != nil {
					return fmt.Errorf("key %v: %w", k, err)
				}
				found = true
				delete(left, k)
			}
			if !found && !m.optional && !m.repeated {
				return fmt.Errorf("a member is missing among %v", slices.Collect(maps.Keys(pairs)))
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("keys that are not described: %v", slices.Collect(maps.Keys(left)))
		}
		return nil
	}, nil
}

func span(w string) (low, high float64, err error) {
	from, to, isRange := strings.Cut(w, "..")
	if !isRange {
		to = from
	}
	if low, err = strconv.ParseFloat(from, 64); err == nil {
		high, err = strconv.ParseFloat(to, 64)
	}
	return low, high, err
}

func number(v any) (float64, bool) {
	switch n := v.(type) {
	case uint64:
		return float64(n), true
	case int64:
		return float64(n), true
	}
	return 0, false
}

func unless(ok bool, v any, want string) error {
	if ok {
		return nil
	}
	return fmt.Errorf("%.80v where %s must be", v, want)
}

// The grammar of evidence is well-formed, each of its rules is there and used, and
// what the code writes is of it: the examples of docs/contract and the golden
// documents of trust/evidence.
//
// Verifies: SR-063
func TestEvidenceGrammar(t *testing.T) {
	text, err := os.ReadFile(contract(t, "../schema/evidence.v2.cddl"))
	if err != nil {
		t.Fatal(err)
	}
	r, used, err := parseCDDL(string(text))
	if err != nil {
		t.Fatal(err)
	}
	for name := range r {
		if used[name] == 0 && name != "evidence" && name != "part" {
			t.Errorf("rule %s is used nowhere", name)
		}
	}
	is := func(rule string, b []byte) error {
		var v any
		if err := cbor.Unmarshal(b, &v); err != nil {
			return err
		}
		return r[rule](r, v)
	}
	documents := map[string][]byte{"evidence.cbor": example(t, "evidence.cbor")}
	golden, err := filepath.Glob(contract(t, "../../internal/trust/evidence/testdata/*.hex"))
	if err != nil || len(golden) == 0 {
		t.Fatal(golden, err)
	}
	for _, file := range golden {
		digits, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(strings.Join(strings.Fields(string(digits)), ""))
		if err != nil {
			t.Fatal(err)
		}
		documents[file] = b
	}
	seen := map[any]bool{}
	for name, b := range documents {
		if err := is("evidence", b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var keys map[any]any
		if err := cbor.Unmarshal(b, &keys); err != nil {
			t.Fatal(err)
		}
		for k := range keys {
			seen[k] = true
		}
	}
	if len(seen) != 22 {
		t.Errorf("%d of 22 keys stand in an example", len(seen))
	}
	part := example(t, "evidence-part.cbor")
	if err := is("part", part); err != nil {
		t.Error(err)
	}
	if is("evidence", part) == nil || is("part", documents["evidence.cbor"]) == nil {
		t.Error("a part is a document, or the other way round")
	}

	// What is not of the grammar is seen.
	for name, change := range map[string][2][]byte{
		"another version":    {{0xb4, 0x01, 0x02}, {0xb4, 0x01, 0x01}},
		"a text as a number": {[]byte("\x64acme"), []byte("\x44acme")},
		"an unknown key":     {{0xb4, 0x01, 0x02}, {0xb5, 0x01, 0x02, 0x17, 0xf5}},
		"a value of bytes":   {[]byte("\x69integrity"), []byte("\x49integrity")},
		"no such bank":       {{0x0a, 0x0b, 0x0b}, {0x0a, 0x0e, 0x0b}},
	} {
		bad := bytes.Replace(documents["evidence.cbor"], change[0], change[1], 1)
		if bytes.Equal(bad, documents["evidence.cbor"]) {
			t.Fatalf("%s: nothing was changed in %x", name, bad[:32])
		}
		if is("evidence", bad) == nil {
			t.Errorf("%s is of the grammar", name)
		}
	}
	for name, bad := range map[string]string{
		"a brace that stays open": "a = { 1: uint",
		"a rule that is missing":  "a = b",
		"a rule twice":            "a = uint\na = int",
		"no equals sign":          "a uint",
		"a key without a type":    "a = { 1: }",
		"two members in one":      "a = { 1: uint 2: uint }",
		"a character of its own":  "a = %",
	} {
		if _, _, err := parseCDDL(bad); err == nil {
			t.Errorf("%s is a grammar: %s", name, bad)
		}
	}
}
