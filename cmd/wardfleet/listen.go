package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"ward/internal/cli"
	"ward/internal/fleet/ingest"
	"ward/internal/trust/appraisal"
)

// listenFlags are the flags of wardfleet listen.
type listenFlags struct {
	config     ingest.Config
	ca         string
	cert       string
	key        string
	serverName string
	receiptKey string
	rotations  []string
	verify     verifyFlags
	asJSON     bool
	duration   time.Duration
	count      int
	verbose    bool
}

func newListen() *cobra.Command {
	var f listenFlags
	cmd := &cobra.Command{
		Use:   "listen --broker tls://HOST:PORT --ca FILE --cert FILE --key FILE [--receipt-key FILE] [--rotation FILE] [--devices DIR --challenge-key FILE]",
		Short: "Show what devices report, check its form and chain, confirm it, and appraise evidence",
		Long: "Show what devices report, as a line each, check its form and its place in the device's chain, and confirm it with signed receipts.\n" +
			"A device keeps every event until a receipt covers it. Without a receipt key nothing is confirmed.\n\n" +
			"With --rotation, each device that still accepts an older receipt or challenge key is sent its successor at its birth,\n" +
			"before anything that the new key signs. Give all rotations, in the order in which they were made.\n\n" +
			"With --devices, evidence is appraised and a verdict told for each, and the checkpoints in the record are verified;\n" +
			"with --challenge-key, devices are asked for evidence.\n" +
			"A device without a registered key, or with a release that is not given, gets no pass.\n\n" +
			"Exit status: 0 nothing was wrong with what arrived, 1 a message could not be accepted, a chain had a gap, a device went silent\n" +
			"or a verdict was not affirming, 2 bad usage or unreadable input, 3 there was no connection. What devices report about themselves does not change it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.config.Broker, "broker", "", "the broker's address, `tls://HOST:PORT`")
	flags.StringVar(&f.serverName, "server-name", "", "the `NAME` in the broker's certificate; the address's host without it")
	flags.StringVar(&f.ca, "ca", "", "roots of the fleet, PEM `FILE`")
	flags.StringVar(&f.cert, "cert", "", "the backend's certificate, PEM `FILE`")
	flags.StringVar(&f.key, "key", "", "the certificate's key, PEM `FILE`")
	flags.StringVar(&f.receiptKey, "receipt-key", "", "private key that signs receipts, PEM `FILE`")
	flags.StringArrayVar(&f.rotations, "rotation", nil, "rotation of a receipt or challenge key, `FILE` (may be repeated)")
	flags.StringVar(&f.config.Tenant, "tenant", "", "only devices of this `TENANT`")
	flags.StringVar(&f.config.Device, "device", "", "only this `DEVICE` (with --tenant)")
	flags.StringVar(&f.config.StateFile, "state", "", "keep the chains' heads in `FILE`, and what evidence has established in FILE.verifier, so that a restart goes on")
	flags.StringVar(&f.config.EventsFile, "events-file", "", "append every accepted record to `FILE`, a line each")
	flags.BoolVar(&f.config.Adopt, "adopt", false, "take over chains that are first seen in their middle")
	f.verify.add(flags)
	flags.BoolVar(&f.asJSON, "json", false, "print one JSON object a line")
	flags.DurationVar(&f.duration, "for", 0, "stop after this `TIME`")
	flags.IntVar(&f.count, "count", 0, "stop after `N` events")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "show receipts, and the connection's log on standard error")
	for _, name := range []string{"broker", "ca", "cert", "key"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
	return cmd
}

func (f *listenFlags) run(ctx context.Context, out, log io.Writer) error {
	var err error
	if f.config.TLS, f.config.ClientID, err = ingest.LoadTLS(f.ca, f.cert, f.key, f.serverName); err != nil {
		return err
	}
	if f.receiptKey != "" {
		if f.config.ReceiptKey, err = ingest.LoadKey("receipt key", f.receiptKey); err != nil {
			return err
		}
	}
	if f.config.Rotations, err = ingest.LoadRotations(f.rotations); err != nil {
		return err
	}
	level := slog.LevelWarn
	if f.verbose {
		level = slog.LevelInfo
	}
	f.config.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: level}))
	judge, err := f.verify.open(&f.config)
	if err != nil {
		return err
	}
	if judge != nil {
		f.config.Verifier = judge
	}
	listener, err := ingest.New(f.config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if f.duration > 0 {
		ctx, cancel = context.WithTimeout(ctx, f.duration)
		defer cancel()
	}
	ended := make(chan error, 1)
	go func() { ended <- listener.Run(ctx) }()
	events, findings := 0, 0
	for r := range listener.Messages() {
		switch r.Kind {
		case ingest.KindEvent:
			events++
		case ingest.KindFinding:
			if !r.Cleared {
				findings++
			}
		case ingest.KindVerdict:
			if r.Verdict.Verdict != appraisal.Affirming {
				findings++
			}
		}
		if err := f.print(out, r); err != nil {
			return err
		}
		if f.count > 0 && events == f.count {
			cancel()
		}
	}
	err = <-ended
	if judge != nil {
		err = errors.Join(err, judge.Save())
	}
	switch {
	case err != nil:
		return cli.Fail(cli.NotDecided, "%w", err)
	case !listener.Connected():
		return cli.Fail(cli.NotDecided, "listen: there was no connection to %s", f.config.Broker)
	case findings > 0:
		return cli.Quiet(cli.Findings)
	}
	return nil
}

func (f *listenFlags) print(out io.Writer, r ingest.Received) error {
	if f.asJSON {
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "%s\n", b)
		return err
	}
	if r.Kind == ingest.KindReceipt && !f.verbose {
		return nil
	}
	_, err := fmt.Fprintln(out, r.Line())
	return err
}
