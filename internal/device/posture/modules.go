package posture

import (
	"bytes"
	"hash/fnv"
	"io"
	"io/fs"
	"strings"
)

// ModulesFile is the kernel's list of loaded modules.
const ModulesFile = "proc/modules"

// modules says the names of the loaded modules, in whatever state they are: one
// that never ends its start has run all the same. A kernel without modules has no
// list.
func modules(root fs.FS) (names []string, err error) {
	err = eachModule(root, func(name, _ string) { names = append(names, name) })
	return names, err
}

// unsignedModules says the loaded modules that the kernel took without a valid
// signature or by force, as "name unsigned", "name forced".
func unsignedModules(root fs.FS) (names []string, err error) {
	err = eachModule(root, func(name, taints string) {
		if strings.Contains(taints, "E") {
			names = append(names, name+" unsigned")
		}
		if strings.Contains(taints, "F") {
			names = append(names, name+" forced")
		}
	})
	return names, err
}

// eachModule reads the list: "name size uses users, state address (taints)", where
// the taints are letters, followed by + or - while the module comes or goes
// (kernel/module/procfs.c).
func eachModule(root fs.FS, each func(name, taints string)) error {
	b, err := ReadFile(root, ModulesFile, listFile)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if len(f) < 5 || f[4] != "Live" && f[4] != "Loading" && f[4] != "Unloading" || line[len(line)-1] != '\n' {
			return bad(ModulesFile, string(line))
		}
		taints := ""
		if last := f[len(f)-1]; strings.HasPrefix(last, "(") {
			taints = last
		}
		each(f[0], taints)
	}
	return nil
}

// moduleSignature says "enforced" or "not-enforced" of the modules' signatures
// (Documentation/admin-guide/module-signing.rst); "unsupported" by a kernel that
// takes modules and was built without it.
func moduleSignature(root fs.FS) ([]string, error) {
	f := flag{"sys/module/module/parameters/sig_enforce", "enforced", "not-enforced"}
	s, err := f.word(root)
	if absent(err) {
		_, err = fs.Stat(root, ModulesFile)
		s = "unsupported"
	}
	return []string{s}, err
}

// Mark is a number that changes, all but surely, with the set of loaded modules,
// their taints, the kernel's and the mounts: what is cheap enough to ask every few
// seconds, where no uevent tells.
func Mark(root fs.FS) uint64 {
	h := fnv.New64a()
	if err := eachModule(root, func(name, taints string) { io.WriteString(h, name+taints+"\n") }); err != nil {
		io.WriteString(h, err.Error())
	}
	for _, file := range [...]string{taintFile, "proc/1/mounts", "proc/self/mounts"} {
		if b, err := ReadFile(root, file, listFile); err == nil {
			h.Write(b)
		}
	}
	return h.Sum64()
}
