package imasig

import (
	"encoding/binary"

	"ward/internal/format/ima"
)

// verifyEVM verifies the portable signature of a file's attributes, owner and
// mode, which the template evm-sig lists. The other EVM attributes hold an HMAC
// under a key of the machine, or depend on the inode: a list cannot show them.
func verifyEVM(e ima.Entry, keys Keys) Result {
	value := e.Field("evmsig")
	if len(value) == 0 {
		return Result{}
	}
	a, r := parseAttribute(value)
	if value[0] != typePortable {
		return unsupported("the EVM attribute's type is %d, not that of a portable signature", value[0])
	}
	if r.State != None {
		return r
	}
	named := keys.named(a.keyID)
	for _, long := range []int{8, 4} {
		digest := evmDigest(e, a, long)
		if digest == nil {
			r.State, r.Reason = Unsupported, "the entry lacks owner or mode"
			return r
		}
		if r = named.try(r, a.algorithm.hash, digest, a.signature); r.State == Good {
			r.Reason = ""
			return r
		}
	}
	return r
}

// evmDigest is what a portable signature is over (evm_crypto.c,
// evm_calc_hmac_or_hash and hmac_add_misc): the values of the protected attributes
// in the kernel's order, then a structure of the C language, in bytes:
//
//	4, 8   inode number, zero (long is the size of the kernel's long)
//	4      generation, zero
//	4      owner
//	4      group
//	2      mode
//	2      padding
func evmDigest(e ima.Entry, a attribute, long int) []byte {
	uid, gid, mode := e.Field("iuid"), e.Field("igid"), e.Field("imode")
	if len(uid) != 4 || len(gid) != 4 || len(mode) != 2 {
		return nil
	}
	h := a.algorithm.hash.New()
	h.Write(e.Field("xattrvalues"))
	misc := make([]byte, long+4, long+4+4+4+2+2)
	misc = append(append(append(misc, uid...), gid...), mode...)
	h.Write(binary.LittleEndian.AppendUint16(misc, 0))
	return h.Sum(nil)
}
