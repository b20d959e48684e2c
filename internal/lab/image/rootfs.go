package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"ward/internal/lab/board"
	"ward/internal/lab/disk"
	"ward/internal/lab/image/mapper"
	"ward/internal/lab/stranger"
	"ward/internal/lab/tool"
)

// A node is one object of the staged root file system.
type node struct {
	mode os.FileMode // permissions and, for directories, fs.ModeDir
	link string      // target of a symbolic link
	file disk.File
}

// verityUUID and veritySalt are fixed: they are no secrets, and fixed values
// give the same root hash for the same file system.
const (
	verityUUID = "0a6c1f4e-7f52-4a39-9d0e-5741524c5601"
	veritySalt = "576172642073616c7420666f7220646d2d7665726974792c20666978656400aa"
)

// Users of the device, as in its /etc/passwd; their groups have the same number.
const (
	wardUser = 900
	pumpUser = 901
)

var accounts = map[string]string{
	"/etc/passwd": "root:x:0:0:root:/:/usr/bin/sh\nward:x:900:900:Ward:/var/lib/ward:/usr/bin/false\npump:x:901:901:Infusion pump:/data/pump:/usr/bin/false\n",
	"/etc/group":  "root:x:0:\nward:x:900:\npump:x:901:\nwardsvc:x:902:ward\nwardsign:x:903:\n",
}

// osRelease describes the release, os-release(5).
func osRelease(brd *board.Board, version string) string {
	return fmt.Sprintf("ID=%s\nNAME=%q\nPRETTY_NAME=%q\nVERSION_ID=%s\n",
		brd.Product, "Ward reference device", "Ward reference device "+version, version)
}

// nodes lists everything in the root file system but the baseline.
func (b *Builder) nodes(ctx context.Context, img *Image, in Inputs, k kernel, programs map[string]string) (map[string]node, error) {
	brd := img.Board
	bb, commands, err := b.buildUserland(ctx, brd.Dir, brd.Arch)
	if err != nil {
		return nil, err
	}
	n := make(map[string]node)
	for _, dir := range []string{
		"/boot", "/data", "/dev", "/etc/ward", "/proc", "/run", "/sys", "/tmp",
		"/usr/bin", "/usr/sbin", "/usr/lib/ward/trust", "/var/lib/ward",
	} {
		n[dir] = node{mode: fs.ModeDir | 0o755}
	}
	for link, target := range map[string]string{"/bin": "usr/bin", "/sbin": "usr/sbin", "/lib": "usr/lib", "/lib64": "usr/lib64", "/usr/bin/sh": "gosh", "/var/run": "../run", "/etc/mtab": "../proc/self/mounts"} {
		n[link] = node{link: target}
	}
	host := func(path, file string, mode os.FileMode) { n[path] = node{mode: mode, file: disk.File{Host: file}} }
	data := func(path string, content []byte) { n[path] = node{mode: 0o644, file: disk.File{Data: content}} }

	host("/usr/bin/bb", bb, 0o755)
	for _, name := range commands {
		n["/usr/bin/"+name] = node{link: "bb"}
	}
	host("/usr/sbin/init", programs["init"], 0o755)
	host("/usr/sbin/wardd", programs["wardd"], 0o755)
	host("/usr/bin/wardctl", programs["wardctl"], 0o755)
	host("/usr/sbin/wardunlock", programs["wardunlock"], 0o755)
	host("/usr/bin/pump", programs["pump"], 0o755)
	cryptsetup, err := mapper.Files()
	if err != nil {
		return nil, err
	}
	for path, file := range cryptsetup {
		host(path, file, 0o755)
	}
	// The initramfs's modules lie here too: the file baseline is made of this tree,
	// and the kernel measures them by content.
	for _, path := range slices.Concat(k.initramfs, k.volumes, k.system) {
		host(path, filepath.Join(k.tree, path), 0o644)
	}
	data("/etc/modules.volumes", []byte(strings.Join(k.volumes, "\n")+"\n"))
	data("/etc/modules.system", []byte(strings.Join(k.system, "\n")+"\n"))
	host("/etc/ward/wardd.toml", filepath.Join(brd.Dir, "wardd.toml"), 0o644)
	host("/usr/lib/ward/board.toml", filepath.Join(brd.Dir, "board.toml"), 0o644)
	for path, text := range accounts {
		data(path, []byte(text))
	}
	// What lies below /data is copied to the data volume, where it can be changed.
	rinse, err := stranger.Program("rinsing the line\n", nil)
	if err != nil {
		return nil, err
	}
	n["/data/app/rinse"] = node{mode: 0o755, file: disk.File{Data: rinse}}
	data("/data/app/rinse.conf", []byte("volume_ml = 5\n"))
	data("/etc/os-release", []byte(osRelease(brd, img.Version)))
	data("/etc/hostname", []byte(brd.Product+"\n"))
	for name, content := range in.Trust {
		data("/usr/lib/ward/trust/"+name, content)
	}
	for path, f := range in.Files {
		mode := f.Mode
		if mode == 0 {
			mode = 0o644
		}
		n[path] = node{mode: mode, file: f}
	}
	return n, nil
}

