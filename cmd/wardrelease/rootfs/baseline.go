package rootfs

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ward/cmd/wardrelease/bill"
	"ward/cmd/wardrelease/disk"
	"ward/internal/trust/baseline"
	"ward/internal/trust/baseline/build"
)

// devicePath is where the file baseline lies on a device.
const devicePath = "/usr/lib/ward/baseline"

// TreeFlags are the flags of the verbs that make a baseline.
type TreeFlags struct {
	Path    string // of the baseline on the device
	owners  string
	exclude []string
	marks   []string
	verity  []string
	mounted bool

	SBOM bill.Flags
	Bill *bill.Bill // of the last baseline; nil: no SBOM was given
}

// Register adds the flags.
func (t *TreeFlags) Register(f *pflag.FlagSet) {
	f.StringVar(&t.owners, "owners", "", "owners `FILE`: lines of \"path uid gid [mode]\"; what it does not name belongs to 0:0, or with --mounted and --tar to its owner there")
	f.StringVar(&t.Path, "baseline-path", devicePath, "`PATH` of the baseline on the device; listed as a file that may change")
	f.StringArrayVar(&t.exclude, "exclude", nil, "leave out `PATH`, with what lies below it (repeatable)")
	f.StringArrayVar(&t.marks, "mark", nil, "flag a path and what lies below it as exec, config, mutable or volatile, `PATH=FLAG`; PATH= ends what a folder above it adds (repeatable)")
	f.StringArrayVar(&t.verity, "fsverity", nil, "`PATH` of a file, or a folder of files, that have fs-verity on the device: with the digest that the kernel will give (repeatable)")
	f.BoolVar(&t.mounted, "mounted", false, "the tree is the mounted image: take owners and security attributes (capabilities, IMA, SELinux) from it")
	t.SBOM.Register(f)
}

// options are those of the flags; tree is empty where there is none to look at.
func (t *TreeFlags) options(tree string) (build.Options, error) {
	o := build.Options{Self: t.Path, Exclude: t.exclude, Verity: t.verity, Marks: make(map[string]baseline.Flags)}
	for _, m := range t.marks {
		i := strings.LastIndexByte(m, '=')
		if i < 0 {
			return o, fmt.Errorf("--mark %q: want PATH=exec, PATH=config, PATH=mutable or PATH=volatile", m)
		}
		flags, err := baseline.ParseFlags(m[i+1:])
		if err != nil {
			return o, fmt.Errorf("--mark %q: %w", m, err)
		}
		o.Marks[m[:i]] |= flags
	}
	var err error
	if t.Bill, err = t.SBOM.Open(tree); err != nil {
		return o, err
	}
	o.Component = t.Bill.ComponentOf
	if t.owners == "" {
		return o, nil
	}
	f, err := os.Open(t.owners)
	if err != nil {
		return o, err
	}
	defer f.Close()
	if o.Owners, err = build.ParseOwners(f); err != nil {
		return o, fmt.Errorf("%s: %w", t.owners, err)
	}
	return o, nil
}

// Build makes the baseline of a tree.
func (t *TreeFlags) Build(tree string) ([]byte, build.Summary, error) {
	o, err := t.options(tree)
	if err != nil {
		return nil, build.Summary{}, err
	}
	if info, err := os.Stat(tree); err != nil {
		return nil, build.Summary{}, err
	} else if !info.IsDir() {
		return nil, build.Summary{}, fmt.Errorf("%s: not a folder", tree)
	}
	o.Host = staged()
	if t.mounted {
		o.Host = mounted(tree)
	}
	var b bytes.Buffer
	sum, err := build.Tree(&b, os.DirFS(tree), o)
	if err != nil {
		return nil, build.Summary{}, fmt.Errorf("%s: %w", tree, err)
	}
	return b.Bytes(), sum, nil
}

// buildTar makes the baseline of a tar archive, "-" being standard input.
func (t *TreeFlags) buildTar(file string, stdin io.Reader) ([]byte, build.Summary, error) {
	if t.mounted {
		return nil, build.Summary{}, errors.New("--mounted is for a tree: a tar archive has owners and attributes of its own")
	}
	o, err := t.options("")
	if err != nil {
		return nil, build.Summary{}, err
	}
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, build.Summary{}, err
		}
		defer f.Close()
		in = f
	}
	var b bytes.Buffer
	sum, err := build.Tar(&b, bufio.NewReaderSize(in, 1<<20), o)
	if errors.Is(err, tar.ErrHeader) {
		err = fmt.Errorf("%w: a compressed archive is given decompressed, as in zstdcat FILE | wardrelease baseline --tar -", err)
	}
	if err != nil {
		return nil, build.Summary{}, fmt.Errorf("%s: %w", file, err)
	}
	return b.Bytes(), sum, nil
}

// NewBaseline makes the verb that makes a baseline.
func NewBaseline() *cobra.Command {
	var t TreeFlags
	var out, archive string
	cmd := &cobra.Command{
		Use:   "baseline TREE -o FILE",
		Short: "Make the file baseline of a root tree",
		Long: "Make the file baseline of a root tree: each file, folder, link and device with its mode, owner, SHA-256 and security attributes, sorted by path.\n" +
			"TREE is a staged folder, whose owners come from --owners, or with --mounted the mounted image. With --tar, the tree is a tar archive with owners and attributes, such as Yocto's tar; it need not be unpacked, and names may hold any bytes.\n" +
			"FILE may lie in the tree, at its place on the device (--baseline-path); its folder must exist beforehand.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var text []byte
			var sum build.Summary
			var err error
			switch {
			case len(args) == 1 && archive == "":
				text, sum, err = t.Build(args[0])
			case len(args) == 0 && archive != "":
				text, sum, err = t.buildTar(archive, cmd.InOrStdin())
			default:
				err = errors.New("want a tree, or --tar FILE")
			}
			if err != nil {
				return err
			}
			if err := disk.Write(out, text); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "baseline %x: %d entries, %d files, %d bytes\n%s", sum.Digest, sum.Entries, sum.Files, sum.Bytes, t.Bill.Line())
			return nil
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "write the baseline to `FILE`")
	cmd.MarkFlagRequired("output")
	cmd.Flags().StringVar(&archive, "tar", "", "read the root tree from the tar archive `FILE`, - for standard input")
	t.Register(cmd.Flags())
	cmd.AddCommand(newDiff())
	return cmd
}
