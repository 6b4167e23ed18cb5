package sops

import (
	"bytes"
	"errors"
	"strings"

	"gopkg.in/ini.v1"
)

// INI has no standard. What a quote, a ; inside a value or a comment's place
// mean is what the library that the sops command uses makes of them, so this
// file uses the same one; the rest of its abilities is not called.

func iniOptions() ini.LoadOptions { return ini.LoadOptions{AllowNonUniqueSections: true} }

func parseINI(text string, b *budget) (branches []mapping, err error) {
	bad := errors.New("is not INI: a line that is no [section], no comment and no key = value, or an unclosed quote")
	defer func() {
		if recover() != nil {
			branches, err = nil, bad
		}
	}()

	file, err := ini.LoadSources(iniOptions(), []byte(text))
	if err != nil {
		return nil, bad // the library's text quotes the line
	}
	m := mapping{}
	for _, s := range file.Sections() {
		if err := b.spend(1); err != nil {
			return nil, err
		}
		section := mapping{}
		if s.Comment != "" {
			section = append(section, entry{value: comment{text: iniComment(s.Comment)}})
		}
		for _, k := range s.Keys() {
			if err := b.spend(2); err != nil {
				return nil, err
			}
			section = append(section, entry{key: k.Name(), value: k.Value()})
			// A comment stands above its key in the text and behind it in the
			// tree: that is the order in which it was encrypted.
			if k.Comment != "" {
				section = append(section, entry{value: comment{text: iniComment(k.Comment)}})
			}
		}

		m = append(m, entry{key: s.Name(), value: section})
	}

	return []mapping{m}, nil
}

func iniComment(s string) string {
	switch s[0] {
	case ';':
		return strings.TrimLeft(s, "; ")
	case '#':
		return strings.TrimLeft(s, "# ")
	}
	return s
}

func emitINI(branches []mapping) ([]byte, error) {
	file := ini.Empty(iniOptions())
	file.DeleteSection(ini.DefaultSection)
	for _, e := range branches[0] {
		if _, is := e.value.(comment); is {
			continue
		}
		keys, is := e.value.(mapping)
		if !is {
			return nil, errors.New("is not INI: a key stands outside every section")
		}
		if err := emitSection(file, e.key, keys); err != nil {
			return nil, err
		}
	}

	var out bytes.Buffer
	if _, err := file.WriteTo(&out); err != nil {
		return nil, errors.New("cannot be written as INI")
	}

	return out.Bytes(), nil
}

func emitSection(file *ini.File, name string, keys mapping) error {
	bad := errors.New("is not INI: a section or key has no name")
	section, err := file.NewSection(name)
	if err != nil {
		return bad
	}
	var last *ini.Key
	for i, e := range keys {
		switch v := e.value.(type) {
		case comment:
			if i == 0 {
				section.Comment = v.text
			} else if last != nil {
				last.Comment = v.text
			}
		case mapping, list:
			return errors.New("is not INI: a value has parts")
		default:
			if last, err = section.NewKey(e.key, plainText(v)); err != nil {
				return bad
			}
		}
	}

	return nil
}
