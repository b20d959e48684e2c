package bootclock_test

import (
	"os"
	"testing"
	"testing/fstest"
	"time"

	"ward/internal/device/bootclock"
)

// Verifies: SR-023
func TestNowGoesOn(t *testing.T) {
	first := bootclock.Now()
	time.Sleep(time.Millisecond)
	if second := bootclock.Now(); first <= 0 || second <= first {
		t.Errorf("the clock shows %s and then %s", first, second)
	}
}

func TestID(t *testing.T) {
	if id, err := bootclock.ID(os.DirFS("/proc")); err != nil || len(id) != 36 {
		t.Errorf("this boot has id %q, error %v", id, err)
	}
	short := fstest.MapFS{"sys/kernel/random/boot_id": {Data: []byte("none\n")}}
	if id, err := bootclock.ID(short); err == nil {
		t.Errorf("a short id is taken: %q", id)
	}
	if _, err := bootclock.ID(fstest.MapFS{}); err == nil {
		t.Error("no id gives no error")
	}
}
