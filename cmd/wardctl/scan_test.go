package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"ward/internal/agent/localapi"
	"ward/internal/device/fstree"
	"ward/internal/trust/baseline"
	"ward/internal/trust/finding"
)

// answersOfScans are what the fake daemon's scans end with, one after the other.
var answersOfScans = []string{
	"", // the first is not waited for
	`{"verdict":"clean","reason":"asked","files":2130,"folders":240,"others":310,"bytes":61203456,"hashedBytes":1048576,"byRootHash":2118,"byHash":12,"notEntered":6,"mounts":[{"path":"/","trust":"dm-verity"}]}`,
	`{"verdict":"differs","reason":"asked","full":true,"changed":1,"new":2,"mounts":[]}`,
	`{"verdict":"differs","reason":"asked","full":true,"changed":1,"new":2,"mounts":[]}`,
	`{"verdict":"failed","reason":"asked","error":"the root is gone","mounts":[]}`,
}

// startScans is the command "scans DIR": a daemon on the socket "s" whose scans end as
// answersOfScans says, behind a pause; afterwards it has no baseline.
func startScans(ts *testscript.TestScript, _ bool, args []string) {
	var mu sync.Mutex
	asked, looks := 0, 0
	s := localapi.Scan{State: "waiting"}
	status := func() localapi.Scan {
		mu.Lock()
		defer mu.Unlock()
		if asked == len(answersOfScans) && s.Ended == asked {
			return localapi.Scan{State: "no-baseline", Detail: "there is no trusted file baseline", Ended: s.Ended, Coming: s.Coming}
		}
		if s.Ended < asked {
			looks++
			s.State = []string{"scanning", "paused"}[looks%2]
			if looks > 3 || answersOfScans[asked-1] == "" {
				s.State, s.Ended, looks = "waiting", asked, 0
				s.Last = json.RawMessage(answersOfScans[asked-1])
			}
		}
		return s
	}
	ask := func(bool) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		s.Coming = asked
	}
	found := finding.New(finding.FileChanged, "content").On("/bin/pump")
	serve(ts, localapi.Config{
		Status: func() localapi.Status {
			return localapi.Status{Incidents: []finding.Finding{finding.New(finding.IMAUnknownFile, ""), found}}
		},
		Journal: openJournal(ts, args[0]), Actions: localapi.ScanFiles(ask, func() localapi.Scan {
			out := status()
			if out.Last != nil && len(out.Last) == 0 {
				out.Last = nil
			}
			return out
		}),
	})
}

// serve answers on the socket "s" until the script ends.
func serve(ts *testscript.TestScript, c localapi.Config) {
	c.Socket = ts.MkAbs("s")
	ctx, cancel := context.WithCancel(context.Background())
	api := localapi.New(c)
	done := make(chan error, 1)
	go func() { done <- api.Run(ctx) }()
	ts.Defer(func() {
		cancel()
		ts.Check(<-done)
	})
	await(ts, ctx, c.Socket)
}

// writeBaseline is the command "baseline TREE FILE".
func writeBaseline(ts *testscript.TestScript, _ bool, args []string) {
	walk, err := fstree.Open(ts.MkAbs(args[0]), fstree.Options{})
	ts.Check(err)
	defer walk.Close()
	out, err := os.Create(ts.MkAbs(args[1]))
	ts.Check(err)
	w, err := baseline.NewWriter(out)
	ts.Check(err)
	for {
		n, err := walk.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		ts.Check(err)
		if n.Type == baseline.File {
			_, err = walk.SHA256(1 << 20)
			ts.Check(err)
		}
		e, err := n.Entry()
		ts.Check(err)
		ts.Check(w.Write(e))
	}
	_, err = w.Close()
	ts.Check(errors.Join(err, out.Close()))
}
