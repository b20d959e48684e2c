package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ward/cmd/wardrelease/bill"
	"ward/cmd/wardrelease/disk"
	"ward/internal/trust/baseline"
)

// devicePath is where the file baseline lies on a device.
const devicePath = "/usr/lib/ward/baseline"

// treeFlags are the flags of the verbs that make a baseline.
type treeFlags struct {
	path    string
	owners  string
	exclude []string
	marks   []string
	sbom    bill.Flags
	bill    *bill.Bill // nil: no SBOM was given
}

func (t *treeFlags) register(f *pflag.FlagSet) {
	f.StringVar(&t.owners, "owners", "", "owners `FILE`: lines of \"path uid gid [mode]\"; without it everything belongs to 0:0")
	f.StringVar(&t.path, "baseline-path", devicePath, "`PATH` of the baseline on the device; left out of it")
	f.StringArrayVar(&t.exclude, "exclude", nil, "leave out `PATH` too, with what lies below it (repeatable)")
	f.StringArrayVar(&t.marks, "mark", nil, "flag a path and what lies below it as config, mutable or volatile, `PATH=FLAG` (repeatable)")
	t.sbom.Register(f)
}

// build makes the baseline of a tree.
func (t *treeFlags) build(tree string) ([]byte, baseline.Summary, error) {
	o := baseline.Options{Exclude: append([]string{t.path}, t.exclude...), Device: deviceNumbers, Marks: make(map[string]baseline.Flags)}
	for _, m := range t.marks {
		i := strings.LastIndexByte(m, '=')
		if i < 0 {
			return nil, baseline.Summary{}, fmt.Errorf("--mark %q: want PATH=config, PATH=mutable or PATH=volatile", m)
		}
		flags, err := baseline.ParseFlags(m[i+1:])
		if err != nil {
			return nil, baseline.Summary{}, fmt.Errorf("--mark %q: %w", m, err)
		}
		o.Marks[m[:i]] |= flags
	}
	if t.owners != "" {
		f, err := os.Open(t.owners)
		if err != nil {
			return nil, baseline.Summary{}, err
		}
		defer f.Close()
		if o.Owners, err = baseline.ParseOwners(f); err != nil {
			return nil, baseline.Summary{}, fmt.Errorf("%s: %w", t.owners, err)
		}
	}
	if info, err := os.Stat(tree); err != nil {
		return nil, baseline.Summary{}, err
	} else if !info.IsDir() {
		return nil, baseline.Summary{}, fmt.Errorf("%s: not a folder", tree)
	}
	var err error
	if t.bill, err = t.sbom.Open(tree); err != nil {
		return nil, baseline.Summary{}, err
	}
	o.Component = t.bill.ComponentOf
	var b bytes.Buffer
	sum, err := baseline.Build(&b, os.DirFS(tree), o)
	if err != nil {
		return nil, baseline.Summary{}, fmt.Errorf("%s: %w", tree, err)
	}
	return b.Bytes(), sum, nil
}

func newBaseline() *cobra.Command {
	var t treeFlags
	var out string
	cmd := &cobra.Command{
		Use:   "baseline TREE -o FILE",
		Short: "Make the file baseline of a root tree",
		Long: "Make the file baseline of a root tree: each file, folder, link and device with its mode, owner and SHA-256, sorted by path.\n" +
			"FILE may lie in the tree, at its place on the device (--baseline-path); its folder must exist beforehand.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, sum, err := t.build(args[0])
			if err != nil {
				return err
			}
			if err := disk.Write(out, text); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "baseline %x: %d entries, %d files, %d bytes\n%s", sum.Digest, sum.Entries, sum.Files, sum.Bytes, t.bill.Line())
			return nil
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "write the baseline to `FILE`")
	cmd.MarkFlagRequired("output")
	t.register(cmd.Flags())
	return cmd
}
