package azure

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/strict"
)

// entry is one object. The fields from ObjectNotAfter on are Coffre's; the
// Azure provider ignores them.
type entry struct {
	ObjectName           string `yaml:"objectName"`
	ObjectAlias          string `yaml:"objectAlias"`
	ObjectType           string `yaml:"objectType"`
	ObjectVersion        string `yaml:"objectVersion"`
	ObjectVersionHistory int32  `yaml:"objectVersionHistory"`
	ObjectFormat         string `yaml:"objectFormat"`
	ObjectEncoding       string `yaml:"objectEncoding"`
	FilePermission       string `yaml:"filePermission"`

	ObjectNotAfter  string            `yaml:"objectNotAfter"`  // RFC 3339: the newest version of that time
	ObjectNameMatch string            `yaml:"objectNameMatch"` // prefix or regexp: objectName finds any number of secrets
	ObjectTags      map[string]string `yaml:"objectTags"`      // with objectNameMatch: only secrets that have them
	ObjectPassword  string            `yaml:"objectPassword"`  // the secret with the password of a pfx or jks
	KeyvaultName    string            `yaml:"keyvaultName"`    // another vault than the class's
	JSONKey         string            `yaml:"jsonKey"`         // one key of a JSON value
	JSONKeys        string            `yaml:"jsonKeys"`        // "*": every top-level key becomes a file
	SplitCertAndKey *bool             `yaml:"splitCertAndKey"` // over the flag
	Optional        bool              `yaml:"optional"`        // a missing object is left out
	Refresh         string            `yaml:"refresh"`         // how old the value may get
}

// stringArray is what the Azure provider reads objects into.
type stringArray struct {
	Array []string `yaml:"array"`
}

// entries reads the list, paid for before anything parses it: a mapping with an
// array of YAML texts, as the Azure provider has it, or a plain list of objects.
func (r *reader) entries(text string) ([]entry, error) {
	const what = "failed to yaml unmarshal objects, error: "
	switch {
	case text == "":
		return nil, failed("objects is not set")
	case len(text) > strict.MaxBytes:
		return nil, failed(what+"%d bytes; the limit is %d", len(text), strict.MaxBytes)
	}
	root, err := r.parse(text)
	if err != nil {
		return nil, failed(what+"%s", err)
	}
	if root == nil {
		return nil, nil
	}

	if root.Kind == yaml.SequenceNode {
		return r.plainList(root)
	}
	var list stringArray
	if err := decode(root, &list); err != nil {
		return nil, failed(what+"%s%s", err, hint(root))
	}

	return r.texts(list.Array)
}

// hint says what is meant where an array holds mappings.
func hint(root *yaml.Node) string {
	for i := 0; i+1 < len(root.Content) && root.Kind == yaml.MappingNode; i += 2 {
		if value := root.Content[i+1]; root.Content[i].Value == "array" && value.Kind == yaml.SequenceNode {
			return "; begin each entry of array with \"- |\", or leave array out and list the objects themselves"
		}
	}
	return ""
}

// texts reads the entries of an array, each YAML of its own.
func (r *reader) texts(array []string) ([]entry, error) {
	if err := tooMany(len(array)); err != nil {
		return nil, err
	}
	entries := make([]entry, len(array))
	for i, text := range array {
		root, err := r.parse(text)
		if err == nil && root != nil {
			err = decode(root, &entries[i])
		}
		if err != nil {
			return nil, failed("unmarshal failed for keyVaultObjects at index %d, error: %s", i, err)
		}
		entries[i].trim()
	}

	return entries, nil
}

// plainList reads a list of mappings.
func (r *reader) plainList(root *yaml.Node) ([]entry, error) {
	if err := tooMany(len(root.Content)); err != nil {
		return nil, err
	}
	entries := make([]entry, len(root.Content))
	for i, n := range root.Content {
		if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" { // a list of texts, without its array
			list, err := r.texts([]string{n.Value})
			if err != nil {
				return nil, err
			}
			entries[i] = list[0]
			continue
		}
		if err := decode(n, &entries[i]); err != nil {
			return nil, failed("unmarshal failed for keyVaultObjects at index %d, error: %s", i, err)
		}
		entries[i].trim()
	}

	return entries, nil
}

func tooMany(n int) error {
	if n > plan.MaxObjects {
		return failed("objects lists %d objects; the limit is %d", n, plan.MaxObjects)
	}
	return nil
}

// parse reads one YAML text; nil where it holds nothing. A fault of the parser
// is no more than an error.
func (r *reader) parse(text string) (root *yaml.Node, err error) {
	if err := strict.Charge(r.budget, text); err != nil {
		return nil, err
	}
	defer func() {
		if recover() != nil {
			root, err = nil, fmt.Errorf("it is no YAML that can be read")
		}
	}()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}

	return doc.Content[0], strict.ChargeExpanded(r.budget, doc.Content[0])
}

// typeNames are the Azure provider's own, of which the parser's errors speak.
var typeNames = strings.NewReplacer("azure.stringArray", "types.StringArray", "azure.entry", "types.KeyVaultObject")

func decode(n *yaml.Node, into any) (err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("it is no YAML that can be read")
		}
	}()
	if err := n.Decode(into); err != nil {
		return fmt.Errorf("%s", typeNames.Replace(err.Error()))
	}

	return nil
}

// trim takes the white space off every text.
func (e *entry) trim() {
	v := reflect.ValueOf(e).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.String {
			f.SetString(strings.TrimSpace(f.String()))
		}
	}
}

// octal are permission bits as people write them.
var octal = regexp.MustCompile(`^(0o)?[0-7]{1,4}$`)
