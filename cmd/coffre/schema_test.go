package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/coffre-csi/coffre/cmd/coffre/internal/cloud"
)

var update = flag.Bool("update", false, "write the kinds of store into the chart's schema")

// The chart refuses a store that this program would: its schema of `stores` is
// made from the kinds.
func TestTheChartsSchemaKnowsEveryKindAndItsFields(t *testing.T) {
	const file, start, end = "../../charts/coffre/values.schema.json", "    \"stores\": ", ",\n    \"awsRegion\": {"
	var schema bytes.Buffer
	e := json.NewEncoder(&schema)
	e.SetEscapeHTML(false)
	e.SetIndent("    ", "  ")
	catalog := cloud.Offline().Catalog
	s := catalog.Kinds.Schema()
	s["description"] = "Made from the kinds of store by make manifests. Coffre checks the values when it reads the file."
	if err := e.Encode(s); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	schema.WriteString("    \"dialects\": ")
	d := catalog.DialectSchema()
	d["description"] = "Made from the dialects by make manifests."
	if err := e.Encode(d); err != nil {
		t.Fatalf("the schema of the dialects: %v", err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	head, rest, ok := strings.Cut(string(text), start)
	is, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the stores", file)
	}
	want := strings.Replace(strings.TrimSpace(schema.String()), "}\n    \"dialects\"", "},\n    \"dialects\"", 1)
	if is == want {
		return
	}
	if !*update {
		t.Fatalf("%s is out of date: run make manifests", file)
	}
	if err := os.WriteFile(file, []byte(head+start+want+end+tail), 0o644); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
}
