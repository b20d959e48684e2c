package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Type is the kind of a record, as include/uapi/linux/audit.h and libaudit number
// them.
type Type uint16

// Types that matter here. Those of processes lie from 1100 to 1199, their anomalies
// from 2100 to 2199, the kernel's anomalies from 1700 to 1799.
const (
	UserAuth          Type = 1100 // a password or key was asked for
	UserMgmt          Type = 1102
	UserStart         Type = 1105
	UserEnd           Type = 1106
	UserChauthtok     Type = 1108 // a password was changed
	UserLogin         Type = 1112
	UserLogout        Type = 1113
	AddUser           Type = 1114
	DelUser           Type = 1115
	AddGroup          Type = 1116
	DelGroup          Type = 1117
	UserCmd           Type = 1123 // sudo ran a command
	GroupAuth         Type = 1126
	GroupMgmt         Type = 1132
	AnomPromiscuous   Type = 1700
	AnomAbend         Type = 1701 // a program was ended by a signal
	AnomLoginFailures Type = 2100
	AnomLoginTime     Type = 2101
	AnomLoginSessions Type = 2102
	AnomLoginAccount  Type = 2103
	AnomLoginLocation Type = 2104
)

// Anomaly says whether the sender itself calls the record an anomaly.
func (t Type) Anomaly() bool { return t >= 1700 && t < 1800 || t >= 2100 && t < 2200 }

// Bounds of a record: MAX_AUDIT_MESSAGE_LENGTH of the kernel is 8970 bytes.
const (
	// MaxSize of a message, its head included.
	MaxSize = 9 << 10
	// maxFields of a record; those of a login have some fifteen.
	maxFields = 64
	// maxText bounds a value that is kept.
	maxText = 256
	headLen = 16 // struct nlmsghdr
)

// None is the number of a user or session that is not set, (uid_t)-1.
const None = 1<<32 - 1

// Record is one that matters. Texts are untrusted: whoever tries to log in chooses
// the account's name. The command that was run, the addresses and host names that a
// record may hold are not read.
type Record struct {
	Type    Type
	Serial  uint64
	Time    time.Time // the wall clock of the kernel
	PID     uint32    // of the process that sent it, or did it
	AUID    uint32    // the user who logged in, None before
	Session uint32    // None outside of one
	Success bool

	UntrustedAccount  string // acct; with id alone "uid 1000"
	UntrustedProgram  string // exe
	UntrustedTerminal string // "ssh", "/dev/tty1", "pts/0"
	Remote            bool   // it came over a network
	Ended             bool   // of AnomPromiscuous: an interface takes its own frames alone again
}

// ErrForm: the bytes are no record of the kernel's audit.
var ErrForm = errors.New("not an audit record")

// Parse reads a message of the multicast group: struct nlmsghdr, then
// "audit(seconds.milliseconds:serial): " and fields. Of processes' records the fields
// within msg='…' count beside those before it, which are the kernel's own and cannot
// be forged: the first of a name holds. False: the type is none that matters.
func Parse(b []byte) (Record, bool, error) {
	if len(b) < headLen || len(b) > MaxSize {
		return Record{}, false, fmt.Errorf("parse audit record: %d bytes, want %d to %d: %w", len(b), headLen, MaxSize, ErrForm)
	}
	// The length was once written without the head (kernel/audit.c).
	if n := int(binary.NativeEndian.Uint32(b)); n > len(b) || n < len(b)-headLen-3 {
		return Record{}, false, fmt.Errorf("parse audit record: the head says %d bytes, there are %d: %w", n, len(b), ErrForm)
	}
	t := Type(binary.NativeEndian.Uint16(b[4:]))
	if (t < 1100 || t >= 1200) && !t.Anomaly() {
		return Record{}, false, nil
	}
	r, err := parseText(strings.TrimRight(string(b[headLen:]), "\x00\n"))
	if err != nil {
		return Record{}, false, err
	}
	r.Type = t
	return r, true, nil
}

