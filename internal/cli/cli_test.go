package cli_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"testing"

	"ward/internal/cli"
)

func TestStatus(t *testing.T) {
	cases := []struct {
		name   string
		err    error
		status int
		line   string
	}{
		{"nothing", nil, 0, ""},
		{"any error", errors.New("no such file"), 2, "ward: no such file\n"},
		{"failed", cli.Fail(cli.NotDecided, "%s: the log is empty", "boot.bin"), 3, "ward: boot.bin: the log is empty\n"},
		{"findings", cli.Fail(cli.Findings, "differs"), 1, "ward: differs\n"},
		{"quiet", cli.Quiet(cli.Findings), 1, ""},
		{"quiet and good", cli.Quiet(cli.Good), 0, ""},
		{"wrapped", fmt.Errorf("sign: %w", cli.Fail(cli.NotDecided, "no key")), 3, "ward: sign: no key\n"},
		{"wrapped quiet", fmt.Errorf("verify: %w", cli.Quiet(cli.NotDecided)), 3, ""},
		{"several lines", errors.Join(errors.New("one"), errors.New("two")), 2, "ward: one two\n"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			if got := cli.Status(&out, "ward", c.err); got != c.status || out.String() != c.line {
				t.Errorf("status %d, %q; want %d, %q", got, out.String(), c.status, c.line)
			}
		})
	}
}

func TestFailKeepsItsCause(t *testing.T) {
	err := cli.Fail(cli.Usage, "open %s: %w", "x", fs.ErrNotExist)
	if !errors.Is(err, fs.ErrNotExist) || err.Error() != "open x: file does not exist" {
		t.Errorf("error %v", err)
	}
	if got := cli.Quiet(cli.Findings).Error(); got != "exit status 1" {
		t.Errorf("a quiet error reads %q", got)
	}
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	if err := cli.JSON(&out, map[string]any{"b": "<a & b>", "a": []int{1}}); err != nil {
		t.Fatal(err)
	}
	want := "{\n  \"a\": [\n    1\n  ],\n  \"b\": \"<a & b>\"\n}\n"
	if out.String() != want {
		t.Errorf("got %s, want %s", out.String(), want)
	}
	if err := cli.JSON(&out, math.NaN()); err == nil {
		t.Error("a number that JSON cannot hold is written")
	}
}
