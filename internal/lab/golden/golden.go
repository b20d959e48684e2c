// Package golden makes the releases of the lab's images: it learns the firmware
// from one golden boot, predicts from its profile what every later image will
// measure (package profile), and writes the manifest. What a device measured is
// held against the prediction here, too.
package golden

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/lab/disk"
	"ward/internal/lab/image"
	"ward/internal/trust/appraisal"
	"ward/internal/trust/baseline"
	"ward/internal/trust/baseline/build"
	"ward/internal/trust/finding"
	"ward/internal/trust/profile"
	"ward/internal/trust/release"
)

const (
	// Firmware names the firmware in manifests: OVMF states no version.
	Firmware = "OVMF"
	// BaselineFile is where the file baseline lies in the root file system.
	BaselineFile = "/usr/lib/ward/baseline"
	// profileFile is the profile's file in its folder of the cache.
	profileFile = "profile.json"
)

// marks say which parts of the tree are mount points of what changes, and that what
// the image puts on the data volume does not.
var marks = map[string]baseline.Flags{
	"/boot": baseline.Volatile, "/dev": baseline.Volatile, "/proc": baseline.Volatile, "/run": baseline.Volatile,
	"/sys": baseline.Volatile, "/tmp": baseline.Volatile, "/var/lib/ward": baseline.Volatile,
	"/data": baseline.Mutable, "/data/app": 0, "/data/app/rinse.conf": baseline.Config, "/etc": baseline.Config,
}

// Baseline makes the file baseline of a staged root tree.
func Baseline(tree string) ([]byte, error) {
	var b bytes.Buffer
	if _, err := build.Tree(&b, os.DirFS(tree), build.Options{Self: BaselineFile, Marks: marks}); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Dir is the folder in the cache for the profile of an image's firmware, which
// depends on the firmware, its variable store and the board alone.
func Dir(cache string, img *image.Image) (string, error) {
	key := sha256.New()
	for _, file := range []string{img.Firmware, img.Variables, filepath.Join(img.Board.Dir, "board.toml")} {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		sum := sha256.Sum256(b)
		key.Write(sum[:])
	}
	return filepath.Join(cache, "profile-"+hex.EncodeToString(key.Sum(nil))[:24]), nil
}

// Read returns the profile in a folder; fs.ErrNotExist: there is none yet.
func Read(dir string) (profile.Profile, error) {
	b, err := os.ReadFile(filepath.Join(dir, profileFile))
	if err != nil {
		return profile.Profile{}, err
	}
	return profile.Parse(b)
}

// Learn writes the profile of a golden boot into a folder, which it makes as a
// whole beside it first.
func Learn(dir string, img *image.Image, log []byte, measured pcr.Values) error {
	parsed, err := eventlog.Parse(log)
	if err != nil {
		return err
	}
	p, err := profile.Learn(profile.Golden{Log: parsed, PCRs: measured, Board: img.Board.Name, Firmware: Firmware}, rules(img))
	if err != nil {
		return err
	}
	text, err := profile.Encode(p)
	if err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), ".profile-")
	if err != nil {
		return err
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(fresh, profileFile), text, 0o644),
		os.WriteFile(filepath.Join(fresh, "eventlog"), log, 0o644))
	if err == nil {
		err = os.Rename(fresh, dir)
	}
	return errors.Join(err, os.RemoveAll(fresh))
}

// Predict computes what a kernel image will measure.
func Predict(p profile.Profile, u image.UKI) (profile.Profile, error) {
	b, err := os.ReadFile(u.Path)
	if err != nil {
		return profile.Profile{}, fmt.Errorf("read kernel image: %w", err)
	}
	return p.Predict(profile.Artefacts{Image: b})
}

// Boot computes the boot section of an image's release.
func Boot(p profile.Profile, img *image.Image) (release.Boot, error) {
	next, err := Predict(p, img.UKIs[image.Release])
	if err != nil {
		return release.Boot{}, err
	}
	return profile.Assemble([]profile.Profile{next}, rules(img))
}

// rules is how an image's board judges its registers.
func rules(img *image.Image) map[int]profile.Rule {
	rules := make(map[int]profile.Rule)
	for _, p := range img.Board.PCRs {
		rules[p.Index] = profile.Rule{Mode: release.Mode(p.Mode), Reason: p.Reason, Any: p.Any, User: p.User}
	}
	return rules
}

// Base is what manufacture steps the lab's rollback counters to.
const Base = 100

// rollbackIndexes number the lab's releases.
var rollbackIndexes = map[string]uint64{"1.0.0": 1, "1.1.0": 2}

// Manifest is the manifest of an image's release, with the boot states that the
// policy key approves.
func Manifest(product string, img *image.Image, boot release.Boot, policyKey crypto.Signer) (release.Manifest, error) {
	index, known := rollbackIndexes[img.Version]
	if !known {
		return release.Manifest{}, fmt.Errorf("make manifest: release %s has no rollback index", img.Version)
	}
	list, err := os.ReadFile(filepath.Join(img.RootTree, BaselineFile))
	if err != nil {
		return release.Manifest{}, fmt.Errorf("read file baseline: %w", err)
	}
	m := release.Manifest{
		Schema: release.SchemaVersion, Product: product, Board: img.Board.Name, Version: img.Version, RollbackIndex: index,
		BuildTime: disk.Epoch.UTC(), Boot: boot,
		Files: release.Files{Digest: sha256.Sum256(list), Path: BaselineFile},
	}
	if err := m.Files.VerityRootHash.UnmarshalText([]byte(img.RootHash)); err != nil {
		return release.Manifest{}, fmt.Errorf("read dm-verity root hash: %w", err)
	}
	if m.Posture, err = profile.BindPosture(img.Board.Posture, m.Files.VerityRootHash[:]); err != nil {
		return release.Manifest{}, fmt.Errorf("expected posture: %w", err)
	}
	m.Watch = img.Board.Watch
	return m.Approve(release.Approval{Base: Base}, policyKey)
}

// Compare holds the registers of a device against a prediction and says how many
// exact ones are equal; one that is not is an error, and so is a composite.
func Compare(predicted release.Boot, measured pcr.Values) (int, error) {
	compared := 0
	for _, n := range slices.Sorted(maps.Keys(predicted.PCRs)) {
		v, exact := predicted.PCRs[n].Of(Firmware)
		if !exact {
			continue
		}
		if !bytes.Equal(v.Digest, measured[n]) {
			return 0, fmt.Errorf("PCR %d: predicted %s, the TPM has %s", n, v.Digest, measured[n])
		}
		compared++
	}
	if compared == 0 || len(predicted.Composites) == 0 {
		return 0, errors.New("no register or no composite was predicted")
	}
	for _, c := range predicted.Composites {
		h := sha256.New()
		for _, n := range c.PCRs {
			h.Write(measured[n])
		}
		if sum := h.Sum(nil); !bytes.Equal(sum, c.Digest) {
			return 0, fmt.Errorf("composite over PCR %v: predicted %s, the TPM's registers give %x", c.PCRs, c.Digest, sum)
		}
	}
	return compared, nil
}

// Differing lists the registers of the events that an explanation names, one for
// each event.
func Differing(r appraisal.Result) []int {
	var list []int
	for _, f := range r.Findings {
		if f.PCR != nil && (f.Code == finding.BootEventUnexpected || f.Code == finding.BootEventMissing) {
			list = append(list, *f.PCR)
		}
	}
	slices.Sort(list)
	return list
}
