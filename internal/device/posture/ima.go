package posture

import (
	"fmt"
	"io/fs"
	"strconv"

	"ward/internal/trust/posture"
)

const imaFolder = "sys/kernel/security/ima/"

// imaState says "measuring" where the kernel's list has more than its first entry,
// else "idle", and "policy-open" where root may still load a policy, else
// "policy-closed" (Documentation/ABI/testing/ima_policy: the file goes away, or
// stays readable alone, when one was loaded).
func imaState(root fs.FS) posture.Claim {
	text, err := word(root, imaFolder+"runtime_measurements_count")
	if err != nil {
		return Missing(posture.IMA, err)
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return Failed(posture.IMA, fmt.Errorf("parse number of measurements: %.20q", text))
	}
	values := []string{"idle", "policy-closed"}
	if n > 1 {
		values[0] = "measuring"
	}
	info, err := fs.Stat(root, imaFolder+"policy")
	switch {
	case err == nil && info.Mode()&0o222 != 0:
		values[1] = "policy-open"
	case err != nil && !Missing("", err).Absent:
		return Failed(posture.IMA, err)
	}
	return Value(posture.IMA, values...)
}

// evmState says what of EVM is on (Documentation/ABI/testing/evm): "hmac",
// "signatures", "metadata-writable", "closed" (no more may be switched on), or
// "off".
func evmState(root fs.FS) posture.Claim {
	text, err := word(root, "sys/kernel/security/evm")
	if err != nil {
		return Missing(posture.EVM, err)
	}
	bits, err := strconv.ParseUint(text, 0, 32)
	if err != nil {
		return Failed(posture.EVM, fmt.Errorf("parse state of EVM: %.20q", text))
	}
	var values []string
	for _, b := range [...]struct {
		bit  uint
		word string
	}{{0, "hmac"}, {1, "signatures"}, {2, "metadata-writable"}, {31, "closed"}} {
		if bits>>b.bit&1 == 1 {
			values = append(values, b.word)
		}
	}
	if bits == 0 {
		values = append(values, "off")
	}
	return Value(posture.EVM, values...)
}
