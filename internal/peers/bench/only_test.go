package bench

import "testing"

func TestOnly(t *testing.T) {
	var b table
	for _, f := range []func(*testing.T, *table){appending, amplification, recovery, backlog, idle, offline} {
		n := len(b.rows)
		f(t, &b)
		for _, r := range b.rows[n:] {
			t.Log(r)
		}
	}
}
