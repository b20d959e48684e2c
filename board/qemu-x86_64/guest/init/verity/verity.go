// Package verity opens the root file system of the virtual device: it finds the
// partitions by their GPT labels, reads the hash tree's superblock and makes a
// dm-verity device over both, whose root hash stands on the signed command line.
//
// Sources: kernel Documentation/admin-guide/device-mapper/verity.rst;
// include/uapi/linux/dm-ioctl.h; cryptsetup, lib/verity/verity.c.
package verity

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Words of the kernel command line that this program reads. The command line
// lies in the signed kernel image.
const (
	wordRootHash  = "ward.roothash=" // dm-verity root hash, lower-case hex
	wordRootLabel = "ward.root="     // GPT label of the data partition
	wordHashLabel = "ward.hash="     // GPT label of the hash partition
	wordRootType  = "ward.rootfs="   // file system type
)

// deviceWait is how long the root disk may take to appear.
const deviceWait = 20 * time.Second

// A Root says which partitions make the root file system.
type Root struct {
	hash                 string
	dataLabel, hashLabel string
	FSType               string
}

// ParseCmdline reads the root file system's place from the kernel command line.
func ParseCmdline(cmdline string) (Root, error) {
	t := Root{dataLabel: "ward-root", hashLabel: "ward-hash", FSType: "squashfs"}
	for _, word := range strings.Fields(cmdline) {
		switch {
		case strings.HasPrefix(word, wordRootHash):
			t.hash = strings.TrimPrefix(word, wordRootHash)
		case strings.HasPrefix(word, wordRootLabel):
			t.dataLabel = strings.TrimPrefix(word, wordRootLabel)
		case strings.HasPrefix(word, wordHashLabel):
			t.hashLabel = strings.TrimPrefix(word, wordHashLabel)
		case strings.HasPrefix(word, wordRootType):
			t.FSType = strings.TrimPrefix(word, wordRootType)
		}
	}
	if b, err := hex.DecodeString(t.hash); err != nil || len(b) != 32 {
		return t, fmt.Errorf("read command line: %s must be followed by 64 hex digits", wordRootHash)
	}
	return t, nil
}

// Open waits for the partitions, opens the dm-verity device over them and
// returns its node.
func (t Root) Open() (string, error) {
	data, err := WaitPartition(t.dataLabel, deviceWait)
	if err != nil {
		return "", err
	}
	hash, err := WaitPartition(t.hashLabel, deviceWait)
	if err != nil {
		return "", err
	}
	f, err := os.Open(hash.Node)
	if err != nil {
		return "", fmt.Errorf("open hash partition: %w", err)
	}
	sb, err := readVeritySuperblock(f)
	f.Close()
	if err != nil {
		return "", fmt.Errorf("read verity superblock of %s: %w", t.hashLabel, err)
	}
	minor, err := dmCreate("ward-root", "CRYPT-VERITY-ward-root", dmTarget{
		Start:  0,
		Length: sb.dataBlocks * uint64(sb.dataBlockSize) / 512,
		Type:   "verity",
		Params: sb.table(data.devno, hash.devno, t.hash),
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/dev/dm-%d", minor), nil
}

// veritySuperblock is the header that veritysetup writes before the hash tree
// (cryptsetup, lib/verity/verity.c, struct verity_sb). It is not signed and need
// not be: a header that was altered leads to a tree whose root differs from the
// signed root hash.
type veritySuperblock struct {
	dataBlockSize, hashBlockSize uint32
	dataBlocks                   uint64
	algorithm                    string
	salt                         []byte
}

func readVeritySuperblock(r io.Reader) (veritySuperblock, error) {
	var raw struct {
		Signature     [8]byte
		Version       uint32
		HashType      uint32
		UUID          [16]byte
		Algorithm     [32]byte
		DataBlockSize uint32
		HashBlockSize uint32
		DataBlocks    uint64
		SaltSize      uint16
		_             [6]byte
		Salt          [256]byte
		_             [168]byte
	}
	if err := binary.Read(r, binary.LittleEndian, &raw); err != nil {
		return veritySuperblock{}, err
	}
	if string(raw.Signature[:]) != "verity\x00\x00" {
		return veritySuperblock{}, errors.New("no verity signature")
	}
	sb := veritySuperblock{
		dataBlockSize: raw.DataBlockSize,
		hashBlockSize: raw.HashBlockSize,
		dataBlocks:    raw.DataBlocks,
		algorithm:     string(bytes.TrimRight(raw.Algorithm[:], "\x00")),
	}
	switch {
	case raw.Version != 1 || raw.HashType != 1:
		return sb, fmt.Errorf("version %d, hash type %d: want 1 and 1", raw.Version, raw.HashType)
	case sb.algorithm != "sha256":
		return sb, fmt.Errorf("algorithm %q: want sha256", sb.algorithm)
	case sb.dataBlockSize != 4096 || sb.hashBlockSize != 4096:
		return sb, fmt.Errorf("block sizes %d and %d: want 4096", sb.dataBlockSize, sb.hashBlockSize)
	case sb.dataBlocks == 0 || sb.dataBlocks > 1<<32:
		return sb, fmt.Errorf("%d data blocks", sb.dataBlocks)
	case int(raw.SaltSize) > len(raw.Salt):
		return sb, fmt.Errorf("salt of %d bytes", raw.SaltSize)
	}
	sb.salt = raw.Salt[:raw.SaltSize]
	return sb, nil
}

// table is the target's parameter line (verity.rst, "Construction Parameters").
// The hash tree starts at block 1, after the superblock. There is no option
// that panics or restarts on corruption: reads fail and a uevent tells.
func (sb veritySuperblock) table(data, hash, rootHash string) string {
	salt := "-"
	if len(sb.salt) > 0 {
		salt = hex.EncodeToString(sb.salt)
	}
	return fmt.Sprintf("1 %s %s %d %d %d 1 %s %s %s",
		data, hash, sb.dataBlockSize, sb.hashBlockSize, sb.dataBlocks, sb.algorithm, rootHash, salt)
}

// A Partition is a block device that carries a GPT label.
type Partition struct {
	devno string // major:minor
	Node  string // path under /dev
}

// WaitPartition looks for the partition with the GPT label until it appears.
func WaitPartition(label string, limit time.Duration) (Partition, error) {
	deadline := time.Now().Add(limit)
	for {
		p, err := findPartition("/sys/class/block", label)
		if err == nil || time.Now().After(deadline) {
			return p, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// findPartition reads the uevent files of the block devices: the kernel's GPT
// parser gives the label as PARTNAME.
func findPartition(class, label string) (Partition, error) {
	files, err := filepath.Glob(filepath.Join(class, "*", "uevent"))
	if err != nil {
		return Partition{}, fmt.Errorf("list block devices: %w", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the device went away
		}
		fields := make(map[string]string)
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
				fields[key] = value
			}
		}
		if fields["PARTNAME"] == label {
			p := Partition{fields["MAJOR"] + ":" + fields["MINOR"], "/dev/" + fields["DEVNAME"]}
			return p, unix.Access(p.Node, unix.F_OK)
		}
	}
	return Partition{}, fmt.Errorf("find partition %q: not among %d block devices", label, len(files))
}
