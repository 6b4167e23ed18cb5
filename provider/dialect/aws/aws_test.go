package aws

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/provider/store"
	awsstore "github.com/coffre-csi/coffre/provider/store/aws"
	"github.com/coffre-csi/coffre/test/cost"
)

func read(parameters map[string]string) (plan.Plan, error) {
	return Dialect{DefaultRegion: "eu-west-3"}.Plan(budget.New(context.Background(), nil, ""), request.Request{Class: "class", Parameters: parameters, Mode: 0o644, TargetPath: "/t", Identity: auth.Identity{Namespace: "shop", ServiceAccount: "api"}})
}

func objects(text string) map[string]string { return map[string]string{"objects": text} }

func TestObjectsShareOneStoreAKind(t *testing.T) {
	p, err := read(objects("[{objectName: a, objectType: secretsmanager}, {objectName: b, objectType: ssmparameter}, {objectName: c, objectType: secretsmanager, jmesPath: [{path: x, objectAlias: d}]}]"))
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	q := p.Queries()
	if len(q) != 4 || q[0].Store != q[2].Store || q[0].Store == q[1].Store || q[2].Ref != q[3].Ref {
		t.Errorf("%+v", q)
	}
	if s := q[0].Store.Inline; s.Kind != awsstore.SecretsManager || s.ProviderIdentity || !s.Inline {
		t.Errorf("%+v", s)
	}
}

func TestARefreshTimeReplacesReadingOnEveryRepublish(t *testing.T) {
	const list = "[{objectName: a, objectType: secretsmanager}, {objectName: b, objectType: secretsmanager, refresh: 1h}, {objectName: c, objectType: secretsmanager, objectVersion: '1'}]"
	p, err := read(objects(list))
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	q := p.Queries()
	if q[0].Volume == "" || q[0].Refresh != 0 || q[1].Volume != "" || q[1].Refresh != time.Hour || q[2].Refresh != store.Never {
		t.Errorf("%+v", q)
	}
	with := objects(list)
	with["refresh"] = "5m"
	if p, err = read(with); err != nil || p.Queries()[0].Volume != "" || p.Queries()[0].Refresh != 5*time.Minute || p.Queries()[1].Refresh != time.Hour {
		t.Errorf("%+v %v", p.Queries(), err)
	}
}

func TestEveryMistakeIsReported(t *testing.T) {
	_, err := read(map[string]string{"region": "us-east-1", "failoverRegion": "us-east-1", "usePodIdentity": "yes", "pathTranslation": "--",
		"objects": "- {objectName: a}\n-\n- {objectName: b, objectType: sts, filePermission: '9'}\n- {objectType: secretsmanager}\n"})
	for _, want := range []string{
		"us-east-1: failover region cannot be the same as the primary region", `failed to parse usePodIdentity value, error: strconv.ParseBool: parsing "yes": invalid syntax`,
		"pathTranslation must be either 'False' or a single character string", "objects[0]: Must use objectType when a full ARN is not specified: a",
		"objects[1]: Empty descriptor entry in SecretProviderClass", "objects[2]: Invalid objectType: sts", "objects[2]: Invalid File Permission: 9", "objects[3]: Object name must be specified",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func TestHostileObjectsAreAnErrorOrAPlan(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'j'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 9), ","))
	}
	for name, text := range map[string]string{
		"bomb": bomb, "bomb in a field": "- objectName: a\n  jmesPath:\n    " + strings.ReplaceAll(bomb, "\n", "\n    "),
		"in itself": "&a [*a]", "deep": strings.Repeat("[", 100_000), "nulls": "[null, ~, {objectName: null, jmesPath: null, failoverObject: null}]",
		"jmes nulls": "- {objectName: a, objectType: secretsmanager, jmesPath: [null, {path: null}]}", "numbers": "- {objectName: 1e999, objectType: 0x7f}",
		"many": "[" + strings.Repeat("{objectName: a},", 501) + "]", "long": "- {objectName: " + strings.Repeat("x", 900_000) + ", objectType: secretsmanager}",
		"huge": strings.Repeat("x", 2<<20), "NUL": "- {objectName: \"a\\0b\", objectType: secretsmanager}", "not UTF-8": "- {objectName: \"\xff\", objectType: secretsmanager}",
		"not UTF-8 alias": "- {objectName: a, objectAlias: \"\xff\", objectType: secretsmanager}", "crash": "- {objectName: a, objectType: secretsmanager, jmesPath: [{path: '`null`()', objectAlias: b}]}",
		"growth": "- {objectName: a, objectType: secretsmanager, jmesPath: [{path: '" + strings.Repeat("[@,@]|", 100) + "@', objectAlias: b}]}",
		"regexp": "- {objectName: '((((((a{1,100}){1,100}){1,100}){1,100}){1,100}){1,100})', objectType: secretsmanager, objectNameMatch: regexp}",
		"types":  "- [a]\n- a\n- {objectName: {a: b}}\n- {jmesPath: x}", "region": "",
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			parameters := objects(text)
			if name == "region" {
				parameters["region"], parameters["objects"] = "us-east-1/../../x@evil", "[{objectName: a, objectType: secretsmanager}]"
			}
			p, err := read(parameters)
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("took %s", took)
			}
			if err == nil && name != "crash" {
				for _, o := range p.Objects {
					if reason := plan.PathFault(o.Output.File); reason != "" && !o.Several() {
						t.Errorf("%q %s", o.Output.File, reason)
					}
				}
				if len(p.Objects) == 0 {
					t.Error("no objects and no error")
				}
			}
			if err == nil && name == "region" {
				t.Error("a host name of the tenant's own")
			}
		})
	}
}

func FuzzPlan(f *testing.F) {
	f.Add("us-east-1", "us-west-2", "", "false", "- {objectName: a, objectType: secretsmanager, objectAlias: b, failoverObject: {objectName: c}}")
	f.Add("", "", "_", "T", "- ObjectName: arn:aws:ssm:us-east-1:123456789012:parameter/x\n  jmesPath: [{Path: a.b, objectAlias: c, filePermission: '0400'}]")
	f.Add("", "", "False", "", "- &x {objectName: ../a, objectType: secretsmanager}\n- {<<: *x, objectNameMatch: regexp, jsonKeys: '*'}")
	f.Fuzz(func(t *testing.T, region, failover, translation, podIdentity, text string) {
		var p plan.Plan
		var err error
		cost.Of(t, len(region)+len(failover)+len(translation)+len(podIdentity)+len(text), func() {
			p, err = read(map[string]string{"region": region, "failoverRegion": failover, "pathTranslation": translation, "usePodIdentity": podIdentity, "objects": text})
		})
		if err != nil {
			return
		}
		for _, o := range p.Objects {
			if reason := plan.PathFault(o.Output.File); reason != "" && !o.Several() {
				t.Errorf("%q %s", o.Output.File, reason)
			}
		}
	})
}
