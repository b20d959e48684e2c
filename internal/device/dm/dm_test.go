package dm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const (
	root   = "4e1243bd22c66e76c2ba9eddc1f91394e57f9f83e5b0b2d6d0b0a1c3f0a1b2c3"
	salt   = "aee087a5be3b982978c923f566a94613496b417f2af592639bc80d141e34dfe7"
	verity = "1 253:0 253:1 4096 4096 262144 1 sha256 " + root + " " + salt
	key    = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00"
)

// disk is a mapped device of the kernel that answers in tests.
type disk struct {
	number     uint64
	name, uuid string
	targets    [][2]string
	gone       bool
}

// kernel answers as drivers/md/dm-ioctl.c does: struct dm_name_list with the name
// behind device and offset, aligned to 8; struct dm_target_spec with offsets from the
// first. It keeps the buffers.
type kernel struct {
	disks   []disk
	buffers [][]byte
	asked   []string
}

func align(b []byte) []byte {
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	return b
}

func (k *kernel) ioctl(request uint, buffer []byte) error {
	e := binary.NativeEndian
	k.buffers = append(k.buffers, buffer)
	if e.Uint32(buffer) != 4 || int(e.Uint32(buffer[12:])) != len(buffer) {
		return unix.EINVAL
	}
	var content []byte
	switch request {
	case unix.DM_LIST_DEVICES:
		k.asked = append(k.asked, "list")
		for i, d := range k.disks {
			one := e.AppendUint64(nil, d.number)
			one = e.AppendUint32(one, 0)
			one = align(append(append(one, d.name...), 0))
			one = align(e.AppendUint32(one, 7)) // the event's number, which newer kernels put behind
			if i+1 < len(k.disks) {
				e.PutUint32(one[8:], uint32(len(one)))
			}
			content = append(content, one...)
		}
		if len(k.disks) == 0 {
			content = make([]byte, 16)
		}
	case unix.DM_TABLE_STATUS:
		number := e.Uint64(buffer[40:])
		k.asked = append(k.asked, fmt.Sprintf("table %d", number))
		if e.Uint32(buffer[28:])&unix.DM_STATUS_TABLE_FLAG == 0 {
			return unix.EINVAL // it would be the state
		}
		for _, d := range k.disks {
			if d.number != number {
				continue
			}
			if d.gone {
				return unix.ENXIO
			}
			for _, t := range d.targets {
				at := len(content)
				content = e.AppendUint64(content, uint64(at))
				content = e.AppendUint64(content, 8)
				content = append(content, make([]byte, 24)...)
				copy(content[at+24:at+40], t[0])
				content = align(append(append(content, t[1]...), 0))
				e.PutUint32(content[at+20:], uint32(len(content)))
			}
			copy(buffer[176:], d.uuid)
			e.PutUint32(buffer[20:], uint32(len(d.targets)))
		}
	default:
		return unix.ENOTTY
	}
	e.PutUint32(buffer[16:], 312)
	if 312+len(content) > len(buffer) {
		e.PutUint32(buffer[28:], unix.DM_BUFFER_FULL_FLAG)
		return nil
	}
	e.PutUint32(buffer[12:], uint32(312+copy(buffer[312:], content)))
	return nil
}

func read(k *kernel) ([]Table, error) {
	return tables(k.ioctl, func(device uint64) uint64 { return device + 100 })
}

