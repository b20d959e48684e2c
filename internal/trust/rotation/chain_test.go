package rotation_test

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"ward/internal/format/dsse"
	"ward/internal/trust/rotation"
)

// accepted lists which of the keys a chain accepts, by their place.
func accepted(t testing.TB, c *rotation.Chain, keys []crypto.Signer) string {
	t.Helper()
	var out []string
	for i, k := range keys {
		envelope, err := dsse.Sign("text", []byte("x"), k)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Keyring().Open(envelope, "text", 1); err == nil {
			out = append(out, fmt.Sprint(i))
		}
	}
	return strings.Join(out, " ")
}

// Each row: the anchors, rotations in the order in which they come as
// serial:from>to with what becomes of each ("" followed, "known", or a part of the
// refusal), and which keys are accepted in the end.
//
// Verifies: SR-068
func TestChain(t *testing.T) {
	keys := newKeys(t, 6)
	for _, c := range []struct {
		name    string
		anchors []int
		come    string
		want    []string
		end     string
	}{
		{"none", []int{0}, "", nil, "0"},
		{"one", []int{0}, "1:0>1", []string{""}, "1"},
		{"two", []int{0}, "1:0>1 2:1>2", []string{"", ""}, "2"},
		{"the same again", []int{0}, "1:0>1 1:0>1 2:1>2 1:0>1 2:1>2", []string{"", "known", "", "known", "known"}, "2"},
		{"the third before the second", []int{0}, "1:0>1 3:2>3 2:1>2 3:2>3", []string{"", "not known", "", ""}, "3"},
		{"the second before the first", []int{0}, "2:1>2 1:0>1", []string{"not known", ""}, "1"},
		{"a serial too many", []int{0}, "1:0>1 3:1>2", []string{"", "not the next"}, "1"},
		{"the serial again by the new key", []int{0}, "1:0>1 1:1>2", []string{"", "not the next"}, "1"},
		{"a stolen old key, the same serial", []int{0}, "1:0>1 1:0>5", []string{"", "another successor"}, "1"},
		{"a stolen old key, the next serial", []int{0}, "1:0>1 2:0>5", []string{"", "another successor"}, "1"},
		{"a stolen old key, two rotations later", []int{0}, "1:0>1 2:1>2 3:0>5 1:0>5", []string{"", "", "another successor", "another successor"}, "2"},
		{"a stolen middle key", []int{0}, "1:0>1 2:1>2 2:1>5 3:1>5", []string{"", "", "another successor", "another successor"}, "2"},
		{"the thief was first", []int{0}, "1:0>5 1:0>1", []string{"", "another successor"}, "5"},
		{"back to the old key", []int{0}, "1:0>1 2:1>0", []string{"", "leads back"}, "1"},
		{"back to the first of three", []int{0}, "1:0>1 2:1>2 3:2>0", []string{"", "", "leads back"}, "2"},
		{"a stranger's", []int{0}, "1:4>5", []string{"not known"}, "0"},
		{"other anchored keys stay", []int{0, 3}, "1:0>1", []string{""}, "1 3"},
		{"each anchored key has its line", []int{0, 3}, "1:0>1 1:3>4 2:1>2", []string{"", "", ""}, "2 4"},
		{"the release holds the new key", []int{1}, "1:0>1 2:1>2", []string{"known", ""}, "2"},
		{"the release holds the newest key", []int{2}, "2:1>2", []string{"known"}, "2"},
		{"the release holds the newest key, and what led to the one before comes", []int{2}, "1:0>1", []string{"not known"}, "2"},
		{"the release holds old and new", []int{0, 1}, "1:0>1", []string{""}, "1"},
		{"the release holds old and new, and the line goes on", []int{0, 1}, "1:0>1 2:1>2", []string{"", ""}, "2"},
		{"the release holds old and new, the later rotation first", []int{0, 1}, "2:1>2 1:0>1", []string{"", ""}, "2"},
		{"the release holds three", []int{0, 1, 2}, "1:0>1 2:1>2", []string{"", ""}, "2"},
		{"a circle of anchored keys", []int{0, 1}, "1:0>1 2:1>0", []string{"", "leads back"}, "1"},
		{"the remedy release while the thief's key is stored", []int{1}, "1:0>5", []string{"not known"}, "1"},
		{"a release with both, and the thief was first", []int{0, 1}, "1:0>5 1:0>1", []string{"", "another successor"}, "1 5"},
		{"two anchored keys become one", []int{0, 3}, "1:0>1 1:3>1 2:1>2", []string{"", "", ""}, "2"},
		{"no anchor", nil, "1:0>1", []string{"not known"}, ""},
	} {
		var anchors []crypto.Signer
		for _, i := range c.anchors {
			anchors = append(anchors, keys[i])
		}
		chain := rotation.NewChain(rotation.Receipt, ring(t, anchors...))
		followed := 0
		for i, s := range strings.Fields(c.come) {
			var serial, from, to int
			if _, err := fmt.Sscanf(s, "%d:%d>%d", &serial, &from, &to); err != nil {
				t.Fatal(err)
			}
			before := accepted(t, chain, keys)
			next, v, err := chain.Next(sign(t, serial, keys[from], keys[to]))
			if accepted(t, chain, keys) != before {
				t.Fatalf("%s: judging changed the chain", c.name)
			}
			switch want := c.want[i]; {
			case want == "" && err == nil:
				if v.Rotation().Serial != serial || v.To() != id(t, keys[to]) {
					t.Errorf("%s: %s is %+v", c.name, s, v.Rotation())
				}
				chain = next
				followed++
				continue
			case want == "known" && errors.Is(err, rotation.ErrKnown):
			case want != "" && want != "known" && err != nil && !errors.Is(err, rotation.ErrKnown) && strings.Contains(err.Error(), want):
			default:
				t.Errorf("%s: %s gives %v, want %q", c.name, s, err, want)
			}
			if next != nil || v != nil {
				t.Errorf("%s: %s gives a chain beside %v", c.name, s, err)
			}
		}
		if got := accepted(t, chain, keys); got != c.end || bytes.Count(chain.Lines(), []byte("\n")) != followed {
			t.Errorf("%s: accepts %q after %d rotations, want %q after %d", c.name, got, bytes.Count(chain.Lines(), []byte("\n")), c.end, followed)
		}
		// What was followed gives the same keys again.
		again := rotation.NewChain(rotation.Receipt, ring(t, anchors...))
		for _, b := range bytes.SplitAfter(chain.Lines(), []byte("\n")) {
			if len(b) == 0 {
				break
			}
			next, _, err := again.Next(b)
			if err != nil {
				t.Fatalf("%s: again: %v", c.name, err)
			}
			again = next
		}
		if got := accepted(t, again, keys); got != c.end {
			t.Errorf("%s: read again it accepts %q, want %q", c.name, got, c.end)
		}
	}
}

