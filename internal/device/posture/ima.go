package posture

import "io/fs"

const imaFolder = "sys/kernel/security/ima/"

// imaState says "measuring" where the kernel's list has more than its first entry,
// else "idle", and "policy-open" where root may still load a policy, else
// "policy-closed" (Documentation/ABI/testing/ima_policy: the file goes away, or
// stays readable alone, when one was loaded).
func imaState(root fs.FS) ([]string, error) {
	n, err := number(root, imaFolder+"runtime_measurements_count")
	if err != nil {
		return nil, err
	}
	words := []string{"idle", "policy-closed"}
	if n > 1 {
		words[0] = "measuring"
	}
	info, err := fs.Stat(root, imaFolder+"policy")
	switch {
	case err == nil && info.Mode()&0o222 != 0:
		words[1] = "policy-open"
	case absent(err):
		err = nil
	}
	return words, err
}

// evmWords are the bits of EVM's state (Documentation/ABI/testing/evm).
var evmWords = [32]string{0: "hmac", 1: "signatures", 2: "metadata-writable", 31: "closed"}

// evmState says what of EVM is on: "hmac", "signatures", "metadata-writable",
// "closed" (no more may be switched on), or "off".
func evmState(root fs.FS) ([]string, error) {
	bits, err := number(root, "sys/kernel/security/evm")
	words := bitWords(bits, evmWords[:])
	if bits == 0 {
		words = []string{"off"}
	}
	return words, err
}
