// Package bench looks at a device's disk as somebody does who has taken it out:
// byte by byte for what must not stand there, and at each encrypted volume with
// cryptsetup, which knows nothing of Ward (LUKS2 On-Disk Format Specification).
package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"ward/internal/lab/board"
	"ward/internal/lab/image"
	"ward/internal/lab/tool"
)

// Search fails when one of the secrets or the recovery key stands on the disk in
// the open, when a volume opens with a guess, and when one does not open with the
// recovery key. It returns how many bytes it looked at.
func Search(ctx context.Context, img *image.Image, disk, recovery string, secrets ...string) (int64, error) {
	raw, err := os.ReadFile(disk)
	if err != nil {
		return 0, fmt.Errorf("search disk: %w", err)
	}
	for _, s := range append(secrets, recovery) {
		if at := bytes.Index(raw, []byte(s)); at >= 0 {
			return 0, fmt.Errorf("search disk: %.8q… stands in the open at %d", s, at)
		}
	}
	dir, err := os.MkdirTemp(filepath.Dir(disk), "bench-")
	if err != nil {
		return 0, fmt.Errorf("search disk: %w", err)
	}
	defer os.RemoveAll(dir)
	for _, use := range []string{board.UseState, board.UseData} {
		part := filepath.Join(dir, use)
		if err := img.CopyPartition(part, disk, use); err != nil {
			return 0, err
		}
		for _, guess := range append(secrets, "", strings.Repeat("\x00", 32)) {
			if err := open(ctx, part, guess); err == nil {
				return 0, fmt.Errorf("search disk: volume %s opens with %q", use, guess)
			}
		}
		if err := open(ctx, part, recovery); err != nil {
			return 0, fmt.Errorf("search disk: volume %s does not open with the recovery key: %w", use, err)
		}
	}
	return int64(len(raw)), nil
}

// open tries a passphrase on every key slot of a volume.
func open(ctx context.Context, part, passphrase string) error {
	_, err := tool.Call{Name: "cryptsetup", Stdin: []byte(passphrase),
		Args: []string{"open", "--batch-mode", "--disable-locks", "--test-passphrase", "--key-file=-", part}}.Run(ctx)
	return err
}
