// Command pump stands for the medical application of the reference device: a
// simulated infusion pump whose control loop runs at a fixed period and reports
// its own jitter. It depends on nothing that Ward does, and goes on when the
// data partition is missing. It is a demonstration and controls nothing.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// The loop's timing.
const (
	period = 10 * time.Millisecond
	window = 10 * time.Second
)

// Places for the reports. The log goes to the data partition when there is one.
const (
	dataDir = "/data/pump"
	runDir  = "/run/pump"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	out := newReport(dataDir, runDir)
	reports := make(chan summary, 4)
	go loop(ctx, reports)
	if err := out.begin(); err != nil {
		fmt.Fprintf(os.Stderr, "report: %v\n", err)
	}
	fmt.Printf("infusion started, period %v, log in %s\n", period, out.logDir)
	for s := range reports {
		if err := out.write(s); err != nil {
			fmt.Fprintf(os.Stderr, "report: %v\n", err)
		}
	}
}

// loop runs the control law once a period until ctx ends, then closes reports.
// A window's report that nobody takes in time is dropped: the loop never waits.
func loop(ctx context.Context, reports chan<- summary) {
	defer close(reports)
	runtime.LockOSThread()
	scheduler := realtime()
	pump := newInfusion(period)
	jitter := newJitter(int(window / period))
	next := monotonic() + period
	for ctx.Err() == nil {
		sleepUntil(next)
		late := monotonic() - next
		pump.step()
		if full := jitter.add(late); full {
			s := jitter.summarise()
			s.Scheduler, s.Rate, s.Volume = scheduler, pump.rate, pump.volume
			select {
			case reports <- s:
			default:
			}
		}
		next += period
		if behind := monotonic() - next; behind > window {
			next += behind // the machine was stopped: do not replay the past
		}
	}
}

// realtime asks for SCHED_FIFO, sched(7), and says what it got.
func realtime() string {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 10}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return "other"
	}
	return "fifo"
}

func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// sleepUntil sleeps to an absolute time, so that lateness does not add up.
func sleepUntil(t time.Duration) {
	ts := unix.NsecToTimespec(int64(t))
	for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil) == unix.EINTR {
	}
}