// Tables are read with their targets in order; a device that goes away meanwhile is
// left out, and no key of a volume is kept or stays in memory.
//
// Verifies: SR-098
func TestTables(t *testing.T) {
	k := &kernel{disks: []disk{
		{number: 1, name: "ward-root", uuid: "CRYPT-VERITY-1-ward-root", targets: [][2]string{{"verity", verity + " 1 panic_on_corruption"}}},
		{number: 2, name: "ward-data", uuid: "CRYPT-LUKS2-2-ward-data", targets: [][2]string{{"crypt", "aes-xts-plain64 " + key + " 0 179:3 32768 1 allow_discards"}}},
		{number: 3, name: "ring", uuid: "CRYPT-LUKS2-3-ring", targets: [][2]string{{"crypt", "aes-xts-plain64 :64:logon:cryptsetup:3 0 179:4 0"}}},
		{number: 4, name: "two", targets: [][2]string{{"linear", "179:5 0"}, {"integrity", "179:6 0 32 J 1 internal_hash:hmac(sha256):" + key}}},
		{number: 5, name: "gone", gone: true},
		{number: 6, name: "short", targets: [][2]string{{"crypt", key}}},
		{number: 7, name: "empty"},
	}}
	got, err := read(k)
	if err != nil {
		t.Fatal(err)
	}
	want := []Table{
		{"ward-root", "CRYPT-VERITY-1-ward-root", 101, 0, 8, "verity", verity + " 1 panic_on_corruption"},
		{"ward-data", "CRYPT-LUKS2-2-ward-data", 102, 0, 8, "crypt", "aes-xts-plain64 * 0 179:3 32768 1 allow_discards"},
		{"ring", "CRYPT-LUKS2-3-ring", 103, 0, 8, "crypt", "aes-xts-plain64 * 0 179:4 0"},
		{"two", "", 104, 0, 8, "linear", "179:5 0"}, {"two", "", 104, 48, 8, "integrity", ""},
		{"short", "", 106, 0, 8, "crypt", ""},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for i, b := range k.buffers {
		if bytes.Contains(b, []byte(key[:16])) {
			t.Errorf("a key stays in buffer %d", i)
		}
	}
	if got, err := read(&kernel{}); len(got) != 0 || err != nil {
		t.Errorf("no devices: %v, %v", got, err)
	}
}

// An answer that does not fit is asked for again, up to a bound.
//
// Verifies: SR-098
func TestLongAnswers(t *testing.T) {
	long := &kernel{disks: []disk{{number: 1, name: "many"}}}
	for range 1000 {
		long.disks[0].targets = append(long.disks[0].targets, [2]string{"linear", strings.Repeat("1", 100)})
	}
	// the list, and 16, 64 and 256 KiB for the table
	if got, err := read(long); err != nil || len(got) != 1000 || len(long.buffers) != 4 {
		t.Errorf("%d tables after %d requests, %v", len(got), len(long.buffers), err)
	}
	long.disks[0].targets = append(long.disks[0].targets, [2]string{"linear", strings.Repeat("1", 2<<20)})
	if _, err := read(long); err == nil {
		t.Error("an answer of 2 MiB is read")
	}
	many := &kernel{}
	for i := range maxDevices + 1 {
		many.disks = append(many.disks, disk{number: uint64(i + 1), name: "x"})
	}
	if _, err := read(many); !errors.Is(err, errAnswer) {
		t.Errorf("too many devices: %v", err)
	}
	if _, err := tables(func(uint, []byte) error { return unix.EPERM }, nil); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("refused: %v", err)
	}
}

// The bytes of an answer, laid out by hand after linux/dm-ioctl.h on a little-endian
// machine.
func TestGoldenBytes(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the golden bytes are little-endian")
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	list := unhex("01fd000000000000 18000000 726f6f7400 00000000000000 02fd000000000000 00000000 6400 0000")
	if got, err := parseList(list); err != nil || fmt.Sprint(got) != "[{64769 root} {64770 d}]" {
		t.Errorf("%v, %v", got, err)
	}
	table := unhex("0000000000000000 0800000000000000 00000000 30000000 6c696e65617200000000000000000000 383a3120300000 00")
	want := Table{Length: 8, Target: "linear", Params: "8:1 0"}
	if got, err := parseTable(table, 1); err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("%+v, %v", got, err)
	}
	// As the virtual device's kernel answers: the offset behind the last target is
	// aligned, and the padding is not there.
	for cut := range alignment {
		got, err := parseTable(table[:len(table)-cut], 1)
		if cut < 2 && (err != nil || len(got) != 1 || got[0] != want) || err == nil && len(got) != 1 {
			t.Errorf("%d bytes of padding are not there: %+v, %v", cut, got, err)
		}
	}
	ask := make([]byte, 320)
	newRequest(ask, 0xfd01)
	if got := hex.EncodeToString(ask[:48]); got != "040000000000000000000000"+"40010000"+"38010000"+"00000000"+"00000000"+"10800000"+"0000000000000000"+"01fd000000000000" {
		t.Error(got)
	}
	// Offsets that lead nowhere.
	for name, bad := range map[string]string{
		"the next device is this one": "01fd000000000000 01000000 7200", "the next device is far away": "01fd000000000000 ffffffff 7200",
		"a list that is cut": "01fd0000000000", "half a device behind": "01fd000000000000 0e000000 7200 01",
	} {
		if got, err := parseList(unhex(bad)); !errors.Is(err, errAnswer) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, next := range []uint32{0, 39, uint32(len(table) + 1), 1 << 31} {
		b := bytes.Clone(table)
		binary.LittleEndian.PutUint32(b[20:], next)
		if got, err := parseTable(b, 1); !errors.Is(err, errAnswer) {
			t.Errorf("next at %d: %v, %v", next, got, err)
		}
	}
	for _, targets := range []uint32{2, maxTargets, maxTargets + 1, 1 << 31} {
		if got, err := parseTable(table, targets); !errors.Is(err, errAnswer) {
			t.Errorf("%d targets: %v, %v", targets, got, err)
		}
	}
}

