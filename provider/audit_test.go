package provider

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"k8s.io/klog/v2"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/provider/store"
)

// auditLine is what a log collector reads of a line in JSON.
type auditLine struct {
	Msg, Dialect, Node, Namespace, ServiceAccount, Pod, SecretProviderClass, Role, Reason, Code string
	Secrets                                                                                     []AuditSecret
}

func audited(t *testing.T, d Delivery) (auditLine, string) {
	t.Helper()
	var out bytes.Buffer
	klog.SetSlogLogger(slog.New(slog.NewJSONHandler(&out, nil)))
	defer klog.ClearLogger()
	AuditLog("coffre", "node-1")(d)
	var line auditLine
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	return line, out.String()
}

func TestAuditNamesEverySecretOnceWithItsFilesAndNoValue(t *testing.T) {
	ref := store.Ref{Name: "prod/mysql"}
	source := plan.Source{Query: plan.Query{Ref: ref}}
	answer := plan.Answer{Store: "paris", Role: "arn:aws:iam::123456789012:role/shop", Found: []plan.Found{{Ref: ref, Secret: store.Secret{Value: store.Value("hunter2"), Version: "v7"}, Origin: plan.Fetched}}}
	line, text := audited(t, Delivery{
		Request: request.Request{Class: "mysql", Identity: auth.Identity{Namespace: "shop", ServiceAccount: "api", Pod: auth.Pod{Name: "api-1"}}},
		Asked: plan.Plan{Objects: []plan.Object{
			{Sources: []plan.Source{source}, Output: plan.Output{File: "password"}},
			{Sources: []plan.Source{source}, Output: plan.Output{File: "mysql/"}},
		}},
		Answers: []plan.Answer{answer, answer},
	})
	if line.Msg != "audit: delivered" || line.Node != "node-1" || line.Role != answer.Role || line.Pod != "api-1" || line.SecretProviderClass != "mysql" {
		t.Errorf("got %s", text)
	}
	if want := (AuditSecret{"paris", "prod/mysql", "v7", "password,mysql/", "fetched"}); len(line.Secrets) != 1 || line.Secrets[0] != want {
		t.Errorf("got %+v, want %+v once", line.Secrets, want)
	}
	if strings.Contains(text, "hunter2") {
		t.Error("the value is in the audit line")
	}
}

func TestARefusalIsAnAuditLineThatNamesWhatWasRefused(t *testing.T) {
	denied := &plan.QueryError{Query: plan.Query{Ref: store.Ref{Name: "prod/mysql", Version: "3"}}, Err: &store.Error{Reason: store.Denied, Store: "paris", Text: "access denied"}}
	line, text := audited(t, Delivery{Failed: unanswered(denied, func(err error) error { return err }).(*Failure)})
	if want := (AuditSecret{Store: "paris", Name: "prod/mysql", Version: "3", Result: "denied"}); line.Msg != "audit: denied" || len(line.Secrets) != 1 || line.Secrets[0] != want || line.Reason != "denied" || line.Code != "PermissionDenied" {
		t.Errorf("got %s", text)
	}
	line, text = audited(t, Delivery{Failed: &Failure{Code: codes.InvalidArgument, Reason: "invalid", Err: store.Errorf(store.Invalid, "x")}})
	if line.Msg != "audit: failed" || line.Secrets == nil || line.Reason != "invalid" {
		t.Errorf("got %s", text)
	}
}
