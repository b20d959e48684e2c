package efistore

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"
	"time"
)

// emptyVolume is a firmware volume with an empty store, as OVMF lays it out.
func emptyVolume(size int) []byte {
	const header = 72
	v := bytes.Repeat([]byte{0xFF}, size)
	clear(v[:header+storeHeaderSize])
	copy(v[40:], "_FVH")
	binary.LittleEndian.PutUint16(v[headerLengthOffset:], header)
	copy(v[header:], authenticatedVar[:])
	binary.LittleEndian.PutUint32(v[header+16:], uint32(size-header))
	return v
}

func examples(t *testing.T) []Variable {
	t.Helper()
	list, err := SignatureList(CertX509, GlobalVariable, []byte("certificate of odd length"))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2024, 1, 1, 2, 3, 4, 0, time.UTC)
	return []Variable{
		{"PK", GlobalVariable, at, list},
		{"dbx", ImageSecurity, at, []byte{1, 2, 3}},
	}
}

func TestWriteThenReadGivesTheSame(t *testing.T) {
	want := examples(t)
	store, err := Write(emptyVolume(4096), want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read(store)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("got %d variables, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i].Name != want[i].Name || got[i].Vendor != want[i].Vendor ||
			!got[i].Time.Equal(want[i].Time) || !bytes.Equal(got[i].Data, want[i].Data) {
			t.Errorf("variable %d: got %+v, want %+v", i, got[i], want[i])
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	filled, err := Write(emptyVolume(4096), examples(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, template := range map[string][]byte{
		"a store in use":    filled,
		"a full store":      emptyVolume(160),
		"something else":    make([]byte, 4096),
		"nothing":           nil,
		"a store cut short": emptyVolume(4096)[:80],
	} {
		if _, err := Write(template, examples(t)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestReadRefusesVariableBeyondTheStore(t *testing.T) {
	store, err := Write(emptyVolume(4096), examples(t))
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(store[72+storeHeaderSize+40:], 1<<31)
	if _, err := Read(store); err == nil {
		t.Error("no error for a data size beyond the store")
	}
}

// The record's layout, byte by byte, as AUTHENTICATED_VARIABLE_HEADER has it.
func TestEncodeLayout(t *testing.T) {
	v := Variable{"A", GlobalVariable, time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC), []byte{0xAA}}
	got := v.encode()
	want := append([]byte{
		0xAA, 0x55, 0x3F, 0x00, 0x27, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0xE8, 0x07, 5, 6, 7, 8, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0,
	}, GlobalVariable[:]...)
	want = append(want, 'A', 0, 0, 0, 0xAA, 0xFF, 0xFF, 0xFF)
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

func TestSignatureListLayout(t *testing.T) {
	list, err := SignatureList(CertSHA256, ImageSecurity, make([]byte, 32), make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 28+2*48 || binary.LittleEndian.Uint32(list[16:]) != uint32(len(list)) || binary.LittleEndian.Uint32(list[24:]) != 48 {
		t.Errorf("wrong sizes: %x", list[:28])
	}
	if _, err := SignatureList(CertSHA256, ImageSecurity, make([]byte, 32), nil); err == nil {
		t.Error("entries of different length: no error")
	}
	if _, err := SignatureList(CertSHA256, ImageSecurity); err == nil {
		t.Error("no entries: no error")
	}
}

func TestParseGUID(t *testing.T) {
	g, err := ParseGUID("00112233-4455-6677-8899-aabbccddeeff")
	want := GUID{0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
	if err != nil || g != want {
		t.Errorf("got %x, %v; want %x", g, err, want)
	}
	for _, bad := range []string{"", "0011", "zz112233-4455-6677-8899-aabbccddeeff", "001122334455667788990aabbccddeeff000"} {
		if _, err := ParseGUID(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// The empty store that Debian ships takes our variables.
func TestWriteIntoOVMFStore(t *testing.T) {
	template, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
	if err != nil {
		t.Skip("ovmf is not installed")
	}
	store, err := Write(template, examples(t))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Read(store); err != nil || len(got) != 2 {
		t.Errorf("got %d variables, %v", len(got), err)
	}
}
