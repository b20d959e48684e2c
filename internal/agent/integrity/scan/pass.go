package scan

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"ward/internal/device/fstree"
	"ward/internal/trust/baseline"
	"ward/internal/trust/baseline/diff"
)

// Counts is what a scan has seen, from its beginning, restarts of the daemon
// included.
type Counts struct {
	Files   int   `json:"files"`
	Folders int   `json:"folders"`
	Others  int   `json:"others"` // links, devices, pipes, sockets
	Bytes   int64 `json:"bytes"`  // of the files

	Hashed     int64 `json:"hashedBytes"`
	ByHash     int   `json:"byHash"`     // files whose content was read
	ByVerity   int   `json:"byVerity"`   // files whose content the kernel checks by fs-verity
	ByRootHash int   `json:"byRootHash"` // files on a file system that dm-verity proves
	ByUse      int   `json:"byUse"`      // files whose content may change by the release

	Changed    int `json:"changed"`
	Missing    int `json:"missing"`
	New        int `json:"new"`
	Unreadable int `json:"unreadable"`
	Allowed    int `json:"allowed"`    // differences that the release allows
	NotEntered int `json:"notEntered"` // folders in which something is mounted that the release names nothing of
}

// Differences is how many findings there are.
func (c Counts) Differences() int { return c.Changed + c.Missing + c.New + c.Unreadable }

// Trust is what vouches for the content of a mount's files.
type Trust string

// What vouches for content, the strongest first.
const (
	ByRootHash Trust = "dm-verity"
	ByDigest   Trust = "sha256" // or fs-verity, file by file
)

// Mount is a file system that a scan went through.
type Mount struct {
	Path  string `json:"path"` // as a baseline spells it
	Trust Trust  `json:"trust"`
}

// Pass is one comparison of a tree with a baseline.
type Pass struct {
	Root string
	From string           // the path behind which it goes on; "": the beginning
	Want *baseline.Reader // from the beginning
	Full bool             // content is read whoever vouches for it
	// Vouched says whether the file system on a device is proven by dm-verity with
	// the release's root hash; nil: none is.
	Vouched func(baseline.Device) bool
	Pace    func(bytes int) error                        // as of fstree.Options
	Read    func(int, []byte, int64) (int, error)        // as of fstree.Options
	Tell    func(d diff.Difference, named bool)          // each difference; named: the path is the release's
	Step    func(path string, c *Counts, mounts []Mount) // behind each path, and all that stood before it

	Counts Counts
	Mounts []Mount

	walk  *fstree.Walk
	steps *diff.Steps
	last  []byte   // the path before
	named []string // the folders on the way that the release names
}

// Run compares. An error says that the comparison did not reach its end; Pace's
// own is within it.
func (p *Pass) Run() error {
	if p.From != "" {
		if err := p.Want.Skip(p.From); err != nil {
			return fmt.Errorf("read baseline: %w", err)
		}
	}
	var err error
	if p.steps, err = diff.NewSteps(p.Want, p.tell); err != nil {
		return err
	}
	if p.walk, err = fstree.Open(p.Root, fstree.Options{From: p.From, Pace: p.Pace, Read: p.Read}); err != nil {
		return err
	}
	defer p.walk.Close()
	for {
		n, err := p.walk.Next()
		if errors.Is(err, io.EOF) {
			return p.steps.Finish()
		}
		if err == nil {
			err = p.visit(n)
		}
		if err != nil {
			return err
		}
	}
}

func (p *Pass) visit(n *fstree.Node) error {
	if len(p.last) > 0 && baseline.ComparePaths(string(p.last), n.Path) >= 0 {
		p.lost(n)
		return nil
	}
	p.last = append(p.last[:0], n.Path...)
	want, err := p.steps.Want(n.Path)
	if err != nil || errors.Is(n.Err, fstree.ErrVanished) {
		return err
	}
	p.count(n)
	e, failed := n.Fleeting(), n.Err
	if failed == nil {
		failed = p.read(n, want, &e)
	}
	if errors.Is(failed, errStopped) {
		return failed
	}
	if errors.Is(failed, fstree.ErrVanished) {
		return nil // missing, if the release names it
	}
	if failed != nil {
		e.Path = strings.Clone(e.Path)
	}
	isNamed := want != nil
	if err := p.steps.Judge(&e, failed); err != nil {
		return err
	}
	if n.Type == baseline.Directory {
		p.enter(n, isNamed)
	}
	if p.Step != nil && n.Barrier == fstree.None {
		p.Step(n.Path, &p.Counts, p.Mounts)
	}
	return nil
}

func (p *Pass) count(n *fstree.Node) {
	switch n.Type {
	case baseline.File:
		p.Counts.Files++
		p.Counts.Bytes += n.Size
	case baseline.Directory:
		p.Counts.Folders++
	default:
		p.Counts.Others++
	}
	if len(p.Mounts) == 0 && n.Path == "/" {
		p.mounted(n)
	}
}

