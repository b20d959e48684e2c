// Package doctest keeps generated documents current: a test renders the
// document from the code and compares it with the file under docs. `make docs`
// runs the same tests with WARD_DOCS=write, which writes the files instead.
package doctest

import (
	"os"
	"path/filepath"
	"testing"
)

// Current fails when the file at path, relative to the test's folder, does not
// hold the text that the code gives.
func Current(t testing.TB, path, text string) {
	t.Helper()
	if os.Getenv("WARD_DOCS") == "write" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: write it with make docs", err)
	}
	if string(have) != text {
		t.Errorf("%s is not what the code gives: write it anew with make docs, and read the difference", path)
	}
}
