package idstore

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"ward/internal/device/statefile"
	"ward/internal/device/tpm/object"
	"ward/internal/format/tss2"
	"ward/internal/trust/enrolment"
)

const (
	// maxKey bounds a key file: one has some 500 bytes.
	maxKey = 8 << 10
	// maxChain and maxCertificates bound a chain: three certificates take 3 KiB.
	maxChain        = 64 << 10
	maxCertificates = 8
	// maxEntries bounds what is looked at in one folder; two generations are there
	// as a rule.
	maxEntries = 1024
	// lastGeneration is the last number that the folders' names can hold.
	lastGeneration = 9999
)

// Files of a generation's folder.
const (
	keyFile       = "key.pem"
	chainFile     = "chain.pem"
	connectedFile = "connected"
)

// Suffixes of folders that are no generations: one that is being made, one that
// is being removed. A power cut leaves them.
const (
	unfinished = ".new"
	removed    = ".old"
)

// numbered: the name is a generation's, four digits.
func numbered(name string) bool {
	return len(name) == 4 && strings.Trim(name, "0123456789") == ""
}

// leftover: a power cut left it of a generation that was being made or removed.
func leftover(name string) bool {
	number, rest, _ := strings.Cut(name, ".")
	return numbered(number) && (rest == "new" || rest == "old")
}

// Generation is one key and, once it was issued, its certificate.
type Generation struct {
	Use       enrolment.Use
	Number    int // from 1 on
	Key       tss2.File
	Chain     []*x509.Certificate // leaf first; nil: none was issued yet
	Connected bool                // a connection stood with it
}

// Path is the folder of a generation in the state directory.
func (g Generation) Path() string { return fmt.Sprintf("%s/%s/%04d", Folder, g.Use, g.Number) }

func useFolder(use enrolment.Use) (string, error) {
	if use != enrolment.Reporting && use != enrolment.Service {
		return "", fmt.Errorf("look for keys: no use is called %q", use)
	}
	return Folder + "/" + string(use), nil
}

// Generations lists the keys of a use, the newest first. Damaged ones are left
// out and told in the error, which wraps ErrDamaged; those that are whole are
// returned beside it.
func (s *Store) Generations(use enrolment.Use) ([]Generation, error) {
	folder, err := useFolder(use)
	if err != nil {
		return nil, err
	}
	var all []Generation
	var broken error
	err = s.with(func(f *statefile.Folder) error {
		entries, err := f.List(folder, maxEntries)
		if err != nil {
			return damaged(folder, err)
		}
		for _, e := range slices.Backward(entries) {
			if !e.IsDir() || !numbered(e.Name()) {
				continue
			}
			n, err := strconv.Atoi(e.Name())
			if err != nil || n == 0 {
				continue
			}
			g, err := load(f, Generation{Use: use, Number: n})
			if err != nil {
				broken = errors.Join(broken, err)
				continue
			}
			all = append(all, g)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no state directory yet
	}
	return all, errors.Join(err, broken)
}

// load reads one generation.
func load(f *statefile.Folder, g Generation) (Generation, error) {
	name := g.Path() + "/" + keyFile
	text, err := f.Read(name, maxKey)
	if err != nil {
		return g, damaged(name, err)
	}
	public, err := g.parse(text)
	if err != nil {
		return g, damaged(name, err)
	}
	name = g.Path() + "/" + chainFile
	text, err = f.Read(name, maxChain)
	if err == nil {
		g.Chain, err = parseChain(text)
		if err == nil && !public.Equal(g.Chain[0].PublicKey) {
			err = errors.New("the certificate is for another key")
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return g, damaged(name, err)
	}
	// Of this file only its being there counts.
	_, err = f.Read(g.Path()+"/"+connectedFile, maxKey)
	g.Connected = err == nil
	return g, nil
}

func (g *Generation) parse(text []byte) (*ecdsa.PublicKey, error) {
	var err error
	if g.Key, err = tss2.Parse(text); err != nil {
		return nil, err
	}
	return publicKey(g.Key)
}

func publicKey(f tss2.File) (*ecdsa.PublicKey, error) {
	if f.Kind != tss2.Loadable {
		return nil, errors.New("it holds no key")
	}
	key, err := object.Blob{Public: f.Public}.Key()
	return key.Public, err
}

func parseChain(text []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for len(bytes.TrimSpace(text)) > 0 {
		block, rest := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("want PEM of type CERTIFICATE and nothing else")
		}
		if len(chain) == maxCertificates {
			return nil, fmt.Errorf("more than %d certificates", maxCertificates)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(chain)+1, err)
		}
		chain, text = append(chain, cert), rest
	}
	if len(chain) == 0 {
		return nil, errors.New("no certificate in it")
	}
	return chain, nil
}

// Add stores a new key as the next generation. The number of a damaged one is
// not used again.
func (s *Store) Add(use enrolment.Use, key tss2.File) (Generation, error) {
	folder, err := useFolder(use)
	if err != nil {
		return Generation{}, err
	}
	g := Generation{Use: use, Number: 1}
	text := key.PEM()
	if _, err := g.parse(text); err != nil {
		return Generation{}, fmt.Errorf("add %s key: %w", use, err)
	}
	err = s.with(func(f *statefile.Folder) error {
		if err := f.Make(folder); err != nil {
			return err
		}
		entries, err := f.List(folder, maxEntries)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !numbered(e.Name()) {
				continue
			}
			if n, err := strconv.Atoi(e.Name()); err == nil {
				g.Number = n + 1
			}
		}
		if g.Number > lastGeneration {
			return fmt.Errorf("there are %d generations already", lastGeneration)
		}
		// Made beside and renamed: a generation is there with its key or not at all.
		if err := f.Erase(g.Path() + unfinished); err != nil {
			return err
		}
		if err := f.Make(g.Path() + unfinished); err != nil {
			return err
		}
		if err := f.Write(g.Path()+unfinished+"/"+keyFile, text, modeKey); err != nil {
			return err
		}
		return f.Move(g.Path()+unfinished, g.Path())
	})
	if err != nil {
		return Generation{}, fmt.Errorf("add %s key: %w", use, err)
	}
	return g, nil
}

