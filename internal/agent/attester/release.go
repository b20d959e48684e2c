package attester

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"ward/internal/format/dsse"
	"ward/internal/trust/baseline"
	"ward/internal/trust/finding"
	"ward/internal/trust/release"
)

// maxKey bounds a public key in PEM; a P-256 one takes 178 bytes.
const maxKey = 16 << 10

// LoadRelease verifies the release manifest. What cannot be verified is nil,
// and a finding says why:
//
//  1. the trust anchors hold release keys (boot.release-no-trust);
//  2. the manifest is there (boot.release-missing) and can be read
//     (boot.release-malformed);
//  3. enough release keys have signed it (boot.release-signature);
//  4. it is of a schema that is known (boot.release-schema).
func LoadRelease(file, trust string, threshold int) (*release.Verified, []finding.Finding) {
	keys, err := releaseKeys(filepath.Join(trust, "release"))
	if err != nil {
		return nil, []finding.Finding{finding.New(finding.ReleaseNoTrust, err.Error()).On(trust)}
	}
	envelope, err := readBounded(file, dsse.MaxSize)
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

// releaseKeys reads the public keys of a folder. One that cannot be read makes
// all unusable: which key was meant must not be guessed.
func releaseKeys(dir string) (*dsse.Keyring, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil {
		return nil, fmt.Errorf("list release keys: %w", err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("list release keys: no *.pem in %s", dir)
	}
	var pems [][]byte
	for _, n := range names {
		b, err := readBounded(n, maxKey)
		if err == nil {
			_, err = dsse.ParseKeyring(b)
		}
		if err != nil {
			return nil, fmt.Errorf("read release key %s: %w", n, err)
		}
		pems = append(pems, b)
	}
	return dsse.ParseKeyring(pems...)
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
// it is another one, and nil alone when there is no release.
func LoadBaseline(file string, r *release.Verified) (*baseline.Index, []finding.Finding) {
	if r == nil {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, []finding.Finding{finding.New(finding.BaselineMissing, err.Error()).On(file)}
	}
	defer f.Close()
	index, err := baseline.LoadIndex(f, r.Manifest().Files.Digest)
	if err != nil {
		code := finding.BaselineMissing
		if errors.Is(err, baseline.ErrDigest) {
			code = finding.BaselineDiffers
		}
		return nil, []finding.Finding{finding.New(code, fmt.Sprintf("%s: %v", file, err)).On(file)}
	}
	return index, nil
}

func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("more than %d bytes", most)
	}
	return b, nil
}
