package azure

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/coffre-csi/coffre/auth/fault"
)

// Answer is what a service of Azure's said in the place of data: enough to
// decide on, and to word an error otherwise. It is the Cause of every error of a
// sign-in and of Key Vault.
type Answer struct {
	// Setup says that no token was asked for: what the request brings does not do
	// for its way to sign in.
	Setup  bool
	SignIn bool   // of Entra, the token proxy, IMDS or NMI, rather than of a vault
	URL    string // what was asked of a vault, without its query
	Status int    // HTTP; 0 where nothing was answered
	Code   string // Key Vault's error code, or Entra's with its AADSTS
	Inner  string // Key Vault's inner error code
	Text   string // Azure's own sentence on one line; "" where it was none of Azure's
}

func (a *Answer) Error() string {
	if a.Status == 0 {
		return "no answer"
	}
	return strings.TrimSpace(fmt.Sprintf("HTTP %d %s", a.Status, a.Code))
}

// setup is an error before anybody was asked.
func setup(r fault.Reason, format string, args ...any) error {
	return &fault.Error{Reason: r, Text: fmt.Sprintf(format, args...), Cause: &Answer{Setup: true, SignIn: true}}
}

// refused is an error of a sign-in; request is what its peer calls the request.
func refused(r fault.Reason, a *Answer, request, format string, args ...any) error {
	a.SignIn = true
	return &fault.Error{Reason: r, Text: fmt.Sprintf(format, args...), Detail: fault.Detail{Request: request}, Cause: a}
}

// maxSentence is as much of Azure's words as an event has room for.
const maxSentence = 300

// Sentence is a text of Azure's on one line, and nothing where it could carry a
// token.
func Sentence(text string) string {
	if strings.Contains(text, "eyJ") {
		return "(a text that holds a token)"
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxSentence {
		text = strings.ToValidUTF8(text[:maxSentence], "") + "…"
	}
	return text
}
