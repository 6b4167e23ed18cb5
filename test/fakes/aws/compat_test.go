package aws_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/fakes/kubernetes"
)

// aCase is of the project's own making, in the form of the observed cases.
const aCase = `{
  "name": "one of each", "parameters": {"region": "us-east-1"},
  "secrets": {
    "secretsmanager": {"us-east-1": {
      "Text": {"versions": [{"id": "T-1", "stages": ["AWSPREVIOUS"], "string": "old"}, {"id": "T-2", "stages": ["AWSCURRENT"], "string": "new"}]},
      "Bytes": {"arn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:Bytes-Xx1234", "versions": [{"id": "B-1", "binaryBase64": "AAE="}]}}},
    "ssm": {"us-east-1": {"/a/b": {"versions": [{"version": 1, "value": "p", "labels": ["live"]}]}}}},
  "faults": [{"service": "ssm", "op": "GetParameters", "status": 500, "code": "InternalServerError", "message": "boom", "times": 1}],
  "expect": {"calls": ["sts:us-east-1:AssumeRoleWithWebIdentity", "secretsmanager:us-east-1:GetSecretValue Text@T-1",
    "secretsmanager:us-east-1:GetSecretValue Bytes", "ssm:us-east-1:GetParameters /a/b:live", "ssm:us-east-1:GetParameters /a/b:live"]}
}`

func TestACaseIsExpressible(t *testing.T) {
	loaded := ok[aws.World](t)(aws.LoadCompat([]byte(aCase)))
	w := start(t, aws.Options{AcceptAnyToken: true})
	w.Replace(loaded)
	cfg := w.config()
	cfg.Region = "us-east-1"
	cfg.Credentials = sdk.NewCredentialsCache(stscreds.NewWebIdentityRoleProvider(sts.NewFromConfig(cfg), "r", tokenText("irsa-token")))
	c, p := secretsmanager.NewFromConfig(cfg), ssm.NewFromConfig(cfg)
	text := ok[*secretsmanager.GetSecretValueOutput](t)(c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("Text"), VersionId: str("T-1")}))
	bytes := ok[*secretsmanager.GetSecretValueOutput](t)(c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("Bytes")}))
	in := &ssm.GetParametersInput{Names: []string{"/a/b:live"}}
	_, err := p.GetParameters(ctx, in)
	wantCode(t, err, "InternalServerError", "boom")
	params := ok[*ssm.GetParametersOutput](t)(p.GetParameters(ctx, in))
	if *text.SecretString != "old" || string(bytes.SecretBinary) != "\x00\x01" || len(params.Parameters) != 1 {
		t.Error("values")
	}
	var want struct{ Expect struct{ Calls []string } }
	if err := json.Unmarshal([]byte(aCase), &want); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if got := w.Notation(); !slices.Equal(got, want.Expect.Calls) {
		t.Errorf("calls %q", got)
	}
	w.Replace(aws.World{})
	_, err = c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("Text")})
	wantCode(t, err, "ResourceNotFoundException", "")
}

func TestUnknownFieldsInsideAWorldAreErrors(t *testing.T) {
	for _, bad := range []string{
		`{"secrets": {"secretmanager": {}}}`,
		`{"secrets": {"secretsmanager": {"r": {"n": {"version": []}}}}}`,
		`{"secrets": {"secretsmanager": {"r": {"n": {"versions": [{"text": "x"}]}}}}}`,
		`{"faults": [{"opp": "x"}]}`, `{"roles": [{"name": "x"}]}`, `[]`,
	} {
		if _, err := aws.LoadCompat([]byte(bad)); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

// TestEveryCaseLoads reads every case that the compatibility tests replay, and
// serves every value that they hold.
func TestEveryCaseLoads(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "compat", "testdata", "aws.json"))
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	var cases []json.RawMessage
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	w := start(t, aws.Options{AcceptAnyToken: true})
	api := kubernetes.New()
	values := 0
	for _, raw := range cases {
		var c struct {
			Name  string
			Steps []json.RawMessage
		}
		if err := json.Unmarshal(raw, &c); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		for _, step := range append(c.Steps, raw) {
			loaded, err := aws.LoadCompat(step)
			if err != nil {
				t.Errorf("%s: %v", c.Name, err)
			}
			k, err := kubernetes.LoadCompat(step)
			if err != nil {
				t.Errorf("%s: %v", c.Name, err)
			}
			api.Replace(k)
			w.Replace(loaded)
			w.ClearFaults()
			values += readAll(t, w, c.Name, loaded)
		}
	}
	if values == 0 {
		t.Error("no value was read")
	}
}

// readAll reads each version of a world by its id and compares.
func readAll(t *testing.T, w *world, name string, loaded aws.World) (n int) {
	for r, secrets := range loaded.Secrets.SecretsManager {
		cfg := w.asShop(t)
		cfg.Region = r
		c := secretsmanager.NewFromConfig(cfg)
		for id, secret := range secrets {
			for _, v := range secret.Versions {
				out, err := c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &id, VersionId: &v.ID})
				if err != nil || v.String != nil && *out.SecretString != *v.String || string(out.SecretBinary) != string(v.Binary) {
					t.Errorf("%s: %s@%s: %v", name, id, v.ID, err)
				}
				n++
			}
		}
	}
	for r, params := range loaded.Secrets.SSM {
		cfg := w.asShop(t)
		cfg.Region = r
		for id, p := range params {
			decrypt := true
			out, err := ssm.NewFromConfig(cfg).GetParameters(ctx, &ssm.GetParametersInput{Names: []string{id}, WithDecryption: &decrypt})
			if err != nil || len(p.Versions) > 0 && len(out.Parameters) != 1 {
				t.Errorf("%s: %s: %v", name, strings.TrimSpace(id), err)
			}
			n++
		}
	}
	return n
}
