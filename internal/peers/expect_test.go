package peers

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var (
	update = flag.Bool("update", false, "write the expected answers and the kept inputs anew")
	table  = flag.String("table", "", "write the tables for people to this file")
)

// expected reads the answers that a file states, and the version of the tool
// that it states them for, from its first line.
func expected(t *testing.T, file string, names []string) (want *answers, version string) {
	t.Helper()
	want = &answers{names: names}
	b, err := os.ReadFile(file)
	if err != nil && *update {
		return want, ""
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := want.read(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return want, line[strings.LastIndexByte(line, ' ')+1:]
}

// usable is the tool's version where answers are stated for it, or are about to
// be; "" where it cannot be compared.
func usable(have, stated string) string {
	if have != stated && !*update {
		return ""
	}
	return have
}

// compare wants the answers that are stated; in the short form, which sees
// fewer inputs, no answer that is not.
func compare(t *testing.T, got *answers, r, want *row) {
	t.Helper()
	if want == nil {
		t.Errorf("%s: no answers are stated", r.class)
		return
	}
	if !testing.Short() && r.inputs != want.inputs {
		t.Errorf("%s: %d inputs, %d are stated", r.class, r.inputs, want.inputs)
	}
	for i, name := range got.names {
		if len(r.answers[i]) == 0 {
			continue // the tool is not there
		}
		same := r.answers[i].String() == want.answers[i].String()
		if testing.Short() {
			same = true
			for a := range r.answers[i] {
				same = same && want.answers[i][a] > 0
			}
		}
		if !same {
			t.Errorf("%s: %s answers: %s; stated is: %s", r.class, name, r.answers[i], want.answers[i])
		}
	}
}

// publish appends the table to the file for people, where one is asked for.
func publish(t *testing.T, got *answers) {
	t.Helper()
	if *table == "" {
		return
	}
	f, err := os.OpenFile(*table, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := got.print(f); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f)
}

// state writes the answers as the expected ones.
func state(t *testing.T, file, tool string, got *answers) {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n", tool)
	if err := got.write(&b); err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, b.Bytes())
}

func writeFile(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
