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

// answers is a table of what programs answer: for each log or list, and each
// class of changes to it, how often each program gave which answer.
type answers struct {
	names   []string // of the programs
	classes []string // in the order of the table for people
	rows    []*row
}

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
	log, class string
	inputs     int
	answers    []counts
}

// row returns the row of a log and class, and makes it when there is none.
func (t *answers) row(log, class string) *row {
	if r := t.find(log, class); r != nil {
		return r
	}
	r := &row{log: log, class: class}
	for range t.names {
		r.answers = append(r.answers, make(counts))
	}
	t.rows = append(t.rows, r)
	return r
}

func (t *answers) find(log, class string) *row {
	for _, r := range t.rows {
		if r.log == log && r.class == class {
			return r
		}
	}
	return nil
}

// add counts the answers to one input; an empty one was not asked for.
func (r *row) add(given []Answer) {
	r.inputs++
	for i, a := range given {
		if a != "" {
			r.answers[i][a]++
		}
	}
}

// print writes the table for people: the classes, all logs together.
func (t *answers) print(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(out, "class\tinputs\t%s\n", strings.Join(t.names, "\t"))
	total := 0
	for _, class := range t.classes {
		inputs, sums := 0, make([]counts, len(t.names))
		for i := range sums {
			sums[i] = make(counts)
			for _, r := range t.rows {
				if r.class == class {
					for a, n := range r.answers[i] {
						sums[i][a] += n
					}
				}
			}
		}
		for _, r := range t.rows {
			if r.class == class {
				inputs += r.inputs
			}
		}
		if inputs == 0 {
			continue
		}
		fmt.Fprintf(out, "%s\t%d", class, inputs)
		for _, c := range sums {
			fmt.Fprintf(out, "\t%s", c)
		}
		fmt.Fprintln(out)
		total += inputs
	}
	fmt.Fprintf(out, "in all\t%d\n", total)
	return out.Flush()
}

// write writes the rows as the file of expected answers has them.
func (t *answers) write(w io.Writer) error {
	fmt.Fprintf(w, "# log | class | inputs | %s\n", strings.Join(t.names, " | "))
	for _, r := range t.rows {
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

// read adds the rows that write wrote; lines with # are remarks.
func (t *answers) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		cells := strings.Split(lines.Text(), " | ")
		if len(cells) != 3+len(t.names) {
			return fmt.Errorf("read expected answers: line %q", lines.Text())
		}
		row := t.row(cells[0], cells[1])
		var err error
		if row.inputs, err = strconv.Atoi(cells[2]); err != nil {
			return fmt.Errorf("read expected answers: line %q: %w", lines.Text(), err)
		}
		for i := range row.answers {
			if row.answers[i], err = parseCounts(cells[3+i]); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}
