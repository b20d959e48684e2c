package rootfs

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"ward/internal/trust/baseline"
	"ward/internal/trust/baseline/build"
)

// Owners and security attributes of a mounted image are the release's; those of a
// staged tree are not. Only root can set them.
//
// Verifies: SR-075
func TestMountedImage(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "ping")
	if err := os.WriteFile(program, []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	// VFS_CAP_REVISION_2 with the effective bit, CAP_NET_RAW permitted.
	capability := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	err := errors.Join(unix.Lchown(program, 7, 8), unix.Lsetxattr(program, baseline.Capability, capability, 0), unix.Chmod(program, 0o755))
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) {
		t.Skipf("owners and capabilities cannot be set here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	ping := func(host build.Host) baseline.Entry {
		var b bytes.Buffer
		if _, err := build.Tree(&b, os.DirFS(dir), build.Options{Host: host}); err != nil {
			t.Fatal(err)
		}
		r, err := baseline.NewReader(&b)
		for err == nil {
			var e baseline.Entry
			if e, err = r.Next(); e.Path == "/ping" {
				return e
			}
		}
		t.Fatal(err)
		return baseline.Entry{}
	}
	if e := ping(mounted(dir)); e.UID != 7 || e.GID != 8 || e.Xattrs != "security.capability=0100000200200000000000000000000000000000" {
		t.Errorf("mounted: %+v", e)
	}
	if e := ping(staged()); e.UID != 0 || e.GID != 0 || e.Xattrs != "" {
		t.Errorf("staged: %+v", e)
	}
	if _, err := attributes(filepath.Join(dir, "gone")); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a file that is gone: %v", err)
	}
}
