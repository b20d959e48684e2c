package disk

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

// xts is AES-256 in XTS mode on sectors of 512 bytes, numbered from 0 in 64 bits,
// little-endian: dm-crypt's aes-xts-plain64 (IEEE 1619-2018; kernel
// Documentation/admin-guide/device-mapper/dm-crypt.rst). Encryption only: the
// lab writes volumes, the device's kernel reads them.
type xts struct{ data, tweak cipher.Block }

// newXTS makes the cipher of a key of 64 bytes: the data key, then the tweak's.
func newXTS(key []byte) (xts, error) {
	if len(key) != volumeKeySize {
		return xts{}, fmt.Errorf("make cipher: a key of %d bytes, want %d", len(key), volumeKeySize)
	}
	data, err := aes.NewCipher(key[:volumeKeySize/2])
	if err != nil {
		return xts{}, fmt.Errorf("make cipher: %w", err)
	}
	tweak, err := aes.NewCipher(key[volumeKeySize/2:])
	if err != nil {
		return xts{}, fmt.Errorf("make cipher: %w", err)
	}
	return xts{data, tweak}, nil
}

// encrypt encrypts whole sectors in place, the first of which has a number.
func (x xts) encrypt(b []byte, number uint64) {
	var t [aes.BlockSize]byte
	for at := 0; at+aes.BlockSize <= len(b); at += aes.BlockSize {
		if at%sector == 0 {
			clear(t[:])
			binary.LittleEndian.PutUint64(t[:], number)
			x.tweak.Encrypt(t[:], t[:])
			number++
		}
		block := b[at : at+aes.BlockSize]
		subtle.XORBytes(block, block, t[:])
		x.data.Encrypt(block, block)
		subtle.XORBytes(block, block, t[:])
		double(&t)
	}
}

// double multiplies by x in GF(2^128), little-endian (IEEE 1619-2018, 5.2).
func double(t *[aes.BlockSize]byte) {
	low, high := binary.LittleEndian.Uint64(t[:8]), binary.LittleEndian.Uint64(t[8:])
	carry := high >> 63
	binary.LittleEndian.PutUint64(t[8:], high<<1|low>>63)
	binary.LittleEndian.PutUint64(t[:8], low<<1^carry*0x87)
}
