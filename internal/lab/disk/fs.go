package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"ward/internal/lab/tool"
)

// Epoch is the time of every file that the lab makes.
var Epoch = time.Unix(1_700_000_000, 0).UTC()

// fixedTime makes mtools and e2fsprogs use Epoch instead of the present.
var fixedTime = []string{
	"TZ=UTC",
	"SOURCE_DATE_EPOCH=" + strconv.FormatInt(Epoch.Unix(), 10),
	"E2FSPROGS_FAKE_TIME=" + strconv.FormatInt(Epoch.Unix(), 10),
	"MTOOLS_SKIP_CHECK=1",
}

// A File is content for a file system: bytes, or the path of a file on the host.
type File struct {
	Data []byte
	Host string // when set, Data is not used
	Mode os.FileMode
}

// MakeFAT makes a FAT32 image with the files; names are slash-separated.
func MakeFAT(ctx context.Context, image string, size int64, files map[string]File) error {
	if err := blank(image, size); err != nil {
		return err
	}
	_, err := tool.Call{Name: "mkfs.fat", Env: fixedTime,
		Args: []string{"-F", "32", "-s", "1", "-i", "57415244", "-n", "WARD-ESP", "--invariant", image}}.Run(ctx)
	if err != nil {
		return fmt.Errorf("make ESP: %w", err)
	}
	return PutFAT(ctx, image, 0, files)
}

// PutFAT writes files into the FAT file system at an offset of a disk image,
// replacing those of the same name.
func PutFAT(ctx context.Context, image string, offset int64, files map[string]File) error {
	drive := drive(image, offset)
	tmp, err := os.MkdirTemp("", "ward-esp-")
	if err != nil {
		return fmt.Errorf("make temporary directory: %w", err)
	}
	defer os.RemoveAll(tmp)
	dirs := make(map[string]bool)
	for _, name := range sortedNames(files) {
		for _, dir := range parents(name) {
			if dirs[dir] {
				continue
			}
			dirs[dir] = true
			// -D s skips a directory that is there; mmd then has status 1.
			_, err := tool.Call{Name: "mmd", Env: fixedTime, Args: []string{"-D", "s", "-i", drive, "::" + dir}}.Run(ctx)
			if err != nil && tool.ExitCode(err) != 1 {
				return fmt.Errorf("make directory %s in the ESP: %w", dir, err)
			}
		}
		host := filepath.Join(tmp, "file")
		if err := files[name].place(host); err != nil {
			return err
		}
		_, err := tool.Call{Name: "mcopy", Env: fixedTime, Args: []string{"-o", "-m", "-i", drive, host, "::" + name}}.Run(ctx)
		if err != nil {
			return fmt.Errorf("write %s into the ESP: %w", name, err)
		}
	}
	return nil
}

// drive names a file system at an offset of an image, as mtools wants it.
func drive(image string, offset int64) string {
	if offset == 0 {
		return image
	}
	return image + "@@" + strconv.FormatInt(offset, 10)
}

// DeleteFAT removes a file from the FAT file system at an offset of a disk.
func DeleteFAT(ctx context.Context, image string, offset int64, name string) error {
	if _, err := (tool.Call{Name: "mdel", Env: fixedTime, Args: []string{"-i", drive(image, offset), "::" + name}}).Run(ctx); err != nil {
		return fmt.Errorf("delete %s from the ESP: %w", name, err)
	}
	return nil
}

// An Owner is who holds the files of a file system.
type Owner struct{ UID, GID int }

// MakeExt4 makes an ext4 image with the files, all of them and the root
// directory held by owner.
func MakeExt4(ctx context.Context, image string, size int64, label, uuid string, owner Owner, files map[string]File) error {
	if err := blank(image, size); err != nil {
		return err
	}
	args := []string{"-q", "-F", "-t", "ext4", "-U", uuid, "-L", label, "-m", "0", "-E",
		fmt.Sprintf("hash_seed=%s,root_owner=%d:%d,lazy_itable_init=0,lazy_journal_init=0,nodiscard", uuid, owner.UID, owner.GID)}
	if len(files) > 0 {
		tree, err := os.MkdirTemp("", "ward-tree-")
		if err != nil {
			return fmt.Errorf("make temporary directory: %w", err)
		}
		defer os.RemoveAll(tree)
		for _, name := range sortedNames(files) {
			host := filepath.Join(tree, filepath.FromSlash(name))
			if err := os.MkdirAll(filepath.Dir(host), 0o700); err != nil {
				return fmt.Errorf("stage %s: %w", name, err)
			}
			if err := files[name].place(host); err != nil {
				return err
			}
		}
		args = append(args, "-d", tree)
	}
	if _, err := (tool.Call{Name: "mke2fs", Env: fixedTime, Args: append(args, image)}).Run(ctx); err != nil {
		return fmt.Errorf("make file system %s: %w", label, err)
	}
	return settleExt4(ctx, image, owner, files)
}

