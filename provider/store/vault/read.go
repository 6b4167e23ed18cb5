package vault

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/vault/api"

	"github.com/coffre-csi/coffre/auth/vault"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/ask"
)

// Types of object, beside the KV engine's secrets.
const (
	typeKV       = "kv"       // the default
	typeMetadata = "metadata" // the custom metadata of a secret of KV v2
	typeRead     = "read"     // any path, as PATH?QUERY: its data
	typeWrite    = "write"    // any path, as PATH?ARGUMENTS, by PUT: the data that it answers
)

// Types implements store.Typed.
func (o *opened) Types() []string { return []string{typeKV, typeMetadata, typeRead, typeWrite} }

// Pinned implements store.Pinner: a version of KV v2 never changes.
func (o *opened) Pinned(ref store.Ref) bool {
	return ref.Version != "" && ref.Extra == "" && (ref.Type == "" || ref.Type == typeKV)
}

// Extra is what a dialect asks beside a path: then the answer is the whole
// reply, in Vault's own form.
type Extra struct {
	Method string // as HTTP has it; "" is GET
	Args   string // the request's body, JSON; "" for none
}

// String is the canonical text, never empty.
func (e Extra) String() string {
	return url.Values{"method": {cmp.Or(e.Method, http.MethodGet)}, "args": {e.Args}}.Encode()
}

// read is one request, and what its answer is to become.
type read struct {
	ref   store.Ref
	call  vault.Call
	kv    int  // the version of the KV engine; 0 for another path
	reply bool // the whole reply is the value
}

// plan makes the request of a ref. Nothing of a name is sent unchecked.
func (o *opened) plan(ref store.Ref) (read, *store.Error) {
	rd := read{ref: ref, call: vault.Call{Method: http.MethodGet}}
	name, query, _ := strings.Cut(ref.Name, "?")
	if reason := pathFault(name); reason != "" {
		return rd, store.RefErrorf(store.Invalid, ref, "the path %s", reason)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return rd, store.RefErrorf(store.Invalid, ref, "what follows the ? is no query")
	}
	free := ref.Extra != "" || ref.Type == typeRead || ref.Type == typeWrite
	if query != "" && !free {
		return rd, store.RefErrorf(store.Invalid, ref, "a secret of the KV engine has no query; type: read takes one")
	}
	if ref.Version != "" && free {
		return rd, store.RefErrorf(store.Invalid, ref, "has no versions: only secrets of KV v2 have")
	}

	rd.call.Path = name
	switch {
	case ref.Extra != "":
		extra, _ := url.ParseQuery(ref.Extra)
		rd.call.Method, rd.reply, rd.call.Query = extra.Get("method"), true, values
		if args := extra.Get("args"); args != "" {
			rd.call.Body = []byte(args)
		}
	case ref.Type == typeRead:
		rd.call.Query = values
	case ref.Type == typeWrite:
		rd.call.Method, rd.call.Body = http.MethodPut, arguments(values)
	default:
		return o.planKV(rd, ref, name)
	}
	return rd, nil
}

// arguments are the body of a write.
func arguments(values url.Values) []byte {
	args := map[string]any{}
	for k, v := range values {
		if args[k] = v[0]; len(v) > 1 {
			args[k] = v
		}
	}
	raw, _ := json.Marshal(args) // texts and lists of texts
	return raw
}

func (o *opened) kvMount() string { return strings.TrimSuffix(cmp.Or(o.settings.Mount, "secret"), "/") }
func (o *opened) kvVersion() int  { return cmp.Or(o.settings.KVVersion, 2) }

func (o *opened) planKV(rd read, ref store.Ref, name string) (read, *store.Error) {
	rd.kv = o.kvVersion()
	folder := "data"
	if ref.Type == typeMetadata {
		folder = "metadata"
	}
	switch {
	case rd.kv == 2:
		rd.call.Path = path.Join(o.kvMount(), folder, name)
	case ref.Version != "" || ref.Type == typeMetadata:
		return rd, store.RefErrorf(store.Invalid, ref, "KV v1 has no versions and no metadata")
	default:
		rd.call.Path = path.Join(o.kvMount(), name)
	}
	if ref.Version != "" {
		n, err := strconv.ParseUint(ref.Version, 10, 32)
		if err != nil || n == 0 {
			return rd, store.RefErrorf(store.Invalid, ref, "version %.40q is no version of KV v2, such as 3", ref.Version)
		}
		rd.call.Query = url.Values{"version": {ref.Version}}
	}
	return rd, nil
}

const maxPath = 2048

