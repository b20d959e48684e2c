// Package control is the language of the channel between the lab and the init
// of a virtual device: JSON values, one a line, over a virtio serial port
// (virtio 1.2, section 5.3). The host sends requests and the guest answers each
// with one response of the same ID, in any order. When the device is up, the
// guest sends one ready line unasked. The channel exists only in virtual
// devices; nothing of it is shipped.
package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// PortName is the name by which the guest finds the virtio serial port.
const PortName = "org.ward.control"

// Bounds of the channel. A line holds base64, so the largest file that fits is
// about three quarters of MaxLine.
const (
	MaxLine = 24 << 20 // bytes of one request or response
	MaxFile = 16 << 20 // bytes of one file or output stream
)

// ErrTooLong says that a line exceeded MaxLine.
var ErrTooLong = errors.New("control line too long")

// A Request asks the guest's init for one thing: to put a file, to get a file,
// or to run a program. Put comes first, so that one request can place a program
// and run it.
type Request struct {
	ID        uint64   `json:"id"`
	Put       *Put     `json:"put,omitempty"`
	Get       string   `json:"get,omitempty"`       // path of a file to return in Stdout
	Argv      []string `json:"argv,omitempty"`      // or one of the verbs below
	Stdin     []byte   `json:"stdin,omitempty"`     // given to the program
	Env       []string `json:"env,omitempty"`       // added to the default environment
	UID       uint32   `json:"uid,omitempty"`       // run as this user
	GID       uint32   `json:"gid,omitempty"`       // run as this group; zero means the same number as UID
	TimeoutMS int64    `json:"timeoutMs,omitempty"` // kill the program after this time; zero means never
}

// Verbs that init carries out itself, given as the first word of Argv.
const (
	VerbPowerOff = "poweroff" // stop the services, unmount, power off
	VerbServices = "services" // state of the supervised services, JSON on Stdout
	VerbStop     = "stop"     // stop a service: stop NAME
	VerbStart    = "start"    // start a stopped service: start NAME
)

// Put is a file to write in the guest.
type Put struct {
	Path   string `json:"path"`
	Mode   uint32 `json:"mode"`             // permission bits
	UID    uint32 `json:"uid,omitempty"`    // owner
	GID    uint32 `json:"gid,omitempty"`    // group
	Append bool   `json:"append,omitempty"` // add to the file instead of replacing it
	Data   []byte `json:"data"`
}

// A Response answers the request of the same ID. Error is set when the request
// could not be carried out at all; a program that ran and failed has Exit alone.
type Response struct {
	ID        uint64 `json:"id,omitempty"`
	Ready     *Ready `json:"ready,omitempty"` // the ready line; ID is zero
	Stdout    []byte `json:"stdout,omitempty"`
	Stderr    []byte `json:"stderr,omitempty"`
	Exit      int    `json:"exit"` // status, or 128 plus the signal
	Truncated bool   `json:"truncated,omitempty"`
	Error     string `json:"error,omitempty"`
}

// Ready is what the guest says about itself when it is up.
type Ready struct {
	BootID     string           `json:"bootId"`
	UptimeMS   int64            `json:"uptimeMs"`             // since the kernel started
	Steps      map[string]int64 `json:"steps,omitempty"`      // uptime in ms at which each step was done
	Complaints []string         `json:"complaints,omitempty"` // steps that failed
}

// Service is one entry of the answer to VerbServices.
type Service struct {
	Name     string `json:"name"`
	PID      int    `json:"pid"` // zero when it does not run
	Starts   int    `json:"starts"`
	Missed   int    `json:"missed,omitempty"` // how often it was ended for giving no sign of life
	LastExit string `json:"lastExit,omitempty"`
}

// WriteLine writes v as one line.
func WriteLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode control line: %w", err)
	}
	if len(b) >= MaxLine {
		return fmt.Errorf("write control line of %d bytes: %w", len(b), ErrTooLong)
	}
	if _, err := w.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("write control line: %w", err)
	}
	return nil
}

// ReadLine reads one line from r into v. It returns io.EOF unwrapped when the
// channel was closed between two lines.
func ReadLine(r *bufio.Reader, v any) error {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > MaxLine {
			return fmt.Errorf("read control line: %w", ErrTooLong)
		}
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err == io.EOF && len(line) == 0 {
			return io.EOF
		}
		if err != nil {
			return fmt.Errorf("read control line: %w", err)
		}
		break
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("decode control line: %w", err)
	}
	return nil
}
