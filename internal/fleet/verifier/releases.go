package verifier

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"ward/internal/fleet/files"
	"ward/internal/format/dsse"
	"ward/internal/trust/baseline"
	"ward/internal/trust/release"
)

// maxBaseline and maxReleaseKey bound a baseline and a key that are read, in
// bytes.
const (
	maxBaseline   = 256 << 20
	maxReleaseKey = 64 << 10
)

// Release is one released manifest, with its baseline where that is given. The
// zero value is no release, and nothing is affirmed by it.
type Release struct {
	Verified *release.Verified
	Version  string
	Baseline *baseline.Index
}

// Releases are released manifests by their digest. They are read once: evidence
// only names them.
type Releases map[string]Release

// LoadReleases reads manifests and baselines, and verifies the manifests with a
// threshold of release keys. A baseline that none of them names is an error.
func LoadReleases(manifests, baselines, keys []string, threshold int) (Releases, error) {
	var texts [][]byte
	for _, file := range keys {
		b, err := files.Read(file, maxReleaseKey)
		if err != nil {
			return nil, fmt.Errorf("read release key: %w", err)
		}
		texts = append(texts, b)
	}
	ring, err := dsse.ParseKeyring(texts...)
	if err != nil {
		return nil, fmt.Errorf("read release keys: %w", err)
	}
	all := make(Releases)
	for _, file := range manifests {
		b, err := files.Read(file, dsse.MaxSize)
		if err != nil {
			return nil, fmt.Errorf("read release: %w", err)
		}
		verified, err := release.Open(b, ring, threshold)
		if err != nil {
			return nil, fmt.Errorf("read release %s: %w", file, err)
		}
		digest := verified.Digest()
		all[string(digest[:])] = Release{Verified: verified, Version: verified.Manifest().Version}
	}
	for _, file := range baselines {
		if err := all.addBaseline(file); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (all Releases) addBaseline(file string) error {
	b, err := files.Read(file, maxBaseline)
	if err != nil {
		return fmt.Errorf("read baseline: %w", err)
	}
	digest := sha256.Sum256(b)
	var index *baseline.Index
	for name, r := range all {
		if r.Verified.Manifest().Files.Digest != digest {
			continue
		}
		if index == nil {
			if index, err = baseline.LoadIndex(bytes.NewReader(b), int64(len(b)), digest); err != nil {
				return fmt.Errorf("read baseline %s: %w", file, err)
			}
		}
		r.Baseline = index
		all[name] = r
	}
	if index == nil {
		return fmt.Errorf("read baseline %s: no release that is given names it (SHA-256 %x)", file, digest)
	}
	return nil
}
