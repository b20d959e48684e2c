package posture

import (
	"io/fs"
	"strconv"

	"ward/internal/trust/posture"
)

const taintFile = "proc/sys/kernel/tainted"

// taint says the bits of the kernel's taint in words
// (Documentation/admin-guide/tainted-kernels.rst), "bit-N" where a bit has none.
// They stay until the next start.
func taint(root fs.FS) ([]string, error) {
	bits, err := number(root, taintFile)
	return bitWords(bits, posture.TaintWords[:]), needed(err)
}

// bitWords are the words of the bits that are set, from bit 0 on; "bit-N" where
// there is none.
func bitWords(bits uint64, words []string) (out []string) {
	for i := range 64 {
		switch {
		case bits>>i&1 == 0:
		case i < len(words) && words[i] != "":
			out = append(out, words[i])
		default:
			out = append(out, "bit-"+strconv.Itoa(i))
		}
	}
	return out
}
