// Command image packs files into container images from scratch, without a
// container engine and the same to the byte wherever it runs: fixed times,
// sorted entries, no owner, mode or name taken from the building machine.
//
// It has two uses.
//
//	image -ref NAME -o OUT.tar [flags] SRC=DST... [@TARGET=LINK]...
//
// makes one image of ready-made files, as a tarball that `ctr images import`
// and `docker load` take; the end-to-end tests make theirs so.
//
//	image coffre -source REPOSITORY -version V -o DIR
//
// compiles Coffre itself and packs it for every platform it is published for.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func main() {
	run, args := packFiles, os.Args[1:]
	if len(args) > 0 && args[0] == "coffre" {
		run, args = packCoffre, args[1:]
	}
	if err := run(args); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// packFiles makes one image from the files that the arguments name.
func packFiles(args []string) error {
	flags := flag.NewFlagSet("image", flag.ExitOnError)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "image -ref NAME -o OUT.tar [flags] SRC=DST... [@TARGET=LINK]...")
		flags.PrintDefaults()
	}
	var s spec
	ref := flags.String("ref", "", "`name` of the image, with its tag")
	out := flags.String("o", "", "tarball to write")
	platform := flags.String("platform", "linux/amd64", "os/architecture that the files are for")
	flags.StringVar(&s.config.User, "user", "", "user, or user:group, by number")
	flags.Func("entrypoint", "program to run; again for each argument of it", appendTo(&s.config.Entrypoint))
	flags.Func("env", "`K=V`, an environment variable; may be repeated", appendTo(&s.config.Env))
	flags.Func("dir", "empty directory to make; may be repeated. /tmp is writable by all", appendTo(&s.dirs))
	flags.Parse(args)

	if *ref == "" || *out == "" || flags.NArg() == 0 {
		flags.Usage()
		return errors.New("-ref, -o and at least one file are needed")
	}
	p, err := v1.ParsePlatform(*platform)
	if err != nil {
		return err
	}
	s.platform = *p
	for _, arg := range flags.Args() {
		source, destination, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q is neither SRC=DST nor @TARGET=LINK", arg)
		}
		if target, isLink := strings.CutPrefix(source, "@"); isLink {
			s.links = append(s.links, link{at: destination, to: target})
			continue
		}
		f, err := readFile(source, destination)
		if err != nil {
			return err
		}
		s.files = append(s.files, f)
	}

	img, err := s.image()
	if err != nil {
		return err
	}
	return writeTarball(*out, *ref, img)
}

func appendTo(list *[]string) func(string) error {
	return func(value string) error {
		*list = append(*list, value)
		return nil
	}
}