// lost tells of a folder that was given before and whose names cannot be read.
func (p *Pass) lost(n *fstree.Node) {
	if errors.Is(n.Err, fstree.ErrVanished) {
		return
	}
	path := strings.Clone(n.Path)
	p.steps.Pass(path)
	p.tell(diff.Difference{Path: path, Kind: diff.Unreadable, Err: n.Err})
}

// enter decides about a folder: where something is mounted, the walk goes in if the
// release names anything there.
func (p *Pass) enter(n *fstree.Node, isNamed bool) {
	for len(p.named) > 0 && !baseline.Within(n.Path, p.named[len(p.named)-1]) {
		p.named = p.named[:len(p.named)-1]
	}
	if isNamed {
		p.named = append(p.named, strings.Clone(n.Path))
	}
	switch {
	case n.Barrier == fstree.None:
	case n.Barrier == fstree.Mounted && p.steps.Beneath(n.Path):
		p.walk.Enter()
		p.mounted(n)
	default:
		p.Counts.NotEntered++
		p.steps.Pass(strings.Clone(n.Path))
	}
}

// maxMounts bounds the mounts that are listed.
const maxMounts = 32

func (p *Pass) mounted(n *fstree.Node) {
	if len(p.Mounts) == maxMounts {
		return
	}
	m := Mount{Path: baseline.Escape(n.Path), Trust: ByDigest}
	if p.vouched(n) {
		m.Trust = ByRootHash
	}
	p.Mounts = append(p.Mounts, m)
}

func (p *Pass) vouched(n *fstree.Node) bool { return p.Vouched != nil && p.Vouched(n.FS) }

// read adds to an entry what only the open file tells, as far as the release says
// something of it.
func (p *Pass) read(n *fstree.Node, want, e *baseline.Entry) error {
	mounted := n.Barrier != fstree.None
	switch {
	case mounted && want != nil && want.Type == baseline.Directory:
		// Rights and owner are those of what is mounted, of which the release knows nothing.
		e.Mode, e.UID, e.GID, e.Xattrs = want.Mode, want.UID, want.GID, want.Xattrs
		return nil
	case mounted:
		return nil
	case n.Type != baseline.File && n.Type != baseline.Directory:
		if want != nil {
			e.Xattrs = want.Xattrs // of what is not opened they are not known
		}
		return nil
	}
	if err := p.walk.Attributes(); err != nil {
		if n.Type == baseline.Directory && !errors.Is(err, fstree.ErrVanished) && want != nil {
			e.Xattrs = want.Xattrs // the walk tells it again, with its reason
			return nil
		}
		return err
	}
	if err := spellXattrs(n, e); err != nil {
		return err
	}
	if n.Type == baseline.File && want != nil && want.Type == baseline.File {
		return p.content(n, want, e)
	}
	return nil
}

func spellXattrs(n *fstree.Node, e *baseline.Entry) error {
	if len(n.Xattrs) == 0 {
		return nil
	}
	values := make(map[string][]byte, len(n.Xattrs))
	for _, x := range n.Xattrs {
		values[x.Name] = x.Value
	}
	var err error
	e.Xattrs, err = baseline.NewXattrs(values)
	return err
}

// content has somebody vouch for a file's content, or reads it, in the order of
// trust: dm-verity, fs-verity, SHA-256.
func (p *Pass) content(n *fstree.Node, want, e *baseline.Entry) error {
	if n.Verity {
		// A digest by another algorithm is none that the release can name.
		e.Verity, _ = p.walk.FSVerity()
	}
	switch {
	case want.Flags&(baseline.Mutable|baseline.Volatile) != 0:
		e.Vouched = true // whatever it is, the release allows it
		p.Counts.ByUse++
		return nil
	case n.Size != want.Size:
		return nil // it differs whatever it holds
	case !p.Full && p.vouched(n):
		e.Vouched = true
		p.Counts.ByRootHash++
		return nil
	case !p.Full && e.Verity != [32]byte{} && e.Verity == want.Verity:
		p.Counts.ByVerity++
		return nil
	}
	sum, err := p.walk.SHA256(want.Size)
	e.Size = n.Size
	if errors.Is(err, fstree.ErrTooLarge) {
		return nil // it has grown meanwhile
	}
	if err == nil {
		e.SHA256 = sum
		p.Counts.ByHash++
		p.Counts.Hashed += n.Size
	}
	return err
}

func (p *Pass) tell(d diff.Difference) {
	named := d.Want != nil
	for i := len(p.named) - 1; i >= 0 && !named; i-- {
		named = p.named[i] == d.Path
	}
	if p.Tell != nil {
		p.Tell(d, named)
	}
}

// Add counts a difference.
func (c *Counts) Add(d diff.Difference, told bool) {
	switch {
	case !told:
		c.Allowed++
	case d.Kind == diff.Changed:
		c.Changed++
	case d.Kind == diff.Missing:
		c.Missing++
	case d.Kind == diff.New:
		c.New++
	default:
		c.Unreadable++
	}
}

// errStopped marks the error of a pace that ends a pass.
var errStopped = errors.New("the scan is stopped")
