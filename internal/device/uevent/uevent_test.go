package uevent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"
)

// What the kernel sends is heard as it is parsed.
//
// Verifies: SR-099
func TestTheKernelIsHeard(t *testing.T) {
	c, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	mark := fmt.Sprint("uevent", os.Getpid())
	if err := os.WriteFile("/sys/class/net/lo/uevent", []byte("change 7abbb515-d766-459f-81b2-8c7a6ec5e0d5 WARD="+mark), 0); err != nil {
		t.Skip("the kernel cannot be asked for a message: ", err)
	}
	for {
		m, err := c.Receive(ctx)
		if errors.Is(err, ErrLost) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.Values["SYNTH_ARG_WARD"] != mark {
			continue // another one's on this machine
		}
		if m.Action != "change" || m.Subsystem != "net" || m.Path != "/devices/virtual/net/lo" || m.Values["INTERFACE"] != "lo" || m.Sequence == 0 {
			t.Errorf("heard %+v", m)
		}
		return
	}
}
