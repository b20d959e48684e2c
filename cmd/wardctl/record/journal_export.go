package record

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"ward/internal/cli"
	"ward/internal/device/wal"
)

func newJournalExport() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export DIR FILE|-",
		Short: "Copy a journal into one file that can be carried away",
		Long: `Copy a journal's folder into one tar file, which "verify" and "show" read on any
machine as they read the folder. It works without the daemon, and beside one that
writes. The same journal gives the same file, byte for byte. A file that is there is
not written over.

Exit status: 0 good, 2 the folder cannot be read or the file not be written, 3 there
is no journal in the folder.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return exportJournal(cmd.OutOrStdout(), args[0], args[1])
		},
	}
	return cmd
}

func exportJournal(stdout io.Writer, dir, file string) error {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return cli.Fail(cli.Usage, "%s: name the folder of a journal, such as /var/lib/ward/journal", dir)
	}
	names, err := segments(wal.Dir(dir))
	if err != nil {
		return cli.Fail(cli.Usage, "%s: %w", dir, err)
	}
	if len(names) == 0 {
		return cli.Fail(cli.NotDecided, "%s: there is no journal here (no *.wal file)", dir)
	}
	if file == "-" {
		return exported(writeArchive(stdout, dir, names))
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return exported(err)
	}
	err = writeArchive(f, dir, names)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(file) // half of a journal reads as one that was cut
	}
	return exported(err)
}

func exported(err error) error {
	if err != nil {
		return cli.Fail(cli.Usage, "export journal: %w", err)
	}
	return nil
}

// journalState is the file beside the segments.
const journalState = "state.json"

// writeArchive writes the segments, oldest first, and the state file. A segment that
// the daemon has recycled meanwhile is left out, as it is in the folder; the newest
// one may end in the middle of a record, as after a power cut.
func writeArchive(w io.Writer, dir string, names []string) error {
	out := tar.NewWriter(w)
	for _, name := range append(names, journalState) {
		b, err := readMember(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(b)), Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		if _, err := out.Write(b); err != nil {
			return err
		}
	}
	return out.Close()
}

// maxMember bounds a file of a journal, in bytes: segments are read up to 4 MiB.
const maxMember = 4 << 20

func readMember(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMember+1))
	if err == nil && len(b) > maxMember {
		err = fmt.Errorf("%s: longer than a segment may be", name)
	}
	return b, err
}
