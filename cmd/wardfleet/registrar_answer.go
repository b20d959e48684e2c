package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"ward/internal/cli"
	"ward/internal/fleet/registrar"
	"ward/internal/trust/enrolment"
)

func newRegistrarAnswer() *cobra.Command {
	var f enrolFlags
	var output string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "answer APPLICATION -o ANSWER",
		Short: "Enrol a device that has no network, by files",
		Long: "Enrol a device that has no network: APPLICATION is what wardctl identity enroll --request wrote there, and ANSWER is for\n" +
			"wardctl identity enroll --install. It is checked as the registrar does; the answer is encrypted, and only that device's TPM can open it.\n" +
			"The device is registered with its TPM before that has proved itself: take applications from hands that you trust.\n" +
			"A registrar may run beside it on the same register.\n\n" +
			"Exit status: 0 answered, 1 refused, 2 bad usage or unreadable input, 3 the issuing authority was away.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := os.Lstat(output); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("write answer: %s is there already, and is not replaced", output)
			}
			application, err := readApplication(args[0])
			if err != nil {
				return err
			}
			r, err := f.open(reporter(cmd.OutOrStdout(), asJSON), logger(cmd.ErrOrStderr(), false))
			if err != nil {
				return err
			}
			answer, err := r.Answer(cmd.Context(), time.Now(), application)
			var refusal *registrar.Refusal
			switch {
			case errors.As(err, &refusal) && refusal.Status == http.StatusServiceUnavailable:
				return cli.Fail(cli.NotDecided, "answer %s: %w", args[0], err)
			case errors.As(err, &refusal) && refusal.Status != http.StatusBadRequest:
				return cli.Fail(cli.Findings, "answer %s: %w", args[0], err)
			case err != nil:
				return fmt.Errorf("answer %s: %w", args[0], err)
			}
			return writeNew(output, 0o644, answer)
		},
	}
	flags := cmd.Flags()
	f.add(flags)
	flags.StringVarP(&output, "output", "o", "", "the answer, `FILE`, which must not be there yet")
	flags.BoolVar(&asJSON, "json", false, "print one JSON object a line")
	required(cmd, "output", "tenant", "devices", "tpm-makers")
	return cmd
}

// readApplication reads an application, bounded; whoever reads it next refuses one
// that is too long.
func readApplication(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read application: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, enrolment.MaxRequest+1))
	if err != nil {
		return nil, fmt.Errorf("read application: %w", err)
	}
	return b, nil
}
