package posture

import (
	"fmt"
	"io/fs"
	"strconv"

	"ward/internal/trust/posture"
)

const taintFile = "proc/sys/kernel/tainted"

// taint says the bits of the kernel's taint in words
// (Documentation/admin-guide/tainted-kernels.rst), "bit-N" where a bit has none.
// They stay until the next start.
func taint(root fs.FS) posture.Claim {
	text, err := word(root, taintFile)
	if err != nil {
		return Failed(posture.Taint, err)
	}
	bits, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return Failed(posture.Taint, fmt.Errorf("parse /%s: %.40q is no number", taintFile, text))
	}
	var values []string
	for i := range 64 {
		switch {
		case bits>>i&1 == 0:
		case i < len(posture.TaintWords):
			values = append(values, posture.TaintWords[i])
		default:
			values = append(values, "bit-"+strconv.Itoa(i))
		}
	}
	return Value(posture.Taint, values...)
}
