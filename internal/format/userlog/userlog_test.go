package userlog_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"ward/internal/format/pcr"
	"ward/internal/format/userlog"
)

var update = flag.Bool("update", false, "write the golden files anew")

const boot = "5f2d1c8b0a4e4b7f9c3d6e1a2b3c4d5e"

// measured is a record as systemd writes it (tpm2-util.c): digests of two banks,
// the content in systemd's order, a separator before and a newline behind.
func measured(register int, event, text string, digest func(pcr.Algorithm) []byte) string {
	return fmt.Sprintf("\x1e"+`{"pcr":%d,"digests":[{"hashAlg":"sha1","digest":"%x"},{"hashAlg":"sha256","digest":"%x"}],"content_type":"systemd","content":{"string":%q,"bootId":"%s","timestamp":4711,"eventType":"%s"}}`+"\n",
		register, digest(pcr.SHA1), digest(pcr.SHA256), text, boot, event)
}

func hashed(text string) func(pcr.Algorithm) []byte {
	return func(a pcr.Algorithm) []byte { return a.Sum([]byte(text)) }
}

// fits gives the right digest of one algorithm alone.
func fits(text string, only pcr.Algorithm) func(pcr.Algorithm) []byte {
	return func(a pcr.Algorithm) []byte {
		if a == only {
			return a.Sum([]byte(text))
		}
		return a.Sum(nil)
	}
}

// volumeKey is HMAC(volume key, string).
func volumeKey(text string) func(pcr.Algorithm) []byte {
	return func(a pcr.Algorithm) []byte {
		h := hmac.New(a.New, []byte("the volume's key"))
		h.Write([]byte(text))
		return h.Sum(nil)
	}
}

func word(register int, event, text string) string {
	return measured(register, event, text, hashed(text))
}

// bootLog is what a boot with an encrypted root writes.
func bootLog() []byte {
	key := "cryptsetup:root:1e023a55-60f9-4b6b-9b80-67438dc5f065"
	nv := "nvpcr-init:hardware:0x1d10200:000b" + strings.Repeat("27", 32)
	product := "product-id:4691595be6a345f1833cc75fab63e475"
	return []byte(word(9, "nvpcr-init", nv) +
		fmt.Sprintf("\x1e"+`{"nv_index":30474752,"digests":[{"hashAlg":"sha256","digest":"%x"}],"content_type":"systemd","content":{"nvIndexName":"hardware","string":%q,"bootId":"%s","timestamp":4712,"eventType":"product-id"}}`+"\n", sha256.Sum256([]byte(product)), product, boot) +
		word(9, "nvpcr-separator", "nvpcr-separator") +
		word(11, "phase", "enter-initrd") +
		measured(15, "volume-key", key, volumeKey(key)) +
		word(11, "phase", "leave-initrd") +
		word(15, "machine-id", "machine-id:0123456789abcdef0123456789abcdef") +
		word(15, "filesystem", "file-system:/:ext4:6b1f:root:1234:4f68bce3:root") +
		word(11, "phase", "sysinit") +
		word(11, "phase", "ready"))
}

