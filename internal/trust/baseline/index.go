package baseline

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sort"
)

// Bounds of an index, which holds every regular file's path in memory. A
// baseline that is larger is refused before its digest is known, so that a
// replaced file cannot exhaust the device's memory.
const (
	maxIndexFiles = 1 << 18
	maxIndexBytes = 32 << 20  // of all paths together
	maxHashed     = 256 << 20 // behind a line that cannot be read
)

// Match is what a baseline says about a path and a content. The zero Match says
// nothing.
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

// Index answers what matching a measurement list needs, for the regular files
// of a baseline: about 45 bytes and the path per file. It does not change and
// may be used by several goroutines.
type Index struct {
	digest   [32]byte
	paths    []byte // all paths, one behind the other, in the order of Compare
	ends     []uint32
	digests  [][32]byte
	byDigest []uint32 // indexes into digests, in the digests' order
	named
}

// LoadIndex reads a baseline to its end and returns its index if its digest is
// want; else the error wraps ErrDigest, whatever else is wrong with the text:
// one that is not the release's is no baseline at all.
func LoadIndex(r io.Reader, want [32]byte) (*Index, error) {
	sum := sha256.New()
	in := io.TeeReader(r, sum)
	x := new(Index)
	parseErr := x.read(in)
	if parseErr != nil {
		if _, err := io.CopyN(io.Discard, in, maxHashed); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read baseline: %w", err)
		}
	}
	x.digest = [32]byte(sum.Sum(nil))
	if x.digest != want {
		return nil, fmt.Errorf("read baseline: %w: found %x, want %x", ErrDigest, x.digest, want)
	}
	if parseErr != nil {
		return nil, parseErr
	}
	x.byDigest = make([]uint32, len(x.digests))
	for i := range x.byDigest {
		x.byDigest[i] = uint32(i)
	}
	sort.Slice(x.byDigest, func(i, j int) bool {
		return bytes.Compare(x.digests[x.byDigest[i]][:], x.digests[x.byDigest[j]][:]) < 0
	})
	return x, nil
}

func (x *Index) read(in io.Reader) error {
	r, err := NewReader(in)
	if err != nil {
		return err
	}
	for {
		e, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if e.Type != File {
			continue
		}
		if len(x.digests) == maxIndexFiles || len(x.paths)+len(e.Path) > maxIndexBytes {
			return fmt.Errorf("index baseline: more than %d files or %d bytes of paths", maxIndexFiles, maxIndexBytes)
		}
		x.paths = append(x.paths, e.Path...)
		x.ends = append(x.ends, uint32(len(x.paths)))
		x.digests = append(x.digests, e.SHA256)
		x.name(e)
	}
}

// Digest is the SHA-256 of the baseline that was read.
func (x *Index) Digest() [32]byte { return x.digest }

// Files is the number of regular files.
func (x *Index) Files() int { return len(x.digests) }

// Lookup compares a path and the SHA-256 of its content with the baseline. The
// path is absolute and free of symbolic links, as the kernel reports it.
func (x *Index) Lookup(path string, sum [32]byte) Match {
	if i, ok := sort.Find(len(x.ends), func(i int) int { return compare(path, x.path(i)) }); ok {
		if x.digests[i] == sum {
			return Known
		}
		return ChangedContent
	}
	if _, ok := sort.Find(len(x.byDigest), func(i int) int {
		return bytes.Compare(sum[:], x.digests[x.byDigest[i]][:])
	}); ok {
		return KnownContentOtherPath
	}
	return UnknownPath
}

// path returns the i-th path.
func (x *Index) path(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = x.ends[i-1]
	}
	return x.paths[start:x.ends[i]]
}
