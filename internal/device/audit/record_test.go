package audit

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the readings of testdata anew")

// datagram makes a message as the kernel's multicast has it.
func datagram(t Type, text string) []byte {
	b := make([]byte, headLen, headLen+len(text)+1)
	binary.NativeEndian.PutUint16(b[4:], uint16(t))
	b = append(append(b, text...), 0)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

func lines(t testing.TB) [][]byte {
	t.Helper()
	all, err := os.ReadFile("testdata/records.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for line := range strings.Lines(string(all)) {
		kind, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseUint(kind, 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, datagram(Type(n), text))
	}
	return out
}

// Records in the kernel's form, as sshd, login, su, sudo and useradd send them and the
// kernel itself, read as they always did.
//
// Verifies: SR-101
func TestGolden(t *testing.T) {
	var got strings.Builder
	for _, b := range lines(t) {
		r, ok, err := Parse(b)
		if err != nil || !ok {
			t.Fatalf("%s: %v, %v", b, ok, err)
		}
		line, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%s\n", line)
	}
	const golden = "testdata/records.json"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || got.String() != string(want) {
		t.Errorf("read as\n%s\nwant\n%s\nerror %v", got.String(), want, err)
	}
	for _, secret := range []string{"cat patients", "6361742070617469656E7473", "10.1.2.3", "192.0.2.7", "/home/anna"} {
		if strings.Contains(got.String(), secret) {
			t.Errorf("%q was read, and is nobody's business", secret)
		}
	}
}

func TestPitfallsOfRecords(t *testing.T) {
	const good = `audit(1.002:3): pid=1 ses=2 msg='op=login acct="root" terminal=ssh res=success'`
	short := datagram(UserLogin, good)
	binary.NativeEndian.PutUint32(short, uint32(len(short)-headLen)) // as older kernels wrote it
	for name, b := range map[string][]byte{"a good one": datagram(UserLogin, good), "a length without the head": short} {
		if r, ok, err := Parse(b); err != nil || !ok || r.UntrustedAccount != "root" || !r.Success || r.Serial != 3 || r.Session != 2 || r.Time.UnixMilli() != 1002 {
			t.Errorf("%s: %+v, %v, %v", name, r, ok, err)
		}
	}
	long := datagram(UserLogin, good)
	binary.NativeEndian.PutUint32(long, uint32(len(long)+1))
	none := datagram(UserLogin, good)
	binary.NativeEndian.PutUint32(none, 0)
	for name, b := range map[string][]byte{
		"nothing":              nil,
		"half a head":          datagram(UserLogin, good)[:15],
		"no text":              datagram(UserLogin, ""),
		"more than there is":   long,
		"no length":            none,
		"no stamp":             datagram(UserLogin, "pid=1 res=success"),
		"no end of the stamp":  datagram(UserLogin, "audit(1.002:3 pid=1"),
		"no serial":            datagram(UserLogin, "audit(1.002): pid=1"),
		"time before 1970":     datagram(UserLogin, "audit(-1.002:3): pid=1"),
		"time behind the ages": datagram(UserLogin, "audit(99999999999999999999.002:3): pid=1"),
		"too many fields":      datagram(UserLogin, "audit(1.002:3): "+strings.Repeat("a=b ", maxFields+1)),
		"too long":             datagram(UserLogin, good+strings.Repeat(" ", MaxSize)),
	} {
		if r, ok, err := Parse(b); err == nil {
			t.Errorf("%s reads as %+v, %v", name, r, ok)
		}
	}
	for name, row := range map[string]struct{ text, account, terminal string }{
		"a forged end":       {`msg='acct="root' res=success'" terminal=ssh res=failed'`, "root' res=success'", "ssh"}, // the quote ends the text
		"an open quote":      {`msg='acct="root`, "root", ""},
		"twice":              {`msg='acct="a" acct="root" terminal=ssh terminal=tty1 res=failed'`, "a", "ssh"},
		"nobody":             {`msg='acct=? terminal=?'`, "", ""},
		"an id":              {`msg='id=1000 terminal=cron'`, "uid 1000", "cron"},
		"hex":                {`msg='acct=726F6F7400FF terminal=ssh'`, "root\x00\ufffd", "ssh"},
		"a word without '='": {`op acct="root"`, "root", ""},
		"a name of any size": {`acct="` + strings.Repeat("x", 5000) + `"`, strings.Repeat("x", maxText), ""},
		"hex of any size":    {`acct=` + strings.Repeat("41", 2000), strings.Repeat("A", maxText), ""},
		"fields of auditd":   {"acct=\"root\"\x1dAUID=\"unset\"", "root", ""},
	} {
		r, ok, err := Parse(datagram(UserLogin, "audit(1.002:3): "+row.text))
		if err != nil || !ok || r.UntrustedAccount != row.account || r.UntrustedTerminal != row.terminal || r.Success {
			t.Errorf("%s: %+v, %v, %v", name, r, ok, err)
		}
	}
	for _, kind := range []Type{1006, 1300, 1327, 1400, 2000} {
		if _, ok, err := Parse(datagram(kind, "what it may be")); ok || err != nil {
			t.Errorf("type %d matters: %v, %v", kind, ok, err)
		}
	}
}

// No bytes make the parser panic, and what it keeps is bounded.
func FuzzParse(f *testing.F) {
	for _, b := range lines(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ok, err := Parse(b)
		if err != nil || !ok {
			return
		}
		for _, s := range []string{r.UntrustedAccount, r.UntrustedProgram, r.UntrustedTerminal} {
			if len(s) > 3*maxText || strings.ToValidUTF8(s, "") != s {
				t.Errorf("kept %q", s)
			}
		}
	})
}

// The socket opens with the privilege and says what is missing without it; it ends with
// its reader.
func TestOpen(t *testing.T) {
	c, err := Open()
	if err != nil {
		if !strings.Contains(err.Error(), "CAP_AUDIT_READ") && !strings.Contains(err.Error(), "CONFIG_AUDIT") {
			t.Errorf("the error does not say what is missing: %v", err)
		}
		t.Skip(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	for {
		_, err := c.Receive(ctx, func() {})
		if errors.Is(err, context.Canceled) {
			return
		}
		if err != nil && !errors.Is(err, ErrLost) {
			t.Fatal(err)
		}
	}
}
