package jmespath

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/jmespath/go-jmespath"

	"github.com/coffre-csi/coffre/provider/jsontext"
)

// The AWS provider's library brings JMESPath's compliance cases in its module.
func TestEveryCaseOfTheAWSProvidersLibraryComesOutTheSame(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/jmespath/go-jmespath").Output()
	if err != nil {
		t.Fatalf("the library's module is not here: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "compliance", "*.json"))
	if err != nil || len(files) < 10 {
		t.Fatalf("found %d files of cases, %v; want the suite", len(files), err)
	}

	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		var suites []struct {
			Given json.RawMessage
			Cases []struct {
				Expression, Error string
				Result            any
			}
		}
		if err := json.Unmarshal(text, &suites); err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		for _, suite := range suites {
			given, err := jsontext.Parse(nil, suite.Given)
			if err != nil {
				t.Fatalf("got the error %v, want none", err)
			}
			var plain any
			if err := json.Unmarshal(suite.Given, &plain); err != nil {
				t.Fatalf("got the error %v, want none", err)
			}
			for _, c := range suite.Cases {
				got, err := run(c.Expression, given)
				if theirs, failed := jmespath.Search(c.Expression, plain); failed == nil && !sameButForOrder(got, theirs) {
					t.Errorf("%s: %s: got %v, %v; the library %v", filepath.Base(file), c.Expression, got, err, theirs)
				}
				if c.Error != "" {
					if err == nil {
						t.Errorf("%s: %s: got %v, want the error %s", filepath.Base(file), c.Expression, got, c.Error)
					}
					continue
				}
				if err != nil || !sameButForOrder(got, c.Result) {
					t.Errorf("%s: %s: got %v, %v; want %v", filepath.Base(file), c.Expression, got, err, c.Result)
				}
			}
		}
	}
}

// run evaluates, and gives the result as encoding/json reads it.
func run(expression string, given any) (any, error) {
	e, err := Parse(nil, expression)
	if err != nil {
		return nil, err
	}
	result, err := e.evaluate(nil, given)
	if err != nil {
		return nil, err
	}
	text, err := jsontext.Write(nil, result)
	if err != nil {
		return nil, err
	}
	var plain any
	return plain, json.Unmarshal(text, &plain)
}

// sameButForOrder compares; what comes of an object's keys has no order there.
func sameButForOrder(got, want any) bool {
	if reflect.DeepEqual(got, want) {
		return true
	}
	a, isA := got.([]any)
	b, isB := want.([]any)
	if !isA || !isB || len(a) != len(b) {
		return false
	}
	for _, item := range b {
		found := false
		for _, other := range a {
			found = found || reflect.DeepEqual(item, other)
		}
		if !found {
			return false
		}
	}
	return true
}
