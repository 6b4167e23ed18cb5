package auth

import (
	"fmt"
	"log/slog"
	"strings"
)

// Redacted is what every type that carries a secret prints as.
const Redacted = "[redacted]"

// Format keeps a token out of every fmt verb.
func (t Token) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Redacted)) }

// LogValue keeps a token out of structured logs.
func (t Token) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalJSON keeps a token out of JSON.
func (t Token) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

func (t Tokens) shown() string { return "[tokens for " + strings.Join(t.Audiences(), ", ") + "]" }

// Format prints the audiences only.
func (t Tokens) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(t.shown())) }

// LogValue gives the audiences only.
func (t Tokens) LogValue() slog.Value { return slog.StringValue(t.shown()) }

// MarshalJSON gives the audiences only.
func (t Tokens) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%q", t.shown()), nil }

func (s Secrets) shown() string { return "[secrets " + strings.Join(s.Keys(), ", ") + "]" }

// Format prints the keys only.
func (s Secrets) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.shown())) }

// LogValue gives the keys only.
func (s Secrets) LogValue() slog.Value { return slog.StringValue(s.shown()) }

// MarshalJSON gives the keys only.
func (s Secrets) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%q", s.shown()), nil }
