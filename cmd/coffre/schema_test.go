package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/coffre-csi/coffre/provider"
)

var update = flag.Bool("update", false, "write the kinds of store into the chart's schema")

// The chart refuses a store that this program would: its schema of `stores` is
// made from the kinds.
func TestTheChartsSchemaKnowsEveryKindAndItsFields(t *testing.T) {
	const file, start, end = "../../charts/coffre/values.schema.json", "    \"stores\": ", ",\n    \"dialects\": {"
	var schema bytes.Buffer
	e := json.NewEncoder(&schema)
	e.SetEscapeHTML(false)
	e.SetIndent("    ", "  ")
	s := provider.Kinds(provider.Environment{}).Schema()
	s["description"] = "Made from the kinds of store by make manifests. Coffre checks the values when it reads the file."
	if err := e.Encode(s); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), start)
	is, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the stores", file)
	}
	want := strings.TrimSpace(schema.String())
	if is == want {
		return
	}
	if !*update {
		t.Fatalf("%s is out of date: run make manifests", file)
	}
	if err := os.WriteFile(file, []byte(head+start+want+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}