// stage writes the nodes below root.
func stage(root string, nodes map[string]node) error {
	for _, path := range sortedKeys(nodes) {
		n, host := nodes[path], filepath.Join(root, path)
		var err error
		switch {
		case n.link != "":
			if err = os.MkdirAll(filepath.Dir(host), 0o755); err == nil {
				err = os.Symlink(n.link, host)
			}
		case n.mode.IsDir():
			if err = os.MkdirAll(host, 0o755); err == nil {
				err = os.Chmod(host, n.mode.Perm())
			}
		case n.file.Host != "":
			err = copyFile(host, n.file.Host, n.mode)
		default:
			err = writeFile(host, n.file.Data, n.mode)
		}
		if err != nil {
			return fmt.Errorf("stage %s: %w", path, err)
		}
	}
	return nil
}

// nodesKey is the content of the nodes as inputs of a step.
func nodesKey(nodes map[string]node) ([]string, error) {
	var key []string
	for _, path := range sortedKeys(nodes) {
		n := nodes[path]
		sum := hashBytes(n.file.Data)
		if n.file.Host != "" {
			var err error
			if sum, err = hashFile(n.file.Host); err != nil {
				return nil, err
			}
		}
		key = append(key, path, n.mode.String(), n.link, sum)
	}
	return key, nil
}

// rootFS stages the tree, has the baseline made, and packs both.
func (b *Builder) rootFS(ctx context.Context, img *Image, in Inputs, k kernel, programs map[string]string) error {
	nodes, err := b.nodes(ctx, img, in, k, programs)
	if err != nil {
		return err
	}
	if in.Baseline != nil {
		key, err := nodesKey(nodes)
		if err != nil {
			return err
		}
		dir, err := b.step(ctx, "tree", key, func(dir string) error { return stage(filepath.Join(dir, "root"), nodes) })
		if err != nil {
			return err
		}
		baseline, err := in.Baseline(filepath.Join(dir, "root"))
		if err != nil {
			return fmt.Errorf("make file baseline: %w", err)
		}
		nodes["/usr/lib/ward/baseline"] = node{mode: 0o644, file: disk.File{Data: baseline}}
	}
	key, err := nodesKey(nodes)
	if err != nil {
		return err
	}
	dir, err := b.step(ctx, "rootfs", key, func(dir string) error {
		if err := stage(filepath.Join(dir, "root"), nodes); err != nil {
			return err
		}
		return packRoot(ctx, dir)
	})
	if err != nil {
		return err
	}
	hash, err := os.ReadFile(filepath.Join(dir, "roothash"))
	if err != nil {
		return fmt.Errorf("read root hash: %w", err)
	}
	img.RootTree, img.RootFS = filepath.Join(dir, "root"), filepath.Join(dir, "root.squashfs")
	img.HashTree, img.RootHash = filepath.Join(dir, "root.verity"), string(hash)
	return nil
}

// packRoot makes root.squashfs, root.verity and roothash of dir/root.
func packRoot(ctx context.Context, dir string) error {
	image, tree := filepath.Join(dir, "root.squashfs"), filepath.Join(dir, "root.verity")
	epoch := strconv.FormatInt(disk.Epoch.Unix(), 10)
	if _, err := tool.Run(ctx, "mksquashfs", filepath.Join(dir, "root"), image,
		"-quiet", "-no-progress", "-noappend", "-all-root", "-no-xattrs", "-reproducible",
		"-mkfs-time", epoch, "-all-time", epoch, "-comp", "zstd", "-b", "128K"); err != nil {
		return err
	}
	out, err := tool.Run(ctx, "veritysetup", "format", "--uuid", verityUUID, "--salt", veritySalt,
		"--hash", "sha256", "--data-block-size", "4096", "--hash-block-size", "4096", image, tree)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(out)) {
		if value, ok := strings.CutPrefix(line, "Root hash:"); ok {
			return writeFile(filepath.Join(dir, "roothash"), []byte(strings.TrimSpace(value)), 0o644)
		}
	}
	return errors.New("read root hash: veritysetup printed none")
}

// initramfs packs process 1, the IMA policy and the modules of the boot path.
func (b *Builder) initramfs(ctx context.Context, brd *board.Board, k kernel, initProgram string) (string, error) {
	policy := filepath.Join(brd.Dir, "ima-policy")
	entries := map[string]entry{
		"dev/console": {mode: typeChar | 0o600, major: 5, minor: 1},
		"dev/null":    {mode: typeChar | 0o666, major: 1, minor: 3},
		"proc":        {mode: typeDir | 0o755}, "sys": {mode: typeDir | 0o755}, "newroot": {mode: typeDir | 0o755},
		"etc/modules.initramfs": {mode: typeFile | 0o644, data: []byte(strings.Join(k.initramfs, "\n") + "\n")},
	}
	files := map[string]string{"init": initProgram, "etc/ima-policy": policy}
	for _, path := range k.initramfs {
		files[strings.TrimPrefix(path, "/")] = filepath.Join(k.tree, path)
	}
	for name, host := range files {
		data, err := os.ReadFile(host)
		if err != nil {
			return "", fmt.Errorf("read file of initramfs: %w", err)
		}
		mode := uint32(0o644)
		if name == "init" {
			mode = 0o755
		}
		entries[name] = entry{mode: typeFile | mode, data: data}
	}
	archive, err := writeCPIO(entries)
	if err != nil {
		return "", fmt.Errorf("make initramfs: %w", err)
	}
	dir, err := b.step(ctx, "initramfs", []string{hashBytes(archive)}, func(dir string) error {
		out, err := tool.Call{Name: "zstd", Args: []string{"-q", "-19", "-T1", "-c"}, Stdin: archive}.Run(ctx)
		if err != nil {
			return err
		}
		return writeFile(filepath.Join(dir, "initramfs.zst"), out, 0o644)
	})
	return filepath.Join(dir, "initramfs.zst"), err
}
