// Package fsverity computes the digest by which Linux names a file that has
// fs-verity (Documentation/filesystems/fsverity.rst, "Merkle tree" and "fs-verity
// descriptor"): the SHA-256 of a descriptor that holds the file's size and the
// root of a tree of SHA-256 over its blocks of 4096 bytes, without a salt. The
// kernel gives the same digest by FS_IOC_MEASURE_VERITY without reading the
// file. A file is hashed as a stream in constant memory.
package fsverity

import (
	"crypto/sha256"
	"encoding/binary"
)

const (
	// blockSize is that of the data and of the tree: fsverity's default, which
	// every page size and file system accepts.
	blockSize = 4096
	// maxLevels is FS_VERITY_MAX_LEVELS: 128 hashes fit a block, and 128 to the
	// power of 8 blocks are more than a file can have.
	maxLevels = 8

	descriptorSize = 256
	version        = 1
	sha256ID       = 1  // FS_VERITY_HASH_ALG_SHA256
	logBlockSize   = 12 // of 4096
	rootAt         = 16 // behind version, algorithm, sizes, reserved word and data_size
)

// Hash is the digest of what was written to it. The zero Hash is that of an
// empty file and ready to be written to.
type Hash struct {
	size   uint64
	data   block                // the last data block, as far as it is filled
	levels [maxLevels + 1]block // hash blocks, the leaves' first
}

// block is one that is being filled; it is hashed when more is to come.
type block struct {
	bytes  [blockSize]byte
	filled int
}

// Write adds bytes of the file. It never fails.
func (h *Hash) Write(p []byte) (int, error) {
	n := len(p)
	h.size += uint64(n)
	for len(p) > 0 {
		if h.data.filled == blockSize {
			h.levels[0].filled += copy(h.room(0), h.data.sum())
		}
		k := copy(h.data.bytes[h.data.filled:], p)
		h.data.filled += k
		p = p[k:]
	}
	return n, nil
}

// room makes room for a hash in a level, moving the hash of a full block up.
func (h *Hash) room(level int) []byte {
	b := &h.levels[level]
	if b.filled == blockSize {
		h.levels[level+1].filled += copy(h.room(level+1), b.sum())
	}
	return b.bytes[b.filled:]
}

// sum hashes a block, filled up with zeros, and empties it.
func (b *block) sum() []byte {
	clear(b.bytes[b.filled:])
	sum := sha256.Sum256(b.bytes[:])
	b.filled = 0
	return sum[:]
}

// Sum ends the file and returns its digest. The Hash is spent afterwards.
func (h *Hash) Sum() [32]byte {
	var descriptor [descriptorSize]byte
	descriptor[0], descriptor[1], descriptor[2] = version, sha256ID, logBlockSize
	binary.LittleEndian.PutUint64(descriptor[8:], h.size)
	if h.size > 0 { // the root of an empty file is all zeros
		copy(descriptor[rootAt:], h.root())
	}
	return sha256.Sum256(descriptor[:])
}

// root closes the levels from the leaves up. The root is the hash of the only
// block of its level.
func (h *Hash) root() []byte {
	sum := h.data.sum()
	for level := 0; h.used(level); level++ {
		h.levels[level].filled += copy(h.room(level), sum)
		sum = h.levels[level].sum()
	}
	return sum
}

// used tells whether a level or one above it holds a hash.
func (h *Hash) used(level int) bool {
	for i := level; i < len(h.levels); i++ {
		if h.levels[i].filled > 0 {
			return true
		}
	}
	return false
}
