package main

import (
	"archive/tar"
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"ward/internal/format/pe/petest"
	"ward/internal/scripttest"
)

var update = flag.Bool("update", false, "rewrite golden parts of the scripts")

func TestMain(m *testing.M) {
	syscall.Umask(0o022) // modes are part of a baseline
	testscript.Main(m, map[string]func(){"wardrelease": main})
}

// Each script starts with the event log of a real machine (boot.bin), the
// registers that tpm2_eventlog computes from it (boot.pcrs.json), the log and
// registers of the virtual device (golden.bin, golden.pcrs.json) and its board
// profile (board.toml), and kernel images: unified (image.efi), signed by a key
// in a signature list (signed.efi, db.esl), and plain (plain.efi); and an archive of
// files as only root can make them (attributes.tar).
func TestScripts(t *testing.T) {
	files := map[string]string{
		"boot.bin":       "../../internal/trust/profile/testdata/arch-linux-workstation.bin",
		"boot.pcrs.json": "../../internal/trust/profile/testdata/arch-linux-workstation.pcrs.json",
		"board.toml":     "../../board/qemu-x86_64/board.toml",
		"running.toml":   "../../board/qemu-x86_64/running.toml",

		"golden.bin":       "../../internal/format/eventlog/testdata/qemu-x86_64.bin",
		"golden.pcrs.json": "../../internal/format/eventlog/testdata/qemu-x86_64.pcrs.json",
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			key, cert, err := petest.Key("signer", nil, nil)
			if err != nil {
				return err
			}
			image := petest.Build(petest.Section{Name: ".cmdline", Data: "quiet"}, petest.Section{Name: ".linux", Data: "kernel"}, petest.Section{Name: ".initrd", Data: "initramfs"})
			plain := petest.Build(petest.Section{Name: ".text", Data: "kernel"})
			made := map[string][]byte{"image.efi": image, "db.esl": petest.SignatureList(cert.Raw)}
			for name, unsigned := range map[string][]byte{"signed.efi": image, "plain.efi": plain} {
				if made[name], err = petest.Sign(unsigned, key, cert); err != nil {
					return err
				}
			}
			if made["attributes.tar"], err = attributesTar(); err != nil {
				return err
			}
			for name, b := range made {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), b, 0o644); err != nil {
					return err
				}
			}
			for name, source := range files {
				b, err := os.ReadFile(source)
				if err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), b, 0o644); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": scripttest.Status,
			"cut":    cut,
			"swtpm":  startSWTPM,
			"srk":    makeSRK,
			"sealed": makeSealed,
			"altered": func(ts *testscript.TestScript, _ bool, args []string) {
				b := strings.ReplaceAll(ts.ReadFile(args[0]), `"counterAtMost":23`, `"counterAtMost":24`)
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(b), 0o644))
			},
		},
	})
}

// cut shortens a file to half: "cut FILE NEW".
func cut(ts *testscript.TestScript, _ bool, args []string) {
	b := ts.ReadFile(args[0])
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(b[:len(b)/2]), 0o644))
}

// attributesTar is an archive with what a test without root cannot put into a
// folder: owners, capabilities, a device, a name that is not UTF-8.
func attributesTar() ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeReg, Name: "./ping", Mode: 0o755, Size: 4, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00 \x00\x00"}},
		{Typeflag: tar.TypeReg, Name: "./odd\n\xff", Mode: 0o640, Uid: 7, Gid: 8, Format: tar.FormatGNU},
		{Typeflag: tar.TypeChar, Name: "./null", Mode: 0o666, Devmajor: 1, Devminor: 3},
	} {
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}
