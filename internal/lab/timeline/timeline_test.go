package timeline_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ward/internal/lab/timeline"
)

func TestTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		line := timeline.New(&out)
		line.Say("device", "boots %d", 1)
		time.Sleep(12*time.Second + 340*time.Millisecond)
		line.Heading("Attack %d", 2)
		line.Say("fleet", "sees it")
		want := "    0.0 s  device    boots 1\n\nAttack 2\n   12.3 s  fleet     sees it\n"
		if out.String() != want {
			t.Errorf("printed\n%q, want\n%q", out.String(), want)
		}
	})
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	timeline.Table(&out, []string{"drill", "seen"}, [][]string{{"ünïcode", "a"}, {"b", ""}, {"", "the last column is as long as it is"}})
	want := strings.Join([]string{
		"drill    seen",
		"-------  -----------------------------------",
		"ünïcode  a",
		"b",
		"         the last column is as long as it is",
		"",
	}, "\n")
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", out.String(), want)
	}
}
