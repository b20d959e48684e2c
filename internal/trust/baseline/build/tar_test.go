package build_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ward/internal/trust/baseline"
	"ward/internal/trust/baseline/build"
)

// archive makes a tar archive of headers; a regular file's content is its Linkname
// unless it is a link.
func archive(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		content := ""
		if h.Typeflag == tar.TypeReg {
			content, h.Linkname, h.Size = h.Linkname, "", int64(len(h.Linkname))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// rootfs is an archive in an order that is not a baseline's, with every type.
func rootfs() []tar.Header {
	return []tar.Header{
		{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755},
		{Typeflag: tar.TypeDir, Name: "./usr/", Mode: 0o755},
		{Typeflag: tar.TypeDir, Name: "./usr/bin/", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: "./usr/bin/ping", Mode: 0o755, Linkname: "\x7fELF", PAXRecords: map[string]string{
			"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00 \x00\x00", "SCHILY.xattr.user.note": "x", "SCHILY.xattr.security.ima": "\x03"}},
		{Typeflag: tar.TypeLink, Name: "./usr/bin/ping6", Linkname: "./usr/bin/ping"},
		{Typeflag: tar.TypeReg, Name: "./usr/bin/su", Mode: 0o4755, Uid: 0, Gid: 3000000, Format: tar.FormatPAX, Linkname: "#!"},
		{Typeflag: tar.TypeDir, Name: "./etc", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: "./etc/a b\n", Mode: 0o644, Linkname: strings.Repeat("settings", 1000)},
		{Typeflag: tar.TypeReg, Name: "./etc/.hidden", Mode: 0o600, Uid: 7, Gid: 8},
		{Typeflag: tar.TypeReg, Name: "./etc/\xff", Mode: 0o644, Format: tar.FormatGNU},
		{Typeflag: tar.TypeSymlink, Name: "./bin", Linkname: "usr/bin"},
		{Typeflag: tar.TypeDir, Name: "./dev", Mode: 0o755},
		{Typeflag: tar.TypeChar, Name: "./dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3},
		{Typeflag: tar.TypeBlock, Name: "./dev/sda", Mode: 0o660, Gid: 6, Devmajor: 8},
		{Typeflag: tar.TypeFifo, Name: "./dev/initctl", Mode: 0o600},
		{Typeflag: tar.TypeDir, Name: "./usr/lib", Mode: 0o755},
		{Typeflag: tar.TypeDir, Name: "./usr/lib/ward", Mode: 0o755},
	}
}

// Verifies: SR-075
func TestTarGolden(t *testing.T) {
	owners, err := build.ParseOwners(strings.NewReader("/etc 0 4\n"))
	if err != nil {
		t.Fatal(err)
	}
	o := build.Options{
		Owners: owners, Self: "/usr/lib/ward/baseline", Verity: []string{"/usr/bin/su"},
		Marks: map[string]baseline.Flags{"/etc": baseline.Config},
	}
	var out bytes.Buffer
	sum, err := build.Tar(&out, bytes.NewReader(archive(t, rootfs()...)), o)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "tar.baseline", out.Bytes())
	if sum.Entries != len(rootfs())+1 || sum.Files != 7 || sum.Bytes != 4+4+2+8000 {
		t.Errorf("summary %+v", sum)
	}
	// The order of an archive does not matter, but for hard links.
	moved := append(rootfs()[10:], rootfs()[:10]...)
	var again bytes.Buffer
	if _, err := build.Tar(&again, bytes.NewReader(archive(t, moved...)), o); err != nil || !bytes.Equal(again.Bytes(), out.Bytes()) {
		t.Errorf("in another order: %v, %s", err, again.Bytes())
	}
}

// GNU tar's archive of a folder gives the baseline of the folder. Capabilities and
// owners are those of the archive; they need root to be set.
//
// Verifies: SR-075
func TestTarOfGNU(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for name, content := range map[string]string{
		"usr/bin/pump": "#!/bin/sh\n", "usr/lib/" + strings.Repeat("long", 60): "x", "etc/ä\\ b\n": "y", "etc/sparse": "",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(filepath.Join(root, "etc/sparse"), 5<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("usr/bin", filepath.Join(root, "bin")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(root, "usr/bin/pump"), filepath.Join(root, "usr/bin/pump2")); err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if _, err := build.Tree(&want, os.DirFS(root), build.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"gnu", "posix"} {
		file := filepath.Join(dir, "rootfs.tar")
		cmd := exec.Command("tar", "--format="+format, "--sparse", "--numeric-owner", "--owner=0", "--group=0", "--xattrs", "--xattrs-include=*", "-cf", file, "-C", root, ".")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if _, err := build.Tar(&got, bytes.NewReader(b), build.Options{}); err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Errorf("%s: %v\n%s, the folder's is\n%s", format, err, got.Bytes(), want.Bytes())
		}
	}
}

// Verifies: SR-075
func TestTarRefuses(t *testing.T) {
	dir := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755} }
	reg := func(name string) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Linkname: "x"}
	}
	whole := archive(t, rootfs()...)
	withZeros := archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Linkname: strings.Repeat("\x00", 700)})
	for name, tt := range map[string]struct {
		text []byte
		says string
	}{
		"nothing":                    {nil, "cut short"},
		"cut in a header":            {whole[:700], "unexpected EOF"},
		"cut behind a header":        {whole[:1024], "cut short"},
		"cut before its end":         {whole[:len(whole)-1024], "cut short"},
		"cut behind a file of zeros": {withZeros[:len(withZeros)-1024], "cut short"},
		"cut in a file":              {archive(t, reg("a"))[:512], "unexpected EOF"},
		"no archive":                 {bytes.Repeat([]byte("ward"), 1000), "invalid tar header"},
		"compressed":                 {append([]byte{0x1f, 0x8b, 8, 0}, bytes.Repeat([]byte("x"), 600)...), "invalid tar header"},
		"name twice":                 {archive(t, reg("a"), reg("./a")), "twice"},
		"way out":                    {archive(t, dir("a"), reg("a/../../b")), "component"},
		"way out at once":            {archive(t, reg("../b")), "component"},
		"way out with dots":          {archive(t, dir("..")), "component"},
		"no folder":                  {archive(t, reg("a/b")), "folder is not in the archive"},
		"file for a folder":          {archive(t, reg("a"), reg("a/b")), "folder is not in the archive"},
		"hard link to nothing":       {archive(t, tar.Header{Typeflag: tar.TypeLink, Name: "a", Linkname: "b"}), "does not stand before"},
		"hard link before its file":  {archive(t, tar.Header{Typeflag: tar.TypeLink, Name: "a", Linkname: "b"}, reg("b")), "does not stand before"},
		"unknown type":               {archive(t, tar.Header{Typeflag: 'Z', Name: "a"}), "type"},
		"many attributes": {archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", PAXRecords: map[string]string{
			"SCHILY.xattr.security.a": strings.Repeat("x", 20000)}}), "xattrs of 40011 bytes"},
	} {
		if _, err := build.Tar(io.Discard, bytes.NewReader(tt.text), build.Options{}); err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one with %q", name, err, tt.says)
		}
	}
	if _, err := build.Tar(io.Discard, bytes.NewReader(whole), build.Options{Verity: []string{"x"}}); err == nil {
		t.Error("a relative path is accepted")
	}
}

