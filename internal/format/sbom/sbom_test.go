package sbom_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ward/internal/alloctest"
	"ward/internal/format/sbom"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t testing.TB, name string) *sbom.Document {
	t.Helper()
	d, err := sbom.Parse(read(t, name))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return d
}

func labels(d *sbom.Document) []string {
	var out []string
	for _, c := range d.Components {
		out = append(out, c.Label())
	}
	return out
}

func left(d *sbom.Document) []string {
	var out []string
	for _, l := range d.Left {
		out = append(out, fmt.Sprintf("%d %s", l.Count, l.What))
	}
	slices.Sort(out)
	return out
}

// Each format in the shape of the tool that writes it most: what components there
// are, which file is whose, and what was left out.
//
// Verifies: SR-078
func TestFormats(t *testing.T) {
	const unknown = "somewhere/else"
	for _, tt := range []struct {
		file, shape, format, media string
		components                 []string
		owners                     map[string]string // path=content to label
		left                       []string
	}{
		{
			file: "yocto.spdx3.json", shape: "Yocto 5.1 and later, create-spdx-3.0: the document of an image", format: "SPDX 3.0.1", media: "application/spdx+json",
			components: []string{"core-image-pump-rootfs", "busybox@1.37.0-r0", "libssl3@3.5.0-r0", "base-files@3.0.14-r0"},
			owners: map[string]string{
				"/bin/busybox.nosuid=busybox":                "busybox@1.37.0-r0",
				"/usr/bin/busybox=busybox":                   "busybox@1.37.0-r0",
				"/usr/lib/libssl.so.3=patched":               "libssl3@3.5.0-r0", // the root file system claims it too
				"/usr/share/licenses/COPYING=licence":        "libssl3@3.5.0-r0", // two hold this content
				"/usr/share/licenses/other=licence":          "busybox@1.37.0-r0",
				"/usr/share/licenses/busybox/COPYING=change": "busybox@1.37.0-r0",
				"/" + unknown + "=stranger":                  "",
				"/busybox/main.c=source":                     "",
			},
			left: []string{"1 files that belong to no component", "2 sources and patches"},
		},
		{
			file: "syft.spdx.json", shape: "syft over the root tree of a Debian image", format: "SPDX 2.3", media: "application/spdx+json",
			components: []string{"busybox@1:1.35.0-4", "libssl3@3.0.16-1", "rootfs"},
			owners: map[string]string{
				"/bin/busybox=busybox":                            "busybox@1:1.35.0-4",
				"/usr/lib/x86_64-linux-gnu/libssl.so.3=libssl":    "libssl3@3.0.16-1",
				"/usr/share/doc/busybox/copyright=copyright":      "busybox@1:1.35.0-4", // by its path: the document has a SHA-1 only
				"/opt/vendor/pump=pump":                           "",
				"/usr/share/doc/busybox/../../../bin/sh=stranger": "",
			},
			left: []string{"1 files that belong to no component", "1 relations that name elements which are not here"},
		},
		{
			file: "yocto.spdx22.json", shape: "Yocto 4.0 to 5.0, create-spdx-2.2: the document of one package", format: "SPDX 2.2", media: "application/spdx+json",
			components: []string{"busybox@1.36.1"},
			owners:     map[string]string{"/bin/busybox.nosuid=busybox": "busybox@1.36.1"},
			left:       []string{"1 other documents, which are not opened"},
		},
		{
			file: "trivy.spdx", shape: "trivy, tag-value", format: "SPDX 2.3", media: "text/spdx",
			components: []string{"busybox@1.35.0", "libssl3@3.0.16"},
			owners: map[string]string{
				"/bin/busybox=busybox":  "busybox@1.35.0", // it stands behind the package
				"/opt/vendor/pump=pump": "libssl3@3.0.16",
			},
		},
		{
			file: "image.cdx.json", shape: "nested files as cyclonedx-cli merges them, occurrences as cdxgen, properties as syft", format: "CycloneDX 1.6", media: "application/vnd.cyclonedx+json",
			components: []string{"busybox@1.37.0", "openssl.org/openssl@3.5.0", "zlib@1.3.1", "expat@2.7.1", "pump@4.2.0", "agent@0.9"},
			owners: map[string]string{
				"/bin/busybox=busybox":          "busybox@1.37.0",
				"/usr/lib/libssl.so.3=libssl":   "openssl.org/openssl@3.5.0",
				"/usr/lib/libcrypto.so.3=":      "openssl.org/openssl@3.5.0",
				"/usr/lib/libz.so.1=z":          "zlib@1.3.1",
				"/var/lib/dpkg/status=packages": "", // where syft found every package
				"/opt/pump=pump":                "pump@4.2.0",
				"/usr/bin/agent=agent":          "agent@0.9",
				"/etc/issue=issue":              "",
			},
			left: []string{"1 services", "2 files that belong to no component"},
		},
	} {
		t.Run(tt.file, func(t *testing.T) {
			d := parse(t, tt.file)
			if d.Format != tt.format || d.MediaType != tt.media || d.Name == "" {
				t.Errorf("%q, %q, %q", d.Format, d.MediaType, d.Name)
			}
			if got := labels(d); !slices.Equal(got, tt.components) {
				t.Errorf("components %q, want %q", got, tt.components)
			}
			o := d.Owners()
			for file, want := range tt.owners {
				path, content, _ := strings.Cut(file, "=")
				if got := o.ComponentOf(path, sha256.Sum256([]byte(content))); got != want {
					t.Errorf("%s (%s) belongs to %q, want %q", path, content, got, want)
				}
			}
			if got := left(d); !slices.Equal(got, tt.left) {
				t.Errorf("left out %q, want %q", got, tt.left)
			}
		})
	}
}

