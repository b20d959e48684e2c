package pcr

import (
	"bytes"
	"fmt"
)

// Count is the number of registers in a bank (PC Client Platform TPM Profile,
// 4.6).
const Count = 24

// Registers 17 to 22 belong to the dynamic root of trust: they start at all
// ones (PC Client Platform TPM Profile, 4.6).
const firstDynamic, lastDynamic = 17, 22

func isDynamic(index int) bool { return index >= firstDynamic && index <= lastDynamic }

func setOnes(d Digest) {
	for i := range d {
		d[i] = 0xff
	}
}

// maxDigestSize is the length of the longest digest of any algorithm, SHA-512's.
const maxDigestSize = 64

// Bank computes the registers of one algorithm.
type Bank struct {
	algorithm Algorithm
	values    [Count]Digest
	extended  [Count]bool
}

// NewBank returns a bank as after a cold start at locality 0. It fails when
// this build cannot compute the algorithm.
func NewBank(a Algorithm) (*Bank, error) {
	b := &Bank{algorithm: a}
	if a.New() == nil {
		return nil, fmt.Errorf("make PCR bank: this build cannot compute %s", a)
	}
	size := a.Size()
	all := make(Digest, Count*size)
	for i := range b.values {
		v := all[i*size : (i+1)*size : (i+1)*size]
		if isDynamic(i) {
			setOnes(v)
		}
		b.values[i] = v
	}
	return b, nil
}

// Clone returns a bank that goes its own way from here on.
func (b *Bank) Clone() *Bank {
	c := *b
	for i, v := range b.values {
		c.values[i] = bytes.Clone(v)
	}
	return &c
}

// Algorithm returns the bank's algorithm.
func (b *Bank) Algorithm() Algorithm { return b.algorithm }

// StartAtLocality sets the value with which PCR 0 starts when the TPM was
// started at locality l: zero but for the last byte, which is l (TPM 2.0
// Library, Part 3, 9.3, TPM2_Startup). It fails once PCR 0 was extended.
func (b *Bank) StartAtLocality(l uint8) error {
	if b.extended[0] {
		return fmt.Errorf("set startup locality %d: PCR 0 was already extended", l)
	}
	v := b.values[0]
	v[len(v)-1] = l
	return nil
}

// Extend sets the register to H(value ‖ digest) (TPM 2.0 Library, Part 1,
// 17.4). The digest must be as long as the bank's.
func (b *Bank) Extend(index int, digest []byte) error {
	if index < 0 || index >= Count {
		return fmt.Errorf("extend PCR %d: want 0 to %d", index, Count-1)
	}
	if want := len(b.values[index]); len(digest) != want {
		return fmt.Errorf("extend PCR %d: digest of %d bytes, bank %s wants %d", index, len(digest), b.algorithm, want)
	}
	var joined [2 * maxDigestSize]byte
	n := copy(joined[:], b.values[index])
	n += copy(joined[n:], digest)
	b.algorithm.AppendSum(b.values[index][:0], joined[:n])
	b.extended[index] = true
	return nil
}

// Resume sets a register to a value that it held before, and counts it as
// extended: a replay goes on where another one stopped.
func (b *Bank) Resume(index int, value []byte) error {
	if index < 0 || index >= Count {
		return fmt.Errorf("resume PCR %d: want 0 to %d", index, Count-1)
	}
	if want := len(b.values[index]); len(value) != want {
		return fmt.Errorf("resume PCR %d: %d bytes, bank %s wants %d", index, len(value), b.algorithm, want)
	}
	b.values[index], b.extended[index] = bytes.Clone(value), true
	return nil
}

// Value returns a copy of a register's value, nil when there is no such register.
func (b *Bank) Value(index int) Digest {
	if index < 0 || index >= Count {
		return nil
	}
	return bytes.Clone(b.values[index])
}

// Extended tells whether the register was extended.
func (b *Bank) Extended(index int) bool {
	return index >= 0 && index < Count && b.extended[index]
}

// Values returns the registers that were extended.
func (b *Bank) Values() Values {
	v := make(Values)
	for i := range b.values {
		if b.extended[i] {
			v[i] = b.Value(i)
		}
	}
	return v
}

// Values are registers by number; in JSON the numbers are strings and the
// values lower-case hexadecimal.
type Values map[int]Digest

// ResetValue returns a register's value after a cold start at locality 0: all
// ones for 17 to 22, else zero. It is nil for an unknown algorithm or register.
func ResetValue(a Algorithm, index int) Digest {
	if a.Size() == 0 || index < 0 || index >= Count {
		return nil
	}
	if isDynamic(index) {
		return AllOnes(a)
	}
	return make(Digest, a.Size())
}

// IsReset tells whether a value is one that the register holds before its first
// extend. For PCR 0 that depends on the locality of the start: 0, 3 or 4.
func IsReset(a Algorithm, index int, value []byte) bool {
	reset := ResetValue(a, index)
	if reset == nil {
		return false
	}
	if index == 0 && len(value) == len(reset) {
		switch last := value[len(value)-1]; last {
		case 3, 4:
			reset[len(reset)-1] = last
		}
	}
	return bytes.Equal(reset, value)
}

// AllOnes returns a digest of all ones, nil for an unknown algorithm: what the
// kernel extends for an entry that it cannot vouch for, and the reset value of
// the dynamic registers.
func AllOnes(a Algorithm) Digest {
	if a.Size() == 0 {
		return nil
	}
	return bytes.Repeat(Digest{0xff}, a.Size())
}
