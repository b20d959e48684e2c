package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/BurntSushi/toml"
)

// MaxSize bounds the file: it holds at most some tens of short lines.
const MaxSize = 64 << 10

// Error says what is wrong with a configuration file, where, and what to write
// instead. It prints as one line, "file:line: key: reason".
type Error struct {
	File   string
	Line   int    // from 1; 0 when the file as a whole is meant
	Key    string // dotted, empty when the text is not TOML
	Reason string
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Key != "" {
		b.WriteString(": " + oneLine(e.Key))
	}
	return b.String() + ": " + e.Reason
}

// Load reads the file at path. A file that cannot be opened is the operating
// system's error, wrapped; everything else is an *Error.
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("open configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, b)
}

// Parse reads the text of a configuration file; name is what errors call it.
// Keys that are absent keep the value of Default. It checks, in this order:
//
//  1. the size, and that the text is TOML;
//  2. version, before anything else is looked at;
//  3. each key in the order of the file: known, of its type, within its bounds;
//  4. that an enabled uplink has a broker and the name of its certificate.
func Parse(name string, b []byte) (Config, error) {
	if len(b) > MaxSize {
		return Config{}, &Error{File: name, Reason: fmt.Sprintf("is larger than %d bytes: this is not a wardd.toml", MaxSize)}
	}
	r := reader{file: name, config: Default()}
	var top map[string]toml.Primitive
	md, err := toml.Decode(string(b), &top)
	if err != nil {
		return Config{}, r.locate("", err)
	}
	r.meta = md
	if err := r.version(top); err != nil {
		return Config{}, err
	}
	if err := r.keys(top); err != nil {
		return Config{}, err
	}
	if u := r.config.Uplink; u.Enabled {
		if len(u.Brokers) == 0 {
			return Config{}, &Error{File: name, Key: "uplink.brokers", Reason: "names no broker: name one, or write enabled = false under [uplink]"}
		}
		if u.ServerName == "" {
			return Config{}, &Error{File: name, Key: "uplink.server_name", Reason: "is missing: write the name that the broker's certificate carries"}
		}
	}
	return r.config, nil
}

// reader fills a Config key by key.
type reader struct {
	file   string
	meta   toml.MetaData
	config Config
}

func (r *reader) version(top map[string]toml.Primitive) error {
	v, ok := top["version"]
	if !ok {
		return &Error{File: r.file, Line: 1, Key: "version", Reason: fmt.Sprintf("is missing: begin the file with version = %d", Version)}
	}
	return r.set(v, "version", lookup("version"))
}

// keys sets every key of the file in the file's order, so that the first error
// is the topmost one.
func (r *reader) keys(top map[string]toml.Primitive) error {
	sections := make(map[string]map[string]toml.Primitive)
	set := make(map[string]bool)
	for _, k := range r.meta.Keys() {
		table := k[0]
		if !isSection(table) {
			if !set[table] {
				if err := r.set(top[table], table, lookup(table)); err != nil {
					return err
				}
			}
			set[table] = true
			continue
		}
		if sections[table] == nil {
			section, err := r.section(top[table], table)
			if err != nil {
				return err
			}
			sections[table] = section
		}
		if len(k) == 1 {
			continue
		}
		if name := table + "." + k[1]; !set[name] {
			if err := r.set(sections[table][k[1]], name, lookup(name)); err != nil {
				return err
			}
			set[name] = true
		}
	}
	return nil
}

// section opens a table. The TOML reader takes other values for an empty table,
// so the type is asked for first.
func (r *reader) section(value toml.Primitive, name string) (map[string]toml.Primitive, error) {
	if err := r.meta.PrimitiveDecode(value, &tableOnly{name: name}); err != nil {
		return nil, r.locate(name, err)
	}
	section := make(map[string]toml.Primitive)
	if err := r.meta.PrimitiveDecode(value, &section); err != nil {
		return nil, r.locate(name, err)
	}
	return section, nil
}

// set puts one value of the file into the field of its key; def nil is an
// unknown key.
func (r *reader) set(value toml.Primitive, name string, def *key) error {
	s := setter{config: &r.config, key: def}
	if def == nil {
		s.refuse = unknown(name)
	}
	if err := r.meta.PrimitiveDecode(value, &s); err != nil {
		return r.locate(name, err)
	}
	return nil
}

// locate gives an error of the TOML reader its file, line and key.
func (r *reader) locate(name string, err error) error {
	e := &Error{File: r.file, Key: name, Reason: err.Error()}
	var p toml.ParseError
	if errors.As(err, &p) {
		e.Line, e.Reason = p.Position.Line, p.Message
		if name == "" {
			e.Reason = "cannot be read as TOML: " + oneLine(p.Message)
		}
	}
	return e
}

// oneLine keeps the reader's words on one line; they may quote the file.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, shorten(s))
}

// setter is what the TOML reader hands one value to; an error that it returns
// comes back with the position of the key.
type setter struct {
	config *Config
	key    *key
	refuse error
}

// UnmarshalTOML checks the value's type and bounds and stores it.
func (s *setter) UnmarshalTOML(value any) error {
	if s.refuse != nil {
		return s.refuse
	}
	return s.key.store(s.config, value)
}

// tableOnly refuses every value that is no table.
type tableOnly struct{ name string }

// UnmarshalTOML looks at the value's type alone.
func (t *tableOnly) UnmarshalTOML(value any) error {
	if _, ok := value.(map[string]any); !ok {
		return errors.New("must be a table: write [" + t.name + "]")
	}
	return nil
}
