package sops

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// parseJSON reads one JSON object. Integers stay integers; every other number
// is a float64, as in the sops command.
func parseJSON(text string, b *budget) ([]mapping, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	t, err := d.Token()
	if err != nil {
		return nil, jsonError(err)
	}
	if t != json.Delim('{') {
		return nil, errors.New("is not a JSON object")
	}
	m, err := jsonMapping(d, b, 1)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("has text after its JSON object")
	}

	return []mapping{m}, nil
}

func jsonError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("is JSON that ends too early")
	}
	return fmt.Errorf("is not JSON: %s", clip(err.Error()))
}

func jsonMapping(d *json.Decoder, b *budget, depth int) (mapping, error) {
	m := mapping{}
	for {
		t, err := d.Token()
		if err != nil {
			return nil, jsonError(err)
		}
		key, is := t.(string)
		if !is {
			return m, nil // the closing brace: the decoder lets nothing else stand here
		}
		v, _, err := jsonValue(d, b, depth)
		if err != nil {
			return nil, err
		}
		m = append(m, entry{key: key, value: v})
	}
}

func jsonList(d *json.Decoder, b *budget, depth int) (list, error) {
	l := list{}
	for {
		v, closed, err := jsonValue(d, b, depth)
		if err != nil {
			return nil, err
		}
		if closed {
			return l, nil
		}
		l = append(l, v)
	}
}

// jsonValue reads a value; closed is true where a list ended instead.
func jsonValue(d *json.Decoder, b *budget, depth int) (v any, closed bool, err error) {
	if err := b.spend(depth); err != nil {
		return nil, false, err
	}
	t, err := d.Token()
	if err != nil {
		return nil, false, jsonError(err)
	}
	switch t := t.(type) {
	case json.Delim:
		switch t {
		case '{':
			v, err = jsonMapping(d, b, depth+1)
		case '[':
			v, err = jsonList(d, b, depth+1)
		default:
			closed = true
		}
		return v, closed, err
	case json.Number:
		if i, err := t.Int64(); err == nil {
			return int(i), false, nil
		}
		f, err := t.Float64()
		if err != nil {
			return nil, false, errors.New("holds a number that is too large")
		}
		return f, false, nil
	}

	return t, false, nil
}

func emitJSON(branches []mapping) ([]byte, error) {
	w := jsonWriter{escapeHTML: true}
	if err := w.write(branches[0]); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, w.buf.Bytes(), "", "\t"); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// emitBinary gives back the bytes that a binary document wraps.
func emitBinary(branches []mapping) ([]byte, error) {
	i, err := step(branches[0], "data")
	if err != nil {
		return nil, errors.New(`is no binary document: it has no single key "data"`)
	}
	switch v := branches[0][i].value.(type) {
	case string:
		return []byte(v), nil
	case []byte:
		return bytes.Clone(v), nil
	}
	return nil, errors.New(`is no binary document: its "data" is not text`)
}
