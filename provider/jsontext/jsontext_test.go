package jsontext

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestALongTextIsQuotedAsTheLibraryQuotesIt(t *testing.T) {
	for _, unit := range []string{"a", "é", "€", "😀", "\xe2\x82", "\u2028<\"\\\n\x01", "\xff"} {
		for shift := range 5 {
			text := strings.Repeat("x", shift) + strings.Repeat(unit, quotedAtOnce)
			var want bytes.Buffer
			e := json.NewEncoder(&want)
			e.SetEscapeHTML(false)
			if err := e.Encode(text); err != nil {
				t.Fatalf("the library does not quote %q: %v", unit, err)
			}
			if got := string(Quote(nil, text)) + "\n"; got != want.String() {
				t.Errorf("%q, moved by %d: the text is quoted otherwise than by the library", unit, shift)
			} else if utf8.ValidString(text) && quotedSize(text) < len(got)-1 {
				t.Errorf("%q: %d bytes are paid for, %d are made", unit, quotedSize(text), len(got)-1)
			}
		}
	}
}
