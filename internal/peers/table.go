package peers

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// The programs that answer, in the order of the table's columns.
const (
	ward = iota
	goAttestationColumn
	tcglogColumn
	tpm2Column
	programs
)

var programNames = [programs]string{"Ward", "go-attestation", "tcglog-parser", "tpm2_eventlog"}

// counts are answers with how often each was given.
type counts map[Answer]int

// String returns "alarms 12, undecided 1", most frequent first.
func (c counts) String() string {
	var list []Answer
	for a := range c {
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b Answer) int {
		if c[a] != c[b] {
			return c[b] - c[a]
		}
		return strings.Compare(string(a), string(b))
	})
	var texts []string
	for _, a := range list {
		texts = append(texts, fmt.Sprintf("%s %d", a, c[a]))
	}
	if len(texts) == 0 {
		return "-"
	}
	return strings.Join(texts, ", ")
}

func parseCounts(s string) (counts, error) {
	c := make(counts)
	if s == "-" {
		return c, nil
	}
	for part := range strings.SplitSeq(s, ", ") {
		name, number, _ := strings.Cut(part, " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("parse answers %q: %w", s, err)
		}
		c[Answer(name)] = n
	}
	return c, nil
}

// row is what became of one class of changes, of one log or of all.
type row struct {
	class, log string
	inputs     int
	answers    [programs]counts
}

func newRow(class, log string) *row {
	r := &row{class: class, log: log}
	for i := range r.answers {
		r.answers[i] = make(counts)
	}
	return r
}

func (r *row) add(other *row) {
	r.inputs += other.inputs
	for i, c := range other.answers {
		for a, n := range c {
			r.answers[i][a] += n
		}
	}
}

// byClass joins the rows of all logs.
func byClass(rows []*row) []*row {
	var list []*row
	for _, c := range classes {
		sum := newRow(c.name, "all")
		for _, r := range rows {
			if r.class == c.name {
				sum.add(r)
			}
		}
		if sum.inputs > 0 {
			list = append(list, sum)
		}
	}
	return list
}

// printTable writes the table for people.
func printTable(w io.Writer, rows []*row) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "class\tinputs\t%s\n", strings.Join(programNames[:], "\t"))
	total := 0
	for _, r := range byClass(rows) {
		fmt.Fprintf(t, "%s\t%d", r.class, r.inputs)
		for _, c := range r.answers {
			fmt.Fprintf(t, "\t%s", c)
		}
		fmt.Fprintln(t)
		total += r.inputs
	}
	fmt.Fprintf(t, "in all\t%d\n", total)
	return t.Flush()
}

// writeRows writes the rows as the file of expected answers has them.
func writeRows(w io.Writer, rows []*row) error {
	for _, r := range rows {
		line := []string{r.log, r.class, strconv.Itoa(r.inputs)}
		for _, c := range r.answers {
			line = append(line, c.String())
		}
		if _, err := fmt.Fprintln(w, strings.Join(line, " | ")); err != nil {
			return err
		}
	}
	return nil
}

// readRows reads what writeRows wrote; lines with # are remarks.
func readRows(r io.Reader) (map[[2]string]*row, error) {
	rows := make(map[[2]string]*row)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		cells := strings.Split(lines.Text(), " | ")
		if len(cells) != 3+programs {
			return nil, fmt.Errorf("read expected answers: line %q", lines.Text())
		}
		row := newRow(cells[1], cells[0])
		var err error
		if row.inputs, err = strconv.Atoi(cells[2]); err != nil {
			return nil, err
		}
		for i := range row.answers {
			if row.answers[i], err = parseCounts(cells[3+i]); err != nil {
				return nil, err
			}
		}
		rows[[2]string{row.log, row.class}] = row
	}
	return rows, lines.Err()
}
