// Package stranger makes a program that is in no release: the attack of the
// drill that runs one on the device.
package stranger

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// Where the stranger is loaded, and how much stands before its code: the ELF
// header and one program header.
const (
	loadBase       = 0x400000
	elfHeaderSize  = 64
	elfProgramSize = 56
	// Message is what it prints.
	Message = "a program that is in no release\n"
)

// New makes a program that prints Message. Sixteen random bytes at its end give
// every copy a digest of its own: the kernel measures the same path and digest
// only once.
func New() ([]byte, error) {
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("make nonce: %w", err)
	}
	return Program(Message, nonce)
}

// Program makes a small static ELF program for x86-64 Linux that prints one line
// and exits; tail stands at its end. System V ABI, ELF-64 object file format;
// AMD64 supplement for the system calls.
func Program(line string, tail []byte) ([]byte, error) {
	var code bytes.Buffer
	message := []byte(line)
	code.Write([]byte{0xb8, 1, 0, 0, 0})   // mov eax, 1 (write)
	code.Write([]byte{0xbf, 1, 0, 0, 0})   // mov edi, 1
	code.Write([]byte{0x48, 0x8d, 0x35})   // lea rsi, [rip+offset]
	code.Write([]byte{16, 0, 0, 0})        // the bytes of code after this instruction
	code.Write([]byte{0xba})               // mov edx, length
	code.Write(le32(uint32(len(message)))) //
	code.Write([]byte{0x0f, 0x05})         // syscall
	code.Write([]byte{0xb8, 60, 0, 0, 0})  // mov eax, 60 (exit)
	code.Write([]byte{0x31, 0xff})         // xor edi, edi
	code.Write([]byte{0x0f, 0x05})         // syscall
	const head = elfHeaderSize + elfProgramSize
	size := uint64(head + code.Len() + len(message) + len(tail))

	var out bytes.Buffer
	out.Write([]byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	for _, v := range []any{
		uint16(2), uint16(62), uint32(1), // executable, x86-64, version
		uint64(loadBase + head), uint64(elfHeaderSize), uint64(0), // entry, program headers, section headers
		uint32(0), uint16(elfHeaderSize), uint16(elfProgramSize), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), // load, read and execute, offset
		uint64(loadBase), uint64(loadBase), size, size, uint64(0x1000),
	} {
		if err := binary.Write(&out, binary.LittleEndian, v); err != nil {
			return nil, fmt.Errorf("write ELF header: %w", err)
		}
	}
	out.Write(code.Bytes())
	out.Write(message)
	out.Write(tail)
	return out.Bytes(), nil
}

func le32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }
