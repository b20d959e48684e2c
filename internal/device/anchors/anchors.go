// Package anchors reads the trust anchors that lie in the read-only root of the
// device (blueprint, section 8): folders of public keys in PEM (RFC 7468).
package anchors

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"ward/internal/format/dsse"
)

// maxKey bounds a key file, in bytes; a P-256 key takes 178.
const maxKey = 16 << 10

// Keys reads the *.pem files of a folder. A folder without any gives
// fs.ErrNotExist. One that cannot be read makes all unusable: which key was
// meant must not be guessed.
func Keys(dir string) (*dsse.Keyring, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("list keys: no *.pem in %s: %w", dir, fs.ErrNotExist)
	}
	var pems [][]byte
	for _, n := range names { // sorted, as Glob gives them
		b, err := Read(n, maxKey)
		if err == nil {
			_, err = dsse.ParseKeyring(b)
		}
		if err != nil {
			return nil, fmt.Errorf("read key %s: %w", n, err)
		}
		pems = append(pems, b)
	}
	return dsse.ParseKeyring(pems...)
}

// Read reads a file of at most most bytes.
func Read(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("more than %d bytes", most)
	}
	return b, nil
}
