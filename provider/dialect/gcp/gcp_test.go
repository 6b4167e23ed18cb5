package gcp

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/budget"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/request"
)

func planOf(parameters map[string]string) (plan.Plan, error) {
	return Dialect{}.Plan(budget.New(context.Background(), nil, "shop"), request.Request{
		Class: "mysql", Identity: auth.Identity{Namespace: "shop", ServiceAccount: "api"}, Parameters: parameters, Mode: 0o644, TargetPath: "/t",
	})
}

func one(fields string) map[string]string {
	return map[string]string{"secrets": "- {resourceName: projects/p/secrets/s/versions/latest, path: a, " + fields + "}"}
}

func TestModesHaveAllSpellingsOfYAML(t *testing.T) {
	for text, want := range map[string]int32{
		"0600": 0o600, "0o400": 0o400, "0x100": 256, "256": 256, "1e2": 100, "4_00": 400, "-1": -1, "4095": 4095, "null": 0o644,
	} {
		p, err := planOf(one("mode: " + text))
		if err != nil || p.Objects[0].Output.Mode != want {
			t.Errorf("mode %s: got %v and the error %v, want %d", text, p, err, want)
		}
	}
}

func TestMistakesHaveTheWordsAndTheCodeOfTheGoogleProvider(t *testing.T) {
	for name, c := range map[string]struct {
		parameters map[string]string
		code       codes.Code
		want       string
	}{
		"auth hides secrets": {map[string]string{"auth": "adc"}, codes.InvalidArgument, `unknown auth configuration: "adc"`},
		"no secrets":         {map[string]string{}, codes.InvalidArgument, "missing required 'secrets' attribute"},
		"null":               {map[string]string{"secrets": "- null"}, codes.InvalidArgument, "secrets[0] is null"},
		"a quoted mode":      {one(`mode: "0600"`), codes.InvalidArgument, "cannot unmarshal !!str `0600` into int32"},
		"a list of texts":    {map[string]string{"secrets": "- text"}, codes.InvalidArgument, "into config.Secret"},
		"a short name":       {map[string]string{"secrets": "- {resourceName: s, path: a}"}, codes.Internal, "{s  a}: unknown resource type"},
		"both keys":          {one("extractJSONKey: a, extractYAMLKey: b"), codes.Internal, "both ExtractJSONKey and ExtractYAMLKey can't be simultaneously non empty strings"},
		"an unsafe location": {map[string]string{"secrets": `- {resourceName: "projects/p/locations/evil.com#/secrets/s/versions/1", path: a}`}, codes.Internal,
			"desc = Invalid location: evil.com#"},
		"a long location of a parameter": {map[string]string{"secrets": "- {resourceName: projects/p/locations/" + strings.Repeat("a", 31) + "/parameters/s/versions/1, path: a}"}, codes.Internal,
			"desc = Invalid location: " + strings.Repeat("a", 31)},
		"two shapes":        {one("key: a, keys: '*'"), codes.Internal, "cannot stand beside each other"},
		"labels of one":     {one("labels: {a: b}"), codes.Internal, "labels: go with a * in the name"},
		"a refresh of none": {one("refresh: 1ms"), codes.Internal, "refresh: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := planOf(c.parameters)
			own, ok := err.(interface{ GRPCStatus() *status.Status })
			if !ok || own.GRPCStatus().Code() != c.code || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s: … %s …", err, c.code, c.want)
			}
		})
	}
}

func TestAnAliasBombIsRefusedBeforeItIsExpanded(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for i := 'b'; i < 'k'; i++ {
		previous := string(i - 1)
		bomb += string(i) + ": &" + string(i) + " [" + strings.Repeat("*"+previous+",", 8) + "*" + previous + "]\n"
	}
	if _, err := planOf(map[string]string{"secrets": bomb}); err == nil {
		t.Error("got a plan of a bomb, want an error")
	}
}

func TestOneStoreServesAllEntriesOfALocation(t *testing.T) {
	p, err := planOf(map[string]string{"secrets": `
- {resourceName: projects/p/secrets/a/versions/1, path: a}
- {resourceName: projects/q/locations/global/secrets/b/versions/1, path: b}
- {resourceName: projects/p/locations/europe-west9/secrets/c/versions/1, path: c}
- {resourceName: projects/p/locations/global/parameters/d/versions/1, path: d}`})
	if err != nil {
		t.Fatalf("got the error %v, want a plan", err)
	}
	stores := map[any]bool{}
	for _, q := range p.Queries() {
		stores[q.Store.Inline] = true
	}
	if len(stores) != 3 {
		t.Errorf("got %d stores, want one of global secrets, one of a region's, one of parameters", len(stores))
	}
}

func FuzzPlan(f *testing.F) {
	f.Add("- {resourceName: projects/p/secrets/s/versions/latest, path: a, mode: 0600, extractJSONKey: k}", "pod-adc")
	f.Add("- {resourceName: 'projects/p/secrets/db-*/versions/latest', path: a, labels: {a: b}, keys: '*'}", "")
	f.Fuzz(func(t *testing.T, secrets, auth string) {
		p, err := planOf(map[string]string{"secrets": secrets, "auth": auth})
		if err == nil && len(p.Objects) > plan.MaxObjects {
			t.Errorf("got %d objects, want at most %d", len(p.Objects), plan.MaxObjects)
		}
	})
}
