// Package timeline prints what happens in the lab as it happens, with the time
// since the beginning, and tables of what came of it.
package timeline

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Timeline prints what happens, one line each, with the time since its start.
type Timeline struct {
	mu    sync.Mutex
	w     io.Writer
	start time.Time
}

// New begins a timeline now.
func New(w io.Writer) *Timeline { return &Timeline{w: w, start: time.Now()} }

// Say prints one line: who speaks and what it says.
func (t *Timeline) Say(who, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.w, "%7.1f s  %-8s  %s\n", time.Since(t.start).Seconds(), who, fmt.Sprintf(format, args...))
}

// Heading prints a line that opens a part.
func (t *Timeline) Heading(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.w, "\n%s\n", fmt.Sprintf(format, args...))
}

// Table prints rows in columns as wide as their widest cell.
func Table(w io.Writer, head []string, rows [][]string) {
	width := make([]int, len(head))
	for _, r := range append([][]string{head}, rows...) {
		for i, c := range r {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	line := func(r []string) {
		var b strings.Builder
		for i, c := range r {
			if i == len(r)-1 {
				b.WriteString(c)
				break
			}
			b.WriteString(c + strings.Repeat(" ", width[i]-utf8.RuneCountInString(c)+2))
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
	line(head)
	rule := make([]string, len(head))
	for i := range head {
		rule[i] = strings.Repeat("-", width[i])
	}
	line(rule)
	for _, r := range rows {
		line(r)
	}
}
