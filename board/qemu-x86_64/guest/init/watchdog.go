package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of a service that promised to say that it is alive, as systemd has them:
// a start may take longer than the interval, and a program that is ended for its
// silence may write down where it stood before it is killed.
const (
	startWait = 90 * time.Second
	abortWait = 5 * time.Second
)

// notifyFolder is where services find the sockets of sd_notify(3).
const notifyFolder = "/run/init"

// patience is how long a supervisor waits for services that promised signs of life.
type patience struct{ start, abort time.Duration }

// guard waits for the end of the service. One that gives no sign of life in time
// is ended, with SIGABRT first so that it leaves its stacks; only it, never the
// device. It says how it ended.
func (r *run) guard(p patience, alive <-chan struct{}, done <-chan unix.WaitStatus) string {
	timer := time.NewTimer(p.start)
	defer timer.Stop()
	wait, prefix, signal := p.start, "", unix.SIGABRT
	for {
		select {
		case status := <-done:
			return prefix + ending(status)
		case <-alive:
			if prefix == "" { // else it comes too late
				wait = r.service.watchdog
				timer.Reset(wait)
			}
		case <-timer.C:
			if prefix == "" {
				prefix = fmt.Sprintf("gave no sign of life for %v and was ended: ", wait)
				say("%s gave no sign of life for %v; ending it", r.service.name, wait)
				r.mu.Lock()
				r.missed++
				r.mu.Unlock()
			}
			r.signal(signal)
			signal = unix.SIGKILL
			timer.Reset(p.abort)
		}
	}
}
