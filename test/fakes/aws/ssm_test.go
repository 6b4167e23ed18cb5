package aws_test

import (
	"fmt"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/coffre-csi/coffre/test/fakes/aws"
)

func param(values ...string) aws.Parameter {
	var p aws.Parameter
	for i, v := range values {
		p.Versions = append(p.Versions, aws.ParameterVersion{Version: int64(i + 1), Value: v, Labels: []string{"label-" + v}})
	}
	return p
}

func TestParametersBySelectorAndARN(t *testing.T) {
	w := start(t, aws.Options{})
	w.SetParameter(region, "/app/db", param("one", "two"))
	w.SetParameter(region, "plain", param("p"))
	c := w.parameters(t)
	arn := aws.ParameterARN(region, "/app/db")
	out := ok[*ssm.GetParametersOutput](t)(c.GetParameters(ctx, &ssm.GetParametersInput{WithDecryption: sdk.Bool(true), Names: []string{
		"plain", "/app/db", "/app/db:1", "/app/db:label-one", arn, arn + ":1", "none", "/app/db:9", "/app/db:green"}}))
	var got []string
	for _, p := range out.Parameters {
		got = append(got, fmt.Sprintf("%s%s=%s/%d", *p.Name, sdk.ToString(p.Selector), *p.Value, p.Version))
	}
	want := "/app/db=two/2 /app/db:1=one/1 /app/db:label-one=one/1 /app/db=two/2 /app/db:1=one/1 plain=p/1"
	if strings.Join(got, " ") != want {
		t.Errorf("got %s", strings.Join(got, " "))
	}
	if strings.Join(out.InvalidParameters, " ") != "/app/db:9 /app/db:green none" {
		t.Errorf("invalid: %q", out.InvalidParameters)
	}
}

func TestParametersBounds(t *testing.T) {
	w := start(t, aws.Options{})
	c := w.parameters(t)
	var names []string
	for i := range 11 {
		names = append(names, fmt.Sprint("p", i))
	}
	_, err := c.GetParameters(ctx, &ssm.GetParametersInput{Names: names})
	wantCode(t, err, "ValidationException", "")
	_, err = c.GetParameters(ctx, &ssm.GetParametersInput{Names: []string{}})
	wantCode(t, err, "ValidationException", "")
	_, err = c.GetParameters(ctx, &ssm.GetParametersInput{Names: []string{"a", "a"}})
	wantCode(t, err, "ValidationException", "")
	ok[*ssm.GetParametersOutput](t)(c.GetParameters(ctx, &ssm.GetParametersInput{Names: names[:10]}))
}

func TestSecureStringStaysCiphertextWithoutDecryption(t *testing.T) {
	w := start(t, aws.Options{})
	w.SetParameter(region, "s", param("clear"))
	w.SetParameter(region, "p", aws.Parameter{Type: "String", Versions: param("clear").Versions})
	c := w.parameters(t)
	get := func(name string, decrypt bool) string {
		return *ok[*ssm.GetParameterOutput](t)(c.GetParameter(ctx, &ssm.GetParameterInput{Name: &name, WithDecryption: &decrypt})).Parameter.Value
	}
	if get("s", true) != "clear" || get("s", false) == "clear" || get("p", false) != "clear" {
		t.Error("decryption is not as the type says")
	}
}

