// Package sbom reads a software bill of materials into one model: which
// components an image is made of, and which files belong to which. It reads SPDX
// 2.2 and 2.3 (JSON and tag-value), SPDX 3.0 (JSON-LD as one "@graph" with the
// compact names of its context, as Yocto's create-spdx-3.0 writes it), and
// CycloneDX 1.4 to 1.6 (JSON). What is left out is counted by kind, never silently:
//
//   - other documents that one refers to (SPDX 2's externalDocumentRefs, as older
//     Yocto releases write one for each recipe) are not opened;
//   - snippets, annotations, vulnerabilities, services, signatures and the graph of
//     dependencies say nothing about which component a file belongs to;
//   - sources and patches are no part of an image;
//   - XML, YAML and RDF, and JSON-LD with another context, are not read at all.
//
// A bill is a statement of whoever wrote it: its digests are compared with files,
// never believed in their place.
package sbom

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of what is read.
const (
	// MaxSize bounds a document, in bytes: an image of Yocto with all of its
	// sources takes up to 100 MiB.
	MaxSize = 256 << 20
	// MaxComponents bounds the components, as the set of those that ran does (package
	// inventory): a Debian desktop has some 4,000.
	MaxComponents = 65000
	// MaxFiles bounds the files, as the file baseline does.
	MaxFiles = 1 << 20
	// MaxLabel bounds a component's name with its version, as the file baseline does.
	MaxLabel = 256
	// maxOwners bounds the claims of components on files, all together.
	maxOwners = 4 * MaxFiles
	// maxText bounds what else a component says of itself.
	maxText = 4096
	// maxPath is Linux's PATH_MAX.
	maxPath = 4096
)

var (
	// ErrFormat: the bytes are none of the formats that are read.
	ErrFormat = errors.New("not an SBOM that is read here: want SPDX 2.2, 2.3 or 3.0, or CycloneDX 1.4 to 1.6 in JSON, or SPDX 2 as tag-value")
	// ErrMalformed: the bytes are of a format that is read and break its rules.
	ErrMalformed = errors.New("malformed SBOM")
)

// Document is one bill of materials.
type Document struct {
	Format     string // "SPDX 2.3", "SPDX 3.0.1", "CycloneDX 1.6"
	MediaType  string // as a release manifest names it
	Name       string // of the document, may be empty
	Components []Component
	Files      []File
	Left       []Left // what was left out
}

// Component is a package, library, program or other part.
type Component struct {
	ID       string // within the document
	Name     string
	Version  string // may be empty, as all below
	Supplier string
	PURL     string // package URL
	CPE      string // 2.3
	Licence  string // an SPDX expression, the concluded one before the declared one
	SHA256   *[32]byte
}

// Label is what a file baseline calls the component: name@version, or the name
// alone.
func (c Component) Label() string {
	if c.Version == "" {
		return c.Name
	}
	return c.Name + "@" + c.Version
}

// File is a file with the components that claim it.
type File struct {
	Path   string // absolute, cleaned; empty: the document gives none that could be one
	SHA1   *[20]byte
	SHA256 *[32]byte
	Owners []int // indexes into Components, ascending
	// Seen says that the component was found at this path, which is not to say that
	// it holds the file: a package manager's list names every package.
	Seen bool
}

// Left is one kind of what was left out.
type Left struct {
	What  string
	Count int
	First string // one of them, by id or path
}

// Parse reads a document of any format. Errors wrap ErrFormat or ErrMalformed and
// name the place. What is checked, in this order: the size, the format and its
// version, the form, the bounds of every list, and that ids are there and each
// once. An id that a relation names and the document does not hold is left out.
func Parse(b []byte) (*Document, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("parse SBOM: %w: %d bytes, at most %d are read", ErrMalformed, len(b), MaxSize)
	}
	d, err := parse(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")))
	if err != nil {
		return nil, fmt.Errorf("parse SBOM: %w", err)
	}
	return d, nil
}

func parse(b []byte) (*Document, error) {
	if text := bytes.TrimLeft(b, " \t\r\n"); len(text) == 0 || text[0] != '{' {
		return parseTagValue(text)
	}
	var head struct {
		SPDX      string `json:"spdxVersion"`
		CycloneDX string `json:"bomFormat"`
		Version   string `json:"specVersion"`
		Context   any    `json:"@context"`
	}
	if err := decode(b, &head); err != nil {
		return nil, err
	}
	switch {
	case head.SPDX != "":
		return parseSPDX2(b)
	case head.CycloneDX == "CycloneDX":
		return parseCycloneDX(b)
	case head.Context != nil:
		return parseSPDX3(b)
	}
	return nil, ErrFormat
}