func parseText(s string) (Record, error) {
	stamp, rest, ok := strings.Cut(strings.TrimPrefix(s, "audit("), "): ")
	if !ok || !strings.HasPrefix(s, "audit(") {
		return Record{}, fmt.Errorf("parse audit record: begins with %.40q, want audit(time:serial): %w", s, ErrForm)
	}
	when, serial, ok := strings.Cut(stamp, ":")
	seconds, millis, ok2 := strings.Cut(when, ".")
	sec, err1 := strconv.ParseInt(seconds, 10, 48)
	ms, err2 := strconv.ParseUint(millis, 10, 10)
	n, err3 := strconv.ParseUint(serial, 10, 64)
	if !ok || !ok2 || errors.Join(err1, err2, err3) != nil || sec < 0 {
		return Record{}, fmt.Errorf("parse audit record: time %.40q, want seconds.milliseconds:serial: %w", stamp, ErrForm)
	}
	r := Record{Serial: n, Time: time.UnixMilli(sec*1000 + int64(min(ms, 999))).UTC(), AUID: None, Session: None}
	return r, r.fields(rest)
}

// fields reads key=value; a text is "in quotes", or bare, or in hexadecimal digits
// when it holds what a line cannot (audit_log_untrustedstring).
func (r *Record) fields(s string) error {
	seen := make(map[string]bool)
	id := ""
	for n := 0; ; n++ {
		s = strings.TrimLeft(s, " ,'\x1d") // 0x1d comes before what auditd itself adds
		s = strings.TrimPrefix(s, "msg='") // the fields of the process
		if s == "" {
			break
		}
		if n == maxFields {
			return fmt.Errorf("parse audit record: more than %d fields: %w", maxFields, ErrForm)
		}
		var key, value string
		var quoted bool
		key, value, quoted, s = field(s)
		if seen[key] {
			continue
		}
		seen[key] = true
		switch key {
		case "pid":
			r.PID = number(value)
		case "auid":
			r.AUID = number(value)
		case "ses":
			r.Session = number(value)
		case "res":
			r.Success = value == "success" || value == "yes" || value == "1"
		case "acct":
			r.UntrustedAccount = text(value, quoted)
		case "prom":
			r.Ended = value == "0"
		case "id":
			id = "uid " + value
		case "exe":
			r.UntrustedProgram = text(value, quoted)
		case "terminal":
			r.UntrustedTerminal = text(value, quoted)
		case "addr":
			r.Remote = value != "?" && value != ""
		}
	}
	if r.UntrustedAccount == "" && id != "uid " {
		r.UntrustedAccount = bounded(id)
	}
	return nil
}

// field takes the first field off a text. What has no '=' is a field without a value.
func field(s string) (key, value string, quoted bool, rest string) {
	end := strings.IndexByte(s, ' ')
	eq := strings.IndexByte(s, '=')
	if eq < 0 || end >= 0 && end < eq {
		key, rest, _ = strings.Cut(s, " ")
		return key, "", false, rest
	}
	key, s = s[:eq], s[eq+1:]
	if text, ok := strings.CutPrefix(s, `"`); ok {
		value, rest, _ = strings.Cut(text, `"`)
		return key, value, true, rest
	}
	value, rest, _ = strings.Cut(s, " ")
	return key, strings.TrimRight(value, "'"), false, rest
}

func number(s string) uint32 {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return None
	}
	return uint32(n)
}

// text decodes a value. Bare words that are not hexadecimal, as "?" and pts/0, are
// what they are.
func text(s string, quoted bool) string {
	if quoted || len(s)%2 != 0 || len(s) == 0 || strings.Trim(s, "0123456789ABCDEF") != "" {
		if s == "?" {
			return ""
		}
		return bounded(s)
	}
	b := make([]byte, 0, min(len(s)/2, maxText))
	for i := 0; i+1 < len(s) && len(b) < maxText; i += 2 {
		n, _ := strconv.ParseUint(s[i:i+2], 16, 8)
		b = append(b, byte(n))
	}
	return strings.ToValidUTF8(string(b), "\ufffd")
}

func bounded(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxText)], "\ufffd") }
