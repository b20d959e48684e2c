package ima

import (
	"encoding/binary"
	"strings"

	"ward/internal/format/pcr"
)

// Field is one field of an entry's template.
type Field struct {
	Name  string     `json:"name"` // the kernel's field id: "d-ng", "xattrnames"
	Bytes pcr.Digest `json:"bytes"`
}

// formats are the format strings of the kernel's templates (ima_template.c,
// builtin_templates), and the one that hides a path.
var formats = map[string]string{
	legacyName:   "d|n",
	"ima-ng":     "d-ng|n-ng",
	"ima-sig":    "d-ng|n-ng|sig",
	"ima-ngv2":   "d-ngv2|n-ng",
	"ima-sigv2":  "d-ngv2|n-ng|sig",
	"ima-buf":    "d-ng|n-ng|buf",
	"ima-modsig": "d-ng|n-ng|sig|d-modsig|modsig",
	"evm-sig":    "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",

	HiddenTemplate: hiddenFormat,
}

// Fields returns all fields of an entry, as parts of its data. It is nil where
// the template is unknown.
func (e Entry) Fields() []Field {
	format, ok := formats[e.Template]
	if !ok {
		format = e.Template
	}
	if parseLayout(e.Template, format).fields == nil {
		return nil
	}
	if e.Template == legacyName && len(e.Data) >= legacyDigest {
		return []Field{{"d", pcr.Digest(e.Data[:legacyDigest])}, {"n", pcr.Digest(e.Path)}}
	}
	var list []Field
	rest := e.Data
	for name := range strings.SplitSeq(format, "|") {
		if len(rest) < 4 || uint64(e.Uint32(rest)) > uint64(len(rest)-4) {
			return nil
		}
		n := 4 + int(e.Uint32(rest))
		list = append(list, Field{name, pcr.Digest(rest[4:n:n])})
		rest = rest[n:]
	}
	return list
}

// Uint32 reads an integer of the entry's data in their byte order.
func (e Entry) Uint32(b []byte) uint32 {
	if e.BigEndian {
		return binary.BigEndian.Uint32(b)
	}
	return binary.LittleEndian.Uint32(b)
}

// Inode is what the template evm-sig says of a file beside its content.
type Inode struct {
	UID        uint32   `json:"uid"`
	GID        uint32   `json:"gid"`
	Mode       uint16   `json:"mode"`       // type and permissions, as in st_mode
	Attributes []string `json:"attributes"` // the names of the protected ones, in the kernel's order
}

// Inode returns what an entry says of its file's owner, mode and attributes;
// false: the template does not have all three numbers.
func (e Entry) Inode() (Inode, bool) {
	uid, gid, mode := e.Field("iuid"), e.Field("igid"), e.Field("imode")
	if len(uid) != 4 || len(gid) != 4 || len(mode) != 2 {
		return Inode{}, false
	}
	i := Inode{UID: e.Uint32(uid), GID: e.Uint32(gid), Mode: binary.LittleEndian.Uint16(mode), Attributes: []string{}}
	if e.BigEndian {
		i.Mode = binary.BigEndian.Uint16(mode)
	}
	if names := strings.TrimSuffix(string(e.Field("xattrnames")), "\x00"); names != "" {
		i.Attributes = strings.Split(names, "|")
	}
	return i, true
}

// Field returns the first field of a name; nil: the template has none.
func (e Entry) Field(name string) []byte {
	for _, f := range e.Fields() {
		if f.Name == name {
			return f.Bytes
		}
	}
	return nil
}
