package access

import (
	"bufio"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

const (
	// root is the one account that every release has.
	root = "root"
	// firstPerson is the first number of a person's account (login.defs(5), UID_MIN).
	firstPerson = 1000
	// maxPasswd bounds what is read of the list of accounts, in bytes.
	maxPasswd = 256 << 10
)

// accounts are those that the release made, by name and by number: root and those that
// programs have. Names of people are not among them. They are read once: what is added
// while the device runs is not the release's.
type accounts struct {
	names map[string]bool
	ids   map[string]string
}

func readAccounts(files fs.FS) accounts {
	a := accounts{names: map[string]bool{root: true}, ids: map[string]string{"0": root}}
	f, err := files.Open("etc/passwd")
	if err != nil {
		return a
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, maxPasswd))
	for lines.Scan() {
		field := strings.Split(lines.Text(), ":")
		if len(field) < 3 || field[0] == "" {
			continue
		}
		id, err := strconv.ParseUint(field[2], 10, 32)
		if err != nil || id == 0 {
			continue
		}
		if id < firstPerson {
			a.names[field[0]], a.ids[field[2]] = true, field[0]
			continue
		}
		if a.ids[field[2]] == "" {
			a.ids[field[2]] = field[0] // hidden by its name, as where the name is told
		}
	}
	return a
}

// name is an account as it may leave the device; "" is none.
func (w *Watch) name(untrusted string) string {
	if id, ok := strings.CutPrefix(untrusted, "uid "); ok {
		if known := w.accounts.ids[id]; known != "" {
			untrusted = known
		}
	}
	if untrusted == "" || w.accounts.names[untrusted] {
		return untrusted
	}
	return w.c.Hide(untrusted)
}
