package dm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Offsets of struct dm_ioctl, in bytes; numbers are of this machine's order.
const (
	atVersion = 0
	atSize    = 12 // of the buffer; in an answer, of what is used
	atStart   = 16 // where the answer's content begins
	atTargets = 20
	atFlags   = 28
	atDevice  = 40
	atName    = 48
	atUUID    = 176
	maxName   = 128
	maxUUID   = 129

	// specSize is the size of struct dm_target_spec, the head of each target.
	specSize = unix.SizeofDmTargetSpec
	maxType  = 16
	// listHead is what stands before a name in struct dm_name_list: device and offset.
	listHead = 12
)

// errAnswer: the kernel's answer is not of the form that is known.
var errAnswer = errors.New("not an answer of the device mapper")

// header is what an answer begins with.
type header struct {
	start, end     int
	targets, flags uint32
	uuid           string
}

// newRequest asks for tables, not states, and for buffers to be wiped in the kernel.
func newRequest(b []byte, device uint64) {
	e := binary.NativeEndian
	e.PutUint32(b[atVersion:], 4) // the only major version there has been since 2003
	e.PutUint32(b[atSize:], uint32(len(b)))
	e.PutUint32(b[atStart:], unix.SizeofDmIoctl)
	e.PutUint32(b[atFlags:], unix.DM_STATUS_TABLE_FLAG|unix.DM_SECURE_DATA_FLAG)
	e.PutUint64(b[atDevice:], device)
}

func parseHeader(b []byte) (header, error) {
	if len(b) < unix.SizeofDmIoctl {
		return header{}, fmt.Errorf("%w: %d bytes", errAnswer, len(b))
	}
	e := binary.NativeEndian
	h := header{
		start: int(e.Uint32(b[atStart:])), end: int(e.Uint32(b[atSize:])),
		targets: e.Uint32(b[atTargets:]), flags: e.Uint32(b[atFlags:]), uuid: text(b[atUUID : atUUID+maxUUID]),
	}
	if h.start < unix.SizeofDmIoctl || h.end > len(b) || h.start > h.end {
		return header{}, fmt.Errorf("%w: content from %d to %d of %d", errAnswer, h.start, h.end, len(b))
	}
	return h, nil
}

// text is a string up to its NUL.
func text(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

// device is one of the list.
type device struct {
	number uint64
	name   string
}

// parseList reads struct dm_name_list, each with the offset from its own beginning to
// the next one, 0 in the last; without devices there is one with the number 0.
func parseList(b []byte) ([]device, error) {
	var all []device
	for len(b) > 0 {
		if len(b) < listHead {
			return nil, fmt.Errorf("%w: %d bytes behind the list", errAnswer, len(b))
		}
		d := device{number: binary.NativeEndian.Uint64(b), name: text(b[listHead:min(len(b), listHead+maxName)])}
		if d.number == 0 {
			break
		}
		if all = append(all, d); len(all) > maxDevices {
			return nil, fmt.Errorf("%w: more than %d devices", errAnswer, maxDevices)
		}
		next := int(binary.NativeEndian.Uint32(b[8:]))
		if next == 0 {
			break
		}
		if next < listHead || next > len(b) {
			return nil, fmt.Errorf("%w: the next device is %d bytes away, %d are left", errAnswer, next, len(b))
		}
		b = b[next:]
	}
	return all, nil
}

// alignment is the alignment of a target in an answer (dm-ioctl.c, align_ptr).
const alignment = 8

// parseTable reads struct dm_target_spec with its parameters, as many as the header
// says, each with the offset from the first one's beginning to the next.
func parseTable(b []byte, targets uint32) ([]Table, error) {
	if targets > maxTargets {
		return nil, fmt.Errorf("%w: %d targets, at most %d", errAnswer, targets, maxTargets)
	}
	var all []Table
	at := 0
	for range targets {
		if len(b)-at < specSize {
			return nil, fmt.Errorf("%w: it ends before target %d of %d", errAnswer, len(all), targets)
		}
		spec := b[at:]
		next := int(binary.NativeEndian.Uint32(spec[20:]))
		end := next
		if len(all)+1 == int(targets) && next > len(b) && next == (len(b)+alignment-1)/alignment*alignment {
			end = len(b) // the kernel aligns the offset, and counts no padding behind the last
		}
		if next < at+specSize || end > len(b) {
			return nil, fmt.Errorf("%w: target %d ends at %d of %d", errAnswer, len(all), next, len(b))
		}
		t := Table{
			Start: binary.NativeEndian.Uint64(spec), Length: binary.NativeEndian.Uint64(spec[8:]),
			Target: text(spec[24 : 24+maxType]),
		}
		params, _, _ := bytes.Cut(b[at+specSize:end], []byte{0})
		t.Params = withoutKeys(t.Target, params)
		all = append(all, t)
		at = next
	}
	return all, nil
}
