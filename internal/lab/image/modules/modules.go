// Package modules puts kernel modules into the order in which they can be loaded:
// each after those that its ".modinfo" names (kernel Documentation/kbuild/
// modules.rst, modinfo(8)).
package modules

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// An Index knows the file of each module by its name with underscores.
type Index struct {
	dir   string
	files map[string]string
}

func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

// Read finds the modules below a folder.
func Read(dir string) (Index, error) {
	index := Index{dir, make(map[string]string)}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, ok := strings.CutSuffix(d.Name(), ".ko"); ok && d.Type().IsRegular() {
			rel, err := filepath.Rel(dir, path)
			index.files[moduleName(name)] = rel
			return err
		}
		return nil
	})
	if err != nil {
		return index, fmt.Errorf("index modules: %w", err)
	}
	if len(index.files) == 0 {
		return index, fmt.Errorf("index modules: none in the package that is not compressed")
	}
	return index, nil
}

// Order lists the wanted modules, each after those that it depends on, leaving
// out the ones in loaded and adding to it.
func (x Index) Order(wanted []string, loaded map[string]bool) ([]string, error) {
	var out []string
	for _, name := range wanted {
		name = moduleName(name)
		if loaded[name] {
			continue
		}
		loaded[name] = true // before the dependencies, so that a loop ends
		rel, ok := x.files[name]
		if !ok {
			return nil, fmt.Errorf("module %s: not in the kernel package", name)
		}
		depends, err := moduleDepends(filepath.Join(x.dir, rel))
		if err != nil {
			return nil, fmt.Errorf("module %s: %w", name, err)
		}
		first, err := x.Order(depends, loaded)
		if err != nil {
			return nil, err
		}
		out = append(append(out, first...), rel)
	}
	return out, nil
}

// moduleDepends reads "depends=" from the section .modinfo.
func moduleDepends(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open module: %w", err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("read module: no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	for word := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := strings.CutPrefix(string(word), "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
