package sbom

import (
	"fmt"
	"strings"
)

// spdx3Context is how the address of the JSON-LD context begins; the names of
// fields and types are those that it makes short.
const spdx3Context = "https://spdx.org/rdf/3.0"

// maxElements bounds the elements of a graph: files, packages, licences and a
// relation or two of each.
const maxElements = 4 * MaxFiles

// element is the part that is read of any element of the graph (SPDX 3.0.1, Core
// and Software profiles).
type element struct {
	Type    string `json:"type"`
	LDType  string `json:"@type"`
	ID      string `json:"spdxId"`
	LDID    string `json:"@id"`
	Name    string `json:"name"`
	Spec    string `json:"specVersion"`
	Version string `json:"software_packageVersion"`
	PURL    string `json:"software_packageUrl"`
	Purpose string `json:"software_primaryPurpose"`
	By      string `json:"suppliedBy"`
	Licence string `json:"simplelicensing_licenseExpression"`

	Verified []spdx3Hash `json:"verifiedUsing"`
	Known    []struct {
		Type string `json:"externalIdentifierType"`
		ID   string `json:"identifier"`
	} `json:"externalIdentifier"`

	From     string `json:"from"`
	Relation string `json:"relationshipType"`
	To       list   `json:"to"`
}

type spdx3Hash struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"hashValue"`
}

func parseSPDX3(raw []byte) (*Document, error) {
	var doc struct {
		Context any       `json:"@context"`
		Graph   []element `json:"@graph"`
	}
	if err := decode(raw, &doc); err != nil {
		return nil, err
	}
	context, _ := doc.Context.(string)
	if !strings.HasPrefix(context, spdx3Context) {
		return nil, fmt.Errorf("%w: @context %q", ErrFormat, shorten(context))
	}
	if len(doc.Graph) == 0 || len(doc.Graph) > maxElements {
		return nil, malformed("@graph", "%d elements, want 1 to %d", len(doc.Graph), maxElements)
	}
	g := graph{builder: newBuilder(), names: make(map[string]string), licences: make(map[string]string)}
	g.d.Format, g.d.MediaType = "SPDX 3.0", "application/spdx+json"
	for i := range doc.Graph {
		if err := g.take(fmt.Sprintf("@graph[%d]", i), &doc.Graph[i]); err != nil {
			return nil, err
		}
	}
	for i := range doc.Graph {
		if err := g.relate(fmt.Sprintf("@graph[%d]", i), &doc.Graph[i]); err != nil {
			return nil, err
		}
	}
	for i := range g.d.Components { // their suppliers may stand behind them
		c := &g.d.Components[i]
		c.Supplier = g.names[c.Supplier]
	}
	return g.end(), nil
}

// graph is the builder with what elements refer to.
type graph struct {
	*builder
	names    map[string]string // of agents, by id
	licences map[string]string // expressions, by id
}

// take is the first pass: what stands for itself.
func (g *graph) take(at string, e *element) error {
	if e.Type == "" {
		e.Type = e.LDType
	}
	if e.ID == "" {
		e.ID = e.LDID
	}
	switch e.Type {
	case "CreationInfo":
		if strings.HasPrefix(e.Spec, "3.0.") && len(e.Spec) < 16 {
			g.d.Format = "SPDX " + e.Spec
		}
	case "SpdxDocument":
		g.d.Name = shorten(e.Name)
	case "Organization", "Person", "Agent", "SoftwareAgent":
		g.names[e.ID] = e.Name
	case "simplelicensing_LicenseExpression":
		g.licences[e.ID] = e.Licence
	case "software_Snippet":
		g.leave("snippets", e.ID)
	case "software_Package":
		return g.component(at, e)
	case "software_File":
		return g.file(at, e)
	case "":
		return malformed(at, "an element without a type")
	}
	return nil
}

func (g *graph) component(at string, e *element) error {
	if source(e.Purpose) {
		g.leave("sources and patches", e.ID)
		return nil
	}
	d, err := hashes(at, e.Verified)
	if err != nil {
		return err
	}
	c := Component{ID: e.ID, Name: e.Name, Version: e.Version, Supplier: e.By, PURL: e.PURL, SHA256: d.sha256}
	for _, k := range e.Known {
		switch {
		case strings.HasPrefix(k.Type, "cpe23") && c.CPE == "":
			c.CPE = k.ID
		case k.Type == "packageUrl" && c.PURL == "":
			c.PURL = k.ID
		}
	}
	return g.addComponent(at, c)
}

func (g *graph) file(at string, e *element) error {
	if source(e.Purpose) {
		g.leave("sources and patches", e.ID)
		return nil
	}
	d, err := hashes(at, e.Verified)
	if err != nil {
		return err
	}
	if e.ID == "" {
		return malformed(at, "a file without spdxId")
	}
	_, err = g.addFile(at, e.ID, File{Path: cleanPath(e.Name), SHA1: d.sha1, SHA256: d.sha256})
	return err
}

func source(purpose string) bool { return purpose == "source" || purpose == "patch" }

func hashes(at string, list []spdx3Hash) (digests, error) {
	var d digests
	for i, h := range list {
		if err := d.add(fmt.Sprintf("%s.verifiedUsing[%d]", at, i), h.Algorithm, h.Value); err != nil {
			return d, err
		}
	}
	return d, nil
}

// relate is the second pass: what holds what, and under which licence.
func (g *graph) relate(at string, e *element) error {
	switch e.Relation {
	case "contains":
		for n, to := range e.To {
			if err := g.contains(fmt.Sprintf("%s.to[%d]", at, n), e.From, to); err != nil {
				return err
			}
		}
	case "hasConcludedLicense", "hasDeclaredLicense":
		i, ok := g.components[e.From]
		if !ok || len(e.To) == 0 {
			return nil
		}
		c := &g.d.Components[i]
		if text := stated(g.licences[e.To[0]]); text != "" && len(text) <= maxText && printable(text) && (c.Licence == "" || e.Relation == "hasConcludedLicense") {
			c.Licence = text
		}
	}
	return nil
}
