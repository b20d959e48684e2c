package dsse

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a signed document; Ward's own need six levels.
const maxDepth = 32

// DecodeJSON reads one JSON document into v the way everything signed is read,
// so that two readers never see two documents in the same bytes (RFC 8259,
// section 4: behaviour on duplicate names is unpredictable). It refuses text
// that is not UTF-8, a key that stands twice in an object, a key that v does
// not have or has in another case, a number as key in another spelling than
// its shortest, null where v has a struct, anything behind
// the document, and nesting beyond a bound. Errors name the field and the
// offset. The caller bounds len(b).
func DecodeJSON(b []byte, v any) error {
	if !utf8.Valid(b) {
		return errors.New("parse JSON: not UTF-8")
	}
	w := walker{dec: json.NewDecoder(bytes.NewReader(b))}
	w.dec.UseNumber()
	if err := w.value(reflect.TypeOf(v), "", 0); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("parse JSON: cut short after %d bytes", len(b))
		}
		return fmt.Errorf("parse JSON: %w", err)
	}
	if _, err := w.dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("parse JSON: trailing data at offset %d", w.dec.InputOffset())
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("parse JSON: %w", err)
	}
	return nil
}

// walker compares a document with the Go type that is to hold it.
type walker struct {
	dec *json.Decoder
}

var (
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
)

// value walks the next value. t is nil where any value is welcome.
func (w *walker) value(t reflect.Type, path string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: nested deeper than %d levels", name(path), maxDepth)
	}
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t != nil && (reflect.PointerTo(t).Implements(textUnmarshaler) || reflect.PointerTo(t).Implements(jsonUnmarshaler)) {
		t = nil
	}
	tok, err := w.dec.Token()
	if err != nil {
		return err
	}
	switch tok {
	case json.Delim('{'):
		return w.object(t, path, depth)
	case json.Delim('['):
		var elem reflect.Type
		if t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
			elem = t.Elem()
		}
		for i := 0; w.dec.More(); i++ {
			if err := w.value(elem, fmt.Sprintf("%s[%d]", path, i), depth+1); err != nil {
				return err
			}
		}
		_, err = w.dec.Token()
		return err
	case nil:
		if t != nil {
			return fmt.Errorf("%s: null at offset %d", name(path), w.dec.InputOffset())
		}
	}
	return nil
}

// object walks an object after its opening brace.
func (w *walker) object(t reflect.Type, path string, depth int) error {
	var fields map[string]reflect.Type
	var elem reflect.Type
	if t != nil && t.Kind() == reflect.Struct {
		fields = structFields(t)
	}
	numbered := false
	if t != nil && t.Kind() == reflect.Map {
		elem, numbered = t.Elem(), t.Key().Kind() == reflect.Int
	}
	seen := make(map[string]bool)
	for w.dec.More() {
		tok, err := w.dec.Token()
		if err != nil {
			return err
		}
		key, _ := tok.(string)
		at := key
		if path != "" {
			at = path + "." + key
		}
		if seen[key] {
			return fmt.Errorf("%s stands twice, at offset %d", name(at), w.dec.InputOffset())
		}
		seen[key] = true
		if numbered && !canonicalNumber(key) {
			return fmt.Errorf("%s at offset %d: want a decimal number without leading zeros", name(at), w.dec.InputOffset())
		}
		if fields != nil {
			var known bool
			if elem, known = fields[key]; !known {
				return fmt.Errorf("unknown field %s at offset %d", name(at), w.dec.InputOffset())
			}
		}
		if err := w.value(elem, at, depth+1); err != nil {
			return err
		}
	}
	_, err := w.dec.Token()
	return err
}

// canonicalNumber tells whether key is the one spelling of its number: "4" and
// "04" would meet in one entry of a map.
func canonicalNumber(key string) bool {
	n, err := strconv.Atoi(key)
	return err == nil && strconv.Itoa(n) == key
}

// structFields lists a struct's fields by their JSON names; those of a struct that
// is embedded without a name are its own.
func structFields(t reflect.Type) map[string]reflect.Type {
	fields := make(map[string]reflect.Type)
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || tag == "-" {
			continue
		}
		if f.Anonymous && tag == "" && f.Type.Kind() == reflect.Struct {
			maps.Copy(fields, structFields(f.Type))
			continue
		}
		if tag == "" {
			tag = f.Name
		}
		fields[tag] = f.Type
	}
	return fields
}

// name quotes a field's path for an error; it comes from the input.
func name(path string) string {
	const longest = 80
	if path == "" {
		return "the document"
	}
	if len(path) > longest {
		path = strings.ToValidUTF8(path[:longest], "") + "…"
	}
	return fmt.Sprintf("%q", path)
}