func parse(t *testing.T, b []byte) *userlog.Log {
	t.Helper()
	log, err := userlog.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// The log of a boot, as bytes and as what is read of it.
//
// Verifies: SR-003
func TestGolden(t *testing.T) {
	log := parse(t, bootLog())
	read, err := json.MarshalIndent(log, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{"testdata/boot.log": bootLog(), "testdata/boot.json": append(read, '\n')} {
		if *update {
			if err := os.WriteFile(name, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs:\n%s", name, got)
		}
	}
	if len(log.Anomalies) != 0 {
		t.Errorf("anomalies %v", log.Anomalies)
	}
}

// Each record says whether its string is what was measured.
//
// Verifies: SR-003
func TestStandings(t *testing.T) {
	log := parse(t, bootLog())
	if len(log.Records) != 10 {
		t.Fatalf("%d records", len(log.Records))
	}
	for i, r := range log.Records {
		want := userlog.Vouched
		if r.EventType == "volume-key" {
			want = userlog.Keyed
		}
		if r.Standing() != want || r.Describe() == "unknown event" || r.BootID != boot {
			t.Errorf("record %d, %s: %s, %q", i, *r.String, r.Standing(), r.Describe())
		}
	}
	if r := log.Records[1]; r.PCR != -1 || r.NVIndex != 0x1d10200 || r.Extends() {
		t.Errorf("got %+v", r)
	}
	for name, r := range map[string]string{
		"other string":      measured(11, "phase", "ready", hashed("sysinit")),
		"unknown event":     measured(11, "of-later", "x", hashed("y")),
		"sha1 alone fits":   measured(11, "phase", "ready", fits("ready", pcr.SHA1)),
		"sha256 alone fits": measured(11, "phase", "ready", fits("ready", pcr.SHA256)),
		"no string":         "\x1e" + `{"pcr":11,"digests":[{"hashAlg":"sha256","digest":"` + pcr.SHA256.Sum(nil).String() + `"}],"content_type":"systemd","content":{}}`,
		"another form":      "\x1e" + `{"recnum":1,"pcr":4,"digests":[{"hashAlg":"sha256","digest":"` + pcr.SHA256.Sum(nil).String() + `"}],"content_type":"pcclient_std","content":{"event_type":13,"event_data":"AA=="}}`,
		"bank not computed": "\x1e" + `{"pcr":11,"digests":[{"hashAlg":"sm3_256","digest":"` + strings.Repeat("00", 32) + `"}],"content_type":"systemd","content":{"string":"ready","eventType":"phase"}}`,
	} {
		log := parse(t, []byte(r))
		if len(log.Records) != 1 || log.Records[0].Standing() != userlog.Unvouched {
			t.Errorf("%s: %+v, anomalies %v", name, log.Records, log.Anomalies)
		}
		if name == "another form" && (log.Records[0].String != nil || string(log.Records[0].UntrustedContent) != `{"event_type":13,"event_data":"AA=="}`) {
			t.Errorf("%s: %+v", name, log.Records[0])
		}
	}
}

// Pitfall 2 of attestation: another event type under the same digest changes no
// register; where the string is vouched for, it decides.
//
// Verifies: SR-003
func TestEventTypeIsNotMeasured(t *testing.T) {
	log := parse(t, []byte(word(15, "phase", "machine-id:00")+word(15, "machine-id", "ready")+word(15, "phase", "own-phase")))
	if len(log.Anomalies) != 2 || log.Anomalies[0].Kind != userlog.TypeDiffers || log.Anomalies[1].Kind != userlog.TypeDiffers {
		t.Errorf("anomalies %v", log.Anomalies)
	}
	if got := log.Records[0].Describe(); got != "machine id" {
		t.Errorf("described as %q", got)
	}
}

// Pitfall 15 of attestation: user space extends PCR 9, 11 and 15 behind the
// firmware; without its log an honest machine looks wrong.
//
// Verifies: SR-003
func TestPitfall15UserSpaceGoesOnWhereFirmwareStopped(t *testing.T) {
	for _, a := range []pcr.Algorithm{pcr.SHA1, pcr.SHA256} {
		bank, err := pcr.NewBank(a)
		if err != nil {
			t.Fatal(err)
		}
		want := map[int]pcr.Digest{9: make(pcr.Digest, a.Size()), 11: make(pcr.Digest, a.Size()), 15: make(pcr.Digest, a.Size())}
		extend := func(i int, d pcr.Digest) { want[i] = a.Sum(append(bytes.Clone(want[i]), d...)) }
		for _, i := range []int{9, 11} { // the firmware's part
			if err := bank.Extend(i, a.Sum([]byte("firmware"))); err != nil {
				t.Fatal(err)
			}
			extend(i, a.Sum([]byte("firmware")))
		}
		log := parse(t, bootLog())
		for _, r := range log.Records {
			if r.PCR >= 0 {
				d, _ := r.Digest(a)
				extend(r.PCR, d)
			}
		}
		if err := log.Extend(bank); err != nil {
			t.Fatal(err)
		}
		for i, w := range want {
			if !bytes.Equal(bank.Value(i), w) {
				t.Errorf("%s PCR %d: %s, want %s", a, i, bank.Value(i), w)
			}
		}
		if len(bank.Values()) != 3 {
			t.Errorf("registers %v", bank.Values())
		}
	}
	bank, _ := pcr.NewBank(pcr.SHA384)
	if err := parse(t, bootLog()).Extend(bank); err == nil || len(bank.Values()) != 0 {
		t.Errorf("a bank without a digest was extended, error %v", err)
	}
	if err := parse(t, nil).Extend(bank); err != nil {
		t.Errorf("a log without records: %v", err)
	}
}

// Every way in which a log breaks the rules, with the records that are read.
//
// Verifies: SR-003
func TestAnomalies(t *testing.T) {
	good := word(11, "phase", "ready")
	d := func(alg string, size int) string {
		return `{"hashAlg":"` + alg + `","digest":"` + strings.Repeat("ab", size) + `"}`
	}
	record := func(fields string) string { return "\x1e{" + fields + "}\n" }
	both := d("sha1", 20) + "," + d("sha256", 32)
	for _, c := range []struct {
		name    string
		log     string
		kind    userlog.AnomalyKind
		index   int
		records int
	}{
		{"cut", good + good[:len(good)-40], userlog.Truncated, 1, 1},
		{"cut after the separator", good + "\x1e", userlog.Truncated, 1, 1},
		{"cut at the last bracket", good + good[:len(good)-2], userlog.Truncated, 1, 1},
		{"no JSON between", good + "\x1e{\"pcr\":}\n" + good, userlog.Malformed, 1, 2},
		{"no object", good + "\x1e[1]\n", userlog.Malformed, 1, 1},
		{"text before", "x" + good, userlog.Malformed, -1, 1},
		{"NUL", good + "\x1e\x00" + good, userlog.Malformed, 1, 2},
		{"not UTF-8", good + record(`"pcr":11,"digests":[`+both+`],"x":"`+"\xff"+`"`), userlog.Malformed, 1, 1},
		{"name twice", good + record(`"pcr":11,"pcr":12,"digests":[`+both+`]`), userlog.Malformed, 1, 1},
		{"name twice, escaped", good + record(`"pcr":11,"\u0070cr":12,"digests":[`+both+`]`), userlog.Malformed, 1, 1},
		{"name twice in a digest", good + record(`"pcr":11,"digests":[{"hashAlg":"sha1","hashAlg":"sha256","digest":"00"}]`), userlog.Malformed, 1, 1},
		{"name twice in the content", good + record(`"pcr":11,"digests":[`+both+`],"content_type":"systemd","content":{"string":"a","string":"b"}`), userlog.Malformed, 1, 1},
		{"too deep", good + record(`"pcr":11,"digests":[`+both+`],"content":`+strings.Repeat("[", 16)+strings.Repeat("]", 16)), userlog.Malformed, 1, 1},
		{"very deep", good + record(`"pcr":11,"digests":`+strings.Repeat("[", 30000)+strings.Repeat("]", 30000)), userlog.Malformed, 1, 1},
		{"too long", good + record(`"pcr":11,"digests":[`+both+`],"x":"`+strings.Repeat("x", 64<<10)+`"`), userlog.Malformed, 1, 1},
		{"huge number", good + record(`"pcr":1e400,"digests":[`+both+`]`), userlog.Malformed, 1, 1},
		{"number of 40 digits", good + record(`"pcr":`+strings.Repeat("9", 40)+`,"digests":[`+both+`]`), userlog.Malformed, 1, 1},
		{"negative PCR", good + record(`"pcr":-1,"digests":[`+both+`]`), userlog.Malformed, 1, 1},
		{"PCR as text", good + record(`"pcr":"11","digests":[`+both+`]`), userlog.Malformed, 1, 1},
		{"no register", good + record(`"digests":[`+both+`]`), userlog.Malformed, 1, 1},
		{"two registers", good + record(`"pcr":11,"nv_index":1,"digests":[`+both+`]`), userlog.Malformed, 1, 1},
		{"no digests", good + record(`"pcr":11`), userlog.Malformed, 1, 1},
		{"digests are an object", good + record(`"pcr":11,"digests":{}`), userlog.Malformed, 1, 1},
		{"17 digests", good + record(`"pcr":11,"digests":[`+strings.Repeat(d("x", 1)+",", 16)+d("x", 1)+`]`), userlog.UnknownAlgorithm, 1, 1},
		{"content is a number", good + record(`"pcr":11,"digests":[`+both+`],"content_type":"systemd","content":7`), userlog.Malformed, 1, 1},
		{"timestamp", good + record(`"pcr":11,"digests":[`+both+`],"content_type":"systemd","content":{"timestamp":1.5}`), userlog.Malformed, 1, 1},
		{"PCR 24", good + record(`"pcr":24,"digests":[`+both+`]`), userlog.PCROutOfRange, 1, 2},
		{"no digest of sha256", good + record(`"pcr":11,"digests":[`+d("sha1", 20)+`]`), userlog.DigestMissing, 1, 2},
		{"two digests of sha1", good + record(`"pcr":11,"digests":[`+both+","+d("sha1", 20)+`]`), userlog.DigestRepeated, 1, 2},
		{"digest too short", good + record(`"pcr":11,"digests":[`+d("sha1", 20)+","+d("sha256", 31)+`]`), userlog.DigestMalformed, 1, 2},
		{"unknown algorithm", good + record(`"pcr":11,"digests":[`+both+","+d("sha3-256", 32)+`]`), userlog.UnknownAlgorithm, 1, 2},
		{"another boot", good + strings.Replace(good, boot, strings.Repeat("0", 32), 1), userlog.BootDiffers, 1, 2},
		{"too many records", strings.Repeat("\x1e{}", 1<<14) + good, userlog.TooMany, -1, 0},
	} {
		log := parse(t, []byte(c.log))
		found := false
		for _, a := range log.Anomalies {
			found = found || a.Kind == c.kind && a.Index == c.index && a.Detail != "" && !strings.Contains(a.Detail, "\n") && a.Offset <= int64(len(c.log))
		}
		if !found || len(log.Records) != c.records {
			t.Errorf("%s: %d records, anomalies %v; want %d and %s of record %d", c.name, len(log.Records), log.Anomalies, c.records, c.kind, c.index)
		}
		if len(log.Anomalies) > 256 {
			t.Errorf("%s: %d anomalies", c.name, len(log.Anomalies))
		}
	}
}

// What a reader may meet in an honest log.
func TestHonestOddities(t *testing.T) {
	spaced := strings.NewReplacer(`":`, `" : `, `,"`, " ,\n \"").Replace(word(11, "phase", "ready"))
	for name, log := range map[string]string{
		"no newline at the end": strings.TrimSuffix(word(11, "phase", "ready"), "\n"),
		"spaces":                spaced,
		"escaped":               strings.Replace(word(11, "phase", "ready"), `"ready"`, `"\u0072eady"`, 1),
	} {
		l := parse(t, []byte(log))
		if len(l.Records) != 1 || len(l.Anomalies) != 0 || l.Records[0].Standing() != userlog.Vouched {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

func TestNotALog(t *testing.T) {
	for _, b := range []string{"x", `{"pcr":11}`, "[]\n", "\x00"} {
		if _, err := userlog.Parse([]byte(b)); !errors.Is(err, userlog.ErrFormat) {
			t.Errorf("%q: %v", b, err)
		}
	}
}

// A log that was cut anywhere keeps the records before the cut and says so.
//
// Verifies: SR-003
func TestCutAnywhere(t *testing.T) {
	whole := bootLog()
	for cut := 1; cut < len(whole); cut++ {
		log := parse(t, whole[:cut])
		begun := bytes.Count(whole[:cut], []byte("\x1e"))
		truncated := len(log.Anomalies) > 0 && log.Anomalies[len(log.Anomalies)-1].Kind == userlog.Truncated
		if truncated && len(log.Records) != begun-1 || !truncated && len(log.Records) != begun {
			t.Fatalf("cut at %d: %d records of %d, anomalies %v", cut, len(log.Records), begun, log.Anomalies)
		}
	}
}
