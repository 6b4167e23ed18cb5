package aws

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	awsauth "github.com/coffre-csi/coffre/auth/aws"
	"github.com/coffre-csi/coffre/provider/store"
)

// world is AWS behind a RoundTripper: the real SDK on one side, the wire
// formats on the other, and no network, so that time may be a bubble's.
type world struct {
	mu         sync.Mutex
	secrets    map[string]map[string][]version // region, name
	parameters map[string]map[string][]version
	calls      map[string]int // "secretsmanager:us-east-1:GetSecretValue"
	bodies     []string
	fault      func(service, region, op string, body map[string]any) *fakeFault
	latency    time.Duration
	requested  map[string]int
	exchanged  map[string]int
	roles      map[string]string // annotation by namespace/name
}

type version struct {
	id     string
	stages []string
	value  string
	binary bool
	tags   map[string]string
}

type fakeFault struct {
	status        int
	code, message string
	hang          bool
	broken        bool
	after         string
}

func newWorld() *world {
	return &world{
		secrets: map[string]map[string][]version{"us-east-1": {}, "eu-west-1": {}}, parameters: map[string]map[string][]version{"us-east-1": {}, "eu-west-1": {}},
		calls: map[string]int{}, requested: map[string]int{}, exchanged: map[string]int{},
		roles: map[string]string{"shop/api": "arn:aws:iam::123456789012:role/shop"},
	}
}

func (w *world) Requested(kind, op, code string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requested[kind+" "+op+" "+code]++
}

func (w *world) Exchanged(kind, result string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.exchanged[kind+" "+result]++
}

func (w *world) ServiceAccountAnnotation(_ context.Context, namespace, name, key string) (string, error) {
	return w.roles[namespace+"/"+name], nil
}

func (w *world) count(call string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[call]
}

func (w *world) total(suffix string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for call, k := range w.calls {
		if strings.HasSuffix(call, suffix) {
			n += k
		}
	}
	return n
}