// What else a component says of itself, in each format.
func TestComponent(t *testing.T) {
	for _, tt := range []struct {
		file, label, want string
	}{
		{"yocto.spdx3.json", "libssl3@3.5.0-r0", "OpenEmbedded ()|pkg:yocto/core/openssl@3.5.0|cpe:2.3:*:openssl:openssl:3.5.0:*:*:*:*:*:*:*|Apache-2.0"},
		{"syft.spdx.json", "busybox@1:1.35.0-4", "Debian (maintainers)|pkg:deb/debian/busybox@1:1.35.0-4?arch=amd64|cpe:2.3:a:busybox:busybox:1:1.35.0-4:*:*:*:*:*:*:*|GPL-2.0-only"},
		{"trivy.spdx", "busybox@1.35.0", "Debian|pkg:deb/debian/busybox@1.35.0||GPL-2.0-only"},
		{"image.cdx.json", "busybox@1.37.0", "The BusyBox project|pkg:generic/busybox@1.37.0|cpe:2.3:a:busybox:busybox:1.37.0:*:*:*:*:*:*:*|GPL-2.0-only AND bzip2"},
	} {
		d := parse(t, tt.file)
		i := slices.IndexFunc(d.Components, func(c sbom.Component) bool { return c.Label() == tt.label })
		if i < 0 {
			t.Errorf("%s: no %s", tt.file, tt.label)
			continue
		}
		c := d.Components[i]
		if got := strings.Join([]string{c.Supplier, c.PURL, c.CPE, c.Licence}, "|"); got != tt.want {
			t.Errorf("%s: %s\nis   %s\nwant %s", tt.file, tt.label, got, tt.want)
		}
	}
}

// What cannot be read is refused, and the error names the place.
//
// Verifies: SR-078
func TestRefused(t *testing.T) {
	const context = `{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[`
	deep := `{"bomFormat":"CycloneDX","specVersion":"1.5","components":[` + strings.Repeat(`{"type":"library","name":"a","components":[`, 17) + strings.Repeat(`]}`, 17) + `]}`
	for _, tt := range []struct {
		name, text string
		is         error
		place      string
	}{
		{"nothing", "", sbom.ErrFormat, ""},
		{"a list", "[]", sbom.ErrFormat, ""},
		{"another document", `{"name":"x"}`, sbom.ErrFormat, ""},
		{"XML", `<bom xmlns="http://cyclonedx.org/schema/bom/1.6"/>`, sbom.ErrFormat, ""},
		{"another version of SPDX", `{"spdxVersion":"SPDX-2.1"}`, sbom.ErrFormat, "SPDX-2.1"},
		{"another version of CycloneDX", `{"bomFormat":"CycloneDX","specVersion":"1.7"}`, sbom.ErrFormat, "1.7"},
		{"another context", `{"@context":["x"],"@graph":[{}]}`, sbom.ErrFormat, "@context"},
		{"cut", `{"spdxVersion":"SPDX-2.3","packages":[{"SPDXID":"a"`, sbom.ErrMalformed, "byte 51"},
		{"two documents", `{"spdxVersion":"SPDX-2.3"}{}`, sbom.ErrMalformed, "byte 27"},
		{"another kind", `{"spdxVersion":"SPDX-2.3","packages":[{"SPDXID":7}]}`, sbom.ErrMalformed, "packages.SPDXID"},
		{"no name", `{"spdxVersion":"SPDX-2.3","packages":[{"SPDXID":"a"}]}`, sbom.ErrMalformed, "packages[0]"},
		{"an id twice", `{"spdxVersion":"SPDX-2.3","packages":[{"SPDXID":"a","name":"x"},{"SPDXID":"a","name":"y"}]}`, sbom.ErrMalformed, "packages[1]"},
		{"a file with a package's id", `{"spdxVersion":"SPDX-2.3","packages":[{"SPDXID":"a","name":"x"}],"files":[{"SPDXID":"a","fileName":"y"}]}`, sbom.ErrMalformed, "files[0]"},
		{"a short digest", `{"spdxVersion":"SPDX-2.3","files":[{"SPDXID":"a","checksums":[{"algorithm":"SHA256","checksumValue":"00"}]}]}`, sbom.ErrMalformed, "files[0].checksums[0]"},
		{"a name for terminals", `{"spdxVersion":"SPDX-2.3","packages":[{"SPDXID":"a","name":"\u001b[2J"}]}`, sbom.ErrMalformed, "packages[0]"},
		{"a long name", `{"spdxVersion":"SPDX-2.3","packages":[{"SPDXID":"a","name":"` + strings.Repeat("x", 257) + `"}]}`, sbom.ErrMalformed, "packages[0]"},
		{"no graph", context + `]}`, sbom.ErrMalformed, "@graph"},
		{"an element without a type", context + `{"spdxId":"a"}]}`, sbom.ErrMalformed, "@graph[0]"},
		{"a package without id", context + `{"type":"software_Package","name":"a"}]}`, sbom.ErrMalformed, "@graph[0]"},
		{"a file without id", context + `{"type":"software_File","name":"a"}]}`, sbom.ErrMalformed, "@graph[0]"},
		{"a digest of letters", context + `{"type":"software_File","spdxId":"a","name":"a","verifiedUsing":[{"algorithm":"sha256","hashValue":"` + strings.Repeat("z", 64) + `"}]}]}`, sbom.ErrMalformed, "@graph[0].verifiedUsing[0]"},
		{"deep nesting", deep, sbom.ErrMalformed, "nested"},
		{"a line without a tag", "SPDXVersion: SPDX-2.3\nhello\n", sbom.ErrMalformed, "line 2"},
		{"a text without an end", "SPDXVersion: SPDX-2.3\nComment: <text>x\n", sbom.ErrMalformed, "line 2"},
		{"a relationship of two words", "SPDXVersion: SPDX-2.3\nRelationship: a CONTAINS\n", sbom.ErrMalformed, "line 2"},
	} {
		d, err := sbom.Parse([]byte(tt.text))
		if !errors.Is(err, tt.is) || d != nil || !strings.Contains(fmt.Sprint(err), tt.place) {
			t.Errorf("%s: %v, want one that names %q", tt.name, err, tt.place)
		}
	}
}

