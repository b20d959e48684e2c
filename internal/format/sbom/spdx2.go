package sbom

import (
	"fmt"
	"slices"
	"strings"
)

// spdx2 is the part that is read of an SPDX 2.2 or 2.3 document (SPDX 2.3, clauses
// 6 to 11, in the JSON of its schema).
type spdx2 struct {
	Version       string             `json:"spdxVersion"`
	Name          string             `json:"name"`
	Packages      []spdx2Package     `json:"packages"`
	Files         []spdx2File        `json:"files"`
	Relationships []spdx2Relation    `json:"relationships"`
	External      []spdx2ExternalDoc `json:"externalDocumentRefs"`
	Snippets      []struct{}         `json:"snippets"`
}

type spdx2Package struct {
	ID        string          `json:"SPDXID"`
	Name      string          `json:"name"`
	Version   string          `json:"versionInfo"`
	Supplier  string          `json:"supplier"`
	Concluded string          `json:"licenseConcluded"`
	Declared  string          `json:"licenseDeclared"`
	Purpose   string          `json:"primaryPackagePurpose"`
	Checksums []spdx2Checksum `json:"checksums"`
	Refs      []struct {
		Type    string `json:"referenceType"`
		Locator string `json:"referenceLocator"`
	} `json:"externalRefs"`
	HasFiles []string `json:"hasFiles"`
}

type spdx2File struct {
	ID        string          `json:"SPDXID"`
	Name      string          `json:"fileName"`
	Checksums []spdx2Checksum `json:"checksums"`
}

type spdx2Checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdx2Relation struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

type spdx2ExternalDoc struct {
	ID string `json:"externalDocumentId"`
}

func parseSPDX2(b []byte) (*Document, error) {
	var s spdx2
	if err := decode(b, &s); err != nil {
		return nil, err
	}
	return s.document("application/spdx+json")
}

func (s *spdx2) document(mediaType string) (*Document, error) {
	if !slices.Contains([]string{"SPDX-2.2", "SPDX-2.3"}, s.Version) {
		return nil, fmt.Errorf("%w: spdxVersion %q", ErrFormat, shorten(s.Version))
	}
	b := newBuilder()
	b.d.Format, b.d.MediaType, b.d.Name = "SPDX "+s.Version[len("SPDX-"):], mediaType, shorten(s.Name)
	for i, p := range s.Packages {
		at := fmt.Sprintf("packages[%d]", i)
		if p.Purpose == "SOURCE" || p.Purpose == "PATCH" {
			b.leave("sources and patches", p.ID)
			continue
		}
		c, err := p.component(at)
		if err == nil {
			err = b.addComponent(at, c)
		}
		if err != nil {
			return nil, err
		}
	}
	for i, f := range s.Files {
		at := fmt.Sprintf("files[%d]", i)
		d, err := checksums(at, f.Checksums)
		if err != nil {
			return nil, err
		}
		if f.ID == "" {
			return nil, malformed(at, "a file without SPDXID")
		}
		if _, err := b.addFile(at, f.ID, File{Path: cleanPath(f.Name), SHA1: d.sha1, SHA256: d.sha256}); err != nil {
			return nil, err
		}
	}
	if err := s.relate(b); err != nil {
		return nil, err
	}
	for _, e := range s.External {
		b.leave("other documents, which are not opened", e.ID)
	}
	for range s.Snippets {
		b.leave("snippets", "")
	}
	return b.end(), nil
}

// relate takes over which package holds which files, however it is said.
func (s *spdx2) relate(b *builder) error {
	for i, p := range s.Packages {
		if _, ok := b.components[p.ID]; !ok {
			continue
		}
		for n, file := range p.HasFiles {
			if err := b.contains(fmt.Sprintf("packages[%d].hasFiles[%d]", i, n), p.ID, file); err != nil {
				return err
			}
		}
	}
	for i, r := range s.Relationships {
		at := fmt.Sprintf("relationships[%d]", i)
		var err error
		switch r.Type {
		case "CONTAINS":
			err = b.contains(at, r.From, r.To)
		case "CONTAINED_BY":
			err = b.contains(at, r.To, r.From)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *spdx2Package) component(at string) (Component, error) {
	c := Component{ID: p.ID, Name: p.Name, Version: p.Version, Supplier: supplier(p.Supplier), Licence: stated(p.Concluded)}
	if c.Licence == "" {
		c.Licence = stated(p.Declared)
	}
	for _, r := range p.Refs {
		switch {
		case r.Type == "purl" && c.PURL == "":
			c.PURL = r.Locator
		case strings.HasSuffix(r.Type, "cpe23Type") && c.CPE == "":
			c.CPE = r.Locator
		}
	}
	d, err := checksums(at, p.Checksums)
	c.SHA256 = d.sha256
	return c, err
}

func checksums(at string, list []spdx2Checksum) (digests, error) {
	var d digests
	for i, c := range list {
		if err := d.add(fmt.Sprintf("%s.checksums[%d]", at, i), c.Algorithm, c.Value); err != nil {
			return d, err
		}
	}
	return d, nil
}

// stated is a value that says something (SPDX 2.3, clause 7.13).
func stated(s string) string {
	if s == "NOASSERTION" || s == "NONE" {
		return ""
	}
	return s
}

// supplier takes the kind off a supplier's name (clause 7.5).
func supplier(s string) string {
	for _, kind := range []string{"Organization: ", "Person: "} {
		s = strings.TrimPrefix(s, kind)
	}
	return stated(s)
}
