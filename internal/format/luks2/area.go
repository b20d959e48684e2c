package luks2

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// Bounds of the JSON area (section 3); cryptsetup itself keeps 32 of each.
const maxObjects = 32

// Area is the JSON area (section 3), as far as it is used here. Each list is in
// the order of its numbers.
type Area struct {
	Keyslots []Keyslot
	Tokens   []Token
	Segments []Segment
	// Requirements are features without which the partition must not be opened,
	// such as a change of the key that was begun and not ended.
	Requirements []string
}

// Keyslot is a copy of the volume key under a passphrase (section 3.2).
type Keyslot struct {
	Number     int
	Type       string // "luks2"
	KeySize    int    // of the volume key, in bytes
	Encryption string // of the copy
	KDF        string
}

// Token says where the passphrase of key slots comes from (section 3.5). What
// else it holds depends on its type.
type Token struct {
	Number   int
	Type     string
	Keyslots []int
	JSON     []byte
}

// Segment is a part of the partition (section 3.3).
type Segment struct {
	Number     int
	Type       string // "crypt"
	Offset     uint64 // bytes
	Encryption string
	SectorSize int
	Integrity  bool
}

// number is an integer that the format writes as a string.
type number uint64

func (n *number) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 10, 64)
	*n = number(v)
	return err
}

type wireArea struct {
	Keyslots map[string]struct {
		Type    string `json:"type"`
		KeySize int    `json:"key_size"`
		Area    struct {
			Encryption string `json:"encryption"`
		} `json:"area"`
		KDF struct {
			Type string `json:"type"`
		} `json:"kdf"`
	} `json:"keyslots"`
	Tokens   map[string]json.RawMessage `json:"tokens"`
	Segments map[string]struct {
		Type       string          `json:"type"`
		Offset     number          `json:"offset"`
		Encryption string          `json:"encryption"`
		SectorSize int             `json:"sector_size"`
		Integrity  json.RawMessage `json:"integrity"`
	} `json:"segments"`
	Config struct {
		Requirements json.RawMessage `json:"requirements"`
	} `json:"config"`
}

// ParseArea reads a JSON area: one object, padded with zero bytes. Unknown
// members are left out, as the specification demands. Errors wrap ErrHeader.
func ParseArea(area []byte) (Area, error) {
	if len(area) > MaxSize {
		return Area{}, fmt.Errorf("%w: %d bytes of JSON", ErrHeader, len(area))
	}
	object, padding, _ := bytes.Cut(area, []byte{0})
	if len(bytes.Trim(padding, "\x00")) > 0 {
		return Area{}, fmt.Errorf("%w: something stands behind its JSON", ErrHeader)
	}
	var w wireArea
	if err := json.Unmarshal(object, &w); err != nil {
		return Area{}, fmt.Errorf("%w: parse JSON: %w", ErrHeader, err)
	}
	if len(w.Keyslots) > maxObjects || len(w.Tokens) > maxObjects || len(w.Segments) > maxObjects {
		return Area{}, fmt.Errorf("%w: more than %d key slots, tokens or segments", ErrHeader, maxObjects)
	}
	var a Area
	err := inOrder(w.Keyslots, func(n int, name string) error {
		k := w.Keyslots[name]
		a.Keyslots = append(a.Keyslots, Keyslot{Number: n, Type: k.Type, KeySize: k.KeySize, Encryption: k.Area.Encryption, KDF: k.KDF.Type})
		return nil
	})
	if err == nil {
		err = inOrder(w.Segments, func(n int, name string) error {
			s := w.Segments[name]
			a.Segments = append(a.Segments, Segment{
				Number: n, Type: s.Type, Offset: uint64(s.Offset), Encryption: s.Encryption, SectorSize: s.SectorSize, Integrity: len(s.Integrity) > 0,
			})
			return nil
		})
	}
	if err == nil {
		err = inOrder(w.Tokens, func(n int, name string) error {
			t, err := parseToken(w.Tokens[name])
			t.Number = n
			a.Tokens = append(a.Tokens, t)
			return err
		})
	}
	if err == nil {
		a.Requirements, err = parseRequirements(w.Config.Requirements)
	}
	if err != nil {
		return Area{}, err
	}
	return a, nil
}

func parseToken(raw json.RawMessage) (Token, error) {
	var w struct {
		Type     string   `json:"type"`
		Keyslots []number `json:"keyslots"`
	}
	if err := json.Unmarshal(raw, &w); err != nil {
		return Token{}, fmt.Errorf("%w: parse token: %w", ErrHeader, err)
	}
	t := Token{Type: w.Type, JSON: bytes.Clone(raw)}
	for _, k := range w.Keyslots {
		if k >= maxObjects {
			return Token{}, fmt.Errorf("%w: token of key slot %d", ErrHeader, k)
		}
		t.Keyslots = append(t.Keyslots, int(k))
	}
	return t, nil
}

// parseRequirements reads config.requirements: an object with the one member
// "mandatory" (section 3.6). In another form it is a requirement that is not met.
func parseRequirements(raw json.RawMessage) ([]string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var w struct {
		Mandatory []string `json:"mandatory"`
	}
	if err := json.Unmarshal(raw, &w); err != nil {
		return nil, fmt.Errorf("%w: parse requirements: %w", ErrHeader, err)
	}
	return w.Mandatory, nil
}

// inOrder calls f for each member in the order of its number.
func inOrder[V any](members map[string]V, f func(n int, name string) error) error {
	names := make(map[int]string, len(members))
	numbers := make([]int, 0, len(members))
	for name := range members {
		n, err := strconv.Atoi(name)
		if err != nil || n < 0 || strconv.Itoa(n) != name {
			return fmt.Errorf("%w: a member is named %.32q, want a number", ErrHeader, name)
		}
		names[n] = name
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		if err := f(n, names[n]); err != nil {
			return err
		}
	}
	return nil
}
