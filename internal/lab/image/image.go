// Package image builds the artefacts of a virtual device: kernel, initramfs,
// root file system with its hash tree, signed kernel images, variable store and
// disk. Every step is cached by the content of its inputs; nothing needs root;
// the same inputs give the same bytes, signatures apart.
//
// Sources: UAPI Group specifications "Unified Kernel Image" and "Discoverable
// Partitions"; kernel Documentation/admin-guide/device-mapper/verity.rst and
// Documentation/driver-api/early-userspace/buffer-format.rst.
package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"ward/internal/lab/board"
	"ward/internal/lab/disk"
)

// A Builder builds images of the module at Root.
type Builder struct {
	Root     string       // root of the module ward
	Cache    string       // directory of cached steps
	Keys     string       // directory of the lab's Secure Boot keys
	Progress func(string) // told of each step that takes time; may be nil
}

// NewBuilder is a builder with the usual places below root/.lab.
func NewBuilder(root string, progress func(string)) *Builder {
	lab := filepath.Join(root, ".lab")
	return &Builder{
		Root:     root,
		Cache:    filepath.Join(lab, "cache"),
		Keys:     filepath.Join(lab, "keys"),
		Progress: progress,
	}
}

func (b *Builder) say(format string, args ...any) {
	if b.Progress != nil {
		b.Progress(fmt.Sprintf(format, args...))
	}
}

// Inputs are what the caller puts into an image besides the module's sources.
type Inputs struct {
	Board   string // name of a folder in board/; qemu-x86_64 when empty
	Version string // version of the release, for os-release
	// Trust holds the trust anchors by file name below /usr/lib/ward/trust.
	Trust map[string][]byte
	// Programs replaces programs of the device by files on the host, by name
	// (wardd, wardctl, wardunlock, init, pump); the others are compiled from Root.
	Programs map[string]string
	// Files are added to the root file system or replace what is there, by
	// absolute path.
	Files map[string]disk.File
	// Baseline makes the file baseline of the finished tree, which becomes
	// /usr/lib/ward/baseline. It may be nil.
	Baseline func(rootTree string) ([]byte, error)
}

// Names of the kernel images that Build makes.
const (
	Release  = "release"  // signed
	Debug    = "debug"    // signed, with another command line
	Unsigned = "unsigned" // the release's bytes without a signature
)

// DebugWords are what the command line of Debug has more.
const DebugWords = "ward.debug=1"

// An Image is a built image; all paths point into the cache and are not to be
// written to.
type Image struct {
	Board         *board.Board
	Version       string
	KernelVersion string
	Firmware      string // OVMF's code
	Variables     string // variable store with the lab's keys
	RootTree      string // the staged root file system
	RootFS        string // its squashfs image
	HashTree      string // its dm-verity tree
	RootHash      string // hex
	Initramfs     string // compressed
	Kernel        string // vmlinuz
	OSRelease     string // text, as in the kernel image
	UKIs          map[string]UKI
	Digest        string // of everything above
}

// A UKI is one unified kernel image.
type UKI struct {
	Path     string `json:"path"`
	Cmdline  string `json:"cmdline"`
	Unsigned string `json:"unsigned"` // the same image before signing
}

// Build makes the image.
func (b *Builder) Build(ctx context.Context, in Inputs) (*Image, error) {
	if in.Board == "" {
		in.Board = "qemu-x86_64"
	}
	if in.Version == "" {
		in.Version = "0.0.0"
	}
	brd, err := board.Load(filepath.Join(b.Root, "board", in.Board))
	if err != nil {
		return nil, err
	}
	img := &Image{Board: brd, Version: in.Version, OSRelease: osRelease(brd, in.Version), UKIs: make(map[string]UKI)}
	if img.Firmware, err = findFirmware("/usr/share", brd.Firmware.Code, "ovmf"); err != nil {
		return nil, err
	}
	keys, err := LoadKeys(b.Keys)
	if err != nil {
		return nil, err
	}
	if img.Variables, err = b.variables(ctx, brd, keys); err != nil {
		return nil, err
	}
	k, err := b.fetchKernel(ctx, brd.Kernel.Package, brd.Modules)
	if err != nil {
		return nil, err
	}
	img.Kernel, img.KernelVersion = k.image, k.version
	guest := "./board/" + in.Board + "/guest/"
	programs, err := b.buildPrograms(ctx, brd.Arch, in.Programs, "./cmd/wardd", "./cmd/wardctl", "./cmd/wardunlock", guest+"init", guest+"pump")
	if err != nil {
		return nil, err
	}
	if err := b.rootFS(ctx, img, in, k, programs); err != nil {
		return nil, err
	}
	if img.Initramfs, err = b.initramfs(ctx, brd, k, programs["init"]); err != nil {
		return nil, err
	}
	release, err := b.UKI(ctx, img)
	if err != nil {
		return nil, err
	}
	debug, err := b.UKI(ctx, img, DebugWords)
	if err != nil {
		return nil, err
	}
	img.UKIs[Release], img.UKIs[Debug] = release, debug
	img.UKIs[Unsigned] = UKI{Path: release.Unsigned, Cmdline: release.Cmdline, Unsigned: release.Unsigned}
	b.prune()
	img.Digest, err = img.digest()
	return img, err
}

// findFirmware finds a file that a distribution's package installs.
func findFirmware(prefix, name, pkg string) (string, error) {
	path := filepath.Join(prefix, filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find %s: not installed; run make deps (Debian package %s)", path, pkg)
	}
	return path, nil
}

// variables makes the variable store that enforces Secure Boot with our keys.
func (b *Builder) variables(ctx context.Context, brd *board.Board, keys Keys) (string, error) {
	template, err := findFirmware("/usr/share", brd.Firmware.Variables, "ovmf")
	if err != nil {
		return "", err
	}
	inputs, err := hashFiles(template, keys.cert("PK"), keys.cert("KEK"), keys.cert("db"))
	if err != nil {
		return "", err
	}
	dir, err := b.step(ctx, "variables", inputs, func(dir string) error {
		empty, err := os.ReadFile(template)
		if err != nil {
			return fmt.Errorf("read variable store: %w", err)
		}
		store, err := keys.VariableStore(empty)
		if err != nil {
			return err
		}
		return writeFile(filepath.Join(dir, "vars.fd"), store, 0o644)
	})
	return filepath.Join(dir, "vars.fd"), err
}

// digest names the image: the root hash covers the root file system, the signed
// kernel images cover kernel, initramfs and command line.
func (img *Image) digest() (string, error) {
	sums, err := hashFiles(img.Firmware, img.Variables, img.UKIs[Release].Unsigned, img.UKIs[Debug].Unsigned)
	if err != nil {
		return "", err
	}
	return hashBytes([]byte(fmt.Sprint(img.RootHash, sums))), nil
}
