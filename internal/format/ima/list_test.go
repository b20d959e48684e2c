package ima_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"ward/internal/format/ima"
)

// record is an entry as a kernel has it before it writes it out.
type record struct {
	template  string
	fields    [][]byte
	shown     []string // the fields as the ASCII list shows them
	violation bool
	number    uint32 // PCR, 0 stands for 10
}

func (r record) pcr() uint32 {
	if r.number == 0 {
		return 10
	}
	return r.number
}

// hashed is what the kernel hashes (ima_crypto.c, ima_calc_field_array_hash_tfm).
func (r record) hashed(order binary.AppendByteOrder) []byte {
	if r.template == "ima" {
		padded := make([]byte, 256)
		copy(padded, r.fields[1])
		return append(bytes.Clone(r.fields[0]), padded...)
	}
	var b []byte
	for _, f := range r.fields {
		b = append(order.AppendUint32(b, uint32(len(f))), f...)
	}
	return b
}

func (r record) hash(order binary.AppendByteOrder) []byte {
	if r.violation {
		return make([]byte, sha1.Size)
	}
	sum := sha1.Sum(r.hashed(order))
	return sum[:]
}

// binaryList writes records as ima_measurements_show does (ima_fs.c).
func binaryList(order binary.AppendByteOrder, records ...record) []byte {
	var b []byte
	for _, r := range records {
		b = order.AppendUint32(b, r.pcr())
		b = append(b, r.hash(order)...)
		b = append(order.AppendUint32(b, uint32(len(r.template))), r.template...)
		if r.template == "ima" {
			b = append(b, r.fields[0]...)
			b = append(order.AppendUint32(b, uint32(len(r.fields[1]))), r.fields[1]...)
			continue
		}
		data := r.hashed(order)
		b = append(order.AppendUint32(b, uint32(len(data))), data...)
	}
	return b
}

// asciiList writes records as ima_ascii_measurements_show does (ima_fs.c).
func asciiList(order binary.AppendByteOrder, records ...record) []byte {
	var b []byte
	for _, r := range records {
		b = fmt.Appendf(b, "%2d %x %s", r.pcr(), r.hash(order), r.template)
		for _, f := range r.shown {
			b = append(append(b, ' '), f...)
		}
		b = append(b, '\n')
	}
	return b
}

func digest(fill byte, size int) []byte { return bytes.Repeat([]byte{fill}, size) }

// ng is a d-ng field and what the ASCII list shows of it.
func ng(prefix string, sum []byte) ([]byte, string) {
	return append([]byte(prefix+":\x00"), sum...), prefix + ":" + hex.EncodeToString(sum)
}

func measured(template, prefix string, sum []byte, path string, more ...[]byte) record {
	d, shown := ng(prefix, sum)
	r := record{template: template, fields: [][]byte{d, []byte(path + "\x00")}, shown: []string{shown, path}}
	for _, f := range more {
		r.fields = append(r.fields, f)
		r.shown = append(r.shown, hex.EncodeToString(f))
	}
	return r
}

func legacy(sum []byte, path string) record {
	return record{template: "ima", fields: [][]byte{sum, []byte(path)}, shown: []string{hex.EncodeToString(sum), path}}
}

func modsig(sum []byte, path string, sig, appended []byte) record {
	r := measured("ima-modsig", "sha256", sum, path, sig)
	d, shown := ng("sha512", digest(9, 64))
	r.fields = append(r.fields, d, appended)
	r.shown = append(r.shown, shown, hex.EncodeToString(appended))
	return r
}

// evmsig is the kernel's longest template.
func evmsig(order binary.AppendByteOrder) record {
	r := measured("evm-sig", "sha256", digest(7, 32), "/etc/x", []byte{3, 2, 4})
	for _, f := range []struct {
		bytes []byte
		shown string
	}{
		{[]byte("security.ima|security.capability\x00"), "security.ima|security.capability"},
		{[]byte{1, 0, 0, 0}, "01000000"},
		{[]byte{0xab}, "ab"},
		{order.AppendUint32(nil, 900), "900"},
		{order.AppendUint32(nil, 0), "0"},
		{order.AppendUint16(nil, 0o100755), "33261"},
	} {
		r.fields = append(r.fields, f.bytes)
		r.shown = append(r.shown, f.shown)
	}
	return r
}

func decode(t *testing.T, r io.Reader) ([]ima.Entry, error) {
	t.Helper()
	d, err := ima.NewDecoder(r)
	if err != nil {
		t.Fatal(err)
	}
	var list []ima.Entry
	for {
		e, err := d.Next()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		list = append(list, e.Clone())
	}
}

func decodeAll(t *testing.T, list []byte) []ima.Entry {
	t.Helper()
	entries, err := decode(t, bytes.NewReader(list))
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func text(lines ...string) []byte { return []byte(strings.Join(lines, "\n") + "\n") }
