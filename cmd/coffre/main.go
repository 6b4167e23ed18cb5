// Command coffre is a provider for the Kubernetes Secrets Store CSI driver, and
// the tools to try SecretProviderClasses without a cluster.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version of this build; set by the linker (-X main.version=…).
var version = "dev"

// command is one subcommand. run gets the arguments after its name; errUsage
// means that a line about the mistake has been printed already.
type command struct {
	name, summary string
	run           func(ctx context.Context, args []string, std stdio) error
}

type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// Errors that choose an exit status: 2 for a call that cannot be understood, 1
// for everything else that failed, with nothing more to print for errReported.
var (
	errUsage    = errors.New("usage")
	errReported = errors.New("reported")
)

func commands() []command {
	return []command{
		{"serve", "serve the driver on its sockets: what the DaemonSet runs", serve},
		{"render", "do a Mount without a cluster, and show the volume's files", renderCommand},
		{"lint", "check SecretProviderClasses, workloads and store configurations offline", lintCommand},
		{"version", "print the version of this build", printVersion},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr}))
}

func run(ctx context.Context, args []string, std stdio) int {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		usage(std.err)
		return 2
	}
	for _, c := range commands() {
		if c.name != args[0] {
			continue
		}
		err := c.run(ctx, args[1:], std)
		switch {
		case err == nil, errors.Is(err, flag.ErrHelp):
			return 0
		case errors.Is(err, errUsage):
			return 2
		case !errors.Is(err, errReported):
			fmt.Fprintf(std.err, "coffre %s: %v\n", c.name, err)
		}
		return 1
	}
	fmt.Fprintf(std.err, "coffre: %q is no command\n", args[0])
	usage(std.err)
	return 2
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "usage: coffre COMMAND [FLAG…]; coffre COMMAND --help lists the flags")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-8s %s\n", c.name, c.summary)
	}
}

func printVersion(_ context.Context, _ []string, std stdio) error {
	_, err := fmt.Fprintln(std.out, "coffre", version)
	return err
}

// newFlags makes a flag set that prints its mistakes to the given writer.
func newFlags(name string, std stdio, synopsis string) *flag.FlagSet {
	fs := flag.NewFlagSet("coffre "+name, flag.ContinueOnError)
	fs.SetOutput(std.err)
	fs.Usage = func() {
		fmt.Fprintf(std.err, "usage: coffre %s %s\n", name, synopsis)
		fs.PrintDefaults()
	}
	return fs
}

// parse reads flags, which may stand before and behind the arguments, and
// gives the arguments.
func parse(fs *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, errUsage
		}
		if fs.NArg() == 0 {
			return rest, nil
		}
		rest, args = append(rest, fs.Arg(0)), fs.Args()[1:]
	}
}

// usageError prints what is wrong with a call.
func usageError(fs *flag.FlagSet, format string, args ...any) error {
	fmt.Fprintf(fs.Output(), "%s: %s\n", fs.Name(), fmt.Sprintf(format, args...))
	return errUsage
}
