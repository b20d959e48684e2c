package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"ward/cmd/wardrelease/disk"
	"ward/cmd/wardrelease/rootfs"
	"ward/cmd/wardrelease/running"
	"ward/internal/trust/baseline"
	"ward/internal/trust/profile"
	"ward/internal/trust/release"
)

// buildFlags are the flags of build.
type buildFlags struct {
	product, version              string
	board                         boardFlags
	rollback                      uint64
	buildTime                     string
	tree, baselineOut, baselineIn string
	rootHash                      string
	profiles                      []string
	eventLog, measured, firmware  string
	artefacts                     artefactFlags
	out                           string
	walk                          rootfs.TreeFlags
	from                          []string
	running                       running.Flags
}

func newBuild() *cobra.Command {
	var b buildFlags
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Make the release manifest from a root tree, firmware profiles and the kernel image",
		Long: "Make an unsigned release manifest. Its reference values are predicted from the profile of each firmware that the release accepts (--profile, see learn) and the release's artefacts (--image and the flags beside it, see predict): no device needs to have booted it. Without artefacts they are those of the golden boots.\n" +
			"In one step, --learn-eventlog learns from a single golden boot; with --learn-pcrs, the log must explain every judged register.\n" +
			"Registers are judged as the board profile says, or --pcr, or else: 0,2,3,4,6,7,9,11,12 exact, 1,5,8,10,13,14,15 recorded.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd.OutOrStdout()) },
	}
	f := cmd.Flags()
	f.StringVar(&b.product, "product", "", "`NAME` of the product (default: the board profile's)")
	b.board.register(cmd)
	f.StringVar(&b.version, "version", "", "`VERSION` of the release")
	f.Uint64Var(&b.rollback, "rollback-index", 0, "anti-rollback number `N` of the release")
	f.StringVar(&b.buildTime, "build-time", "", "`TIME` of the build, RFC 3339 or seconds since 1970, as SOURCE_DATE_EPOCH")
	f.StringVar(&b.tree, "root-tree", "", "root tree `DIR` to make the file baseline from")
	f.StringVar(&b.baselineOut, "baseline-out", "", "with --root-tree: write the baseline to `FILE`")
	f.StringVar(&b.baselineIn, "baseline", "", "existing file baseline `FILE`, instead of --root-tree")
	f.StringVar(&b.rootHash, "verity-root-hash", "", "dm-verity root hash in `HEX`")
	f.StringArrayVar(&b.profiles, "profile", nil, "profile `FILE` of an accepted firmware (repeatable)")
	f.StringVar(&b.eventLog, "learn-eventlog", "", "event log `FILE` of a golden boot to learn from, instead of --profile")
	f.StringVar(&b.measured, "learn-pcrs", "", "registers of the same boot, JSON `FILE` {\"sha256\":{\"0\":\"hex\"}}")
	f.StringVar(&b.firmware, "learn-firmware", "", "`NAME` of the firmware of the same boot (default: the version that it states)")
	b.artefacts.register(f)
	f.StringArrayVar(&b.from, "update-from", nil, "releases from which this one may be installed, `RULE` version=V or index=N, N.., ..M or N..M, or both with a comma (repeatable; default: all that are not newer)")
	f.StringVarP(&b.out, "output", "o", "", "write the manifest to `FILE`")
	b.walk.Register(f)
	b.walk.SBOM.RegisterPath(f)
	b.running.Register(f)
	for _, name := range []string{"version", "build-time", "output"} {
		cmd.MarkFlagRequired(name)
	}
	cmd.MarkFlagsOneRequired("profile", "learn-eventlog")
	cmd.MarkFlagsMutuallyExclusive("profile", "learn-eventlog")
	cmd.MarkFlagsMutuallyExclusive("profile", "learn-pcrs")
	cmd.MarkFlagsMutuallyExclusive("profile", "learn-firmware")
	cmd.MarkFlagsOneRequired("root-tree", "baseline")
	cmd.MarkFlagsMutuallyExclusive("root-tree", "baseline")
	cmd.MarkFlagsRequiredTogether("root-tree", "baseline-out")
	return cmd
}

func (b *buildFlags) run(stdout io.Writer) error {
	m := release.Manifest{Schema: release.SchemaVersion, Product: b.product, Version: b.version, RollbackIndex: b.rollback}
	on, err := b.board.read()
	if err != nil {
		return err
	}
	m.Board = on.name
	if m.Product == "" {
		m.Product = on.product
	}
	if m.BuildTime, err = parseTime(b.buildTime); err != nil {
		return fmt.Errorf("--build-time: %w", err)
	}
	if m.Update, err = parseFrom(b.from); err != nil {
		return err
	}
	if m.Boot, err = b.boot(on); err != nil {
		return err
	}
	if m.Files, err = b.files(); err != nil {
		return err
	}
	m.SBOM = b.walk.Bill.Manifest()
	if m.Posture, m.Watch, err = b.running.Read(on.running, m.Files.VerityRootHash); err != nil {
		return err
	}
	payload, err := release.Encode(m)
	if err != nil {
		return err
	}
	if err := disk.Write(b.out, payload); err != nil {
		return err
	}
	n := judged(m.Boot)
	fmt.Fprintf(stdout, "manifest of %s %s on %s: %d registers judged, %d recorded, baseline %s\n%s",
		m.Product, m.Version, m.Board, n, len(m.Boot.PCRs)-n, m.Files.Digest, b.walk.Bill.Line())
	return nil
}

// boot makes the reference values.
func (b *buildFlags) boot(on board) (release.Boot, error) {
	profiles, err := readProfiles(b.profiles)
	if err != nil {
		return release.Boot{}, err
	}
	if b.eventLog != "" {
		p, err := learn(b.eventLog, b.measured, b.firmware, on)
		if err != nil {
			return release.Boot{}, err
		}
		profiles = append(profiles, p)
	}
	for i, p := range profiles {
		if p.Board != on.name {
			return release.Boot{}, fmt.Errorf("%s: a profile of board %q, the release is for %q", b.profiles[i], p.Board, on.name)
		}
	}
	if b.artefacts.given() {
		if profiles, err = b.artefacts.predict(profiles); err != nil {
			return release.Boot{}, err
		}
	}
	return profile.Assemble(profiles, on.rules)
}

// files makes or reads the file baseline.
func (b *buildFlags) files() (release.Files, error) {
	files := release.Files{Path: b.walk.Path}
	if b.rootHash != "" {
		if err := files.VerityRootHash.UnmarshalText([]byte(b.rootHash)); err != nil {
			return files, fmt.Errorf("--verity-root-hash: %w", err)
		}
	}
	if b.tree != "" {
		text, sum, err := b.walk.Build(b.tree)
		if err != nil {
			return files, err
		}
		files.Digest = sum.Digest
		return files, disk.Write(b.baselineOut, text)
	}
	var err error
	if b.walk.Bill, err = b.walk.SBOM.Open(""); err != nil {
		return files, err
	}
	f, err := os.Open(b.baselineIn)
	if err != nil {
		return files, err
	}
	defer f.Close()
	if files.Digest, err = baseline.Check(f); err != nil {
		return files, fmt.Errorf("%s: %w", b.baselineIn, err)
	}
	return files, nil
}

// parseTime reads RFC 3339 or seconds since 1970, to whole seconds in UTC.
func parseTime(s string) (time.Time, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither RFC 3339 (2025-01-31T12:00:00Z) nor seconds since 1970", s)
	}
	return t.UTC().Truncate(time.Second), nil
}
