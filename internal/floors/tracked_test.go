package floors

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// built are the first bytes of what a compiler or linker makes.
var built = [][]byte{[]byte("\x7fELF"), []byte("MZ"), []byte("!<arch>\n")}

// What is built is not kept with its source: a program in the tree would be
// reviewed by nobody. Test data may hold such files, with their origin beside them.
func TestNoProgramIsTracked(t *testing.T) {
	root := moduleRoot(t)
	cmd := exec.Command("git", "ls-files", "-z", "--", ":!**/testdata/**")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("TestNoProgramIsTracked: no git tree here: %v", err)
	}
	files := bytes.Split(bytes.TrimSuffix(out, []byte{0}), []byte{0})
	if len(files) < 100 {
		t.Fatalf("git lists %d files: not this tree", len(files))
	}
	for _, name := range files {
		f, err := os.Open(filepath.Join(root, string(name)))
		if os.IsNotExist(err) {
			continue // removed, not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		begin := make([]byte, 8)
		n, _ := f.Read(begin)
		f.Close()
		for _, magic := range built {
			if bytes.HasPrefix(begin[:n], magic) {
				t.Errorf("%s is a program, built and tracked: git rm it", name)
			}
		}
	}
}