// A rotation of challenge keys changes no receipt key, even if one key signs both.
//
// Verifies: SR-068
func TestOtherUse(t *testing.T) {
	keys := newKeys(t, 2)
	envelope, err := rotation.Sign(rotation.Challenge, 1, keys[0], keys[1].Public(), issued)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := rotation.NewChain(rotation.Receipt, ring(t, keys[0])).Next(envelope); err == nil || !strings.Contains(err.Error(), "another use") {
		t.Errorf("followed for receipts: %v", err)
	}
	if _, _, err := rotation.NewChain(rotation.Receipt, ring(t, keys[1])).Next(envelope); err == nil || errors.Is(err, rotation.ErrKnown) {
		t.Errorf("known for receipts: %v", err)
	}
	if _, _, err := rotation.NewChain(rotation.Challenge, ring(t, keys[0])).Next(envelope); err != nil {
		t.Error(err)
	}
}

// Verifies: SR-068
func TestMostRotations(t *testing.T) {
	key := newKey(t)
	chain := rotation.NewChain(rotation.Receipt, ring(t, key))
	var line rotation.Line
	for serial := 1; serial <= rotation.MaxRotations+1; serial++ {
		heir := newKey(t)
		envelope := sign(t, serial, key, heir)
		next, _, err := chain.Next(envelope)
		lineErr := line.Add(rotation.Receipt, envelope)
		if serial > rotation.MaxRotations {
			if err == nil || lineErr == nil {
				t.Errorf("rotation %d: %v, in a line %v", serial, err, lineErr)
			}
			return
		}
		if err != nil || lineErr != nil {
			t.Fatal(err, lineErr)
		}
		chain, key = next, heir
		if chain.Keyring().Len() != 1 {
			t.Fatalf("%d keys", chain.Keyring().Len())
		}
	}
}

