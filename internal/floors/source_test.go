package floors

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"
)

// pkg is one package's source without its tests.
type pkg struct {
	path  string // import path
	floor int    // 0: none
	unit  string // "format/pcr": what the rules see as one package
	files []*ast.File
	fset  *token.FileSet
}

// imported is one import line.
type imported struct {
	path string
	node ast.Node
}

// parse reads a package from its files' texts, by file name.
func parse(importPath string, texts map[string]string) (*pkg, error) {
	p := &pkg{path: importPath, fset: token.NewFileSet()}
	p.floor, p.unit = locate(importPath)
	names := make([]string, 0, len(texts))
	for name := range texts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		f, err := parser.ParseFile(p.fset, name, texts[name], parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		p.files = append(p.files, f)
	}
	return p, nil
}

// judge returns what breaks the rules, one line each: place, rule, what, why.
func judge(p *pkg, rules []rule) []string {
	var broken []string
	for _, r := range rules {
		r.check(p, func(at ast.Node, what string) {
			where := p.path
			if f, ok := at.(*ast.File); ok {
				where = p.name(f)
			} else if at != nil {
				pos := p.fset.Position(at.Pos())
				where = fmt.Sprintf("%s:%d", pos.Filename, pos.Line)
			}
			broken = append(broken, fmt.Sprintf("%s: %s [%s: %s]", where, what, r.name, r.reason))
		})
	}
	return broken
}

func isWard(importPath string) bool { return strings.HasPrefix(importPath, "ward/") }

// locate returns the floor of an import path and the unit that it belongs to.
func locate(importPath string) (floor int, unit string) {
	for _, f := range floorOf {
		rest, ok := strings.CutPrefix(importPath, f.folder)
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		unit = strings.TrimPrefix(strings.TrimPrefix(f.folder, "ward/"), "internal/")
		if !f.split {
			return f.floor, unit
		}
		first, _, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
		if f.folder == "ward/internal" {
			return f.floor, first
		}
		if first == "" {
			return 0, unit
		}
		return f.floor, path.Join(unit, first)
	}
	return 0, importPath
}

func place(floor int, unit string) string { return fmt.Sprintf("%s of floor %d", unit, floor) }

func (p *pkg) place() string { return place(p.floor, p.unit) }

func (p *pkg) name(f *ast.File) string { return p.fset.Position(f.Package).Filename }

func (p *pkg) lines(f *ast.File) int { return p.fset.File(f.Package).LineCount() }

func (p *pkg) imports() []imported {
	var all []imported
	for _, f := range p.files {
		for _, spec := range f.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err == nil {
				all = append(all, imported{name, spec})
			}
		}
	}
	return all
}

// nodes walks every file of the package, parents before children.
func (p *pkg) nodes() iter.Seq[ast.Node] {
	return func(yield func(ast.Node) bool) {
		for _, f := range p.files {
			for n := range ast.Preorder(f) {
				if !yield(n) {
					return
				}
			}
		}
	}
}

// selected returns X of pkg.X when n is that expression and pkg is the name
// under which its file imports the path, empty otherwise.
func (p *pkg) selected(n ast.Node, importPath string) string {
	sel, ok := n.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	id, ok := sel.X.(*ast.Ident)
	if !ok {
		return ""
	}
	for _, f := range p.files {
		if n.Pos() < f.FileStart || n.Pos() >= f.FileEnd {
			continue
		}
		for _, spec := range f.Imports {
			if name, err := strconv.Unquote(spec.Path.Value); err != nil || name != importPath {
				continue
			}
			local := path.Base(importPath)
			if spec.Name != nil {
				local = spec.Name.Name
			}
			if id.Name == local {
				return sel.Sel.Name
			}
		}
	}
	return ""
}

// matches tells whether an import path is the pattern, or lies beneath one that
// ends in /...
func matches(importPath, pattern string) bool {
	folder, tree := strings.CutSuffix(pattern, "/...")
	return importPath == folder || tree && strings.HasPrefix(importPath, folder+"/")
}

func matchesAny(importPath string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(importPath, pattern) })
}
