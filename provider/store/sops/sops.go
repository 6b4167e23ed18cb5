// Package sops is the store of SOPS-encrypted documents: text that stands in a
// SecretProviderClass, in the store's configuration, or in files that a Git
// checkout or a ConfigMap volume brings to the node.
//
// It reads what the sops command writes (YAML, JSON, dotenv, INI, binary) with
// age keys, always checks the document's MAC, and needs no network and no
// server. It never writes, never runs another program, and never looks for
// keys where nobody told it to.
package sops

import (
	"context"
	"strings"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/store"
)

// Settings are the fields of a store of this kind. Exactly one of Document,
// File and Directory is set.
type Settings struct {
	// Document is a SOPS document's own text, at most 1 MiB.
	Document string `yaml:"document,omitempty"`
	// Format is how the documents are written. Default: by the file's
	// extension; where that says nothing, by what the text looks like.
	Format Format `yaml:"format,omitempty"`
	// File is the path of one document.
	File string `yaml:"file,omitempty"`
	// Directory is the path of a folder of documents.
	Directory string `yaml:"directory,omitempty"`
	// AgeKeyFile is the path of a file of age secret keys, one a line. It is
	// read on every fetch, so that a rotated Secret volume is picked up.
	// Without it the pod's own keys are used, from nodePublishSecretRef.
	AgeKeyFile string `yaml:"ageKeyFile,omitempty"`
}

// Check says what is wrong with the settings. An inline store may set only
// document and format: the node's files and keys are the platform's.
func (s *Settings) Check(inline bool) []store.Mistake {
	var found store.Mistakes
	add := found.Add
	places := 0
	for _, set := range []string{s.Document, s.File, s.Directory} {
		if set != "" {
			places++
		}
	}

	if inline {
		for _, f := range []struct{ name, value string }{
			{"file", s.File}, {"directory", s.Directory}, {"ageKeyFile", s.AgeKeyFile},
		} {
			if f.value != "" {
				add(f.name, "only a store that the platform configured may name files of the node; an inline one has document and format")
			}
		}

		if s.Document == "" {
			add("document", "is missing: an inline store of this kind is the encrypted document itself")
		}
	} else if places != 1 {
		add("document", "exactly one of document, file and directory must be set, and %d are", places)
	}
	if s.Document != "" {
		if len(s.Document) > maxDocument {
			add("document", "is larger than %d KiB", maxDocument>>10)
		} else if !strings.Contains(s.Document, marker) {
			add("document", "holds nothing that sops encrypted: run sops encrypt on it before it goes anywhere")
		}
	}

	if s.Format != "" && !s.Format.known() {
		add("format", "%q is none of yaml, json, dotenv, ini and binary", clip(string(s.Format)))
	}

	return found
}

// Kind is the store kind "sops".
func Kind() store.Kind {
	return store.Kind{
		Name:     "sops",
		Settings: func() store.Settings { return &Settings{} },
		Open:     open,
	}
}

func open(_ context.Context, c store.Config, id auth.Identity) (store.Store, error) {
	s, is := c.Settings.(*Settings)
	if !is {
		return nil, store.Errorf(store.Invalid, "has no sops settings")
	}
	r := &reader{settings: *s, secrets: id.Secrets}
	if s.Directory != "" {
		return &folder{reader: r, prefix: c.Prefix}, nil
	}
	return &single{reader: r}, nil
}