// Verifies: SR-098
func TestParseVerity(t *testing.T) {
	for params, want := range map[string]string{
		verity: "sha256:" + root,
		verity + " 3 restart_on_corruption ignore_zero_blocks check_at_most_once":                              "sha256:" + root + " check_at_most_once ignore_zero_blocks restart_on_corruption",
		verity + " 10 use_fec_from_device 253:2 fec_blocks 9 fec_start 1 fec_roots 2 root_hash_sig_key_desc k": "sha256:" + root + " fec signed",
		"0 8:1 8:2 512 512 8 0 sha1 00ff -":                                                                    "sha1:00ff",
	} {
		if v, err := ParseVerity(params); err != nil || v.String() != want {
			t.Errorf("%s: %s, %v", params, v, err)
		}
	}
	for _, bad := range []string{
		"", "1", verity[:len(verity)-len(salt)-1], "2" + verity[1:], strings.Replace(verity, "4096", "x", 1), strings.Replace(verity, root, "0g", 1),
		strings.Replace(verity, root, "-", 1), strings.Replace(verity, root, strings.Repeat("00", 65), 1), strings.Replace(verity, salt, "0", 1),
		strings.Replace(verity, salt, strings.Repeat("00", 257), 1), verity + " 2 panic_on_corruption", verity + " x", verity + " -1", verity + " 1 fec_roots",
		verity + strings.Repeat(" ", 5000),
	} {
		if v, err := ParseVerity(bad); !errors.Is(err, errVerity) || v.Algorithm != "" {
			t.Errorf("%.100q is read as %s, %v", bad, v, err)
		}
	}
}

// FuzzAnswer reads any answer and any parameters: no panic, no key.
//
// Verifies: SR-098
func FuzzAnswer(f *testing.F) {
	k := &kernel{disks: []disk{{number: 1, name: "r", uuid: "u", targets: [][2]string{{"verity", verity}, {"crypt", "c k 0 8:1 0"}}}}}
	if _, err := read(k); err != nil {
		f.Fatal(err)
	}
	for _, b := range k.buffers {
		f.Add(b[:1024])
	}
	f.Add([]byte(verity))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = ParseVerity(string(b))
		answers := 0
		got, err := tables(func(_ uint, buffer []byte) error {
			if answers++; answers > 3*maxDevices {
				t.Fatal("it asks without end")
			}
			copy(buffer, b)
			return nil
		}, func(uint64) uint64 { return 0 })
		if err != nil && got != nil {
			t.Error("tables and an error")
		}
		for _, g := range got {
			if f := strings.SplitN(g.Params, " ", 3); g.Target == "crypt" && g.Params != "" && f[1] != keyBlank {
				t.Errorf("a key: %q", g.Params)
			}
		}
	})
}

// TestKernelsOwnDeviceMapper maps a file with veritysetup and reads its table.
func TestKernelsOwnDeviceMapper(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("want root")
	}
	for _, tool := range []string{"veritysetup", "losetup"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("want " + tool)
		}
	}
	if _, err := Tables(); errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, fs.ErrPermission) {
		t.Skipf("this kernel has no device mapper: %v", err)
	}
	dir := t.TempDir()
	data, tree := filepath.Join(dir, "data"), filepath.Join(dir, "tree")
	if err := os.WriteFile(data, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v: %s", name, args, err, out)
		}
		return string(out)
	}
	var hash string
	for line := range strings.Lines(run("veritysetup", "format", data, tree)) {
		if value, ok := strings.CutPrefix(line, "Root hash:"); ok {
			hash = strings.TrimSpace(value)
		}
	}
	name := fmt.Sprintf("ward-test-%d", os.Getpid())
	run("veritysetup", "open", "--panic-on-corruption", data, name, tree, hash)
	defer run("veritysetup", "close", name)
	all, err := Tables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range all {
		if table.Name != name {
			continue
		}
		v, err := ParseVerity(table.Params)
		if err != nil || v.String() != "sha256:"+hash+" panic_on_corruption" {
			t.Errorf("%s, %v", v, err)
		}
		return
	}
	t.Errorf("no %s among %+v", name, all)
}
