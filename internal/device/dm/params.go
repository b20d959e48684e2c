package dm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// keyless are targets whose parameters hold no key.
var keyless = []string{"verity", "linear", "striped", "error", "zero", "snapshot", "snapshot-origin", "thin", "thin-pool", "raid", "mirror", "cache"}

// keyBlank stands where the key of dm-crypt stood.
const keyBlank = "*"

// withoutKeys gives a target's parameters without keys; b is wiped where one may be.
// Of dm-crypt ("cipher key iv-offset device offset options") the key goes, whether it
// is the key itself or its name in a keyring; of what is not known, everything.
func withoutKeys(target string, b []byte) string {
	if slices.Contains(keyless, target) {
		return string(b)
	}
	defer clear(b)
	if target != "crypt" {
		return ""
	}
	cipher, rest, ok := bytes.Cut(b, []byte(" "))
	_, rest, ok2 := bytes.Cut(rest, []byte(" "))
	if !ok || !ok2 {
		return ""
	}
	return string(cipher) + " " + keyBlank + " " + string(rest)
}

// Verity is what the table of a dm-verity target says
// (Documentation/admin-guide/device-mapper/verity.rst).
type Verity struct {
	Version                      int
	DataDevice, HashDevice       string // "253:0"
	DataBlockSize, HashBlockSize uint64 // bytes
	DataBlocks, HashStart        uint64 // blocks
	Algorithm                    string // "sha256"
	RootHash                     []byte
	Salt                         []byte            // empty: none
	Flags                        []string          // options without a value, sorted: "panic_on_corruption"
	Values                       map[string]string // options with one: "use_fec_from_device"
}

// Bounds of a table's words.
const (
	maxParams  = 4096 // bytes
	maxHash    = 64   // bytes, of SHA-512
	maxSalt    = 256  // bytes, the kernel's own bound
	maxOptions = 32
)

// errVerity: the parameters are none of dm-verity.
var errVerity = errors.New("not the parameters of dm-verity")

// valued are the options that a value follows.
var valued = []string{"use_fec_from_device", "fec_blocks", "fec_start", "fec_roots", "root_hash_sig_key_desc"}

// ParseVerity reads the parameters of a target "verity":
//
//	version data hash data-size hash-size blocks start algorithm root salt [n option ...]
func ParseVerity(params string) (Verity, error) {
	if len(params) > maxParams {
		return Verity{}, fmt.Errorf("%w: %d bytes, at most %d", errVerity, len(params), maxParams)
	}
	f := strings.Fields(params)
	if len(f) < 10 {
		return Verity{}, fmt.Errorf("%w: %d words, want at least 10", errVerity, len(f))
	}
	v := Verity{DataDevice: f[1], HashDevice: f[2], Algorithm: f[7]}
	var err error
	if v.Version, err = strconv.Atoi(f[0]); err != nil || v.Version != 0 && v.Version != 1 {
		return Verity{}, fmt.Errorf("%w: version %.20q", errVerity, f[0])
	}
	for i, to := range []*uint64{&v.DataBlockSize, &v.HashBlockSize, &v.DataBlocks, &v.HashStart} {
		if *to, err = strconv.ParseUint(f[3+i], 10, 64); err != nil {
			return Verity{}, fmt.Errorf("%w: number %.20q", errVerity, f[3+i])
		}
	}
	if v.RootHash, err = hex.DecodeString(f[8]); err != nil || len(v.RootHash) == 0 || len(v.RootHash) > maxHash {
		return Verity{}, fmt.Errorf("%w: root hash of %d digits", errVerity, len(f[8]))
	}
	if f[9] != "-" {
		if v.Salt, err = hex.DecodeString(f[9]); err != nil || len(v.Salt) > maxSalt {
			return Verity{}, fmt.Errorf("%w: salt of %d digits", errVerity, len(f[9]))
		}
	}
	if err := v.options(f[10:]); err != nil {
		return Verity{}, err
	}
	return v, nil
}

func (v *Verity) options(f []string) error {
	if len(f) == 0 {
		return nil
	}
	if n, err := strconv.Atoi(f[0]); err != nil || n != len(f)-1 || n > maxOptions {
		return fmt.Errorf("%w: %.20q options, and %d words", errVerity, f[0], len(f)-1)
	}
	for f = f[1:]; len(f) > 0; f = f[1:] {
		if !slices.Contains(valued, f[0]) {
			v.Flags = append(v.Flags, f[0])
			continue
		}
		if len(f) < 2 {
			return fmt.Errorf("%w: no value behind %s", errVerity, f[0])
		}
		if v.Values == nil {
			v.Values = make(map[string]string)
		}
		v.Values[f[0]] = f[1]
		f = f[1:]
	}
	slices.Sort(v.Flags)
	return nil
}

// String is what a release expects of the table: "sha256:<root hash>
// panic_on_corruption"; "fec" and "signed" say that blocks are corrected and that the
// kernel checked a signature of the root hash. Which partitions hold it differs by
// slot and is left out.
func (v Verity) String() string {
	words := append([]string{v.Algorithm + ":" + hex.EncodeToString(v.RootHash)}, v.Flags...)
	if v.Values["use_fec_from_device"] != "" {
		words = append(words, "fec")
	}
	if v.Values["root_hash_sig_key_desc"] != "" {
		words = append(words, "signed")
	}
	return strings.Join(words, " ")
}
