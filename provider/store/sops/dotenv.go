package sops

import (
	"errors"
	"strings"
)

// parseDotenv reads KEY=value lines. SOPS knows no quotes and no export here:
// a value is the rest of the line, in which \n stands for a line break.
func parseDotenv(text string, b *budget) ([]mapping, error) {
	m := mapping{}
	for line := range strings.SplitSeq(text, "\n") {
		if line == "" {
			continue
		}
		if err := b.spend(1); err != nil {
			return nil, err
		}
		if line[0] == '#' {
			m = append(m, entry{value: comment{text: line[1:]}})
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, errors.New("is not dotenv: a line has no =")
		}
		m = append(m, entry{key: key, value: strings.ReplaceAll(value, `\n`, "\n")})
	}
	return []mapping{m}, nil
}

func emitDotenv(branches []mapping) ([]byte, error) {
	var out strings.Builder
	for _, e := range branches[0] {
		switch v := e.value.(type) {
		case comment:
			out.WriteString("#" + v.text + "\n")
		case mapping, list:
			return nil, errors.New("is not dotenv: a value has parts")
		case string:
			out.WriteString(e.key + "=" + strings.ReplaceAll(v, "\n", `\n`) + "\n")
		default:
			out.WriteString(e.key + "=" + plainText(v) + "\n")
		}
	}
	return []byte(out.String()), nil
}
