package image

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"ward/internal/lab/tool"
)

// goEnv is the environment of every Go build for the device: what could change
// the bytes is fixed, where things lie is inherited.
func goEnv(arch string) []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE", "GOTMPDIR", "GOTOOLCHAIN", "GOROOT":
			env = append(env, v)
		default:
			if !strings.HasPrefix(name, "GO") && !strings.HasPrefix(name, "CGO_") {
				env = append(env, v)
			}
		}
	}
	return append(env, "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=", "GOENV=off")
}

// goBuildFlags are those of the Makefile.
var goBuildFlags = []string{"build", "-tags", "nethttpomithttp2", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -funcalign=4 -buildid="}

// small is how the Makefile compiles the programs of a device, beside it.
const small = "-gcflags=all=-l"

// buildPrograms compiles packages of this module and returns their paths by
// program name. Go's own cache makes a second run short, so it always runs: the
// content of the result, not of the sources, is the key of later steps. Those
// named in given are taken from there.
func (b *Builder) buildPrograms(ctx context.Context, arch string, given map[string]string, packages ...string) (map[string]string, error) {
	out := maps.Clone(given)
	if out == nil {
		out = make(map[string]string)
	}
	packages = slices.DeleteFunc(packages, func(pkg string) bool { return out[filepath.Base(pkg)] != "" })
	if len(packages) == 0 {
		return out, nil
	}
	b.say("compiling %d programs", len(packages))
	if err := os.MkdirAll(b.Cache, 0o755); err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	tmp, err := os.MkdirTemp(b.Cache, ".go-")
	if err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	defer os.RemoveAll(tmp)
	args := append(append(append([]string{}, goBuildFlags...), small), "-o", tmp+"/")
	call := tool.Call{Name: "go", Dir: b.Root, Clean: true, Env: goEnv(arch), Args: append(args, packages...)}
	if _, err := call.Run(ctx); err != nil {
		return nil, fmt.Errorf("compile programs: %w", err)
	}
	for _, pkg := range packages {
		name := filepath.Base(pkg)
		sum, err := hashFile(filepath.Join(tmp, name))
		if err != nil {
			return nil, err
		}
		dir, err := b.step(ctx, "program-"+name, []string{sum}, func(dir string) error {
			return copyFile(filepath.Join(dir, name), filepath.Join(tmp, name), 0o755)
		})
		if err != nil {
			return nil, err
		}
		out[name] = filepath.Join(dir, name)
	}
	return out, nil
}

var commandImport = regexp.MustCompile(`"(github\.com/u-root/u-root/cmds/[a-z0-9/_]+)"`)

// buildUserland compiles the commands that the board's userland module imports
// to one program and returns its path and the commands' names.
func (b *Builder) buildUserland(ctx context.Context, boardDir, arch string) (string, []string, error) {
	module := filepath.Join(boardDir, "userland")
	source := filepath.Join(module, "userland.go")
	text, err := os.ReadFile(source)
	if err != nil {
		return "", nil, fmt.Errorf("read list of commands: %w", err)
	}
	var packages, names []string
	for _, m := range commandImport.FindAllSubmatch(text, -1) {
		packages = append(packages, string(m[1]))
		names = append(names, filepath.Base(string(m[1])))
	}
	inputs, err := hashFiles(source, filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum"))
	if err != nil {
		return "", nil, err
	}
	dir, err := b.step(ctx, "userland", append(inputs, arch, runtime.Version()), func(dir string) error {
		// makebb is compiled for this machine; it compiles for the device.
		maker := filepath.Join(dir, "makebb")
		host := tool.Call{Name: "go", Dir: module, Clean: true, Env: goEnv(runtime.GOARCH),
			Args: append(append([]string{}, goBuildFlags...), "-o", maker, "github.com/u-root/gobusybox/src/cmd/makebb")}
		if _, err := host.Run(ctx); err != nil {
			return err
		}
		defer os.Remove(maker)
		// Compiled without paths, it cannot find Go by itself.
		goroot, err := tool.Call{Name: "go", Dir: module, Args: []string{"env", "GOROOT"}}.Run(ctx)
		if err != nil {
			return err
		}
		env := append(goEnv(arch), "GOROOT="+strings.TrimSpace(string(goroot)))
		call := tool.Call{Name: maker, Dir: module, Clean: true, Env: env,
			Args: append([]string{"-o", filepath.Join(dir, "bb")}, packages...)}
		_, err = call.Run(ctx)
		return err
	})
	if err != nil {
		return "", nil, err
	}
	return filepath.Join(dir, "bb"), names, nil
}
