// Package sequence compares two sequences by their longest common subsequence, so
// that what was put in, taken out or replaced is named and what stands around it is
// not (Hunt and McIlroy, 1976; here with the plain table).
package sequence

// maxCells bounds the table of the comparison: two sequences of 2,000
// events each, ten times what one PCR of a real machine has.
const maxCells = 4 << 20

// A Change is one place at which two sequences differ: an element of the found
// sequence, of the expected one, or one in place of the other. -1 stands for
// none.
type Change struct{ Expected, Found int }

// Diff compares two sequences of n expected and m found elements and returns
// the changes in order, so that a longest common subsequence stays out of them.
// ok is false when the sequences are too long to compare.
func Diff(n, m int, equal func(expected, found int) bool) (changes []Change, ok bool) {
	start := 0
	for start < n && start < m && equal(start, start) {
		start++
	}
	for n > start && m > start && equal(n-1, m-1) {
		n, m = n-1, m-1
	}
	rows, cols := n-start, m-start
	if rows > 0 && cols > maxCells/rows {
		return nil, false
	}
	// length[i*(cols+1)+j] is the length of the longest common subsequence of
	// what follows expected element i and found element j.
	length := make([]uint16, (rows+1)*(cols+1))
	at := func(i, j int) *uint16 { return &length[i*(cols+1)+j] }
	for i := rows - 1; i >= 0; i-- {
		for j := cols - 1; j >= 0; j-- {
			if equal(start+i, start+j) {
				*at(i, j) = *at(i+1, j+1) + 1
			} else {
				*at(i, j) = max(*at(i+1, j), *at(i, j+1))
			}
		}
	}
	var missing, unexpected []int
	flush := func() {
		for k := range max(len(missing), len(unexpected)) {
			c := Change{-1, -1}
			if k < len(missing) {
				c.Expected = missing[k]
			}
			if k < len(unexpected) {
				c.Found = unexpected[k]
			}
			changes = append(changes, c)
		}
		missing, unexpected = missing[:0], unexpected[:0]
	}
	i, j := 0, 0
	for i < rows || j < cols {
		switch {
		case i < rows && j < cols && equal(start+i, start+j):
			flush()
			i, j = i+1, j+1
		case j == cols || i < rows && *at(i+1, j) >= *at(i, j+1):
			missing = append(missing, start+i)
			i++
		default:
			unexpected = append(unexpected, start+j)
			j++
		}
	}
	flush()
	return changes, true
}
