// Command coffre is a provider for the Kubernetes Secrets Store CSI driver, and
// the tools to try SecretProviderClasses without a cluster.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/coffre-csi/coffre/provider/strict"
)

// version of this build; set by the linker (-X main.version=…).
var version = "dev"

type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// Exit statuses (docs/cli.md).
const (
	exitOK       = 0
	exitFindings = 1 // what was asked failed: a finding, a mount that is refused, a provider that cannot go on
	exitUsage    = 2 // a call that cannot be understood
	exitIO       = 3 // a file or folder that cannot be read or written
)

// errReported is a failure of which everything has been printed.
var errReported = errors.New("reported")

// usageError is a call that cannot be understood.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// ioError is a file or folder that cannot be read or written.
type ioError struct{ err error }

func (e *ioError) Error() string { return e.err.Error() }
func (e *ioError) Unwrap() error { return e.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr}))
}

// run does one call of the program and gives its exit status. A mistake is one
// line on standard error.
func run(ctx context.Context, args []string, std stdio) int {
	root := rootCommand(std)
	root.SetArgs(args)
	if len(args) == 0 {
		root.SetOut(std.err)
		_ = root.Help()
		return exitUsage
	}

	called, err := root.ExecuteContextC(ctx)
	path, usage, io := new(fs.PathError), new(usageError), new(ioError)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errReported):
		return exitFindings
	}
	fmt.Fprintf(std.err, "%s: %v\n", called.CommandPath(), err)
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &io), errors.As(err, &path):
		return exitIO
	}

	return exitFindings
}

func rootCommand(std stdio) *cobra.Command {
	root := &cobra.Command{
		Use:   "coffre",
		Short: "Secrets from every secret manager, for the Kubernetes Secrets Store CSI driver",
		Long: "Coffre is a provider for the Kubernetes Secrets Store CSI driver, and the tools to try\n" +
			"SecretProviderClasses without a cluster.",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("%q is no command%s; coffre --help lists them", args[0], didYouMean("", args[0], names(std)))
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}

	root.SetVersionTemplate("coffre {{.Version}}\n")
	root.AddCommand(commands(std)...)
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	root.SetFlagErrorFunc(flagError)
	root.Flags().SortFlags = false

	return root
}

func commands(std stdio) []*cobra.Command {
	return []*cobra.Command{serveCommand(std), renderCommand(std), lintCommand(std), versionCommand(std)}
}

func names(std stdio) []string {
	all := []string{"help", "completion"}
	for _, c := range commands(std) {
		all = append(all, c.Name())
	}
	return all
}

func versionCommand(std stdio) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of this build", Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(std.out, "coffre", version)
			return err
		},
	}
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%q is no flag, and no other arguments are taken", args[0])
	}
	return nil
}

// flagError is one line about a flag that was mistyped.
func flagError(c *cobra.Command, err error) error {
	unknown := new(pflag.NotExistError)
	if !errors.As(err, &unknown) {
		return usagef("%v", err)
	}
	var known []string
	c.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	name := unknown.GetSpecifiedName()
	return usagef("--%s is no flag%s; %s --help lists them", name, didYouMean("--", name, known), c.CommandPath())
}

func didYouMean(dashes, name string, known []string) string {
	if near := strict.Nearest(name, known); near != "" {
		return fmt.Sprintf(", did you mean %s%s?", dashes, near)
	}
	return ""
}

// apart adds flags that help shows below the command's own, under a heading.
func apart(c *cobra.Command, heading string, flags *flag.FlagSet) {
	shown := pflag.NewFlagSet(heading, pflag.ContinueOnError)
	shown.AddGoFlagSet(flags)
	usages := shown.FlagUsages()
	shown.VisitAll(func(f *pflag.Flag) {
		hidden := *f
		hidden.Hidden = true
		c.Flags().AddFlag(&hidden)
	})
	c.SetUsageTemplate(strings.TrimRight(c.UsageTemplate(), "\n") + "\n\n" + heading + ":\n" + strings.TrimRight(usages, "\n") + "\n")
}
