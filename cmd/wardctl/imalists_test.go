package main

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// order is a byte order of lists.
type order interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// written is an entry that a test makes.
type written struct {
	template string
	fields   [][]byte
	violated bool
}

func (w written) data(o order) []byte {
	var data []byte
	for _, f := range w.fields {
		data = append(o.AppendUint32(data, uint32(len(f))), f...)
	}
	return data
}

func (w written) hash(o order) [sha1.Size]byte {
	if w.violated {
		return [sha1.Size]byte{}
	}
	return sha1.Sum(w.data(o))
}

func (w written) binary(o order) []byte {
	hash, data := w.hash(o), w.data(o)
	e := append(o.AppendUint32(nil, 10), hash[:]...)
	e = append(o.AppendUint32(e, uint32(len(w.template))), w.template...)
	return append(o.AppendUint32(e, uint32(len(data))), data...)
}

// ascii shows digests, names and then hexadecimal, as the templates here have them.
func (w written) ascii(o order) []byte {
	name, digest, _ := bytes.Cut(w.fields[0], []byte{0})
	line := fmt.Appendf(nil, "%2d %x %s %s%x %s", 10, w.hash(o), w.template, name, digest, bytes.TrimRight(w.fields[1], "\x00"))
	for _, f := range w.fields[2:] {
		line = append(line, ' ')
		line = hex.AppendEncode(line, f)
	}
	return append(line, '\n')
}

// entryOf is an entry over a digest of SHA-256.
func entryOf(template, algorithm string, digest []byte, path string, more ...[]byte) written {
	return written{template: template, fields: append([][]byte{append([]byte(algorithm+":\x00"), digest...), []byte(path + "\x00")}, more...)}
}

func content(path, text string) written {
	sum := sha256.Sum256([]byte(text))
	return entryOf("ima-buf", "sha256", sum[:], path, []byte(text))
}

func list(o order, entries ...written) []byte {
	var b []byte
	for _, e := range entries {
		b = append(b, e.binary(o)...)
	}
	return b
}

// imaFiles are the lists and keys of the scripts:
//
//	violation.bin              boot_aggregate, and a violation
//	contents.bin, .ascii       what the kernel measures beside files, and a lie
//	big.bin, big.ascii         of a big-endian host
//	signed.bin                 signatures: good, by another key, bad, of fs-verity, appended,
//	                           of attributes, none
//	hostile.bin                template and algorithm that command a terminal
//	huge.bin, huge-first.bin   template data of 4 GiB in the second, in the first entry
//	long.bin                   64 MiB of entries
func imaFiles(dir string) error {
	le, be := binary.LittleEndian, binary.BigEndian
	aggregate := entryOf("ima-ng", "sha256", make([]byte, 32), "boot_aggregate")
	program := entryOf("ima-ng", "sha256", make([]byte, 32), "/usr/bin/pump")
	violation := entryOf("ima-ng", "sha256", make([]byte, 32), "/usr/bin/\x1b[31mred")
	violation.violated = true
	huge := func(before []byte) []byte {
		e := aggregate.binary(le)
		le.PutUint32(e[34:], 1<<32-1)
		return append(before, e...)
	}
	testdata := map[string][]byte{}
	for name, file := range map[string]string{
		"payload": "payload", "good": "rsa.sha256.sig", "other": "p384.sha256.sig", "verity": "verity.sig", "appended": "rsa-keyid.p7", "evm": "evm.sig",
		"rsa.pem": "rsa.pem", "p256.der": "p256.der",
	} {
		b, err := os.ReadFile(filepath.Join("../../internal/format/imasig/testdata", file))
		if err != nil {
			return err
		}
		testdata[name] = b
	}
	certificate, _ := pem.Decode(testdata["rsa.pem"])
	payload := sha256.Sum256(testdata["payload"])
	lie := content("kernel_version", "6.1.0-made-up")
	lie.fields[0] = aggregate.fields[0]
	contents := []written{aggregate, content("kernel_version", "6.12.1"), content(".ima", string(certificate.Bytes)),
		content("dm_table_load", "dm_version=4.45.0;name=root,uuid=,root_digest=00ff;"), content("selinux-policy-hash", "\x01\x02"),
		content("kexec-cmdline", "quiet \x1b[31mred"), content("later", "\x00\x01"), lie}
	signed := []written{aggregate,
		entryOf("ima-sig", "sha256", payload[:], "/good", testdata["good"]),
		entryOf("ima-sig", "sha256", payload[:], "/other", testdata["other"]),
		entryOf("ima-sig", "sha256", make([]byte, 32), "/bad", testdata["good"]),
		entryOf("ima-sigv2", "verity:sha256", payload[:], "/verity", testdata["verity"]),
		entryOf("ima-modsig", "sha256", make([]byte, 32), "/module.ko", nil, append([]byte("sha256:\x00"), payload[:]...), testdata["appended"]),
		entryOf("evm-sig", "sha256", payload[:], "/attributes", testdata["evm"], []byte("security.ima\x00"), le.AppendUint32(nil, uint32(len(testdata["good"]))), testdata["good"],
			le.AppendUint32(nil, 900), le.AppendUint32(nil, 901), le.AppendUint16(nil, 0o100755)),
		entryOf("ima-sig", "sha256", payload[:], "/none", nil)}
	files := map[string][]byte{
		"violation.bin":  list(le, aggregate, violation),
		"contents.bin":   list(le, contents...),
		"big.bin":        list(be, contents...),
		"signed.bin":     list(le, signed...),
		"rsa.pem":        testdata["rsa.pem"],
		"p256.der":       testdata["p256.der"],
		"hostile.bin":    list(le, aggregate, entryOf("x\x1b[31m|\n", "sha256", payload[:], "/a"), entryOf("ima-ng", "sha\x1b[31m", payload[:], "/a")),
		"huge.bin":       huge(aggregate.binary(le)),
		"huge-first.bin": huge(nil),
		"long.bin":       append(aggregate.binary(le), bytes.Repeat(program.binary(le), 64<<20/len(program.binary(le)))...),
	}
	for _, e := range contents {
		files["contents.ascii"] = append(files["contents.ascii"], e.ascii(le)...)
		files["big.ascii"] = append(files["big.ascii"], e.ascii(be)...)
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// memoryBound is what a verb on a list may hold at any time, in KiB: the program
// with its run-time system and the tests around it, and what 64 KiB of reading ahead
// and a few findings need. The longest list of the scripts is above it.
const memoryBound = 32 << 10

// peakVariable names a file into which the program writes how much memory it held
// at most.
const peakVariable = "PEAK"

// notePeak writes the largest resident set, in KiB, where it was asked for.
func notePeak() {
	name := os.Getenv(peakVariable)
	if name == "" {
		return
	}
	status, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		fields = []string{"unknown"}
	}
	os.WriteFile(name, []byte(fields[0]), 0o644)
}

// bounded wants the memory that the program held to stay below memoryBound:
// "bounded FILE".
func bounded(ts *testscript.TestScript, _ bool, args []string) {
	if peak := number(ts, ts.ReadFile(args[0])); peak > memoryBound {
		ts.Fatalf("the program held %d KiB, at most %d", peak, memoryBound)
	}
}
