package floors

import (
	"fmt"
	"go/ast"
	"path/filepath"
	"strings"
)

func checkMainSize(p *pkg, report func(ast.Node, string)) {
	if !strings.HasPrefix(p.path, "ward/cmd/") {
		return
	}
	for _, f := range p.files {
		if n := p.lines(f); filepath.Base(p.name(f)) == "main.go" && n > maxMainLines {
			report(f, fmt.Sprintf("has %d lines, at most %d", n, maxMainLines))
		}
	}
}

func checkFileSize(p *pkg, report func(ast.Node, string)) {
	for _, f := range p.files {
		if n := p.lines(f); n > maxFileLines {
			report(f, fmt.Sprintf("has %d lines, at most %d", n, maxFileLines))
		}
	}
}

func checkPackageSize(p *pkg, report func(ast.Node, string)) {
	total := 0
	for _, f := range p.files {
		total += p.lines(f)
	}
	if total > maxPackageLines {
		report(nil, fmt.Sprintf("has %d lines, at most %d", total, maxPackageLines))
	}
}

func checkComment(p *pkg, report func(ast.Node, string)) {
	for _, f := range p.files {
		if f.Doc != nil {
			return
		}
	}
	if len(p.files) > 0 {
		report(nil, "has no package comment")
	}
}
