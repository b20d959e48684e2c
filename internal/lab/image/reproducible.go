package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"ward/internal/lab/disk"
)

// A Comparison is one artefact of two builds.
type Comparison struct {
	Name   string `json:"name"`
	First  string `json:"first"`  // SHA-256
	Second string `json:"second"` // SHA-256
	Size   int64  `json:"size"`
}

// Same says whether both builds gave the same bytes.
func (c Comparison) Same() bool { return c.First == c.Second }

// CheckReproducible builds everything twice, each time from an empty cache and
// in another directory, and compares the artefacts. Only the downloaded kernel
// package is shared: it is an input. Signatures hold the time of signing and are
// left out; the disk is compared with the unsigned kernel image on it.
func (b *Builder) CheckReproducible(ctx context.Context, in Inputs) ([]Comparison, error) {
	if err := os.MkdirAll(b.Cache, 0o755); err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	work, err := os.MkdirTemp(b.Cache, ".twice-")
	if err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	defer os.RemoveAll(work)
	packages, err := filepath.Glob(filepath.Join(b.Cache, "kernel-package-*"))
	if err != nil {
		return nil, fmt.Errorf("find kernel package: %w", err)
	}
	var builds [2][]Comparison
	for i, name := range []string{"first", "second-build"} {
		b.say("%s build, from an empty cache", strings.TrimSuffix(name, "-build"))
		other := *b
		other.Cache = filepath.Join(work, name)
		for _, p := range packages {
			if err := copyFile(filepath.Join(other.Cache, filepath.Base(p), "kernel.deb"), filepath.Join(p, "kernel.deb"), 0o644); err != nil {
				return nil, err
			}
		}
		if builds[i], err = other.artefacts(ctx, in); err != nil {
			return nil, fmt.Errorf("%s build: %w", name, err)
		}
	}
	out := builds[0]
	for i := range out {
		out[i].Second = builds[1][i].First
	}
	return out, nil
}

// artefacts builds once and hashes what was built, in a fixed order.
func (b *Builder) artefacts(ctx context.Context, in Inputs) ([]Comparison, error) {
	img, err := b.Build(ctx, in)
	if err != nil {
		return nil, err
	}
	whole := filepath.Join(b.Cache, "disk.img")
	contents := Contents{
		UKI:   img.UKIs[Unsigned].Path,
		ESP:   map[string]disk.File{"ward/release.dsse": {Data: []byte("reproducible\n")}},
		State: map[string]disk.File{"etc/example": {Data: []byte("reproducible\n")}},
	}
	if err := img.NewDisk(ctx, whole, contents); err != nil {
		return nil, err
	}
	var out []Comparison
	for _, a := range []struct{ name, path string }{
		{"userland", filepath.Join(img.RootTree, "usr/bin/bb")},
		{"init", filepath.Join(img.RootTree, "usr/sbin/init")},
		{"pump", filepath.Join(img.RootTree, "usr/bin/pump")},
		{"wardd", filepath.Join(img.RootTree, "usr/sbin/wardd")},
		{"wardunlock", filepath.Join(img.RootTree, "usr/sbin/wardunlock")},
		{"wardctl", filepath.Join(img.RootTree, "usr/bin/wardctl")},
		{"root file system", img.RootFS},
		{"hash tree", img.HashTree},
		{"initramfs", img.Initramfs},
		{"kernel image, release, unsigned", img.UKIs[Release].Unsigned},
		{"kernel image, debug, unsigned", img.UKIs[Debug].Unsigned},
		{"variable store", img.Variables},
		{"disk", whole},
	} {
		sum, err := hashFile(a.path)
		if err != nil {
			return nil, err
		}
		st, err := os.Stat(a.path)
		if err != nil {
			return nil, fmt.Errorf("measure artefact: %w", err)
		}
		out = append(out, Comparison{Name: a.name, First: sum, Size: st.Size()})
	}
	return out, nil
}
