package image

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"ward/internal/lab/board"
	"ward/internal/lab/image/modules"
	"ward/internal/lab/tool"
)

// A kernel is a distribution's kernel with those of its modules that the board
// loads.
type kernel struct {
	version string
	image   string // path of vmlinuz
	tree    string // holds usr/lib/modules/<version>/...
	// Paths in the root file system, in the order of loading.
	initramfs, volumes, system []string
}

// fetchKernel downloads the kernel's package with apt, which verifies it, and
// takes out the image and the modules.
func (b *Builder) fetchKernel(ctx context.Context, pkg string, wanted board.Modules) (kernel, error) {
	name, version, sum, err := newestKernel(ctx, pkg)
	if err != nil {
		return kernel{}, err
	}
	deb, err := b.step(ctx, "kernel-package", []string{name, version, sum}, func(dir string) error {
		if _, err := (tool.Call{Name: "apt-get", Dir: dir, Args: []string{"download", name + "=" + version}}).Run(ctx); err != nil {
			return err
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.deb"))
		if err != nil || len(files) != 1 {
			return fmt.Errorf("download %s: got %d files", name, len(files))
		}
		got, err := hashFile(files[0])
		if err != nil {
			return err
		}
		if got != sum {
			return fmt.Errorf("download %s: SHA-256 is %s, the package list says %s", name, got, sum)
		}
		return os.Rename(files[0], filepath.Join(dir, "kernel.deb"))
	})
	if err != nil {
		return kernel{}, err
	}
	inputs := []string{sum, strings.Join(wanted.Initramfs, " "), strings.Join(wanted.Volumes, " "), strings.Join(wanted.System, " ")}
	dir, err := b.step(ctx, "kernel", inputs, func(dir string) error {
		return unpackKernel(ctx, filepath.Join(deb, "kernel.deb"), dir, wanted)
	})
	if err != nil {
		return kernel{}, err
	}
	return loadKernel(dir)
}

// newestKernel finds the package behind a meta package such as
// linux-image-amd64, its version and its digest.
func newestKernel(ctx context.Context, meta string) (name, version, sum string, err error) {
	text, err := tool.Run(ctx, "apt-cache", "show", "--no-all-versions", meta)
	if err != nil {
		return "", "", "", fmt.Errorf("find kernel package %s: %w; run apt-get update", meta, err)
	}
	for dep := range strings.SplitSeq(field(text, "Depends"), ",") {
		word, _, _ := strings.Cut(strings.TrimSpace(dep), " ")
		if strings.HasPrefix(word, "linux-image-") {
			name = word
		}
	}
	if name == "" {
		return "", "", "", fmt.Errorf("find kernel package %s: it depends on no linux-image", meta)
	}
	if text, err = tool.Run(ctx, "apt-cache", "show", "--no-all-versions", name); err != nil {
		return "", "", "", fmt.Errorf("find kernel package %s: %w; run apt-get update", name, err)
	}
	version, sum = field(text, "Version"), field(text, "SHA256")
	if version == "" || len(sum) != 64 {
		return "", "", "", fmt.Errorf("find kernel package %s: the package list names no version or digest", name)
	}
	return name, version, sum, nil
}

// field returns the first value of a field in Debian control data.
func field(control []byte, name string) string {
	s := bufio.NewScanner(bytes.NewReader(control))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if value, ok := strings.CutPrefix(s.Text(), name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// unpackKernel leaves in dir: vmlinuz, version, the lists of the stages and
// the modules that they name, below usr/lib/modules as in the device.
func unpackKernel(ctx context.Context, deb, dir string, wanted board.Modules) error {
	tmp := filepath.Join(dir, "all")
	if _, err := tool.Run(ctx, "dpkg-deb", "-x", deb, tmp); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	images, err := filepath.Glob(filepath.Join(tmp, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return fmt.Errorf("unpack kernel: %d images in the package", len(images))
	}
	version := strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	if err := copyFile(filepath.Join(dir, "vmlinuz"), images[0], 0o644); err != nil {
		return err
	}
	folder := filepath.Join(tmp, "lib", "modules", version)
	index, err := modules.Read(folder)
	if err != nil {
		return err
	}
	loaded := make(map[string]bool)
	for _, stage := range []struct {
		name   string
		wanted []string
	}{{"initramfs", wanted.Initramfs}, {"volumes", wanted.Volumes}, {"system", wanted.System}} {
		order, err := index.Order(stage.wanted, loaded)
		if err != nil {
			return fmt.Errorf("order modules of %s: %w", stage.name, err)
		}
		var list strings.Builder
		for _, rel := range order {
			place := filepath.Join("usr/lib/modules", version, rel)
			if err := copyFile(filepath.Join(dir, "tree", place), filepath.Join(folder, rel), 0o644); err != nil {
				return err
			}
			list.WriteString("/" + filepath.ToSlash(place) + "\n")
		}
		if err := writeFile(filepath.Join(dir, stage.name), []byte(list.String()), 0o644); err != nil {
			return err
		}
	}
	return writeFile(filepath.Join(dir, "version"), []byte(version), 0o644)
}

func loadKernel(dir string) (kernel, error) {
	k := kernel{image: filepath.Join(dir, "vmlinuz"), tree: filepath.Join(dir, "tree")}
	for _, f := range []struct {
		name string
		set  func(string)
	}{
		{"version", func(s string) { k.version = s }},
		{"initramfs", func(s string) { k.initramfs = strings.Fields(s) }},
		{"volumes", func(s string) { k.volumes = strings.Fields(s) }},
		{"system", func(s string) { k.system = strings.Fields(s) }},
	} {
		text, err := os.ReadFile(filepath.Join(dir, f.name))
		if err != nil {
			return k, fmt.Errorf("read cached kernel: %w", err)
		}
		f.set(string(text))
	}
	return k, nil
}