// pathFault says why a text is no path below /v1/, "" where it is one.
func pathFault(p string) string {
	switch {
	case p == "":
		return "is missing"
	case len(p) > maxPath:
		return fmt.Sprintf("is longer than %d bytes", maxPath)
	case !utf8.ValidString(p), strings.ContainsFunc(p, unicode.IsControl):
		return "holds what is no text"
	case strings.ContainsAny(p, "\\#"):
		return `holds a \ or a #`
	}
	for element := range strings.SplitSeq(p, "/") {
		if element == ".." || element == "." {
			return "leaves its place by a . or .."
		}
		if element == "" {
			return "is not in its shortest form (no / at an end, no //)"
		}
	}
	return ""
}

// read makes the request, and a secret of the answer.
func (a *asking) read(ctx context.Context, rd read) (store.Secret, *store.Error) {
	asked := a.cloud.opts.Now()
	secret, by, err := a.call(ctx, strings.ToLower(rd.call.Method), rd.call)
	if err != nil {
		return store.Secret{}, a.refused(err, rd)
	}
	if secret != nil && secret.WrapInfo != nil && secret.Data == nil {
		if secret, err = a.unwrap(ctx, secret.WrapInfo.Token); err != nil {
			return store.Secret{}, a.refused(err, rd)
		}
	}

	if secret == nil {
		return store.Secret{}, store.RefErrorf(store.Invalid, rd.ref, `received empty response from "/v1/%s"`, rd.call.Path)
	}
	if secret.Data == nil && secret.Auth == nil {
		reason := store.Unavailable
		if rd.call.Method != http.MethodGet {
			reason = store.Invalid
		}
		return store.Secret{}, store.RefErrorf(reason, rd.ref, "empty response from %q, warnings: %q", rd.call.Path, secret.Warnings)
	}
	return a.made(secret, by, rd, asked)
}

// unwrap takes an answer out of its wrapping, as a proxy or a policy may have
// put it: the wrapping token is good for one use.
func (a *asking) unwrap(ctx context.Context, token string) (secret *api.Secret, err error) {
	caller := a.Caller
	caller.Judge = func(err error) ask.Verdict { return a.judge(err, signedIn{}) }
	_, err = caller.Do(ctx, "unwrap", func(ctx context.Context) (err error) {
		secret, err = a.login.Do(ctx, vault.Call{Method: http.MethodPost, Path: "sys/wrapping/unwrap", Token: token})
		return err
	})
	return secret, err
}

// made is the secret of an answer.
func (a *asking) made(secret *api.Secret, by vault.Credential, rd read, asked time.Time) (store.Secret, *store.Error) {
	var out store.Secret
	content, err := a.content(secret, rd)
	if err != nil {
		return out, err
	}
	out.Value = content
	if rd.reply {
		out.Value = a.cloud.steadied(steadyKey{a.login.Principal(), rd.ref}, secret)
	}

	switch {
	case secret.LeaseID != "" && secret.LeaseDuration > 0:
		ends := time.Duration(secret.LeaseDuration) * time.Second
		out.Until = earlier(asked.Add(ends), by.Expires())
		out.Lease = lease{ID: secret.LeaseID, Token: by.Reveal(), Renewable: secret.Renewable}.String()
		a.cloud.opts.Broker.Leased(by.Reveal())
	case secret.Data["certificate"] != nil:
		out.Until = certificateEnds(secret.Data)
	}
	out.Version = a.version(secret, content, rd)
	return out, nil
}

// content is what the value of an answer is: the keys of KV, the data of
// anything else.
func (a *asking) content(secret *api.Secret, rd read) (store.Value, *store.Error) {
	var of any = secret.Data
	switch {
	case rd.reply:
	case rd.ref.Type == typeMetadata:
		of = secret.Data["custom_metadata"]
		if of == nil {
			of = map[string]any{}
		}
	case rd.kv == 2:
		inner, ok := secret.Data["data"].(map[string]any)
		if !ok {
			return nil, store.RefErrorf(store.Invalid, rd.ref, "what stands at %q is no secret of KV v2: is %s a mount of KV v1 (kvVersion: 1), or another engine (type: read)?", rd.call.Path, a.kvMount())
		}
		of = inner
	}
	return marshal(of), nil
}

// marshal writes JSON as it came: text is not escaped further than it must be.
func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil { // of what was decoded from JSON
		return nil
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func earlier(a, b time.Time) time.Time {
	if b.IsZero() || a.Before(b) {
		return a
	}
	return b
}

// certificateEnds is when a certificate that was issued ends, zero where it
// does not say.
func certificateEnds(data map[string]any) time.Time {
	n, ok := data["expiration"].(json.Number)
	if !ok {
		return time.Time{}
	}
	seconds, err := n.Int64()
	if err != nil {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}
