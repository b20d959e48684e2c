package main

import (
	"testing"

	"ward/internal/doctest"
	"ward/internal/manpage"
)

func TestManualCurrent(t *testing.T) {
	doctest.Current(t, "../../docs/man/wardfleet.1", manpage.Page(newRoot()))
}
