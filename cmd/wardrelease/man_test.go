package main

import (
	"testing"

	"ward/internal/doctest"
	"ward/internal/manpage"
)

func TestManualCurrent(t *testing.T) {
	doctest.Current(t, "../../docs/man/wardrelease.1", manpage.Page(newRoot()))
}
