// Command wardd is Ward's daemon: it verifies the boot, watches what runs,
// keeps the record and reports to the fleet. It listens on no network socket.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"ward/internal/cli"
	"ward/internal/daemon"
)

func main() { os.Exit(run(os.Args[1:])) }

// run is the program: its arguments in, its exit status out.
func run(args []string) int {
	flags := flag.NewFlagSet("wardd", flag.ContinueOnError)
	configFile := flags.String("config", "/etc/ward/wardd.toml", "configuration `file`")
	check := flags.Bool("check", false, "check the configuration and exit")
	version := flags.Bool("version", false, "print the version and exit")
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "wardd: Ward's daemon on the device\n\nUsage: wardd [-config FILE] [-check] [-version]\n\n")
		flags.PrintDefaults()
		fmt.Fprintf(flags.Output(), "\nExit status: 0 stopped in order, 2 bad usage or configuration (-check), 3 could not run.\n")
	}
	if err := flags.Parse(args); err != nil {
		if err == flag.ErrHelp {
			return cli.Good
		}
		return cli.Usage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "wardd: unexpected argument %q; see wardd -help\n", flags.Arg(0))
		return cli.Usage
	}
	if *version {
		fmt.Println("wardd", daemon.Version())
		return cli.Good
	}
	if *check {
		return cli.Status(os.Stderr, "wardd", daemon.Check(*configFile))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := daemon.Run(ctx, *configFile, os.Stderr); err != nil {
		return cli.Status(os.Stderr, "wardd", &cli.Exit{Status: cli.NotDecided, Err: err})
	}
	return cli.Good
}
