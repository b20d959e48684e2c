package sbom

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// decode reads one JSON value and nothing behind it. Fields that are not known are
// passed over: each format has many that say nothing about files.
func decode(b []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(into); err != nil {
		at := fmt.Sprintf("byte %d", dec.InputOffset())
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			at = fmt.Sprintf("%s, byte %d", kind.Field, kind.Offset)
		}
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			at = fmt.Sprintf("byte %d", syntax.Offset)
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			at = fmt.Sprintf("byte %d", len(b))
		}
		return fmt.Errorf("%w: %s: %w", ErrMalformed, at, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return malformed(fmt.Sprintf("byte %d", dec.InputOffset()), "something stands behind the document")
	}
	return nil
}

// list is a list that is also written as its only element, as JSON-LD allows.
type list []string

func (l *list) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var one string
		err := json.Unmarshal(b, &one)
		*l = list{one}
		return err
	}
	return json.Unmarshal(b, (*[]string)(l))
}

// digests takes over the digests that are read: SHA-1 and SHA-256 under any of
// their spellings.
type digests struct {
	sha1   *[20]byte
	sha256 *[32]byte
}

func (d *digests) add(at, algorithm, value string) error {
	var want int
	switch strings.ToLower(strings.ReplaceAll(algorithm, "-", "")) {
	case "sha1":
		want = 20
	case "sha256":
		want = 32
	default:
		return nil
	}
	raw, err := hex.DecodeString(value)
	if err != nil || len(raw) != want {
		return malformed(at, "%s %q: want %d hexadecimal digits", algorithm, shorten(value), 2*want)
	}
	if want == 20 {
		d.sha1 = (*[20]byte)(raw)
	} else {
		d.sha256 = (*[32]byte)(raw)
	}
	return nil
}
