// Package bill joins the image's software bill of materials (package sbom) with
// what wardrelease makes: each file of the baseline names its component, and the
// manifest names the SBOM.
package bill

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"ward/cmd/wardrelease/disk"
	"ward/internal/format/sbom"
	"ward/internal/trust/release"
)

// Flags are those of the verbs that take an SBOM.
type Flags struct{ file, path string }

// Register adds --sbom.
func (f *Flags) Register(flags *pflag.FlagSet) {
	flags.StringVar(&f.file, "sbom", "", "the image's SBOM `FILE` (SPDX 2.3 or 3.0, CycloneDX): each file names its component, by its content, else by its path")
}

// RegisterPath adds --sbom-path, for the verb that makes the manifest.
func (f *Flags) RegisterPath(flags *pflag.FlagSet) {
	flags.StringVar(&f.path, "sbom-path", "", "`PATH` of the same SBOM on the device, where 'wardctl sbom' finds it (default: it is not there)")
}

// Bill is an SBOM in use. A nil one names nothing.
type Bill struct {
	doc    *sbom.Document
	owners *sbom.Owners
	sum    [32]byte
	path   string

	named, asked int
}

// Open reads the SBOM; nil when none was given. tree is the root tree in which it
// must lie where the flags say so; empty: there is none to look at.
func (f *Flags) Open(tree string) (*Bill, error) {
	if f.file == "" {
		if f.path != "" {
			return nil, fmt.Errorf("--sbom-path: give the SBOM with --sbom too")
		}
		return nil, nil
	}
	b, err := read(f.file)
	if err != nil {
		return nil, err
	}
	b.path = f.path
	if f.path == "" || tree == "" {
		return b, nil
	}
	if !strings.HasPrefix(f.path, "/") {
		return nil, fmt.Errorf("--sbom-path %q: want an absolute path", f.path)
	}
	there, err := disk.Read(filepath.Join(tree, filepath.FromSlash(f.path)), sbom.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("--sbom-path: %w", err)
	}
	if sha256.Sum256(there) != b.sum {
		return nil, fmt.Errorf("--sbom-path: %s in the tree is another file than %s", f.path, f.file)
	}
	return b, nil
}

func read(file string) (*Bill, error) {
	text, err := disk.Read(file, sbom.MaxSize)
	if err != nil {
		return nil, err
	}
	doc, err := sbom.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &Bill{doc: doc, owners: doc.Owners(), sum: sha256.Sum256(text)}, nil
}

// ComponentOf names the component of a file of the tree, empty: it has none; a link
// or device has the zero sum. It counts the files that it is asked about.
func (b *Bill) ComponentOf(path string, sum [32]byte) string {
	if b == nil {
		return ""
	}
	component := b.owners.ComponentOf(path, sum)
	if sum != [32]byte{} {
		b.asked++
		if component != "" {
			b.named++
		}
	}
	return component
}

// Manifest is what the release manifest says of the SBOM.
func (b *Bill) Manifest() *release.SBOM {
	if b == nil {
		return nil
	}
	return &release.SBOM{Digest: b.sum, MediaType: b.doc.MediaType, Path: b.path}
}

// Line says how much of the tree was named; empty without an SBOM, and where no
// tree was read.
func (b *Bill) Line() string {
	if b == nil || b.asked == 0 {
		return ""
	}
	return fmt.Sprintf("SBOM %x (%s): %d components, %d of %d files belong to one\n", b.sum, b.doc.Format, len(b.doc.Components), b.named, b.asked)
}
