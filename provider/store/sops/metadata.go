package sops

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	metadataKey    = "sops"
	metadataPrefix = "sops_" // in dotenv, which has no nesting

	maxKeys       = 64   // master keys and key groups of one document
	maxPattern    = 4096 // bytes of a metadata regexp
	maxWrappedKey = 8192 // bytes of one encrypted data key
)

// A metadata says how a document was encrypted and for whom.
type metadata struct {
	groups       []keyGroup // each can give its share of the data key; one group gives all of it
	threshold    int        // how many shares make the data key, where there are several groups
	mac          string
	lastModified string // RFC 3339
	macOnly      bool   // the MAC covers encrypted values only
	rule         rule
}

// A keyGroup is a list of master keys, each of which decrypts the same share.
type keyGroup []masterKey

// A masterKey is one encrypted copy of a share and whose key opens it.
type masterKey struct {
	kind    string // "age", or what an error calls the key that it needs
	id      string // recipient, arn, resource id, URL or fingerprint
	wrapped string // the share, encrypted
}

// fields is a document's metadata flattened: "age/0/recipient" → "age1…". All
// formats come to this one form; dotenv and INI are flat to begin with.
type fields map[string]string

func (fs fields) put(path, value string) error {
	if _, twice := fs[path]; twice {
		return fmt.Errorf("has the metadata %q twice", clip(path))
	}
	fs[path] = value
	return nil
}

// addTree flattens nested metadata.
func (fs fields) addTree(path string, v any) error {
	join := func(part string) string {
		if path == "" {
			return part
		}
		return path + "/" + part
	}

	if len(path) > maxPath {
		return errors.New("has metadata with an absurdly long name")
	}
	switch v := v.(type) {
	case mapping:
		for _, e := range v {
			if _, is := e.value.(comment); is {
				continue
			}
			if err := fs.addTree(join(e.key), e.value); err != nil {
				return err
			}
		}
	case list:
		i := 0
		for _, item := range v {
			if _, is := item.(comment); is {
				continue
			}
			if err := fs.addTree(join(strconv.Itoa(i)), item); err != nil {
				return err
			}
			i++
		}
	case nil:
	default:
		return fs.put(path, plainText(v))
	}

	return nil
}

var unflatten = strings.NewReplacer("__map_", "/", "__list_", "/")

// addFlat takes one key that spells its path.
func (fs fields) addFlat(key string, v any) error {
	return fs.put(unflatten.Replace(key), plainText(v))
}

var errNoMetadata = errors.New("has no sops metadata, so it is not encrypted or not whole")

// takeMetadata splits a tree into the data and the metadata.
func takeMetadata(branches []mapping, f Format) ([]mapping, fields, error) {
	fs := fields{}
	if len(branches) == 0 {
		return nil, nil, errNoMetadata
	}
	data := make([]mapping, len(branches))
	found := false
	for b, m := range branches {
		data[b] = mapping{}
		for _, e := range m {
			_, isComment := e.value.(comment)
			var err error
			switch {
			case isComment, f == Dotenv && !strings.HasPrefix(e.key, metadataPrefix), f != Dotenv && e.key != metadataKey:
				data[b] = append(data[b], e)
			case b > 0: // every YAML document repeats it; the first one counts
			case f == Dotenv:
				found, err = true, fs.addFlat(e.key[len(metadataPrefix):], e.value)
			case found:
				return nil, nil, errors.New("has two entries named sops")
			case f == INI:
				found, err = true, fs.addSection(e.value)
			default:
				if _, is := e.value.(mapping); !is {
					return nil, nil, errNoMetadata
				}
				found, err = true, fs.addTree("", e.value)
			}
			if err != nil {
				return nil, nil, err
			}
		}
	}

	if !found {
		return nil, nil, errNoMetadata
	}

	return data, fs, nil
}

func (fs fields) addSection(v any) error {
	section, _ := v.(mapping)
	for _, e := range section {
		s, is := e.value.(string)
		if !is {
			continue
		}
		if err := fs.addFlat(e.key, strings.ReplaceAll(s, `\n`, "\n")); err != nil {
			return err
		}
	}
	return nil
}

// metadata reads what the fields mean.
func (fs fields) metadata() (metadata, error) {
	m := metadata{mac: fs["mac"], lastModified: fs["lastmodified"]}
	if m.mac == "" {
		return m, errors.New("has no MAC, so that nobody can tell whether it was changed")
	}
	when, err := time.Parse(time.RFC3339, m.lastModified)
	if err != nil {
		return m, errors.New("has no lastmodified time that can be read")
	}
	m.lastModified = when.Format(time.RFC3339)
	if s, is := fs["mac_only_encrypted"]; is && s != "" {
		if m.macOnly, err = strconv.ParseBool(s); err != nil {
			return m, errors.New("has a mac_only_encrypted that is neither true nor false")
		}
	}

	if m.rule, err = fs.rule(); err != nil {
		return m, err
	}

	return m, fs.keys(&m)
}

