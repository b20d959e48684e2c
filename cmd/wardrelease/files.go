package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"ward/internal/trust/baseline"
)

// Bounds of the files that are read whole.
const (
	maxManifest = 1 << 20
	maxEventLog = 16 << 20 // firmware gives the log 64 KiB to some megabytes
	maxKey      = 64 << 10
)

// readFile reads a file of at most longest bytes.
func readFile(name string, longest int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, longest+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > longest {
		return nil, fmt.Errorf("%s: larger than the %d bytes that are read", name, longest)
	}
	return b, nil
}

// writeFile replaces a file as a whole, so that no reader meets half of it.
func writeFile(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return os.Rename(f.Name(), name)
}

// readSigner reads a private key in PEM: PKCS #8 (RFC 5958) or SEC 1 (RFC 5915).
func readSigner(name string) (crypto.Signer, error) {
	b, err := readFile(name, maxKey)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return nil, fmt.Errorf("%s: no private key in it: make one with wardrelease keygen", name)
		}
		var key any
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "EC PARAMETERS":
			continue
		default:
			return nil, fmt.Errorf("%s: PEM of type %q, want an unencrypted PRIVATE KEY", name, block.Type)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
		return nil, fmt.Errorf("%s: a key that cannot sign, want ECDSA P-256 or Ed25519", name)
	}
}

// deviceNumbers reads a device file's numbers on Linux.
func deviceNumbers(info fs.FileInfo) (baseline.Device, error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return baseline.Device{}, fmt.Errorf("read device numbers of %s: not supported here", info.Name())
	}
	return baseline.Device{Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}, nil
}
