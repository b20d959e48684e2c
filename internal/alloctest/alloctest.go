// Package alloctest tells tests how much was allocated, exactly: the counters of
// runtime/metrics leave out what each processor has not handed in yet, up to some
// hundred KiB, which then seems to be of whoever asks next.
package alloctest

import "runtime"

// Bytes is what this process has allocated on its heap since its start.
func Bytes() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