func TestParameterErrors(t *testing.T) {
	w := start(t, aws.Options{})
	w.SetParameter(region, "p", param("x"))
	c := w.parameters(t)
	_, err := c.GetParameter(ctx, &ssm.GetParameterInput{Name: str("none")})
	wantCode(t, err, "ParameterNotFound", "")
	_, err = c.GetParameter(ctx, &ssm.GetParameterInput{Name: str("p:7")})
	wantCode(t, err, "ParameterVersionNotFound", "")
	remove := w.AddFault(aws.Fault{Service: aws.SSM, Status: 400, Code: "InvalidKeyId", Message: "The query key ID isn't valid"})
	_, err = c.GetParameter(ctx, &ssm.GetParameterInput{Name: str("p")})
	wantCode(t, err, "InvalidKeyId", "The query key ID isn't valid")
	remove()
	ok[*ssm.GetParameterOutput](t)(c.GetParameter(ctx, &ssm.GetParameterInput{Name: str("p")}))

	w.AddRole(aws.Role{ARN: shopARN, Subjects: []string{"*"}, Permissions: []aws.Rule{{Actions: []string{"ssm:GetParameters"}, Resources: []string{"*:parameter/ok"}}}})
	c = w.parameters(t)
	_, err = c.GetParameters(ctx, &ssm.GetParametersInput{Names: []string{"ok", "p"}})
	wantCode(t, err, "AccessDeniedException", "User: "+shop+" is not authorized to perform: ssm:GetParameters on resource: "+
		aws.ParameterARN(region, "p")+" because no identity-based policy allows the ssm:GetParameters action")
}

func TestParametersByPath(t *testing.T) {
	w := start(t, aws.Options{})
	for i := range 12 {
		w.SetParameter(region, fmt.Sprintf("/app/%02d", i), param("x"))
	}
	w.SetParameter(region, "/app/deep/er", param("y"))
	w.SetParameter(region, "/apple", param("z"))
	c := w.parameters(t)
	count := func(path string, recursive bool) (n int) {
		pages := ssm.NewGetParametersByPathPaginator(c, &ssm.GetParametersByPathInput{Path: &path, Recursive: &recursive})
		for pages.HasMorePages() {
			n += len(ok[*ssm.GetParametersByPathOutput](t)(pages.NextPage(ctx)).Parameters)
		}
		return n
	}
	if a, b, all := count("/app", false), count("/app/", true), count("/", true); a != 12 || b != 13 || all != 14 {
		t.Errorf("got %d, %d and %d", a, b, all)
	}
	for _, path := range []string{"app", "", "/a b"} {
		_, err := c.GetParametersByPath(ctx, &ssm.GetParametersByPathInput{Path: &path})
		wantCode(t, err, "ValidationException", "")
	}
	_, err := c.GetParametersByPath(ctx, &ssm.GetParametersByPathInput{Path: str("/app"), MaxResults: sdk.Int32(11)})
	wantCode(t, err, "ValidationException", "")
	_, err = c.GetParametersByPath(ctx, &ssm.GetParametersByPathInput{Path: str("/app"), NextToken: str("rubbish")})
	wantCode(t, err, "InvalidNextToken", "")
}

func TestDescribeParameters(t *testing.T) {
	w := start(t, aws.Options{})
	w.SetParameter(region, "/app/a", param("x"))
	w.SetParameter(region, "/app/b", aws.Parameter{Tags: map[string]string{"team": "shop"}, Versions: param("x").Versions})
	c := w.parameters(t)
	count := func(key, option, value string) int {
		return len(ok[*ssm.DescribeParametersOutput](t)(c.DescribeParameters(ctx, &ssm.DescribeParametersInput{
			ParameterFilters: []types.ParameterStringFilter{{Key: &key, Option: &option, Values: []string{value}}}})).Parameters)
	}
	if count("Name", "BeginsWith", "/app") != 2 || count("Name", "Equals", "/app/a") != 1 || count("tag:team", "Equals", "shop") != 1 ||
		count("Path", "OneLevel", "/app") != 2 || count("Type", "Equals", "String") != 0 {
		t.Error("filters")
	}
}

func TestParameterVersionsGrow(t *testing.T) {
	w := start(t, aws.Options{})
	if a, b := w.SetParameterValue(region, "p", "a"), w.SetParameterValue(region, "p", "b"); a != 1 || b != 2 {
		t.Errorf("versions %d, %d", a, b)
	}
	c := w.parameters(t)
	out := ok[*ssm.GetParameterOutput](t)(c.GetParameter(ctx, &ssm.GetParameterInput{Name: str("p"), WithDecryption: sdk.Bool(true)}))
	if *out.Parameter.Value != "b" {
		t.Errorf("%+v", out.Parameter)
	}
}
