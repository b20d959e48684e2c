package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Variant makes another release of an image: with files in its initramfs beside
// those that are there, and words added to the command line. Its only kernel
// image is Release, signed; the root file system stays the same.
func (b *Builder) Variant(ctx context.Context, img *Image, version string, files map[string][]byte, words ...string) (*Image, error) {
	next := *img
	next.Version = version
	var err error
	if next.Initramfs, err = b.addToInitramfs(ctx, img.Initramfs, files); err != nil {
		return nil, err
	}
	u, err := b.UKI(ctx, &next, words...)
	if err != nil {
		return nil, err
	}
	next.UKIs, next.Digest = map[string]UKI{Release: u}, ""
	return &next, nil
}

// addToInitramfs puts an archive before an initramfs, not compressed, as
// microcode stands there: the kernel unpacks one after the other.
func (b *Builder) addToInitramfs(ctx context.Context, initramfs string, files map[string][]byte) (string, error) {
	entries := make(map[string]entry)
	for name, data := range files {
		entries[name] = entry{mode: typeFile | 0o644, data: data}
	}
	archive, err := writeCPIO(entries)
	if err != nil {
		return "", fmt.Errorf("make initramfs: %w", err)
	}
	rest, err := os.ReadFile(initramfs)
	if err != nil {
		return "", fmt.Errorf("make initramfs: %w", err)
	}
	// An archive begins at a multiple of four.
	whole := slices.Concat(archive, make([]byte, -len(archive)&3), rest)
	dir, err := b.step(ctx, "initramfs-variant", []string{hashBytes(whole)}, func(dir string) error {
		return writeFile(filepath.Join(dir, "initramfs"), whole, 0o644)
	})
	return filepath.Join(dir, "initramfs"), err
}
