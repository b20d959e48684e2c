package attester

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ward/internal/device/anchors"
	"ward/internal/format/dsse"
	"ward/internal/trust/baseline"
	"ward/internal/trust/finding"
	"ward/internal/trust/release"
)

// LoadRelease verifies the release manifest. What cannot be verified is nil,
// and a finding says why:
//
//  1. the trust anchors hold release keys (boot.release-no-trust);
//  2. the manifest is there (boot.release-missing) and can be read
//     (boot.release-malformed);
//  3. enough release keys have signed it (boot.release-signature);
//  4. it is of a schema that is known (boot.release-schema).
func LoadRelease(file, trust string, threshold int) (*release.Verified, []finding.Finding) {
	keys, err := anchors.Keys(filepath.Join(trust, "release"))
	if err != nil {
		return nil, []finding.Finding{finding.New(finding.ReleaseNoTrust, err.Error()).On(trust)}
	}
	envelope, err := anchors.Read(file, dsse.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, []finding.Finding{finding.New(finding.ReleaseMissing, err.Error()).On(file)}
	}
	var verified *release.Verified
	if err == nil {
		verified, err = release.Open(envelope, keys, max(threshold, 1))
	}
	if err != nil {
		return nil, []finding.Finding{finding.New(releaseCode(envelope, err), fmt.Sprintf("%s: %v", file, err)).On(file)}
	}
	return verified, nil
}

// releaseCode tells the ways apart in which a manifest is not accepted. One
// without any envelope is called what it is: unsigned.
func releaseCode(manifest []byte, err error) finding.Code {
	_, bare := release.Parse(manifest)
	switch {
	case errors.Is(err, dsse.ErrSignature), bare == nil:
		return finding.ReleaseSignature
	case errors.Is(err, release.ErrSchema), errors.Is(err, dsse.ErrPayloadType):
		return finding.ReleaseSchema
	}
	return finding.ReleaseMalformed
}

// LoadBaseline loads the file baseline that a verified release names: nil with
// boot.baseline-missing when it cannot be read, with boot.baseline-differs when
// it is another one, and nil alone when there is no release. The index reads the
// file again when it is asked.
func LoadBaseline(file string, r *release.Verified) (*baseline.Index, []finding.Finding) {
	if r == nil {
		return nil, nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, []finding.Finding{baselineFault(file, err)}
	}
	index, err := baseline.LoadIndex(again(file), info.Size(), r.Manifest().Files.Digest)
	if err != nil {
		return nil, []finding.Finding{baselineFault(file, err)}
	}
	return index, nil
}

// baselineFault is the finding about a baseline that is not there, cannot be read,
// or is not the release's, be it from the beginning or later.
func baselineFault(file string, err error) finding.Finding {
	code := finding.BaselineMissing
	if errors.Is(err, baseline.ErrDigest) {
		code = finding.BaselineDiffers
	}
	return finding.New(code, fmt.Sprintf("%s: %v", file, err)).On(file)
}

// again is a file that is opened for each read: an index is shared, and nobody
// knows when the last one who asks it is done.
type again string

func (a again) ReadAt(p []byte, offset int64) (int, error) {
	f, err := os.Open(string(a))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.ReadAt(p, offset)
}
