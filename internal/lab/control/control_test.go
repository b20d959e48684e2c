package control

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestLinesRoundTrip(t *testing.T) {
	want := []Request{
		{ID: 1, Argv: []string{"ls", "a\nb"}, Stdin: bytes.Repeat([]byte{0, '\n'}, 5000)},
		{ID: 2, Get: "/x", TimeoutMS: 5},
		{ID: 3, Put: &Put{Path: "/y", Mode: 0o755, Data: []byte{1}}},
	}
	var buf bytes.Buffer
	for _, r := range want {
		if err := WriteLine(&buf, r); err != nil {
			t.Fatal(err)
		}
	}
	in := bufio.NewReaderSize(&buf, 16)
	for _, w := range want {
		var got Request
		if err := ReadLine(in, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, w) {
			t.Errorf("got %+v, want %+v", got, w)
		}
	}
	var none Request
	if err := ReadLine(in, &none); err != io.EOF {
		t.Errorf("at the end: %v, want io.EOF", err)
	}
}

func TestReadLineRefuses(t *testing.T) {
	var r Request
	if err := ReadLine(bufio.NewReader(strings.NewReader("{\n")), &r); err == nil {
		t.Error("half a value: no error")
	}
	if err := ReadLine(bufio.NewReader(strings.NewReader(`{"id":1}`)), &r); err == nil {
		t.Error("no newline: no error")
	}
	long := io.LimitReader(endless{}, MaxLine+10)
	if err := ReadLine(bufio.NewReader(long), &r); !errors.Is(err, ErrTooLong) {
		t.Errorf("endless line: %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
