// Package mapper finds Debian's cryptsetup as this machine has it installed, the
// libraries that it needs (DT_NEEDED, System V ABI, chapter 5) and their loader,
// for the root file system of the virtual device: what is in there is covered by
// dm-verity, by the file baseline and by IMA.
package mapper

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ward/internal/lab/tool"
)

// Places of the loader and the libraries in the device. The loader's default path
// holds the second (ld.so(8)).
const (
	loaderFolder  = "/usr/lib64"
	libraryFolder = "/usr/lib/x86_64-linux-gnu"
	loaderName    = "ld-linux-x86-64.so.2"
)

// libraryFolders are where Debian installs the libraries of amd64.
var libraryFolders = []string{"/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib", "/lib"}

// maxLibraries bounds the libraries of a program; cryptsetup of Debian 12 takes 14.
const maxLibraries = 64

// Files are cryptsetup, its libraries and their loader: paths in the device and
// files here. The same installed packages give the same bytes.
func Files() (map[string]string, error) {
	program, err := tool.Look("cryptsetup")
	if err != nil {
		return nil, err
	}
	loader, err := filepath.EvalSymlinks("/lib64/" + loaderName)
	if err != nil {
		return nil, fmt.Errorf("find the loader of cryptsetup: %w", err)
	}
	files := map[string]string{"/usr/sbin/cryptsetup": program, loaderFolder + "/" + loaderName: loader}
	seen := map[string]bool{loaderName: true}
	for queue := []string{program}; len(queue) > 0; queue = queue[1:] {
		needed, err := neededLibraries(queue[0])
		if err != nil {
			return nil, err
		}
		for _, name := range needed {
			if seen[name] {
				continue
			}
			seen[name] = true
			file, err := findLibrary(name)
			if err != nil {
				return nil, fmt.Errorf("find libraries of %s: %w", queue[0], err)
			}
			files[libraryFolder+"/"+name] = file
			queue = append(queue, file)
		}
		if len(files) > maxLibraries {
			return nil, fmt.Errorf("find libraries of cryptsetup: more than %d", maxLibraries)
		}
	}
	return files, nil
}

// neededLibraries reads DT_NEEDED of a program or library.
func neededLibraries(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read program: %w", err)
	}
	defer f.Close()
	names, err := f.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("read libraries of %s: %w", path, err)
	}
	return names, nil
}

func findLibrary(name string) (string, error) {
	for _, dir := range libraryFolders {
		path, err := filepath.EvalSymlinks(filepath.Join(dir, name))
		if err == nil {
			_, err = os.Stat(path)
		}
		switch {
		case err == nil:
			return path, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
	}
	return "", fmt.Errorf("library %s: not installed; run make deps", name)
}
