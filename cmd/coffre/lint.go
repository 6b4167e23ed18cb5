package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coffre-csi/coffre/cmd/coffre/internal/cloud"
	"github.com/coffre-csi/coffre/cmd/coffre/internal/lint"
	"github.com/coffre-csi/coffre/cmd/coffre/internal/manifest"
)

func lintCommand(std stdio) *cobra.Command {
	var files []string
	var output string
	var strict bool
	c := &cobra.Command{
		Use:   "lint FILE|FOLDER…",
		Short: "Check SecretProviderClasses, workloads and stores before they are applied",
		Long: "Reads SecretProviderClasses, the pods that mount them, Secrets and the platform's stores together,\n" +
			"and says what the cluster or the provider would refuse. - is standard input. It contacts nobody.",
		Example: "  coffre lint manifests/\n  helm template charts/shop | coffre lint -\n  coffre lint --strict --output sarif values.yaml manifests/ > lint.sarif",
		RunE: func(_ *cobra.Command, args []string) error {
			return check(append(files, args...), output, strict, std)
		},
	}

	c.Flags().StringArrayVarP(&files, "filename", "f", nil, "a file or folder, as an argument is")
	c.Flags().StringVarP(&output, "output", "o", "text", strings.Join(lint.Formats(), ", "))
	c.Flags().BoolVar(&strict, "strict", false, "fail on warnings too, and where there is nothing to check")

	return c
}

func check(files []string, output string, strict bool, std stdio) error {
	if len(files) == 0 {
		return usagef("name files or folders; - is standard input")
	}
	if !slices.Contains(lint.Formats(), output) {
		return usagef("--output %q is none of %s", output, strings.Join(lint.Formats(), ", "))
	}
	wiring := cloud.New(thisProcess(), cloud.All())
	report := lint.Linter{Catalog: wiring.Catalog, Dialects: wiring.Dialects}.Check(manifest.Read(files, std.in))
	if err := report.Write(std.out, output, version); err != nil {
		return &ioError{fmt.Errorf("standard output: %w", err)}
	}
	switch {
	case report.Unreadable:
		return &ioError{fmt.Errorf("a file could not be read")}
	case report.Count(lint.Error) > 0, strict && report.Count(lint.Warning) > 0:
		return errReported
	}

	return nil
}
