package aws_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/coffre-csi/coffre/test/fakes/aws"
)

func str(s string) *string { return &s }

func mysql() aws.Secret {
	return aws.Secret{
		Description: "Main database",
		Tags:        map[string]string{"team": "shop"},
		Versions: []aws.SecretVersion{
			{ID: "v1", Stages: []string{"AWSPREVIOUS"}, String: str("old")},
			{ID: "v2", Stages: []string{"AWSCURRENT", "blue"}, String: str("new")},
			{ID: "v3", Stages: []string{}, Binary: []byte{0, 255}},
		},
	}
}

func TestSecretIsFoundByNameAndARN(t *testing.T) {
	w := start(t, aws.Options{})
	w.SetSecret(region, "prod/mysql", mysql())
	w.SetSecret(region, "by-hand", aws.Secret{ARN: "arn:aws:secretsmanager:eu-west-3:123456789012:secret:other-ZZZZZZ", Versions: mysql().Versions})
	c := w.secrets(t)
	for _, id := range []string{"prod/mysql", aws.SecretARN(region, "prod/mysql"),
		strings.TrimSuffix(aws.SecretARN(region, "prod/mysql"), "-AbCdEf"), "arn:aws:secretsmanager:eu-west-3:123456789012:secret:other-ZZZZZZ"} {
		out := ok[*secretsmanager.GetSecretValueOutput](t)(c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &id}))
		if *out.SecretString != "new" || *out.VersionId != "v2" || !slices.Equal(out.VersionStages, []string{"AWSCURRENT", "blue"}) {
			t.Errorf("%s: %+v", id, out)
		}
		if time.Since(*out.CreatedDate).Abs() > time.Minute {
			t.Errorf("%s: created %s", id, out.CreatedDate)
		}
	}
}