func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	raw, _ := io.ReadAll(req.Body)
	req.Body.Close()
	host := strings.Split(req.URL.Host, ".")
	service, region := host[0], host[1]
	op, body := "", map[string]any{}
	if service == "sts" {
		form := string(raw)
		op = strings.TrimPrefix(form[:strings.Index(form, "&")], "Action=")
		if strings.HasPrefix(form, "Action=") == false {
			for part := range strings.SplitSeq(form, "&") {
				if a, ok := strings.CutPrefix(part, "Action="); ok {
					op = a
				}
			}
		}
	} else {
		_, op, _ = strings.Cut(req.Header.Get("X-Amz-Target"), ".")
		if err := json.Unmarshal(raw, &body); err != nil {
			panic(err)
		}
		if !strings.Contains(req.Header.Get("Authorization"), "/"+region+"/") {
			return respond(req, 400, `{"__type":"InvalidSignatureException","message":"scope"}`, ""), nil
		}
	}
	w.mu.Lock()
	w.calls[service+":"+region+":"+op]++
	w.bodies = append(w.bodies, string(raw))
	var f *fakeFault
	if w.fault != nil {
		f = w.fault(service, region, op, body)
	}
	w.mu.Unlock()
	if f != nil && f.hang {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	if f != nil && f.broken {
		return nil, fmt.Errorf("dial tcp: connection refused")
	}
	if w.latency > 0 {
		select {
		case <-time.After(w.latency):
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
	if f != nil {
		if service == "sts" {
			return respond(req, f.status, fmt.Sprintf(`<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>rq-1</RequestId></ErrorResponse>`, f.code, f.message), f.after), nil
		}
		return respond(req, f.status, fmt.Sprintf(`{"__type":%q,"message":%q}`, f.code, f.message), f.after), nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	status, text := w.answer(service, region, op, body)
	return respond(req, status, text, ""), nil
}

func respond(req *http.Request, status int, text, after string) *http.Response {
	h := http.Header{"X-Amzn-Requestid": {"rq-1"}, "Content-Type": {"application/x-amz-json-1.1"}}
	if after != "" {
		h.Set("Retry-After", after)
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: io.NopCloser(bytes.NewReader([]byte(text))), ContentLength: int64(len(text)), Request: req}
}

func refusal(code, message string) (int, string) {
	return 400, fmt.Sprintf(`{"__type":%q,"message":%q}`, code, message)
}

func asJSON(v any) (int, string) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return 200, string(text)
}

func (w *world) answer(service, region, op string, body map[string]any) (int, string) {
	switch op {
	case "AssumeRoleWithWebIdentity", "AssumeRole":
		expires := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
		return 200, fmt.Sprintf(`<%[1]sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%[1]sResult><Credentials><AccessKeyId>AKIA%[2]d</AccessKeyId><SecretAccessKey>secret-key</SecretAccessKey><SessionToken>t</SessionToken><Expiration>%[3]s</Expiration></Credentials></%[1]sResult></%[1]sResponse>`, op, w.calls["sts:"+region+":"+op], expires)
	case "GetSecretValue":
		name, _ := body["SecretId"].(string)
		versionID, _ := body["VersionId"].(string)
		stage, _ := body["VersionStage"].(string)
		v, code, message := w.secret(region, name, versionID, stage)
		if code != "" {
			return refusal(code, message)
		}
		return asJSON(wireSecret(region, name, v))
	case "BatchGetSecretValue":
		ids := body["SecretIdList"].([]any)
		if len(ids) > 20 {
			return refusal("ValidationException", "too many")
		}
		var values, errs []any
		for _, id := range ids {
			v, code, message := w.secret(region, id.(string), "", "")
			if code != "" {
				errs = append(errs, map[string]any{"SecretId": id, "ErrorCode": code, "Message": message})
				continue
			}
			values = append(values, wireSecret(region, id.(string), v))
		}
		slices.Reverse(values)
		return asJSON(map[string]any{"SecretValues": values, "Errors": errs})
	case "GetParameters":
		return w.getParameters(region, body)
	case "ListSecrets", "GetParametersByPath", "DescribeParameters":
		return w.page(region, op, body)
	}
	return refusal("UnknownOperationException", "")
}

// nameOf an id: itself, or what an ARN names.
func nameOf(id string) string {
	parts := strings.SplitN(id, ":", 7)
	if len(parts) == 7 {
		return strings.TrimSuffix(parts[6], "-AbCdEf")
	}
	return id
}

func (w *world) secret(region, id, versionID, stage string) (version, string, string) {
	versions, ok := w.secrets[region][nameOf(id)]
	if !ok {
		return version{}, "ResourceNotFoundException", "Secrets Manager can't find the specified secret."
	}
	if versionID == "" && stage == "" {
		stage = "AWSCURRENT"
	}
	for _, v := range versions {
		if (versionID == "" || v.id == versionID) && (stage == "" || slices.Contains(v.stages, stage)) {
			return v, "", ""
		}
	}
	if versionID != "" {
		return version{}, "ResourceNotFoundException", "Secrets Manager can't find the specified secret value for VersionId: " + versionID
	}
	return version{}, "ResourceNotFoundException", "Secrets Manager can't find the specified secret value for staging label: " + stage
}

func wireSecret(region, id string, v version) map[string]any {
	name := nameOf(id)
	out := map[string]any{"Name": name, "ARN": "arn:aws:secretsmanager:" + region + ":123456789012:secret:" + name + "-AbCdEf", "VersionId": v.id}
	if v.binary {
		out["SecretBinary"] = base64.StdEncoding.EncodeToString([]byte(v.value))
	} else {
		out["SecretString"] = v.value
	}
	return out
}

func (w *world) getParameters(region string, body map[string]any) (int, string) {
	names := body["Names"].([]any)
	if len(names) > 10 {
		return refusal("ValidationException", "too many")
	}
	var found, invalid []any
	for _, n := range names {
		id := n.(string)
		base, arn := id, ""
		if parts := strings.SplitN(id, ":", 6); len(parts) == 6 {
			arn, base = id, strings.TrimPrefix(parts[5], "parameter")
		}
		base, selector, _ := strings.Cut(base, ":")
		versions := w.parameters[region][base]
		at := len(versions) - 1
		if selector != "" {
			at = slices.IndexFunc(versions, func(v version) bool { return v.id == selector || slices.Contains(v.stages, selector) })
		}
		if at < 0 {
			invalid = append(invalid, id)
			continue
		}
		number := json.Number(versions[at].id)
		p := map[string]any{"Name": base, "ARN": "arn:aws:ssm:" + region + ":123456789012:parameter/" + strings.TrimPrefix(base, "/"), "Value": versions[at].value, "Version": number, "Type": "SecureString"}
		if arn != "" {
			p["ARN"] = arn
		}
		if selector != "" {
			p["Selector"] = ":" + selector
		}
		found = append(found, p)
	}
	slices.Reverse(found)
	return asJSON(map[string]any{"Parameters": found, "InvalidParameters": invalid})
}

// page answers searches two names at a time.
func (w *world) page(region, op string, body map[string]any) (int, string) {
	all, list := w.secrets[region], "SecretList"
	if op != "ListSecrets" {
		all, list = w.parameters[region], "Parameters"
	}
	var names []string
	for name, versions := range all {
		if path, ok := body["Path"].(string); ok && !strings.HasPrefix(name, strings.TrimSuffix(path, "/")+"/") {
			continue
		}
		_ = versions
		names = append(names, name)
	}
	slices.Sort(names)
	if token, ok := body["NextToken"].(string); ok {
		i, _ := slices.BinarySearch(names, token)
		names = names[i:]
	}
	out := map[string]any{}
	if len(names) > 2 {
		out["NextToken"], names = names[2], names[:2]
	}
	var items []any
	for _, name := range names {
		var tags []any
		for k, v := range all[name][0].tags {
			tags = append(tags, map[string]any{"Key": k, "Value": v})
		}
		items = append(items, map[string]any{"Name": name, "Tags": tags})
	}
	out[list] = items
	return asJSON(out)
}

func current(value string) []version {
	return []version{{id: "11111111-2222-3333-4444-" + fmt.Sprintf("%012d", len(value)), stages: []string{"AWSCURRENT"}, value: value}}
}

func identity() auth.Identity {
	return auth.Identity{Namespace: "shop", ServiceAccount: "api", Pod: auth.Pod{Name: "api-0", UID: "u"},
		Tokens: auth.Tokens{awsauth.AudienceIRSA: auth.NewToken("pod-token", time.Time{})}}
}

func (w *world) kinds() store.Kinds {
	sdk := awsauth.NewSDK(awsauth.SDKOptions{Version: "test", Transport: w})
	return Kinds(Options{SDK: sdk, Metrics: w, Broker: awsauth.New(awsauth.Options{SDK: sdk, ServiceAccounts: w, Metrics: w})})
}

// opener opens stores of one process.
func (w *world) opener(t testing.TB) func(kind string, s Settings, timeout time.Duration) store.Store {
	kinds := w.kinds()
	return func(kind string, s Settings, timeout time.Duration) store.Store {
		t.Helper()
		if s.Region == "" {
			s.Region = "us-east-1"
		}
		config, errs := Inline(kind, "test", s, store.InlineOptions{Dialect: store.OwnDialect, Timeout: timeout})
		if errs != nil {
			t.Fatal(errs)
		}
		for _, k := range kinds {
			if k.Name == kind {
				opened, err := k.Open(t.Context(), *config, identity())
				if err != nil {
					t.Fatal(err)
				}
				return opened
			}
		}
		panic(kind)
	}
}

func (w *world) open(t testing.TB, kind string, s Settings) store.Store {
	t.Helper()
	return w.opener(t)(kind, s, 0)
}

// node is a node's region, or why it is not known.
type node struct {
	region string
	err    error
}

func (n node) Region(context.Context, string, string) (string, error) { return n.region, n.err }