// Verifies: SR-075
func TestTarOf200000Entries(t *testing.T) {
	r, w := io.Pipe()
	go func() {
		out := tar.NewWriter(w)
		for i := range 200_000 {
			h := tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%06d", 199_999-i), Mode: 0o644}
			if err := out.WriteHeader(&h); err != nil {
				w.CloseWithError(err)
				return
			}
		}
		w.CloseWithError(out.Close())
	}()
	var b bytes.Buffer
	sum, err := build.Tar(&b, r, build.Options{})
	if err != nil || sum.Entries != 200_001 {
		t.Fatalf("%+v, %v", sum, err)
	}
	if d, err := baseline.Check(&b); err != nil || d != sum.Digest {
		t.Errorf("digest %x, %v", d, err)
	}
}

// Whatever the archive is: no panic, and what is written is a baseline.
func FuzzTar(f *testing.F) {
	whole := archive(f, rootfs()...)
	f.Add(whole)
	f.Add(whole[:3000])
	f.Add(archive(f, tar.Header{Typeflag: tar.TypeLink, Name: "a", Linkname: "b"}))
	f.Fuzz(func(t *testing.T, text []byte) {
		var b bytes.Buffer
		sum, err := build.Tar(&b, bytes.NewReader(text), build.Options{Self: "/usr/lib/ward/baseline", Verity: []string{"/usr"}})
		if err != nil {
			return
		}
		if d, err := baseline.Check(&b); err != nil || d != sum.Digest {
			t.Fatalf("not a baseline: %v", err)
		}
	})
}
