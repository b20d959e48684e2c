package ima_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"ward/internal/format/ima"
)

// testCertificate is testdata/signer.pem, made by
//
//	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj "/CN=Test signer" -days 36500 -out signer.pem
func testCertificate(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/signer.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	return block.Bytes
}

func buffered(name string, buffer []byte) record {
	sum := sha256.Sum256(buffer)
	return measured("ima-buf", "sha256", sum[:], name, buffer)
}

// What the kernel measures into ima-buf entries, as it writes it.
//
// Verifies: SR-004
func TestContents(t *testing.T) {
	certificate := testCertificate(t)
	pairs := func(s ...string) []ima.Pair {
		var list []ima.Pair
		for i := 0; i < len(s); i += 2 {
			list = append(list, ima.Pair{Name: s[i], Value: s[i+1]})
		}
		return list
	}
	for _, c := range []struct {
		name   string
		buffer string
		kind   ima.ContentKind
		pairs  []ima.Pair
		text   bool // the content's text is the buffer
	}{
		{".ima", string(certificate), ima.ContentKey, nil, false},
		{".builtin_trusted_keys", string(certificate), ima.ContentKey, nil, false},
		{"_evm", string(certificate), ima.ContentKey, nil, false},
		{"site-keys", string(certificate), ima.ContentKey, nil, false},
		{".ima", "no certificate", ima.ContentKey, nil, false},
		{"kexec-cmdline", "root=/dev/dm-0 ro quiet", ima.ContentCommand, nil, true},
		{"kernel_version", "6.12.0-ward", ima.ContentText, nil, true},
		{"selinux-policy-hash", string(digest(7, 32)), ima.ContentDigest, nil, false},
		{"selinux-state", "initialized=1;enforcing=1;checkreqprot=0;network_peer_controls=1;", ima.ContentState,
			pairs("initialized", "1", "enforcing", "1", "checkreqprot", "0", "network_peer_controls", "1"), true},
		{"dm_table_load", `dm_version=4.45.0;name=ro\=ot\,\;\\,uuid=CRYPT-VERITY,major=253,minor=0,minor_count=1,num_targets=1;target_index=0,target_begin=0,target_len=8,target_name=verity,target_version=1.8.0,root_digest=0123ab;`, ima.ContentState,
			pairs("dm_version", "4.45.0", "name", `ro=ot,;\`, "uuid", "CRYPT-VERITY", "major", "253", "minor", "0", "minor_count", "1", "num_targets", "1", "target_index", "0", "target_begin", "0", "target_len", "8", "target_name", "verity", "target_version", "1.8.0", "root_digest", "0123ab"), true},
		{"dm_device_resume", "dm_version=4.45.0;name=root,uuid=,major=253,minor=0,minor_count=1,num_targets=1;active_table_hash=sha256:00ff;current_device_capacity=8;", ima.ContentState,
			pairs("dm_version", "4.45.0", "name", "root", "uuid", "", "major", "253", "minor", "0", "minor_count", "1", "num_targets", "1", "active_table_hash", "sha256:00ff", "current_device_capacity", "8"), true},
		{"kexec_load", "kexec_segment_size=8192;ima_binary_runtime_size=1000;ima_runtime_measurements_count=7;", ima.ContentState,
			pairs("kexec_segment_size", "8192", "ima_binary_runtime_size", "1000", "ima_runtime_measurements_count", "7"), true},
		{"kexec_execute", "kexec_segment_size=8192;ima_binary_runtime_size=1100;ima_runtime_measurements_count=8;", ima.ContentState,
			pairs("kexec_segment_size", "8192", "ima_binary_runtime_size", "1100", "ima_runtime_measurements_count", "8"), true},
		{"selinux-state", "a=b=c;no pair;=d", ima.ContentState, pairs("a", "b=c", "", "d"), true},
		{"selinux-state", "\xff\xfe", ima.ContentUnknown, nil, false},
		{"of-a-later-kernel", "\x00\x01", ima.ContentUnknown, nil, false},
		{"kexec-cmdline", strings.Repeat("x", 64<<10+1), ima.ContentUnknown, nil, false},
		{"dm_table_load", strings.Repeat("a=b;", 1025), ima.ContentState, nil, true},
	} {
		for form, list := range map[string][]byte{
			"binary": binaryList(binary.BigEndian, buffered(c.name, []byte(c.buffer))),
			"ascii":  asciiList(binary.LittleEndian, buffered(c.name, []byte(c.buffer))),
		} {
			e := decodeAll(t, list)[0]
			got, ok := e.Content()
			if !ok || got.Kind != c.kind || !got.Rehashes || !reflect.DeepEqual(got.Pairs, c.pairs) || (got.Text == c.buffer) != c.text || !e.Rehashes() {
				t.Errorf("%s, %s: %+v", form, c.name, got)
			}
			if isCertificate := c.buffer == string(certificate); isCertificate != (got.Certificate != nil) || isCertificate && got.Certificate.Subject.CommonName != "Test signer" {
				t.Errorf("%s, %s: certificate %v", form, c.name, got.Certificate)
			}
		}
	}
}

// A buffer that is not what was measured is told apart, whatever it says.
//
// Verifies: SR-004
func TestBufferThatDoesNotHashToItsDigest(t *testing.T) {
	for name, r := range map[string]record{
		"other buffer":             measured("ima-buf", "sha256", digest(1, 32), "kernel_version", []byte("6.1.0")),
		"unknown algorithm":        measured("ima-buf", "wp512", digest(1, 64), "kernel_version", []byte("6.1.0")),
		"digest of another length": measured("ima-buf", "sha256", digest(1, 20), "kernel_version", []byte("6.1.0")),
	} {
		e := decodeAll(t, binaryList(binary.LittleEndian, r))[0]
		if c, ok := e.Content(); !ok || c.Rehashes || c.Text != "6.1.0" {
			t.Errorf("%s: %+v", name, c)
		}
	}
	for _, r := range []record{measured("ima-ng", "sha256", digest(1, 32), "kernel_version"), measured("ima-buf", "sha256", digest(1, 32), "kernel_version", nil)} {
		if c, ok := decodeAll(t, binaryList(binary.LittleEndian, r))[0].Content(); ok {
			t.Errorf("%s has a content: %+v", r.template, c)
		}
	}
}

// Pitfall 9 of attestation: after a kexec the list holds one boot_aggregate for
// each kernel, and the record that the old kernel writes last; its loss can be
// told.
//
// Verifies: SR-004
func TestKexec(t *testing.T) {
	aggregate := func(fill byte) record { return measured("ima-ng", "sha256", digest(fill, 32), "boot_aggregate") }
	state := func(name string, count int) record {
		return buffered(name, fmt.Appendf(nil, "kexec_segment_size=8192;ima_binary_runtime_size=999;ima_runtime_measurements_count=%d;", count))
	}
	whole := []record{aggregate(1), state(ima.KexecLoad, 1), measured("ima-ng", "sha256", digest(9, 32), "/sbin/init"), state(ima.KexecExecute, 3), aggregate(1)}
	lost := append(append([]record{}, whole[:2]...), whole[4])
	for name, c := range map[string]struct {
		records    []record
		aggregates int
		executed   bool
	}{"whole": {whole, 2, true}, "lost": {lost, 2, false}} {
		aggregates, executed := 0, false
		for _, e := range decodeAll(t, binaryList(binary.LittleEndian, c.records...)) {
			if e.IsBootAggregate() {
				aggregates++
			}
			if content, ok := e.Content(); ok && content.Rehashes && e.Path == ima.KexecExecute {
				executed = content.Pairs[2].Value == "3"
			}
		}
		if aggregates != c.aggregates || executed != c.executed {
			t.Errorf("%s: %d boot_aggregates, executed %v", name, aggregates, executed)
		}
	}
}

// All fields of a template, in both byte orders.
//
// Verifies: SR-004
func TestFields(t *testing.T) {
	for _, order := range []bothOrders{binary.LittleEndian, binary.BigEndian} {
		for _, c := range templates(order) {
			e := decodeAll(t, binaryList(order, c.record))[0]
			fields := e.Fields()
			if len(fields) != len(c.record.fields) {
				t.Errorf("%s: %d fields, want %d", c.name, len(fields), len(c.record.fields))
				continue
			}
			for i, f := range fields {
				if !bytes.Equal(f.Bytes, c.record.fields[i]) || f.Name == "" {
					t.Errorf("%s: field %s is %x, want %x", c.name, f.Name, f.Bytes, c.record.fields[i])
				}
			}
			if e.BigEndian != (order == binary.BigEndian) {
				t.Errorf("%s: byte order", c.name)
			}
		}
		e := decodeAll(t, binaryList(order, evmsig(order)))[0]
		got, ok := e.Inode()
		want := ima.Inode{UID: 900, GID: 0, Mode: 0o100755, Attributes: []string{"security.ima", "security.capability"}}
		if !ok || !reflect.DeepEqual(got, want) || e.Field("sig") != nil {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got, ok := decodeAll(t, binaryList(order, measured("ima-ng", "sha256", digest(2, 32), "/a")))[0].Inode(); ok {
			t.Errorf("ima-ng has an inode: %+v", got)
		}
	}
	if f := decodeAll(t, binaryList(binary.LittleEndian, measured("ima-future", "sha256", digest(2, 32), "/a")))[0].Fields(); f != nil {
		t.Errorf("fields of an unknown template: %v", f)
	}
}