// settleExt4 gives the files and the directories above them their owner and
// the fixed times: mke2fs takes both from the host.
func settleExt4(ctx context.Context, image string, owner Owner, files map[string]File) error {
	if len(files) == 0 {
		return nil
	}
	seen := make(map[string]bool)
	var script strings.Builder
	for _, name := range sortedNames(files) {
		for _, inode := range append(parents(name), name) {
			if seen[inode] {
				continue
			}
			seen[inode] = true
			if strings.ContainsAny(inode, " \"\n") {
				return fmt.Errorf("own %q: no name with blanks or quotes", inode)
			}
			fmt.Fprintf(&script, "sif /%[1]s uid %[2]d\nsif /%[1]s gid %[3]d\n", inode, owner.UID, owner.GID)
			for _, field := range []string{"atime", "ctime", "mtime"} {
				fmt.Fprintf(&script, "sif /%s %s @%d\n", inode, field, Epoch.Unix())
			}
		}
	}
	call := tool.Call{Name: "debugfs", Env: fixedTime, Args: []string{"-w", "-f", "-", image}, Stdin: []byte(script.String())}
	if _, err := call.Run(ctx); err != nil {
		return fmt.Errorf("own files: %w", err)
	}
	return nil
}

// Copy writes the image at a place of the disk, leaving holes for zero blocks.
func Copy(disk *os.File, offset, room int64, image string) error {
	in, err := os.Open(image)
	if err != nil {
		return fmt.Errorf("open image: %w", err)
	}
	defer in.Close()
	buf := make([]byte, 64<<10)
	for at := int64(0); ; {
		n, err := io.ReadFull(in, buf)
		if int64(n)+at > room {
			return fmt.Errorf("copy %s: larger than its partition of %d bytes", filepath.Base(image), room)
		}
		if slices.ContainsFunc(buf[:n], func(b byte) bool { return b != 0 }) {
			if _, err := disk.WriteAt(buf[:n], offset+at); err != nil {
				return fmt.Errorf("write disk: %w", err)
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read image: %w", err)
		}
	}
}

// CopyFile copies a disk or another file of a device.
func CopyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy file: %w", err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("copy file: %w", err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copy file: %w", err)
	}
	return nil
}

// place writes the file on the host, with the fixed time.
func (f File) place(host string) error {
	data := f.Data
	if f.Host != "" {
		var err error
		if data, err = os.ReadFile(f.Host); err != nil {
			return fmt.Errorf("read file: %w", err)
		}
	}
	mode := f.Mode
	if mode == 0 {
		mode = 0o644
	}
	if err := os.WriteFile(host, data, mode); err != nil {
		return fmt.Errorf("stage file: %w", err)
	}
	if err := os.Chmod(host, mode); err != nil {
		return fmt.Errorf("stage file: %w", err)
	}
	if err := os.Chtimes(host, Epoch, Epoch); err != nil {
		return fmt.Errorf("stage file: %w", err)
	}
	return nil
}

// blank makes a file of zero bytes with holes.
func blank(image string, size int64) error {
	f, err := os.Create(image)
	if err != nil {
		return fmt.Errorf("make image: %w", err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return fmt.Errorf("make image: %w", err)
	}
	return nil
}

func sortedNames(files map[string]File) []string {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// parents lists the directories above a slash-separated name, outermost first.
func parents(name string) []string {
	var out []string
	for dir := path.Dir(strings.TrimPrefix(name, "/")); dir != "." && dir != "/"; dir = path.Dir(dir) {
		out = append([]string{dir}, out...)
	}
	return out
}
