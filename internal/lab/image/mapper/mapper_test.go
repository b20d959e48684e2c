package mapper

import (
	"debug/elf"
	"os"
	"path/filepath"
	"testing"
)

// Every library that cryptsetup or one of its libraries names is among the files,
// and they work by themselves: nothing else of this machine is looked at.
func TestFiles(t *testing.T) {
	files, err := Files()
	if err != nil {
		t.Skip(err)
	}
	total := int64(0)
	for path, file := range files {
		st, err := os.Stat(file)
		if err != nil || !st.Mode().IsRegular() {
			t.Errorf("%s: %v, %v", file, st, err)
			continue
		}
		total += st.Size()
		f, err := elf.Open(file)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		needed, err := f.ImportedLibraries()
		if err != nil {
			t.Error(err)
		}
		f.Close()
		for _, name := range needed {
			if files[libraryFolder+"/"+name] == "" && name != loaderName {
				t.Errorf("%s needs %s, which is not among the files", filepath.Base(path), name)
			}
		}
	}
	if files["/usr/sbin/cryptsetup"] == "" || files["/usr/lib64/"+loaderName] == "" {
		t.Errorf("files %v", files)
	}
	t.Logf("%d files, %d KiB", len(files), total>>10)
}
