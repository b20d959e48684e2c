// Package alloctest measures, for tests, how much memory a function allocates. It
// is how the fuzz targets hold parsers to the bounds that their documentation
// states. It asks runtime.ReadMemStats: the counters of runtime/metrics leave out
// what each processor has not handed in yet, up to some hundred KiB, which then
// seems to be of whoever asks next.
package alloctest

import (
	"math"
	"runtime"
)

// attempts bound how often a function is run that seems to allocate too much:
// the count is of the whole process, and the fuzzer allocates beside it.
const attempts = 5

// Bytes runs a function and returns how many bytes it allocated; where that is
// more than most, the least of several runs.
func Bytes(most uint64, f func()) uint64 {
	least := uint64(math.MaxUint64)
	for range attempts {
		before := allocated()
		f()
		if least = min(least, allocated()-before); least <= most {
			break
		}
	}
	return least
}

// allocated is how many bytes the program has allocated so far.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
