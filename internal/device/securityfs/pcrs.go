package securityfs

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"ward/internal/format/pcr"
)

// pcrFolder is the folder of one bank's PCR files below the mount point of
// sysfs: one file per PCR, the value in hexadecimal.
const pcrFolder = "class/tpm/tpm0/pcr-"

// maxPCRFile bounds one PCR file: the longest digest (SHA-512) in hexadecimal
// and a newline.
const maxPCRFile = 2*64 + 1

// ReadPCRs returns the values of a bank as the kernel's sysfs files give them.
// The kernel reads them from the TPM unsigned; anyone may read the files. A PCR
// whose file is missing is left out; without any, the error wraps
// fs.ErrNotExist.
func ReadPCRs(sysfs fs.FS, bank pcr.Algorithm) (pcr.Values, error) {
	values := make(pcr.Values)
	for i := range pcr.Count {
		name := pcrFolder + bank.String() + "/" + strconv.Itoa(i)
		b, err := readAtMost(sysfs, name, maxPCRFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read PCR %d: %w", i, err)
		}
		digest, err := hex.DecodeString(strings.TrimSpace(string(b)))
		if err != nil || len(digest) != bank.Size() || len(digest) == 0 {
			return nil, fmt.Errorf("read PCR %d: %s holds no %s value of %d bytes", i, name, bank, bank.Size())
		}
		values[i] = digest
	}
	if len(values) == 0 {
		return nil, fmt.Errorf("read PCRs: no file %s%s/0..%d: %w", pcrFolder, bank, pcr.Count-1, fs.ErrNotExist)
	}
	return values, nil
}