func TestSecretVersionsAndStages(t *testing.T) {
	w := start(t, aws.Options{})
	w.SetSecret(region, "s", mysql())
	w.SetSecret(region, "gone", aws.Secret{Deleted: true, Versions: mysql().Versions})
	w.SetSecret(region, "empty", aws.Secret{})
	c := w.secrets(t)
	for _, tc := range []struct {
		id, version, stage string
		want, code, text   string
	}{
		{id: "s", want: "new"},
		{id: "s", version: "v1", want: "old"},
		{id: "s", stage: "AWSPREVIOUS", want: "old"},
		{id: "s", version: "v2", stage: "blue", want: "new"},
		{id: "s", version: "v3", want: "\x00\xff"},
		{id: "s", version: "v1", stage: "blue", code: "InvalidRequestException", text: "You provided a VersionStage that is not associated to the provided VersionId."},
		{id: "s", version: "v9", code: "ResourceNotFoundException", text: "Secrets Manager can't find the specified secret value for VersionId: v9"},
		{id: "s", stage: "green", code: "ResourceNotFoundException", text: "Secrets Manager can't find the specified secret value for staging label: green"},
		{id: "empty", code: "ResourceNotFoundException", text: "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT"},
		{id: "none", code: "ResourceNotFoundException", text: "Secrets Manager can't find the specified secret."},
		{id: "gone", code: "InvalidRequestException", text: "You can't perform this operation on the secret because it was marked for deletion."},
		{id: strings.Repeat("x", 2049), code: "ValidationException"},
		{id: "s", version: strings.Repeat("x", 65), code: "ValidationException"},
		{id: aws.SecretARN("us-east-1", "s"), code: "ResourceNotFoundException"},
	} {
		in := &secretsmanager.GetSecretValueInput{SecretId: &tc.id}
		if tc.version != "" {
			in.VersionId = &tc.version
		}
		if tc.stage != "" {
			in.VersionStage = &tc.stage
		}
		out, err := c.GetSecretValue(ctx, in)
		if tc.code != "" {
			wantCode(t, err, tc.code, tc.text)
			var res *awshttp.ResponseError
			if !errors.As(err, &res) || res.HTTPStatusCode() != 400 || res.ServiceRequestID() == "" {
				t.Errorf("%+v: %v", tc, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%+v: %v", tc, err)
		}
		if got := string(out.SecretBinary) + sdk.ToString(out.SecretString); got != tc.want {
			t.Errorf("%+v: got %q", tc, got)
		}
	}
}

func TestBatchListsWhatItCannotRead(t *testing.T) {
	w := start(t, aws.Options{})
	w.AddRole(aws.Role{ARN: shopARN, Subjects: []string{"*"}, Permissions: []aws.Rule{
		{Actions: []string{"secretsmanager:BatchGetSecretValue", "secretsmanager:ListSecrets"}},
		{Actions: []string{"secretsmanager:Get*"}, Resources: []string{"arn:aws:secretsmanager:*:*:secret:prod/*"}},
	}})
	w.SetSecret(region, "prod/a", aws.Text("a"))
	w.SetSecret(region, "prod/b", aws.Text("b"))
	w.SetSecret(region, "other", aws.Text("c"))
	w.AddFault(aws.Fault{Service: aws.SecretsManager, Op: "GetSecretValue", ID: "prod/b", Status: 500, Code: "InternalServiceError", Times: 1})
	c := w.secrets(t)
	out := ok[*secretsmanager.BatchGetSecretValueOutput](t)(c.BatchGetSecretValue(ctx, &secretsmanager.BatchGetSecretValueInput{
		SecretIdList: []string{"prod/a", "prod/b", "other", "prod/none"}}))
	if len(out.SecretValues) != 1 || *out.SecretValues[0].SecretString != "a" {
		t.Errorf("values: %+v", out.SecretValues)
	}
	var got []string
	for _, e := range out.Errors {
		got = append(got, *e.SecretId+" "+*e.ErrorCode)
	}
	want := []string{"prod/b InternalServiceError", "other AccessDeniedException", "prod/none ResourceNotFoundException"}
	if !slices.Equal(got, want) {
		t.Errorf("errors: %q", got)
	}
	if n := w.Notation(); !slices.Equal(n[1:], []string{"secretsmanager:eu-west-3:BatchGetSecretValue prod/a,prod/b,other,prod/none"}) {
		t.Errorf("calls: %q", n)
	}
}

func TestBatchBounds(t *testing.T) {
	w := start(t, aws.Options{})
	for i := range 45 {
		w.SetSecret(region, fmt.Sprintf("team/%02d", i), aws.Text(fmt.Sprint(i)))
	}
	c := w.secrets(t)
	team := []types.Filter{{Key: "name", Values: []string{"team/"}}}
	for _, in := range []secretsmanager.BatchGetSecretValueInput{
		{},
		{SecretIdList: []string{"a"}, Filters: team},
		{SecretIdList: []string{"a"}, MaxResults: sdk.Int32(5)},
	} {
		_, err := c.BatchGetSecretValue(ctx, &in)
		wantCode(t, err, "InvalidParameterException", "")
	}
	_, err := c.BatchGetSecretValue(ctx, &secretsmanager.BatchGetSecretValueInput{SecretIdList: make([]string, 21)})
	wantCode(t, err, "ValidationException", "")
	_, err = c.BatchGetSecretValue(ctx, &secretsmanager.BatchGetSecretValueInput{Filters: team, MaxResults: sdk.Int32(21)})
	wantCode(t, err, "ValidationException", "")
	_, err = c.BatchGetSecretValue(ctx, &secretsmanager.BatchGetSecretValueInput{Filters: team, NextToken: str("rubbish")})
	wantCode(t, err, "InvalidNextTokenException", "")

	seen := map[string]bool{}
	pages := secretsmanager.NewBatchGetSecretValuePaginator(c, &secretsmanager.BatchGetSecretValueInput{Filters: team})
	for n := 0; pages.HasMorePages(); n++ {
		out := ok[*secretsmanager.BatchGetSecretValueOutput](t)(pages.NextPage(ctx))
		for _, v := range out.SecretValues {
			seen[*v.Name] = true
		}
		if n > 3 {
			t.Fatal("no end of pages")
		}
	}
	if len(seen) != 45 {
		t.Errorf("saw %d secrets", len(seen))
	}
}

func TestListFilters(t *testing.T) {
	w := start(t, aws.Options{})
	w.SetSecret(region, "prod/mysql", mysql())
	w.SetSecret(region, "prod/redis", aws.Secret{Description: "cache of the shop", Tags: map[string]string{"team": "core"}, Versions: mysql().Versions})
	w.SetSecret(region, "Prod/x", aws.Secret{Deleted: true})
	w.SetSecret(region, "test/mysql", aws.Secret{Tags: map[string]string{"Team": "shop"}})
	w.SetSecret("us-east-1", "prod/far", aws.Secret{})
	c := w.secrets(t)
	for _, tc := range []struct {
		name    string
		filters []types.Filter
		deleted bool
		want    string
	}{
		{"all of the region", nil, false, "prod/mysql prod/redis test/mysql"},
		{"deleted too", nil, true, "Prod/x prod/mysql prod/redis test/mysql"},
		{"name is a prefix in its case", filters("name", "prod/"), false, "prod/mysql prod/redis"},
		{"name is not a substring", filters("name", "mysql"), false, ""},
		{"values are alternatives", filters("name", "prod/m", "test"), false, "prod/mysql test/mysql"},
		{"filters are all needed", append(filters("name", "prod/"), filters("tag-value", "core")...), false, "prod/redis"},
		{"negation", append(filters("name", "prod/"), filters("name", "!prod/m")...), false, "prod/redis"},
		{"tag keys in their case", filters("tag-key", "te"), false, "prod/mysql prod/redis"},
		{"description in any case", filters("description", "MAIN"), false, "prod/mysql"},
		{"all looks at words", filters("all", "Shop"), false, "prod/mysql prod/redis test/mysql"},
		{"all wants every word", filters("all", "cache shop"), false, "prod/redis"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := ok[*secretsmanager.ListSecretsOutput](t)(c.ListSecrets(ctx, &secretsmanager.ListSecretsInput{
				Filters: tc.filters, IncludePlannedDeletion: &tc.deleted, SortBy: "name", SortOrder: "asc"}))
			var got []string
			for _, s := range out.SecretList {
				got = append(got, *s.Name)
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	_, err := c.ListSecrets(ctx, &secretsmanager.ListSecretsInput{Filters: filters("colour", "red")})
	wantCode(t, err, "ValidationException", "")
}

func filters(key string, values ...string) []types.Filter {
	return []types.Filter{{Key: types.FilterNameStringType(key), Values: values}}
}

func TestListPagesAndOrder(t *testing.T) {
	w := start(t, aws.Options{})
	for i := range 7 {
		w.SetSecret(region, fmt.Sprint("s", i), aws.Secret{Created: time.Unix(int64(1000+i), 0)})
	}
	c := w.secrets(t)
	pages := secretsmanager.NewListSecretsPaginator(c, &secretsmanager.ListSecretsInput{MaxResults: sdk.Int32(3), SortOrder: "asc"})
	var got []string
	for pages.HasMorePages() {
		for _, s := range ok[*secretsmanager.ListSecretsOutput](t)(pages.NextPage(ctx)).SecretList {
			got = append(got, *s.Name)
		}
	}
	if strings.Join(got, "") != "s0s1s2s3s4s5s6" || w.Count("ListSecrets") != 3 {
		t.Errorf("got %q in %d pages", got, w.Count("ListSecrets"))
	}
	out := ok[*secretsmanager.ListSecretsOutput](t)(c.ListSecrets(ctx, &secretsmanager.ListSecretsInput{}))
	if *out.SecretList[0].Name != "s6" {
		t.Errorf("newest first: %s", *out.SecretList[0].Name)
	}
	_, err := c.ListSecrets(ctx, &secretsmanager.ListSecretsInput{MaxResults: sdk.Int32(101)})
	wantCode(t, err, "ValidationException", "")
}

func TestDescribeNamesVersionsWithStages(t *testing.T) {
	w := start(t, aws.Options{})
	w.SetSecret(region, "s", mysql())
	w.SetSecret(region, "gone", aws.Secret{Deleted: true})
	c := w.secrets(t)
	out := ok[*secretsmanager.DescribeSecretOutput](t)(c.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: str("s")}))
	if len(out.VersionIdsToStages) != 2 || out.VersionIdsToStages["v2"][1] != "blue" || *out.Tags[0].Value != "shop" || *out.Description != "Main database" {
		t.Errorf("%+v", out)
	}
	out = ok[*secretsmanager.DescribeSecretOutput](t)(c.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: str("gone")}))
	if out.DeletedDate == nil {
		t.Error("no DeletedDate")
	}
	_, err := c.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: str("none")})
	wantCode(t, err, "ResourceNotFoundException", "")
}

