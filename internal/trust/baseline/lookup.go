package baseline

// Match is what a baseline says about a path and a content. The zero Match says
// nothing: the file could not be read again, or was changed (Index.Err).
type Match uint8

const (
	// Known: the release has this content at this path.
	Known Match = iota + 1
	// ChangedContent: the release has the path, with other content.
	ChangedContent
	// UnknownPath: the release has neither the path nor the content.
	UnknownPath
	// KnownContentOtherPath: the release has the content, at another path.
	KnownContentOtherPath
)

func (m Match) String() string {
	switch m {
	case Known:
		return "known"
	case ChangedContent:
		return "changed content"
	case UnknownPath:
		return "unknown path"
	case KnownContentOtherPath:
		return "known content at another path"
	}
	return "none"
}

// Lookup compares a path and the SHA-256 of its content with the baseline's
// regular files. The path is absolute and free of symbolic links, as the kernel
// reports it.
func (x *Index) Lookup(path string, sum [32]byte) Match {
	line, err := x.find(path)
	if err != nil {
		return 0
	}
	if line != nil && Type(line[0]) == File {
		if hasSum(line, sum) {
			return Known
		}
		return ChangedContent
	}
	line, err = x.findSum(sum)
	switch {
	case err != nil:
		return 0
	case line != nil:
		return KnownContentOtherPath
	}
	return UnknownPath
}

// Entry returns the entry of a path; false: the release does not name it.
func (x *Index) Entry(path string) (Entry, bool, error) {
	line, err := x.find(path)
	if err != nil || line == nil {
		return Entry{}, false, err
	}
	e, err := parseEntry(string(line))
	return e, err == nil, err
}

// Ancestor returns the deepest folder above a path that the release names, "/"
// at least: what may be said of a path that is not the release's.
func (x *Index) Ancestor(path string) string {
	if path == "" || path[0] != '/' {
		return "/"
	}
	for path != "/" {
		path = Parent(path)
		if line, err := x.find(path); err == nil && line != nil && Type(line[0]) == Directory {
			return path
		}
	}
	return "/"
}

// ComponentOf names the entry of the SBOM that a regular file belongs to: by its
// path if it has this content there, else by the content, which the release may
// have at another path. A zero sum stands for content that is not known: then
// the path decides. ok tells that the release has the file; a component that is
// empty then says that no SBOM names it.
func (x *Index) ComponentOf(path string, sum [32]byte) (component string, ok bool) {
	line, err := x.find(path)
	if err != nil {
		return "", false
	}
	if line == nil || Type(line[0]) != File || sum != [32]byte{} && !hasSum(line, sum) {
		if line, err = x.findSum(sum); err != nil || line == nil {
			return "", false
		}
	}
	component, err = unescape(string(field(line, fieldComponent)))
	return component, err == nil
}