// A fleet sends what a device lacks, by what the device says that it accepts.
//
// Verifies: SR-069
func TestLine(t *testing.T) {
	keys := newKeys(t, 6)
	var line rotation.Line
	all := [][]byte{sign(t, 1, keys[0], keys[1]), sign(t, 2, keys[1], keys[2]), sign(t, 1, keys[3], keys[4])}
	for _, b := range all {
		if err := line.Add(rotation.Receipt, b); err != nil {
			t.Fatal(err)
		}
	}
	for i, gone := range []bool{true, true, false, true, false, false} {
		if err := line.Check(keys[i].Public()); (err != nil) != gone || line.Len() != 3 {
			t.Errorf("key %d was given up: %v, want %t", i, err, gone)
		}
	}
	for _, c := range []struct {
		accepts []int
		send    []int
		then    []int
	}{
		{[]int{0}, []int{0, 1}, []int{2}},
		{[]int{1}, []int{1}, []int{2}},
		{[]int{2}, nil, []int{2}},
		{[]int{0, 1}, []int{0, 1}, []int{2}},
		{[]int{0, 2}, []int{0, 1}, []int{2}},
		{[]int{0, 3}, []int{0, 1, 2}, []int{2, 4}},
		{[]int{3}, []int{2}, []int{4}},
		{[]int{5}, nil, []int{5}},
		{nil, []int{0, 1, 2}, nil},
	} {
		var accepts, want []string
		for _, i := range c.accepts {
			accepts = append(accepts, rotation.Hint(id(t, keys[i])))
		}
		for _, i := range c.then {
			want = append(want, rotation.Hint(id(t, keys[i])))
		}
		var send [][]byte
		for _, i := range c.send {
			send = append(send, all[i])
		}
		got, then := line.For(accepts)
		if !slices.EqualFunc(got, send, slices.Equal) || !slices.Equal(then, want) {
			t.Errorf("a device that accepts %v gets %d rotations and accepts %v then; want %d and %v", c.accepts, len(got), then, len(send), want)
		}
	}
}

// What no device would follow is no line.
//
// Verifies: SR-069
func TestLineRefused(t *testing.T) {
	keys := newKeys(t, 4)
	first := sign(t, 1, keys[0], keys[1])
	forged, err := dsse.Sign(rotation.PayloadType, payload(t, sign(t, 2, keys[1], keys[2])), keys[3])
	if err != nil {
		t.Fatal(err)
	}
	challenge, err := rotation.Sign(rotation.Challenge, 2, keys[1], keys[2].Public(), issued)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"a second successor":    sign(t, 1, keys[0], keys[2]),
		"the same again":        first,
		"a serial too many":     sign(t, 3, keys[1], keys[2]),
		"signed by another key": forged,
		"another use":           challenge,
		"not an envelope":       []byte("hello"),
		"nothing":               nil,
	} {
		var line rotation.Line
		if err := line.Add(rotation.Receipt, first); err != nil {
			t.Fatal(err)
		}
		if err := line.Add(rotation.Receipt, b); err == nil || line.Len() != 1 {
			t.Errorf("%s: %v, %d rotations", name, err, line.Len())
		}
	}
	if use, err := rotation.UseOf(challenge); err != nil || use != rotation.Challenge {
		t.Errorf("use %q: %v", use, err)
	}
	if _, err := rotation.UseOf([]byte("{}")); err == nil {
		t.Error("anything has a use")
	}
}

func payload(t testing.TB, envelope []byte) []byte {
	t.Helper()
	e, err := dsse.Parse(envelope)
	if err != nil {
		t.Fatal(err)
	}
	return e.UntrustedPayload
}