func TestRotationMovesTheStages(t *testing.T) {
	w := start(t, aws.Options{})
	c := w.secrets(t)
	first := w.SetSecretValue(region, "s", "one")
	second := w.SetSecretValue(region, "s", "two")
	third := w.SetSecretValue(region, "s", "three")
	get := func(stage string) string {
		out := ok[*secretsmanager.GetSecretValueOutput](t)(c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("s"), VersionStage: &stage}))
		return *out.VersionId + *out.SecretString
	}
	if get("AWSCURRENT") != third+"three" || get("AWSPREVIOUS") != second+"two" {
		t.Error("the stages did not move")
	}
	out := ok[*secretsmanager.GetSecretValueOutput](t)(c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("s"), VersionId: &first}))
	if *out.SecretString != "one" || len(out.VersionStages) != 0 {
		t.Errorf("%+v", out)
	}
	w.DeleteSecret(region, "s")
	_, err := c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("s")})
	wantCode(t, err, "ResourceNotFoundException", "")
}

func TestDeniedIsSaidAsIAMSaysIt(t *testing.T) {
	w := start(t, aws.Options{})
	w.AddRole(aws.Role{ARN: shopARN, Subjects: []string{"*"}})
	w.SetSecret(region, "s", aws.Text("x"))
	c := w.secrets(t)
	_, err := c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("s")})
	wantCode(t, err, "AccessDeniedException", "User: "+shop+" is not authorized to perform: secretsmanager:GetSecretValue on resource: "+
		aws.SecretARN(region, "s")+" because no identity-based policy allows the secretsmanager:GetSecretValue action")
	_, err = c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: str("none")})
	wantCode(t, err, "AccessDeniedException", "")
	_, err = c.BatchGetSecretValue(ctx, &secretsmanager.BatchGetSecretValueInput{SecretIdList: []string{"s"}})
	wantCode(t, err, "AccessDeniedException", "")
	_, err = c.ListSecrets(ctx, &secretsmanager.ListSecretsInput{})
	wantCode(t, err, "AccessDeniedException", "")
	_, err = c.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: str("s")})
	wantCode(t, err, "AccessDeniedException", "")
}