// SetChain stores the certificate of a generation, DER, leaf first. It must be for
// the generation's key.
func (s *Store) SetChain(g Generation, chain [][]byte) error {
	var text []byte
	for _, der := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	parsed, err := parseChain(text)
	if err == nil && len(text) > maxChain {
		err = fmt.Errorf("%d bytes, want at most %d", len(text), maxChain)
	}
	if err != nil {
		return fmt.Errorf("store %s certificate: %w", g.Use, err)
	}
	return s.change(g, func(f *statefile.Folder, public *ecdsa.PublicKey) error {
		if !public.Equal(parsed[0].PublicKey) {
			return fmt.Errorf("store %s certificate: it is for another key than that of generation %d", g.Use, g.Number)
		}
		return f.Write(g.Path()+"/"+chainFile, text, modePublic)
	})
}

// SetConnected marks a generation as one that works.
func (s *Store) SetConnected(g Generation) error {
	return s.change(g, func(f *statefile.Folder, _ *ecdsa.PublicKey) error {
		return f.Write(g.Path()+"/"+connectedFile, nil, modePublic)
	})
}

// change does something to a generation whose key is whole.
func (s *Store) change(g Generation, operation func(*statefile.Folder, *ecdsa.PublicKey) error) error {
	if _, err := useFolder(g.Use); err != nil {
		return err
	}
	return s.with(func(f *statefile.Folder) error {
		name := g.Path() + "/" + keyFile
		text, err := f.Read(name, maxKey)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("change generation %d of the %s key: %w", g.Number, g.Use, ErrNone)
		}
		var public *ecdsa.PublicKey
		if err == nil {
			public, err = g.parse(text)
		}
		if err != nil {
			return damaged(name, err)
		}
		return operation(f, public)
	})
}

// Prune removes what is older than the newest connected generation, and what
// power cuts left of others.
func (s *Store) Prune(use enrolment.Use) error {
	folder, err := useFolder(use)
	if err != nil {
		return err
	}
	all, err := s.Generations(use)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	keep := 0
	for _, g := range all {
		if g.Connected {
			keep = g.Number
			break
		}
	}
	return s.with(func(f *statefile.Folder) error {
		entries, err := f.List(folder, maxEntries)
		for _, e := range entries {
			name := folder + "/" + e.Name()
			n, notNumber := strconv.Atoi(e.Name())
			switch {
			case leftover(e.Name()):
				err = errors.Join(err, f.Erase(name))
			case numbered(e.Name()) && notNumber == nil && n < keep:
				moved := f.Move(name, name+removed)
				if moved == nil {
					moved = f.Erase(name + removed)
				}
				err = errors.Join(err, moved)
			}
		}
		if err != nil {
			return fmt.Errorf("remove old %s keys: %w", use, err)
		}
		return nil
	})
}
