package sbom

import "slices"

// Owners answers which component a file belongs to.
type Owners struct {
	labels   []string
	byDigest map[[32]byte][]int // components that hold a file of this content
	byPath   map[string][]int   // and one at this path
	seenAt   map[string][]int   // components that were found at this path
}

// Owners makes the answers from a document.
func (d *Document) Owners() *Owners {
	o := &Owners{byDigest: make(map[[32]byte][]int), byPath: make(map[string][]int), seenAt: make(map[string][]int)}
	for _, c := range d.Components {
		o.labels = append(o.labels, c.Label())
	}
	for _, f := range d.Files {
		if len(f.Owners) == 0 {
			continue
		}
		if f.Seen {
			o.seenAt[f.Path] = append(o.seenAt[f.Path], f.Owners...)
			continue
		}
		if f.SHA256 != nil {
			o.byDigest[*f.SHA256] = append(o.byDigest[*f.SHA256], f.Owners...)
		}
		if f.Path != "" {
			o.byPath[f.Path] = append(o.byPath[f.Path], f.Owners...)
		}
	}
	for i, c := range d.Components { // a component that is one file
		if c.SHA256 != nil {
			o.byDigest[*c.SHA256] = append(o.byDigest[*c.SHA256], i)
		}
	}
	return o
}

// ComponentOf names the component of a file, by its path on the device and the
// SHA-256 of its content, as Component.Label does; empty: it belongs to none. The
// content counts before the path: paths differ where folders are joined (/lib and
// /usr/lib), and content does not lie. Where several components hold the same
// content, the one that holds it at this path is taken, else the first by name. A
// place at which a component was merely found counts when it is the only one.
func (o *Owners) ComponentOf(path string, sum [32]byte) string {
	if holders := o.byDigest[sum]; len(holders) > 0 {
		var here []int
		for _, h := range holders {
			if slices.Contains(o.byPath[path], h) {
				here = append(here, h)
			}
		}
		if len(here) > 0 {
			holders = here
		}
		return o.first(holders)
	}
	if holders := o.byPath[path]; len(holders) > 0 {
		return o.first(holders)
	}
	if seen := o.seenAt[path]; len(seen) == 1 {
		return o.labels[seen[0]]
	}
	return ""
}

func (o *Owners) first(holders []int) string {
	best := o.labels[holders[0]]
	for _, h := range holders[1:] {
		best = min(best, o.labels[h])
	}
	return best
}