// builder puts a document together within the bounds.
type builder struct {
	d          Document
	components map[string]int
	files      map[string]int
	claims     int
	left       map[string]int // indexes into d.Left
	aggregates map[int]bool   // components that hold others
}

func newBuilder() *builder {
	return &builder{components: make(map[string]int), files: make(map[string]int), left: make(map[string]int)}
}

// addComponent takes a component of an id; at names its place.
func (b *builder) addComponent(at string, c Component) error {
	if c.ID == "" || c.Name == "" {
		return malformed(at, "a component without id or name")
	}
	if _, again := b.components[c.ID]; again {
		return malformed(at, "the id %q stands twice", shorten(c.ID))
	}
	if len(b.d.Components) == MaxComponents {
		return malformed(at, "more than %d components", MaxComponents)
	}
	if len(c.Label()) > MaxLabel || !printable(c.Label()) {
		return malformed(at, "name and version of %d bytes: want at most %d, printable", len(c.Label()), MaxLabel)
	}
	for _, s := range []*string{&c.Supplier, &c.PURL, &c.CPE, &c.Licence} {
		if len(*s) > maxText || !printable(*s) {
			b.leave("texts of components that are too long or not printable", c.ID)
			*s = ""
		}
	}
	b.components[c.ID] = len(b.d.Components)
	b.d.Components = append(b.d.Components, c)
	return nil
}

// addFile takes a file; id may be empty.
func (b *builder) addFile(at, id string, f File) (int, error) {
	if len(b.d.Files) == MaxFiles {
		return 0, malformed(at, "more than %d files", MaxFiles)
	}
	if id != "" {
		_, again := b.files[id]
		if _, component := b.components[id]; again || component {
			return 0, malformed(at, "the id %q stands twice", shorten(id))
		}
		b.files[id] = len(b.d.Files)
	}
	b.d.Files = append(b.d.Files, f)
	return len(b.d.Files) - 1, nil
}

// claim says that a component holds a file.
func (b *builder) claim(at string, component, file int) error {
	f := &b.d.Files[file]
	if slices.Contains(f.Owners, component) {
		return nil
	}
	if b.claims++; b.claims > maxOwners {
		return malformed(at, "more than %d relations of components and files", maxOwners)
	}
	f.Owners = append(f.Owners, component)
	return nil
}

// contains takes the relation of two ids, of which the first holds the second.
func (b *builder) contains(at, whole, part string) error {
	owner, ok := b.components[whole]
	file, isFile := b.files[part]
	_, isComponent := b.components[part]
	switch {
	case ok && isFile:
		return b.claim(at, owner, file)
	case ok && isComponent:
		b.aggregate(owner)
	case !ok && (isFile || isComponent):
	default:
		b.leave("relations that name elements which are not here", part)
	}
	return nil
}

func (b *builder) aggregate(component int) {
	if b.aggregates == nil {
		b.aggregates = make(map[int]bool)
	}
	b.aggregates[component] = true
}

// leave counts what is left out.
func (b *builder) leave(what, first string) {
	i, ok := b.left[what]
	if !ok {
		i = len(b.d.Left)
		b.left[what] = i
		b.d.Left = append(b.d.Left, Left{What: what, First: shorten(first)})
	}
	b.d.Left[i].Count++
}

// end settles whose files are whose: a component that holds others (an image, a
// root file system) has no claim to what one of its parts claims too.
func (b *builder) end() *Document {
	for i := range b.d.Files {
		f := &b.d.Files[i]
		if len(f.Owners) > 1 {
			parts := slices.DeleteFunc(slices.Clone(f.Owners), func(o int) bool { return b.aggregates[o] })
			if len(parts) > 0 {
				f.Owners = parts
			}
			slices.Sort(f.Owners)
		}
		if len(f.Owners) == 0 {
			b.leave("files that belong to no component", f.Path)
		}
	}
	return &b.d
}

func malformed(at, format string, a ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrMalformed, at, fmt.Sprintf(format, a...))
}

// cleanPath makes an absolute path of what documents write: "./usr/bin/x",
// "usr/bin/x". Empty: it is none.
func cleanPath(s string) string {
	if s == "" || len(s) > maxPath || strings.IndexByte(s, 0) >= 0 || strings.Contains(s, "://") {
		return ""
	}
	p := path.Clean("/" + s)
	if p == "/" || slices.Contains(strings.Split(s, "/"), "..") {
		return ""
	}
	return p
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// shorten bounds what is repeated of the input.
func shorten(s string) string {
	const longest = 120
	if len(s) > longest {
		return strings.ToValidUTF8(s[:longest], "") + "..."
	}
	return s
}