// More components than a set can count are refused, also in tag-value, which is
// read line by line.
func TestBounds(t *testing.T) {
	var tags, json strings.Builder
	tags.WriteString("SPDXVersion: SPDX-2.3\n")
	json.WriteString(`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[`)
	for i := range sbom.MaxComponents + 1 {
		fmt.Fprintf(&tags, "PackageName: p\nSPDXID: %d\n", i)
		if i > 0 {
			json.WriteByte(',')
		}
		fmt.Fprintf(&json, `{"type":"library","name":"p%d"}`, i)
	}
	json.WriteString(`]}`)
	for name, text := range map[string]string{"tag-value": tags.String(), "CycloneDX": json.String()} {
		if _, err := sbom.Parse([]byte(text)); !errors.Is(err, sbom.ErrMalformed) || !strings.Contains(err.Error(), "65000") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// allocationFactor bounds what Parse may allocate for each byte of input: an
// element of a graph takes some 400 bytes and may be written in two.
const allocationFactor, allocationFloor = 400, 1 << 20

func check(t *testing.T, b []byte) {
	d, err := sbom.Parse(b)
	most := uint64(allocationFloor + allocationFactor*len(b))
	if used := alloctest.Bytes(most, func() { _, _ = sbom.Parse(b) }); used > most {
		t.Errorf("%d bytes of input, %d allocated, at most %d", len(b), used, most)
	}
	if err != nil {
		if d != nil {
			t.Error("an error and a document")
		}
		return
	}
	for i, f := range d.Files {
		if f.Path != "" && (!strings.HasPrefix(f.Path, "/") || filepath.Clean(f.Path) != f.Path) {
			t.Errorf("file %d: path %q", i, f.Path)
		}
		for _, o := range f.Owners {
			if o < 0 || o >= len(d.Components) {
				t.Errorf("file %d belongs to component %d of %d", i, o, len(d.Components))
			}
		}
	}
	for _, c := range d.Components {
		if c.Name == "" || len(c.Label()) > sbom.MaxLabel {
			t.Errorf("component %+v", c)
		}
	}
	d.Owners().ComponentOf("/bin/busybox", [32]byte{})
}

// Verifies: SR-078
func FuzzSPDX2(f *testing.F) {
	f.Add(read(f, "syft.spdx.json"))
	f.Add(read(f, "yocto.spdx22.json"))
	f.Fuzz(check)
}

// Verifies: SR-078
func FuzzTagValue(f *testing.F) {
	f.Add(read(f, "trivy.spdx"))
	f.Fuzz(check)
}

// Verifies: SR-078
func FuzzSPDX3(f *testing.F) {
	f.Add(read(f, "yocto.spdx3.json"))
	f.Fuzz(check)
}

// Verifies: SR-078
func FuzzCycloneDX(f *testing.F) {
	f.Add(read(f, "image.cdx.json"))
	f.Fuzz(check)
}
