package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"ward/internal/cli"
	"ward/internal/format/eventlog"
	"ward/internal/format/pcr"
	"ward/internal/trust/baseline"
	"ward/internal/trust/release"
)

// buildFlags are the flags of build.
type buildFlags struct {
	product, board, boardName, version string
	pcrs                               []string
	rollback                           uint64
	buildTime                          string
	tree, baselineOut, baselineIn      string
	rootHash                           string
	eventLog, measured, image          string
	out                                string
	walk                               treeFlags
}

func newBuild() *cobra.Command {
	var b buildFlags
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Make the release manifest from a root tree and a learned boot",
		Long: "Make an unsigned release manifest. Reference values come from the event log of a boot of this release on a known good device; with --learn-pcrs, the log must explain every exact register.\n" +
			"With --kernel-image the boot may have been of another release on the same board and firmware: the registers that depend on the unified kernel image (4, 9, 11) are computed from the image, and no device needs to have booted it.\n" +
			"Registers are judged as the board profile says, or --pcr, or else: 0,2,3,4,6,7,9,11,12 exact, 1,5,8,10,13,14,15 recorded.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd.OutOrStdout()) },
	}
	f := cmd.Flags()
	f.StringVar(&b.product, "product", "", "`NAME` of the product (default: the board profile's)")
	f.StringVar(&b.board, "board", "", "board profile, `FILE` board.toml: name and [[pcr]] tables")
	f.StringVar(&b.boardName, "board-name", "", "`NAME` of the board, where there is no profile")
	f.StringArrayVar(&b.pcrs, "pcr", nil, "how registers are judged instead of as the profile says, `LIST` of N=exact or N=recorded:REASON")
	f.StringVar(&b.version, "version", "", "`VERSION` of the release")
	f.Uint64Var(&b.rollback, "rollback-index", 0, "anti-rollback number `N` of the release")
	f.StringVar(&b.buildTime, "build-time", "", "`TIME` of the build, RFC 3339 or seconds since 1970, as SOURCE_DATE_EPOCH")
	f.StringVar(&b.tree, "root-tree", "", "root tree `DIR` to make the file baseline from")
	f.StringVar(&b.baselineOut, "baseline-out", "", "with --root-tree: write the baseline to `FILE`")
	f.StringVar(&b.baselineIn, "baseline", "", "existing file baseline `FILE`, instead of --root-tree")
	f.StringVar(&b.rootHash, "verity-root-hash", "", "dm-verity root hash in `HEX`")
	f.StringVar(&b.eventLog, "learn-eventlog", "", "event log `FILE` of the boot to learn from")
	f.StringVar(&b.measured, "learn-pcrs", "", "registers of the same boot, JSON `FILE` {\"sha256\":{\"0\":\"hex\"}}")
	f.StringVar(&b.image, "kernel-image", "", "unified kernel image `FILE` of this release, where the boot to learn from was of another one")
	f.StringVarP(&b.out, "output", "o", "", "write the manifest to `FILE`")
	b.walk.register(f)
	for _, name := range []string{"version", "build-time", "learn-eventlog", "output"} {
		cmd.MarkFlagRequired(name)
	}
	cmd.MarkFlagsOneRequired("board", "board-name")
	cmd.MarkFlagsOneRequired("root-tree", "baseline")
	cmd.MarkFlagsMutuallyExclusive("root-tree", "baseline")
	cmd.MarkFlagsRequiredTogether("root-tree", "baseline-out")
	return cmd
}

func (b *buildFlags) run(stdout io.Writer) error {
	m := release.Manifest{Schema: release.SchemaVersion, Product: b.product, Version: b.version, RollbackIndex: b.rollback}
	rules, err := b.rules(&m)
	if err != nil {
		return err
	}
	if m.BuildTime, err = parseTime(b.buildTime); err != nil {
		return fmt.Errorf("--build-time: %w", err)
	}
	if m.Boot, err = b.learn(rules); err != nil {
		return err
	}
	if m.Files, err = b.files(); err != nil {
		return err
	}
	payload, err := release.Encode(m)
	if err != nil {
		return err
	}
	if err := writeFile(b.out, payload); err != nil {
		return err
	}
	exact := 0
	for _, r := range m.Boot.PCRs {
		if r.Mode == release.Exact {
			exact++
		}
	}
	fmt.Fprintf(stdout, "manifest of %s %s on %s: %d registers judged, %d recorded, baseline %s\n",
		m.Product, m.Version, m.Board, exact, len(m.Boot.PCRs)-exact, m.Files.Digest)
	return nil
}

// rules finds product, board and how the board judges its registers.
func (b *buildFlags) rules(m *release.Manifest) (map[int]release.Rule, error) {
	rules := release.DefaultRules()
	if b.board != "" {
		p, boardRules, err := readBoard(b.board)
		if err != nil {
			return nil, err
		}
		rules, m.Board = boardRules, p.Name
		if m.Product == "" {
			m.Product = p.Product
		}
	}
	if b.boardName != "" {
		m.Board = b.boardName
	}
	if len(b.pcrs) > 0 {
		return parseRules(b.pcrs)
	}
	return rules, nil
}

// learn reads the boot to learn from.
func (b *buildFlags) learn(rules map[int]release.Rule) (release.Boot, error) {
	text, err := readFile(b.eventLog, maxEventLog)
	if err != nil {
		return release.Boot{}, err
	}
	log, err := eventlog.Parse(text)
	if errors.Is(err, eventlog.ErrEmpty) {
		return release.Boot{}, cli.Fail(cli.NotDecided, "%s: the event log is empty: read it on the device, as root, from /sys/kernel/security/tpm0/binary_bios_measurements", b.eventLog)
	}
	if err != nil {
		return release.Boot{}, fmt.Errorf("%s: %w", b.eventLog, err)
	}
	var measured pcr.Values
	if b.measured != "" {
		if measured, err = readMeasured(b.measured); err != nil {
			return release.Boot{}, err
		}
	}
	boot, err := release.Learn(log, measured, rules)
	if err != nil {
		return release.Boot{}, cli.Fail(cli.Findings, "%s: %w", b.eventLog, err)
	}
	if b.image == "" {
		return boot, nil
	}
	return predict(boot, b.image)
}

// readMeasured reads the sha256 registers of a boot.
func readMeasured(name string) (pcr.Values, error) {
	text, err := readFile(name, maxKey)
	if err != nil {
		return nil, err
	}
	var banks map[string]pcr.Values
	if err := json.Unmarshal(text, &banks); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	v, ok := banks[pcr.SHA256.String()]
	if !ok || v == nil {
		return nil, fmt.Errorf("%s: no sha256 registers: want {\"sha256\":{\"0\":\"hex\", ...}}", name)
	}
	return v, nil
}

// files makes or reads the file baseline.
func (b *buildFlags) files() (release.Files, error) {
	files := release.Files{Path: b.walk.path}
	if b.rootHash != "" {
		if err := files.VerityRootHash.UnmarshalText([]byte(b.rootHash)); err != nil {
			return files, fmt.Errorf("--verity-root-hash: %w", err)
		}
	}
	if b.tree != "" {
		text, sum, err := b.walk.build(b.tree)
		if err != nil {
			return files, err
		}
		files.Digest = sum.Digest
		return files, writeFile(b.baselineOut, text)
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
