package provider

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// metricNames are those that the registry has, whether or not they have a
// value yet.
func metricNames() []string {
	m := NewMetrics("test")
	m.Failing(func() int { return 0 })
	described := make(chan *prometheus.Desc)
	go func() {
		m.Registry.Describe(described)
		close(described)
	}()
	var names []string
	for d := range described {
		if name := regexp.MustCompile(`fqName: "(coffre_[a-z_]+)"`).FindStringSubmatch(d.String()); name != nil {
			names = append(names, name[1])
		}
	}
	return names
}

func TestAlertsAndDocsNameOnlyMetricsThatThereAre(t *testing.T) {
	known := metricNames()
	if len(known) < 10 {
		t.Fatalf(`got %v, where len(known) < 10 must not be so`, known)
	}
	named := map[string][]string{}
	for _, file := range []string{"../charts/coffre/templates/prometheusrule.yaml", "../docs/operations.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		for _, name := range regexp.MustCompile(`\bcoffre_[a-z_]+`).FindAllString(string(text), -1) {
			named[file] = append(named[file], name)
			base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
			if !slices.Contains(known, name) && !slices.Contains(known, base) {
				t.Errorf("%s: there is no metric %s", file, name)
			}
		}
		if len(named[file]) == 0 {
			t.Error(file, "names no metric")
		}
	}
	for _, name := range known {
		if !slices.Contains(named["../docs/operations.md"], name) {
			t.Errorf("%s is not in docs/operations.md", name)
		}
	}
}

func TestMetricsHaveAHelpText(t *testing.T) {
	m := NewMetrics("test")
	m.ClassFailed("shop", "mysql", "denied")
	m.Told("sent")
	families, err := m.Registry.Gather()
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "coffre_") && !strings.HasSuffix(f.GetHelp(), ".") {
			t.Errorf("%s: %q", f.GetName(), f.GetHelp())
		}
	}
}
