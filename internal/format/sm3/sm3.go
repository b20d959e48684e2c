// Package sm3 computes the hash SM3 (GB/T 32905-2016, also ISO/IEC 10118-3,
// hash function 17), which firmware may use for a bank of PCRs and which Go's
// library does not have. Names in the code are the standard's. It serves the
// replay of logs; no secret is ever hashed with it.
package sm3

import (
	"encoding/binary"
	"hash"
	"math/bits"
)

// Size is the length of a digest, BlockSize that of the blocks, in bytes.
const (
	Size      = 32
	BlockSize = 64
)

// initial is IV (section 4.1).
var initial = [8]uint32{
	0x7380166f, 0x4914b2b9, 0x172442d7, 0xda8a0600,
	0xa96f30bc, 0x163138aa, 0xe38dee4d, 0xb0fb0e4e,
}

// digest is a running hash.
type digest struct {
	v      [8]uint32
	block  [BlockSize]byte // what does not fill a block yet
	filled int
	length uint64 // of the message so far, in bytes
}

// New returns a running hash.
func New() hash.Hash {
	return &digest{v: initial}
}

// Sum returns the digest of data.
func Sum(data []byte) [Size]byte {
	d := digest{v: initial}
	d.write(data)
	return d.sum()
}

func (d *digest) Size() int      { return Size }
func (d *digest) BlockSize() int { return BlockSize }
func (d *digest) Reset()         { *d = digest{v: initial} }

func (d *digest) Write(p []byte) (int, error) {
	d.write(p)
	return len(p), nil
}

// Sum appends the digest of what was written so far; more may be written after.
func (d *digest) Sum(b []byte) []byte {
	end := *d
	sum := end.sum()
	return append(b, sum[:]...)
}

func (d *digest) write(p []byte) {
	d.length += uint64(len(p))
	if d.filled > 0 {
		n := copy(d.block[d.filled:], p)
		d.filled += n
		p = p[n:]
		if d.filled < BlockSize {
			return
		}
		d.compress(d.block[:])
		d.filled = 0
	}
	for ; len(p) >= BlockSize; p = p[BlockSize:] {
		d.compress(p[:BlockSize])
	}
	d.filled = copy(d.block[:], p)
}

// sum pads the message (section 5.2: a one bit, zeros, the length in bits as 64
// bits) and returns the digest. The running hash cannot be used after it.
func (d *digest) sum() [Size]byte {
	const lengthAt = BlockSize - 8
	length := d.length * 8
	d.block[d.filled] = 0x80
	clear(d.block[d.filled+1:])
	if d.filled >= lengthAt {
		d.compress(d.block[:])
		clear(d.block[:])
	}
	binary.BigEndian.PutUint64(d.block[lengthAt:], length)
	d.compress(d.block[:])
	var out [Size]byte
	for i, v := range d.v {
		binary.BigEndian.PutUint32(out[4*i:], v)
	}
	return out
}

// p0 and p1 are the permutations (section 4.4).
func p0(x uint32) uint32 { return x ^ bits.RotateLeft32(x, 9) ^ bits.RotateLeft32(x, 17) }
func p1(x uint32) uint32 { return x ^ bits.RotateLeft32(x, 15) ^ bits.RotateLeft32(x, 23) }

// Rounds below change use other functions and another constant than those from
// it on (sections 4.2 and 4.3).
const (
	rounds       = 64
	change       = 16
	early, later = 0x79cc4519, 0x7a879d8a
)

// compress is CF (section 5.3.3).
func (d *digest) compress(block []byte) {
	var w [rounds + 4]uint32 // message expansion (section 5.3.2)
	for j := range BlockSize / 4 {
		w[j] = binary.BigEndian.Uint32(block[4*j:])
	}
	for j := 16; j < len(w); j++ {
		w[j] = p1(w[j-16]^w[j-9]^bits.RotateLeft32(w[j-3], 15)) ^ bits.RotateLeft32(w[j-13], 7) ^ w[j-6]
	}
	v := d.v
	for j := range rounds {
		t := uint32(later)
		if j < change {
			t = early
		}
		a12 := bits.RotateLeft32(v[0], 12)
		ss1 := bits.RotateLeft32(a12+v[4]+bits.RotateLeft32(t, j), 7)
		ss2 := ss1 ^ a12
		ff, gg := v[0]^v[1]^v[2], v[4]^v[5]^v[6]
		if j >= change {
			ff = v[0]&v[1] | v[0]&v[2] | v[1]&v[2]
			gg = v[4]&v[5] | ^v[4]&v[6]
		}
		tt1 := ff + v[3] + ss2 + (w[j] ^ w[j+4])
		tt2 := gg + v[7] + ss1 + w[j]
		v = [8]uint32{tt1, v[0], bits.RotateLeft32(v[1], 9), v[2], p0(tt2), v[4], bits.RotateLeft32(v[5], 19), v[6]}
	}
	for i := range v {
		d.v[i] ^= v[i]
	}
}