func (fs fields) keys(m *metadata) error {
	count := 0
	group, err := fs.group("", &count)
	if err != nil {
		return err
	}
	if len(group) > 0 {
		m.groups = []keyGroup{group}
		return nil
	}
	for i := 0; ; i++ {
		if group, err = fs.group(fmt.Sprintf("key_groups/%d/", i), &count); err != nil {
			return err
		}
		if len(group) == 0 {
			break
		}
		m.groups = append(m.groups, group)
	}

	if len(m.groups) == 0 {
		return errors.New("names no keys that it was encrypted for")
	}
	m.threshold = len(m.groups)
	if s, is := fs["shamir_threshold"]; is {
		t, err := strconv.Atoi(s)
		if err != nil || t < 0 || t > len(m.groups) {
			return errors.New("has a shamir_threshold that does not fit its key groups")
		}
		if t > 0 {
			m.threshold = t
		}
	}

	return nil
}

// masterKinds are the kinds of keys that SOPS knows: where they stand in the
// metadata, what a person calls them and which fields name one.
var masterKinds = []struct {
	field, name string
	id          []string
	join        func([]string) string
}{
	{"age", "age", []string{"recipient"}, first},
	{"kms", "AWS KMS key", []string{"arn"}, first},
	{"gcp_kms", "Google Cloud KMS key", []string{"resource_id"}, first},
	{"azure_kv", "Azure Key Vault key", []string{"vault_url", "name", "version"}, func(p []string) string {
		return strings.TrimRight(p[0], "/") + "/keys/" + p[1] + "/" + p[2]
	}},
	{"hc_vault", "Vault transit key", []string{"vault_address", "engine_path", "key_name"}, func(p []string) string {
		return strings.TrimRight(p[0], "/") + "/v1/" + p[1] + "/keys/" + p[2]
	}},
	{"pgp", "PGP key", []string{"fp"}, first},
	{"hckms", "Huawei Cloud KMS key", []string{"key_id"}, first},
}

func first(parts []string) string { return parts[0] }

func (fs fields) group(prefix string, count *int) (keyGroup, error) {
	var g keyGroup
	for _, kind := range masterKinds {
		for i := 0; ; i++ {
			at := fmt.Sprintf("%s%s/%d/", prefix, kind.field, i)
			wrapped, is := fs[at+"enc"]
			parts, named := make([]string, len(kind.id)), false
			for p, id := range kind.id {
				parts[p] = fs[at+id]
				named = named || parts[p] != ""
			}

			if !is && !named {
				break
			}
			if *count++; *count > maxKeys {
				return nil, fmt.Errorf("is encrypted for more than %d keys", maxKeys)
			}
			if len(wrapped) > maxWrappedKey {
				return nil, errors.New("has an encrypted data key that is absurdly long")
			}
			g = append(g, masterKey{kind: kind.name, id: kind.join(parts), wrapped: wrapped})
		}
	}

	return g, nil
}

// A rule says which values are encrypted. A key, or with onComments a comment
// above it, is marked or not; a mark holds for everything below it.
type rule struct {
	marks      func(string) bool
	onComments bool
	encrypts   bool // marked values are the encrypted ones, instead of the clear ones
}

func (fs fields) rule() (rule, error) {
	r := rule{marks: suffix("_unencrypted")}
	n := 0
	for _, choice := range []struct {
		field                        string
		regexp, onComments, encrypts bool
	}{
		{"unencrypted_suffix", false, false, false},
		{"encrypted_suffix", false, false, true},
		{"unencrypted_regex", true, false, false},
		{"encrypted_regex", true, false, true},
		{"unencrypted_comment_regex", true, true, false},
		{"encrypted_comment_regex", true, true, true},
	} {
		text := fs[choice.field]
		if text == "" {
			continue
		}
		if n++; n > 1 {
			return r, errors.New("has several rules for what is encrypted, of which there may be one")
		}
		r = rule{marks: suffix(text), onComments: choice.onComments, encrypts: choice.encrypts}
		if choice.regexp {
			re, err := regexp.Compile(text)
			if err != nil || len(text) > maxPattern {
				return r, fmt.Errorf("has the %s %q, which is no regular expression", choice.field, clip(text))
			}
			r.marks = re.MatchString
		}
	}

	return r, nil
}

func suffix(s string) func(string) bool {
	return func(key string) bool { return strings.HasSuffix(key, s) }
}
