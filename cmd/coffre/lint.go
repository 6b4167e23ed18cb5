package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/coffre-csi/coffre/cmd/coffre/internal/cloud"
	"github.com/coffre-csi/coffre/cmd/coffre/internal/lint"
	"github.com/coffre-csi/coffre/cmd/coffre/internal/manifest"
)

func lintCommand(_ context.Context, args []string, std stdio) error {
	fs := newFlags("lint", std, "[--output FORMAT] [--strict] FILE|FOLDER…")
	output := fs.String("output", "text", strings.Join(lint.Formats(), ", "))
	strict := fs.Bool("strict", false, "fail on warnings too, and where there is nothing to check")
	var files list
	fs.Var(&files, "f", "a file or folder, as an argument is; - is standard input")
	rest, err := parse(fs, args)
	if err != nil {
		return err
	}
	files = append(files, rest...)
	if len(files) == 0 {
		return usageError(fs, "name files or folders; - is standard input")
	}
	if !slices.Contains(lint.Formats(), *output) {
		return usageError(fs, "--output %q is none of %s", *output, strings.Join(lint.Formats(), ", "))
	}
	wiring := cloud.New(ours(), cloud.All())
	report := lint.Linter{Kinds: wiring.Catalog.Kinds, Dialects: wiring.Dialects}.Check(manifest.Read(files, std.in))
	if err := report.Write(std.out, *output, version); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	if report.Count(lint.Error) > 0 || *strict && report.Count(lint.Warning) > 0 {
		return errReported
	}
	return nil
}
