package sops

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// Format is how a document is written.
type Format string

// The formats that SOPS documents have.
const (
	YAML   Format = "yaml"
	JSON   Format = "json"
	Dotenv Format = "dotenv"
	INI    Format = "ini"
	Binary Format = "binary" // any bytes, kept under one key of a JSON object
)

func (f Format) known() bool {
	switch f {
	case YAML, JSON, Dotenv, INI, Binary:
		return true
	}
	return false
}

// marker stands in every SOPS document: its MAC at least is encrypted.
const marker = "ENC[AES256_GCM,"

// formatOf is the format that a file's name says, "" for a name that says none.
func formatOf(name string) Format {
	switch path.Ext(name) {
	case ".yaml", ".yml":
		return YAML
	case ".json":
		return JSON
	case ".env":
		return Dotenv
	case ".ini":
		return INI
	}
	return ""
}

// detect tells the format from where the metadata stands. A JSON object that
// holds nothing but an encrypted "data" is taken for a binary document.
func detect(text string) (Format, error) {
	if err := checkSize(text, JSON); err != nil {
		return "", err
	}
	if strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{") {
		branches, err := parseJSON(text, &budget{})
		if err != nil {
			return "", err
		}
		m := branches[0]
		i, err := step(m, "data")
		if _, other := step(m, metadataKey); err == nil && other == nil && len(m) == 2 {
			if s, is := m[i].value.(string); is && (s == "" || strings.HasPrefix(s, marker)) {
				return Binary, nil
			}
		}

		return JSON, nil
	}

	// Keys of a tenant may be called sops_token; the metadata's own are few.
	flat := 0
	found := Format("")
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		rest, isKey := strings.CutPrefix(line, metadataKey+":")
		switch {
		case line == "["+metadataKey+"]":
			found = INI
		case strings.HasPrefix(line, metadataPrefix+"mac="), strings.HasPrefix(line, metadataPrefix+"lastmodified="):
			flat++
		case isKey && strings.Trim(rest, " ") == "", isKey && strings.HasPrefix(strings.TrimLeft(rest, " "), "{"):
			found = YAML
		}
	}

	if flat == 2 {
		return Dotenv, nil
	}
	if found != "" {
		return found, nil
	}

	return "", errors.New("has no sops metadata, so it is not encrypted or not whole")
}

// parseText makes text a tree: one mapping a YAML document, one in all else.
func parseText(text string, f Format) ([]mapping, error) {
	if err := checkSize(text, f); err != nil {
		return nil, err
	}
	b := &budget{}
	switch f {
	case YAML:
		return parseYAML(text, b)
	case JSON, Binary:
		return parseJSON(text, b)
	case Dotenv:
		return parseDotenv(text, b)
	case INI:
		return parseINI(text, b)
	}

	return nil, fmt.Errorf("has the unknown format %q", clip(string(f)))
}

// emit writes a tree as `sops decrypt` writes it.
func emit(branches []mapping, f Format) (text []byte, err error) {
	// The libraries that write YAML and INI were made for their friends;
	// this tree is whatever a tenant encrypted.
	defer func() {
		if recover() != nil {
			text, err = nil, fmt.Errorf("cannot be written as %s", f)
		}
	}()

	switch f {
	case YAML:
		return emitYAML(branches)
	case JSON:
		return emitJSON(branches)
	case Dotenv:
		return emitDotenv(branches)
	case INI:
		return emitINI(branches)
	case Binary:
		return emitBinary(branches)
	}

	return nil, fmt.Errorf("has the unknown format %q", clip(string(f)))
}
