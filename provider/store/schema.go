package store

import (
	"reflect"
	"strings"
	"time"
)

// Schema is the JSON Schema (draft 7) of the mapping of name to store, as the
// platform may write it: every kind with its fields, made from the types that
// they are decoded into. What a value means is not in it; Check knows that.
func (ks Kinds) Schema() map[string]any {
	var kinds []any
	for _, k := range ks {
		fields := map[string]any{}
		schemaFields(fields, reflect.TypeFor[common]())
		schemaFields(fields, reflect.TypeOf(k.Settings()).Elem())
		fields["kind"] = object{"const": k.Name}
		fields["identity"] = object{"enum": []string{"pod", "provider"}}
		fields["namespaces"] = object{"type": "array", "minItems": 1, "items": schemaOf(reflect.TypeFor[string]())}
		kinds = append(kinds, object{
			"if":   object{"properties": object{"kind": object{"const": k.Name}}},
			"then": object{"properties": fields, "additionalProperties": false},
		})
	}

	return object{
		"type":          "object",
		"propertyNames": object{"pattern": storeName.String()},
		"additionalProperties": object{
			"type":       "object",
			"required":   []string{"kind", "namespaces"},
			"properties": object{"kind": object{"enum": ks.names()}},
			"allOf":      kinds,
		},
	}
}

// DialectSchema is the JSON Schema of the chart's value dialects: what a policy
// may say, and beside it whether the dialect is served.
func (c Catalog) DialectSchema() map[string]any {
	dialects := object{}
	for _, p := range c.Dialects {
		fields := object{"enabled": object{"type": "boolean"}}
		schemaFields(fields, reflect.TypeFor[policyFields]())
		if p.Settings != nil {
			schemaFields(fields, reflect.TypeOf(p.Settings()).Elem())
		}
		dialects[p.Name] = object{"type": "object", "properties": fields, "additionalProperties": false}
	}

	return object{"type": "object", "properties": dialects, "additionalProperties": false}
}

type object = map[string]any

func schemaFields(into object, t reflect.Type) {
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); name != "" && name != "-" {
			into[name] = schemaOf(f.Type)
		}
	}
}

const durationPattern = `([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+`

// schemaOf follows the rules of strict.Decoder: a number is taken as the text
// that it is written as.
func schemaOf(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return object{"type": []string{"string", "number"}, "pattern": "^(0|" + durationPattern + ")$"}
	case reflect.TypeFor[Refresh]():
		return object{"type": "string", "pattern": "^(never|" + durationPattern + ")$"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.String:
		return object{"type": []string{"string", "number"}}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Slice:
		return object{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Struct:
		fields := object{}
		schemaFields(fields, t)
		return object{"type": "object", "properties": fields, "additionalProperties": false}
	}

	panic("store: no schema of " + t.String())
}
