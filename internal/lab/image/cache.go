package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// layoutVersion is part of every key: raise it when a step makes something else
// of the same inputs.
const layoutVersion = "1"

// keyDigits is how much of a key's hash names its directory.
const keyDigits = 24

// step makes a directory of files once for each set of inputs. The name and the
// inputs are the key; fill writes the files. The directory appears whole or not
// at all.
func (b *Builder) step(ctx context.Context, name string, inputs []string, fill func(dir string) error) (string, error) {
	h := sha256.New()
	for _, part := range append([]string{layoutVersion, name}, inputs...) {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	dir := filepath.Join(b.Cache, name+"-"+hex.EncodeToString(h.Sum(nil))[:keyDigits])
	if _, err := os.Stat(dir); err == nil {
		now := time.Now()
		return dir, os.Chtimes(dir, now, now) // used: prune keeps it
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	b.say("building %s", name)
	if err := os.MkdirAll(b.Cache, 0o755); err != nil {
		return "", fmt.Errorf("make cache: %w", err)
	}
	tmp, err := os.MkdirTemp(b.Cache, ".new-")
	if err != nil {
		return "", fmt.Errorf("make cache: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", fmt.Errorf("make cache: %w", err)
	}
	if err := fill(tmp); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		if _, statErr := os.Stat(dir); statErr != nil { // another build was first
			return "", fmt.Errorf("store %s: %w", name, err)
		}
	}
	return dir, nil
}

// What prune leaves of each step, so that a day of development does not fill
// the disk. Young results stay: another process may be using them.
const (
	pruneKeep = 6
	pruneAge  = 15 * time.Minute
)

// prunable are the steps whose results grow in number with every change of the
// sources.
var prunable = []string{"tree", "rootfs", "initramfs", "uki", "signed-uki", "program-wardd", "program-wardctl", "program-wardunlock", "program-init", "program-pump"}

// prune removes the results of steps that were not used for long. It is best
// effort: what cannot be removed is left.
func (b *Builder) prune() {
	for _, name := range prunable {
		dirs, err := filepath.Glob(filepath.Join(b.Cache, name+"-"+strings.Repeat("[0-9a-f]", keyDigits)))
		if err != nil {
			continue
		}
		used := make(map[string]time.Time)
		for _, dir := range dirs {
			if st, err := os.Stat(dir); err == nil {
				used[dir] = st.ModTime()
			}
		}
		slices.SortFunc(dirs, func(x, y string) int { return used[y].Compare(used[x]) })
		for i, dir := range dirs {
			if i >= pruneKeep && time.Since(used[dir]) > pruneAge {
				_ = os.RemoveAll(dir)
			}
		}
	}
}

// hashFile is the SHA-256 of a file, in hex.
func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("hash file: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("hash file: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func hashBytes(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// hashFiles hashes files by name and content.
func hashFiles(paths ...string) ([]string, error) {
	var out []string
	for _, p := range paths {
		sum, err := hashFile(p)
		if err != nil {
			return nil, err
		}
		out = append(out, filepath.Base(p), sum)
	}
	return out, nil
}

// copyFile copies a file with the given mode.
func copyFile(dst, src string, mode os.FileMode) error {
	data, err := os.ReadFile(src)
	if err != nil {
		return fmt.Errorf("copy file: %w", err)
	}
	return writeFile(dst, data, mode)
}

// writeFile writes a file, its directories, and the exact mode.
func writeFile(dst string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	if err := os.WriteFile(dst, data, mode); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	if err := os.Chmod(dst, mode); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
