package charttest

import (
	"os"
	"regexp"
	"strings"
	"testing"
	texttemplate "text/template"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
)

// What half an hour of each metric looks like, a sample a minute, and how the
// alert is summed up then; "" where it must be silent.
var alerts = []struct{ alert, series, summary string }{
	{"CoffreMountsFailing", `coffre_class_failures_total{namespace="shop",class="mysql",reason="denied",instance="a"} 1+1x30`, "Mounts of SecretProviderClass shop/mysql fail: denied"},
	{"CoffreMountsFailing", `coffre_class_failures_total{namespace="kube-system",exported_namespace="shop",class="mysql",reason="denied"} 1+1x30`, "Mounts of SecretProviderClass shop/mysql fail: denied"},
	{"CoffreMountsFailing", `coffre_class_failures_total{namespace="shop",class="mysql",reason="denied"} 1+1x10 11x20`, ""},
	{"CoffreStoreUnavailable", "coffre_store_available{endpoint=\"aws-secrets-manager eu-west-3\",instance=\"a\"} 1x20 0x10", "aws-secrets-manager eu-west-3 does not answer on 1 nodes"},
	{"CoffreStoreUnavailable", "coffre_store_available{endpoint=\"aws-secrets-manager eu-west-3\",instance=\"a\"} 1x30", ""},
	{"CoffreServingStale", `coffre_fetches_total{store="paris",result="stale"} 0+1x30`, "Last good values stand in for store paris"},
	{"CoffreServingStale", `coffre_fetches_total{store="paris",result="hit"} 0+1x30`, ""},
	{"CoffreValueTooOld", `coffre_oldest_value_age_seconds{node="n1",instance="a"} 7300x30`, "n1 serves a value that was read 7300 ago"},
	{"CoffreValueTooOld", `coffre_oldest_value_age_seconds{node="n1",instance="a"} 7100x30`, ""},
	{"CoffreConfigurationRefused", "coffre_configuration_last_reload_successful{instance=\"a\"} 0x30\ncoffre_configuration_reloads_total{instance=\"a\",result=\"error\"} 1x30", "A broken edit of the stores was refused on 1 nodes"},
	{"CoffreConfigurationRefused", "coffre_configuration_last_reload_successful{instance=\"a\"} 1x30\ncoffre_configuration_reloads_total{instance=\"a\",result=\"error\"} 1x30", ""},
	{"CoffreConfigurationRefused", `coffre_configuration_last_reload_successful{instance="a"} 0x30`, ""},
	{"CoffrePanics", `coffre_panics_total{instance="a"} 0x20 1x10`, "A mount on a ended in a panic"},
	{"CoffrePanics", `coffre_panics_total{instance="a"} 1x30`, ""},
	{"CoffreCredentialExchangesFailing", `coffre_credential_exchanges_total{kind="irsa",result="denied"} 0+1x30`, "Sign-ins (irsa) fail: denied"},
	{"CoffreCredentialExchangesFailing", `coffre_credential_exchanges_total{kind="irsa",result="ok"} 0+1x30`, ""},
	{"CoffreDown", "up{job=\"coffre-metrics\",namespace=\"kube-system\",instance=\"a\",node=\"n1\"} 0x30\ncoffre_build_info{job=\"coffre-metrics\",namespace=\"kube-system\",instance=\"b\"} 1x30", "Coffre is down on n1"},
	{"CoffreDown", "up{job=\"other\",namespace=\"kube-system\",instance=\"a\"} 0x30\ncoffre_build_info{job=\"coffre-metrics\",namespace=\"kube-system\",instance=\"b\"} 1x30", ""},
	{"CoffreDown", `up{job="other"} 1x30`, "Coffre is down"},
}

// In Prometheus' own engine, so that an expression that cannot be read, or says
// something else than its name, is seen here.
func TestAlertsFireOnWhatTheyAreNamedForAndOnNothingElse(t *testing.T) {
	rules := render(t, "metrics: {prometheusRule: {enabled: true}}").rule.Spec.Groups[0].Rules
	engine := promqltest.NewTestEngine(t, false, 0, 10000)
	fired := map[string]bool{}
	for _, c := range alerts {
		for _, rule := range rules {
			if rule.Alert != c.alert {
				continue
			}
			store := promqltest.LoadedStorage(t, "load 1m\n  "+strings.ReplaceAll(c.series, "\n", "\n  "))
			query, err := engine.NewInstantQuery(t.Context(), store, nil, rule.Expr.String(), time.Unix(0, 0).Add(30*time.Minute))
			if err != nil {
				t.Fatalf("%s: %v", c.alert, err)
			}
			result := query.Exec(t.Context())
			if result.Err != nil {
				t.Fatalf("%s: %v", c.alert, result.Err)
			}
			var got []string
			for _, s := range result.Value.(promql.Vector) {
				got = append(got, expand(t, rule.Annotations["summary"], s.Metric, s.F))
			}
			if strings.Join(got, "; ") != c.summary {
				t.Errorf("%s over\n%s\nsays %q, want %q", c.alert, c.series, got, c.summary)
			}
			fired[c.alert] = fired[c.alert] || c.summary != ""
			store.Close()
		}
	}
	for _, rule := range rules {
		if !fired[rule.Alert] {
			t.Errorf("%s never fires in a test", rule.Alert)
		}
	}
}

// expand does as Prometheus does with an annotation.
func expand(t *testing.T, text string, l labels.Labels, value float64) string {
	t.Helper()
	parsed, err := texttemplate.New("").Option("missingkey=zero").Funcs(texttemplate.FuncMap{"humanizeDuration": func(v float64) float64 { return v }}).
		Parse("{{$labels := .Labels}}{{$value := .Value}}" + text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var out strings.Builder
	if err := parsed.Execute(&out, map[string]any{"Labels": l.Map(), "Value": value}); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return out.String()
}

func TestEveryAlertSaysWhatToLookAt(t *testing.T) {
	made := render(t, "{fullnameOverride: other, metrics: {prometheusRule: {enabled: true, labels: {release: prometheus}}}}")
	if made.rule.Labels["release"] != "prometheus" || made.rule.Namespace != "kube-system" {
		t.Errorf("%+v", made.rule.ObjectMeta)
	}
	docs, err := os.ReadFile(root + "/docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range made.rule.Spec.Groups[0].Rules {
		if severity := rule.Labels["severity"]; severity != "warning" && severity != "critical" {
			t.Errorf("%s: severity %q", rule.Alert, severity)
		}
		if rule.Annotations["summary"] == "" || len(rule.Annotations["description"]) < 80 {
			t.Errorf("%s: %v", rule.Alert, rule.Annotations)
		}
		if strings.Contains(rule.Annotations["description"], "%!") || strings.Contains(rule.Annotations["description"], "daemonset/coffre") {
			t.Errorf("%s: %s", rule.Alert, rule.Annotations["description"])
		}
		if !regexp.MustCompile("(?m)^\\| `" + rule.Alert + "` \\|").Match(docs) {
			t.Errorf("%s is not in docs/operations.md", rule.Alert)
		}
	}
}
