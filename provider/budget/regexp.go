package budget

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// MaxProgram is the most instructions that a tenant's regular expression may
// compile to: matching takes their number for every byte of the text.
const MaxProgram = 1000

// Bounds of a regular expression's text, and what an instruction of its
// program holds: the two forms that package regexp keeps.
const (
	maxPattern       = 1024
	instructionBytes = 128
)

// Pattern is a tenant's regular expression, compiled within the bounds.
type Pattern struct {
	*regexp.Regexp
	size int
}

// Compile compiles a tenant's regular expression. The size of the program is
// measured on the parsed text, before anything is compiled.
func (b *Budget) Compile(text string) (*Pattern, error) {
	if len(text) > maxPattern {
		return nil, fmt.Errorf("is a regular expression of %d bytes; the limit is %d", len(text), maxPattern)
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}

	size, runes := weigh(parsed)
	if size > MaxProgram {
		return nil, fmt.Errorf("is a regular expression that compiles to more than %d steps; use smaller counts in {}", MaxProgram)
	}
	if err := b.Bytes(size*instructionBytes + runes*16 + len(text)*64); err != nil {
		return nil, err
	}
	if err := b.Work(size*64 + runes*8); err != nil {
		return nil, err
	}

	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}

	return &Pattern{re, size}, nil
}

// Match charges one match of a text of n bytes.
func (p *Pattern) Match(b *Budget, n int) error { return b.Work((n + 1) * max(p.size, 8)) }

// ErrTooLong is said of a replacement that passes its limit.
var ErrTooLong = errors.New("makes too long a text")

// Replace is text with every match replaced by with, which is expanded ($1,
// ${name}); ErrTooLong where the result would be longer than limit.
func (p *Pattern) Replace(b *Budget, text, with string, limit int) (string, error) {
	if err := p.Match(b, len(text)); err != nil {
		return "", err
	}
	// The places of all matches are found at once; an empty text matches
	// between any two bytes.
	if err := b.Bytes((len(text) + 1) * (24 + 16*(1+p.NumSubexp()))); err != nil {
		return "", err
	}

	var out []byte
	end := 0
	for _, match := range p.FindAllStringSubmatchIndex(text, -1) {
		// What one match may become, before it does.
		longest := match[0] - end + len(with) + strings.Count(with, "$")*(match[1]-match[0])
		if longest > limit+len(text)+len(with) {
			return "", ErrTooLong
		}
		if err := b.Bytes(2 * longest); err != nil {
			return "", err
		}
		out = append(out, text[end:match[0]]...)
		out = p.ExpandString(out, with, text, match)
		end = match[1]
		if len(out) > limit {
			return "", ErrTooLong
		}
	}

	out = append(out, text[end:]...)
	if len(out) > limit {
		return "", ErrTooLong
	}

	return string(out), b.Bytes(2 * len(out))
}

// weigh counts the instructions that an expression compiles to at most, and
// the runes of its classes. Counts are multiplied out, and stop where they are
// past the limit.
func weigh(re *syntax.Regexp) (size, runes int) {
	for _, sub := range re.Sub {
		s, r := weigh(sub)
		size, runes = min(size+s, 1<<20), min(runes+r, 1<<24)
	}

	switch re.Op {
	case syntax.OpLiteral:
		return len(re.Rune), len(re.Rune)
	case syntax.OpConcat:
	case syntax.OpCapture, syntax.OpStar, syntax.OpPlus, syntax.OpQuest:
		size += 2
	case syntax.OpAlternate:
		size += len(re.Sub)
	case syntax.OpRepeat:
		times := max(re.Min+1, re.Max)
		if re.Min == re.Max {
			times = max(re.Max, 1)
		} else {
			size++ // each of the optional ones is a choice
		}
		size, runes = min(size*times, 1<<20), min(runes*times, 1<<24)
	default:
		return 1, len(re.Rune)
	}

	return size, runes
}
