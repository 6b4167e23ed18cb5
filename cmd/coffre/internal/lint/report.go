package lint

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"path/filepath"
)

// Formats of a report.
func Formats() []string { return []string{"text", "json", "sarif", "junit"} }

// Write writes the report in one of the Formats; whatever was found, and also
// where nothing was, the output is whole.
func (r Report) Write(out io.Writer, format, version string) error {
	switch format {
	case "json":
		return indented(out, append([]Finding{}, r.Findings...))
	case "sarif":
		return indented(out, r.sarif(version))
	case "junit":
		return r.junit(out)
	}
	return r.text(out)
}

func indented(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func (f Finding) sentence() string {
	text := f.Message
	if f.Field != "" {
		text = f.Field + ": " + text
	}
	if f.Object != "" {
		text = f.Object + ": " + text
	}
	return text
}

func (f Finding) place() string {
	switch {
	case f.File == "":
		return ""
	case f.Line == 0:
		return f.File + ": "
	}
	return fmt.Sprintf("%s:%d: ", f.File, f.Line)
}

// text is a line a finding, as compilers write it, and below it what happens
// and what to do.
func (r Report) text(out io.Writer) error {
	for _, f := range r.Findings {
		fmt.Fprintf(out, "%s%s: %s [%s]\n", f.place(), f.Severity, f.sentence(), f.Rule)
		for _, more := range []string{f.Happens, f.Remedy} {
			if more != "" {
				fmt.Fprintf(out, "    %s\n", more)
			}
		}
	}

	_, err := fmt.Fprintf(out, "%d checked, %d errors, %d warnings\n", r.Checked, r.Count(Error), r.Count(Warning))
	return err
}

// sarif is the report in SARIF 2.1.0, which shows findings in a pull request.
func (r Report) sarif(version string) any {
	type object = map[string]any
	rules := []object{}
	for _, rule := range Rules() {
		help := rule.Happens
		if rule.Remedy != "" {
			help += " " + rule.Remedy
		}
		rules = append(rules, object{
			"id": rule.ID, "shortDescription": object{"text": rule.Summary}, "help": object{"text": help},
			"defaultConfiguration": object{"level": rule.Severity},
		})
	}

	results := []object{}
	for _, f := range r.Findings {
		text := f.sentence()
		if f.Remedy != "" {
			text += ". " + f.Remedy
		}
		result := object{"ruleId": f.Rule, "level": f.Severity, "message": object{"text": text}}
		if f.File != "" && f.File != "-" {
			result["locations"] = []object{{"physicalLocation": object{
				"artifactLocation": object{"uri": filepath.ToSlash(f.File)}, "region": object{"startLine": max(f.Line, 1)},
			}}}
		}

		results = append(results, result)
	}

	driver := object{"name": "coffre lint", "version": version, "informationUri": "https://github.com/coffre-csi/coffre", "rules": rules}
	return object{
		"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
		"runs": []object{{"tool": object{"driver": driver}, "results": results}},
	}
}

type (
	junitSuite struct {
		XMLName  xml.Name    `xml:"testsuite"`
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		Failure *junitFailure `xml:"failure,omitempty"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitFailure struct {
		Type    string `xml:"type,attr"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// junit is a test case a finding, failed where it is an error or a warning; a
// single one that passed where there is none.
func (r Report) junit(out io.Writer) error {
	suite := junitSuite{Name: "coffre lint", Failures: r.Count(Error) + r.Count(Warning)}
	for _, f := range r.Findings {
		c := junitCase{Name: f.place() + f.Rule, Class: f.File}
		if f.Severity == Note {
			c.Output = f.sentence()
		} else {
			c.Failure = &junitFailure{f.Rule, f.sentence(), f.Happens + " " + f.Remedy}
		}
		suite.Cases = append(suite.Cases, c)
	}

	if suite.Cases == nil {
		suite.Cases = []junitCase{{Name: fmt.Sprintf("%d checked", r.Checked), Class: "coffre lint"}}
	}
	suite.Tests = len(suite.Cases)
	if _, err := io.WriteString(out, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(out)
	e.Indent("", "  ")
	if err := e.Encode(suite); err != nil {
		return err
	}
	_, err := io.WriteString(out, "\n")

	return err
}
