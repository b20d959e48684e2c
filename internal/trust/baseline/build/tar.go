package build

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"ward/internal/trust/baseline"
)

// xattrRecord begins the pax records that hold extended attributes.
const xattrRecord = "SCHILY.xattr."

// blockSize is that of a tar archive.
const blockSize = 512

// Tar reads a root tree from an uncompressed tar archive and writes its baseline,
// with the owners, modes, device numbers and security attributes of the archive.
// Options.Host is not asked. Contents are hashed as they pass; what is kept to be
// sorted is the entries themselves, baseline.MaxEntries at most. Every folder
// must be in the archive; for the root alone, mode 0755 and owner 0:0 stand in.
// A name that stands twice, and an archive without its end, are errors.
func Tar(w io.Writer, r io.Reader, o Options) (Summary, error) {
	b, err := newBuilder(w, o)
	if err != nil {
		return Summary{}, err
	}
	a := archive{builder: b, in: &counter{r: r}, index: make(map[string]int)}
	if err := a.read(); err != nil {
		return Summary{}, fmt.Errorf("read tar: %w", err)
	}
	if err := a.complete(); err != nil {
		return Summary{}, fmt.Errorf("read tar: %w", err)
	}
	slices.SortFunc(a.entries, func(x, y baseline.Entry) int { return baseline.ComparePaths(x.Path, y.Path) })
	for _, e := range a.entries {
		if b.excluded(e.Path) {
			continue
		}
		if err := b.write(e); err != nil {
			return Summary{}, err
		}
	}
	return b.close()
}

type archive struct {
	*builder
	in      *counter
	entries []baseline.Entry
	index   map[string]int // of a path in entries
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (a *archive) read() error {
	in := tar.NewReader(a.in)
	for {
		before := a.in.n
		h, err := in.Next()
		if err == io.EOF {
			if a.in.n-before < blockSize { // the rest of the last file's block at most
				return errors.New("the archive is cut short: it has no end")
			}
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := a.add(h, in); err != nil {
			return fmt.Errorf("%.200q: %w", h.Name, err)
		}
	}
}

// add keeps an entry and hashes its content.
func (a *archive) add(h *tar.Header, in io.Reader) error {
	e, err := header(h)
	if err != nil {
		return err
	}
	if _, twice := a.index[e.Path]; twice {
		return errors.New("it stands twice in the archive")
	}
	if len(a.entries) == baseline.MaxEntries {
		return fmt.Errorf("more than %d entries", baseline.MaxEntries)
	}
	if h.Typeflag == tar.TypeLink {
		target, err := path(h.Linkname)
		if err != nil {
			return err
		}
		i, there := a.index[target]
		if !there {
			return fmt.Errorf("hard link to %.200q, which does not stand before it", h.Linkname)
		}
		p := e.Path
		e = a.entries[i]
		e.Path = p
	} else {
		e = a.owned(e)
		if e.Type == baseline.File {
			if err := a.content(&e, in); err != nil {
				return err
			}
		}
	}
	a.index[e.Path] = len(a.entries)
	a.entries = append(a.entries, e)
	return nil
}

// complete looks for the folders of all entries.
func (a *archive) complete() error {
	if _, there := a.index["/"]; !there {
		root := a.owned(baseline.Entry{Path: "/", Type: baseline.Directory, Mode: 0o755})
		a.index["/"] = len(a.entries)
		a.entries = append(a.entries, root)
	}
	for _, e := range a.entries {
		i, there := a.index[baseline.Parent(e.Path)]
		if !there || a.entries[i].Type != baseline.Directory {
			return fmt.Errorf("%.200q: its folder is not in the archive", e.Path)
		}
	}
	return nil
}

// header takes an entry without its content from an archive's header.
func header(h *tar.Header) (baseline.Entry, error) {
	p, err := path(h.Name)
	if err != nil {
		return baseline.Entry{}, err
	}
	e := baseline.Entry{Path: p, Mode: uint16(h.Mode & 0o7777), UID: uint32(h.Uid), GID: uint32(h.Gid)}
	if int(e.UID) != h.Uid || int(e.GID) != h.Gid {
		return e, fmt.Errorf("owner %d:%d: want numbers of at most 32 bits", h.Uid, h.Gid)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeLink:
		e.Type = baseline.File
	case tar.TypeDir:
		e.Type = baseline.Directory
	case tar.TypeSymlink:
		e.Type, e.Mode, e.Link = baseline.Symlink, 0o777, h.Linkname
	case tar.TypeChar, tar.TypeBlock:
		e.Type = baseline.CharDevice
		if h.Typeflag == tar.TypeBlock {
			e.Type = baseline.BlockDevice
		}
		e.Device = baseline.Device{Major: uint32(h.Devmajor), Minor: uint32(h.Devminor)}
	case tar.TypeFifo:
		e.Type = baseline.Pipe
	default:
		return e, fmt.Errorf("type %q of the archive: neither file, folder, link, device nor pipe", h.Typeflag)
	}
	values := make(map[string][]byte)
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, xattrRecord); ok {
			values[name] = []byte(value)
		}
	}
	e.Xattrs, err = baseline.NewXattrs(values)
	return e, err
}

// path is an archive's name as an absolute path.
func path(name string) (string, error) {
	p := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(name, "."), "/"), "/")
	if strings.HasPrefix(name, ".") && name != "." && !strings.HasPrefix(name, "./") {
		p = strings.TrimSuffix(name, "/") // a name that begins with a dot
	}
	p = "/" + p
	return p, baseline.CheckPath(p)
}
