package sbom

import (
	"bytes"
	"fmt"
	"strings"
)

// parseTagValue reads SPDX 2 as tag-value (SPDX 2.3, clause 5): a line is a tag, a
// colon and a value; a value in <text> goes on over lines; a file that stands
// behind a package belongs to it (clause 8).
func parseTagValue(b []byte) (*Document, error) {
	if !bytes.HasPrefix(firstLine(b), []byte("SPDXVersion:")) {
		return nil, ErrFormat
	}
	t := tagReader{file: -1, pkg: -1}
	number, long := 0, false
	for line := range bytes.Lines(b) {
		number++
		text := strings.TrimRight(string(line), "\r\n")
		if long {
			long = !strings.Contains(text, "</text>")
			continue
		}
		if strings.TrimSpace(text) == "" || strings.HasPrefix(text, "#") {
			continue
		}
		tag, value, ok := strings.Cut(text, ":")
		if !ok {
			return nil, malformed(fmt.Sprintf("line %d", number), "want a tag, a colon and a value")
		}
		value = strings.TrimSpace(value)
		if rest, text := strings.CutPrefix(value, "<text>"); text {
			value, _, ok = strings.Cut(rest, "</text>")
			long = !ok
		}
		if err := t.take(tag, value); err != nil {
			return nil, malformed(fmt.Sprintf("line %d", number), "%v", err)
		}
	}
	if long {
		return nil, malformed(fmt.Sprintf("line %d", number), "<text> does not end")
	}
	return t.doc.document("text/spdx")
}

// firstLine passes over empty lines and comments.
func firstLine(b []byte) []byte {
	for line := range bytes.Lines(b) {
		if text := bytes.TrimSpace(line); len(text) > 0 && text[0] != '#' {
			return text
		}
	}
	return nil
}

// tagReader puts the same document together as the JSON reader gets.
type tagReader struct {
	doc       spdx2
	pkg, file int // that the next tags are about, -1: none
}

func (t *tagReader) take(tag, value string) error {
	switch tag {
	case "SPDXVersion":
		t.doc.Version = value
	case "DocumentName":
		t.doc.Name = value
	case "ExternalDocumentRef":
		t.doc.External = append(t.doc.External, spdx2ExternalDoc{ID: value})
	case "SnippetSPDXID":
		t.doc.Snippets, t.file, t.pkg = append(t.doc.Snippets, struct{}{}), -1, -1
	case "PackageName":
		if len(t.doc.Packages) > MaxComponents {
			return fmt.Errorf("more than %d packages", MaxComponents)
		}
		t.doc.Packages = append(t.doc.Packages, spdx2Package{Name: value})
		t.pkg, t.file = len(t.doc.Packages)-1, -1
	case "FileName":
		if len(t.doc.Files) > MaxFiles {
			return fmt.Errorf("more than %d files", MaxFiles)
		}
		t.doc.Files = append(t.doc.Files, spdx2File{Name: value})
		t.file = len(t.doc.Files) - 1
	case "SPDXID":
		t.id(value)
	case "Relationship":
		f := strings.Fields(value)
		if len(f) != 3 {
			return fmt.Errorf("a relationship of %d words, want three", len(f))
		}
		t.doc.Relationships = append(t.doc.Relationships, spdx2Relation{f[0], f[1], f[2]})
	case "FileChecksum", "PackageChecksum":
		algorithm, sum, _ := strings.Cut(value, ":")
		c := spdx2Checksum{algorithm, strings.TrimSpace(sum)}
		if tag == "FileChecksum" && t.file >= 0 {
			t.doc.Files[t.file].Checksums = append(t.doc.Files[t.file].Checksums, c)
		}
		if tag == "PackageChecksum" && t.pkg >= 0 {
			t.doc.Packages[t.pkg].Checksums = append(t.doc.Packages[t.pkg].Checksums, c)
		}
	default:
		t.describe(tag, value)
	}
	return nil
}

// id is that of the file or package whose name stood before it; the document's
// own stands before both.
func (t *tagReader) id(value string) {
	switch {
	case t.file >= 0:
		t.doc.Files[t.file].ID = value
		if t.pkg >= 0 {
			t.doc.Packages[t.pkg].HasFiles = append(t.doc.Packages[t.pkg].HasFiles, value)
		}
	case t.pkg >= 0:
		t.doc.Packages[t.pkg].ID = value
	}
}

func (t *tagReader) describe(tag, value string) {
	if t.pkg < 0 {
		return
	}
	p := &t.doc.Packages[t.pkg]
	switch tag {
	case "PackageVersion":
		p.Version = value
	case "PackageSupplier":
		p.Supplier = value
	case "PackageLicenseConcluded":
		p.Concluded = value
	case "PackageLicenseDeclared":
		p.Declared = value
	case "PrimaryPackagePurpose":
		p.Purpose = value
	case "ExternalRef":
		if f := strings.Fields(value); len(f) == 3 {
			p.Refs = append(p.Refs, struct {
				Type    string `json:"referenceType"`
				Locator string `json:"referenceLocator"`
			}{f[1], f[2]})
		}
	}
}
