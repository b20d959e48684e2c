package sbom

import (
	"fmt"
	"slices"
	"strings"
)

// maxNested bounds how deep components stand in components.
const maxNested = 16

// cyclonedx is the part that is read of a document (CycloneDX 1.4 to 1.6, which is
// ECMA-424).
type cyclonedx struct {
	Version  string `json:"specVersion"`
	Metadata struct {
		Component *cyclonedxComponent `json:"component"`
	} `json:"metadata"`
	Components []cyclonedxComponent `json:"components"`
	Services   []struct{}           `json:"services"`
}

type cyclonedxComponent struct {
	Type      string `json:"type"`
	Ref       string `json:"bom-ref"`
	Group     string `json:"group"`
	Name      string `json:"name"`
	Version   string `json:"version"`
	Publisher string `json:"publisher"`
	Supplier  struct {
		Name string `json:"name"`
	} `json:"supplier"`
	PURL     string `json:"purl"`
	CPE      string `json:"cpe"`
	Licences []struct {
		Expression string `json:"expression"`
		License    struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		} `json:"license"`
	} `json:"licenses"`
	Hashes []struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	} `json:"hashes"`
	Components []cyclonedxComponent `json:"components"`
	Evidence   struct {
		Occurrences []struct {
			Location string `json:"location"`
		} `json:"occurrences"`
	} `json:"evidence"`
	Properties []struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"properties"`
}

func parseCycloneDX(raw []byte) (*Document, error) {
	var doc cyclonedx
	if err := decode(raw, &doc); err != nil {
		return nil, err
	}
	if !slices.Contains([]string{"1.4", "1.5", "1.6"}, doc.Version) {
		return nil, fmt.Errorf("%w: CycloneDX specVersion %q", ErrFormat, shorten(doc.Version))
	}
	c := cyclonedxReader{builder: newBuilder(), seen: make(map[string]int)}
	c.d.Format, c.d.MediaType = "CycloneDX "+doc.Version, "application/vnd.cyclonedx+json"
	if doc.Metadata.Component != nil {
		c.d.Name = shorten(doc.Metadata.Component.Name)
	}
	if err := c.all("components", doc.Components, -1, 0); err != nil {
		return nil, err
	}
	for range doc.Services {
		c.leave("services", "")
	}
	return c.end(), nil
}

type cyclonedxReader struct {
	*builder
	seen map[string]int // files at which components were found, by path
}

// all takes components that stand in the component owner, -1: in the document.
func (c *cyclonedxReader) all(at string, list []cyclonedxComponent, owner, depth int) error {
	if depth == maxNested {
		return malformed(at, "components are nested more than %d deep", maxNested)
	}
	for i := range list {
		if err := c.one(fmt.Sprintf("%s[%d]", at, i), &list[i], owner, depth); err != nil {
			return err
		}
	}
	return nil
}

func (c *cyclonedxReader) one(at string, n *cyclonedxComponent, owner, depth int) error {
	var d digests
	for i, h := range n.Hashes {
		if err := d.add(fmt.Sprintf("%s.hashes[%d]", at, i), h.Algorithm, h.Content); err != nil {
			return err
		}
	}
	if n.Type == "file" {
		file, err := c.addFile(at, "", File{Path: cleanPath(n.Name), SHA1: d.sha1, SHA256: d.sha256})
		if err != nil {
			return err
		}
		if owner >= 0 {
			if err := c.claim(at, owner, file); err != nil {
				return err
			}
		}
		// Some tools hang components below the file in which they found them.
		return c.within(at, n, depth, func(first, last int) error {
			for part := first; part < last; part++ {
				if err := c.found(at, part, n.Name); err != nil {
					return err
				}
			}
			return nil
		})
	}
	id := n.Ref
	if id == "" {
		id = at // bom-ref may be left out
	}
	if err := c.addComponent(at, n.component(id, d)); err != nil {
		return err
	}
	self := len(c.d.Components) - 1
	if err := c.places(at, n, self); err != nil {
		return err
	}
	before := len(c.d.Components)
	if err := c.all(at+".components", n.Components, self, depth+1); err != nil {
		return err
	}
	if len(c.d.Components) > before {
		c.aggregate(self)
	}
	return nil
}

// within takes what stands in a file, and tells which components these were.
func (c *cyclonedxReader) within(at string, n *cyclonedxComponent, depth int, tell func(first, last int) error) error {
	first := len(c.d.Components)
	if err := c.all(at+".components", n.Components, -1, depth+1); err != nil {
		return err
	}
	return tell(first, len(c.d.Components))
}

func (n *cyclonedxComponent) component(id string, d digests) Component {
	p := Component{ID: id, Name: n.Name, Version: n.Version, Supplier: n.Supplier.Name, PURL: n.PURL, CPE: n.CPE, SHA256: d.sha256}
	if n.Group != "" {
		p.Name = n.Group + "/" + n.Name
	}
	if p.Supplier == "" {
		p.Supplier = n.Publisher
	}
	var licences []string
	for _, l := range n.Licences {
		for _, text := range []string{l.Expression, l.License.ID, l.License.Name} {
			if text != "" {
				licences = append(licences, text)
				break
			}
		}
	}
	p.Licence = strings.Join(licences, " AND ")
	return p
}

// places takes over where a component was found: evidence.occurrences, and the
// properties in which syft and trivy say it.
func (c *cyclonedxReader) places(at string, n *cyclonedxComponent, self int) error {
	for i, o := range n.Evidence.Occurrences {
		if err := c.found(fmt.Sprintf("%s.evidence.occurrences[%d]", at, i), self, o.Location); err != nil {
			return err
		}
	}
	for i, p := range n.Properties {
		syft := strings.HasPrefix(p.Name, "syft:location:") && strings.HasSuffix(p.Name, ":path")
		if syft || p.Name == "aquasecurity:trivy:FilePath" {
			if err := c.found(fmt.Sprintf("%s.properties[%d]", at, i), self, p.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// found notes that a component was found at a path. An occurrence may have a
// line behind its path, "file#12".
func (c *cyclonedxReader) found(at string, component int, location string) error {
	location, _, _ = strings.Cut(location, "#")
	p := cleanPath(location)
	if p == "" {
		c.leave("places that are no path", location)
		return nil
	}
	file, ok := c.seen[p]
	if !ok {
		var err error
		if file, err = c.addFile(at, "", File{Path: p, Seen: true}); err != nil {
			return err
		}
		c.seen[p] = file
	}
	return c.claim(at, component, file)
}
