package baseline

import (
	"bytes"
	"slices"
	"sort"
)

// named are the components and flags of an index's files.
type named struct {
	flags []Flags
	owner []string
}

func (n *named) name(e Entry) {
	n.flags, n.owner = append(n.flags, e.Flags), append(n.owner, e.Component)
}

// Components are those of the regular files, sorted, each once.
func (x *Index) Components() []string {
	all := slices.DeleteFunc(slices.Clone(x.owner), func(c string) bool { return c == "" })
	slices.Sort(all)
	return slices.Compact(all)
}

// ComponentOf names the entry of the SBOM that a regular file belongs to: by its
// path if it has this content there, else by the content. ok tells that the release
// has the file.
func (x *Index) ComponentOf(path string, sum [32]byte) (component string, ok bool) {
	if i, ok := sort.Find(len(x.ends), func(i int) int { return compare(path, x.path(i)) }); ok && x.digests[i] == sum {
		return x.owner[i], true
	}
	if i, ok := sort.Find(len(x.byDigest), func(i int) int { return bytes.Compare(sum[:], x.digests[x.byDigest[i]][:]) }); ok {
		return x.owner[x.byDigest[i]], true
	}
	return "", false
}

// Entry returns what is known of a regular file.
func (x *Index) Entry(path string) (Entry, bool, error) {
	i, ok := sort.Find(len(x.ends), func(i int) int { return compare(path, x.path(i)) })
	if !ok {
		return Entry{}, false, nil
	}
	return Entry{Path: path, Type: File, SHA256: x.digests[i], Flags: x.flags[i], Component: x.owner[i]}, true, nil
}
