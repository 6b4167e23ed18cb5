package sops

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/coffre-csi/coffre/provider/store"
)

const (
	maxIdentities = 64
	keyMark       = "AGE-SECRET-KEY-" // of both kinds: …-1… and the post-quantum …-PQ-1…
)

// identities are the age keys that a reader has, by their public halves.
type identities map[string]age.Identity

// add takes every age secret key of text: those on lines of their own, and
// several on one, as SOPS_AGE_KEY may have them, parted by blanks or commas.
// Other lines, comments among them, are somebody else's business; a word that
// begins like a key and is none is an error that does not quote it.
func (ids identities) add(text string) error {
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, maxDocument)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if !strings.HasPrefix(line, keyMark) {
			continue
		}
		if err := ids.addLine(line); err != nil {
			return err
		}
	}

	return nil
}

func (ids identities) addLine(line string) error {
	between := func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }
	for word := range strings.FieldsFuncSeq(line, between) {
		public, id, err := parseIdentity(word)
		if err != nil {
			return errors.New("holds a line that begins with " + keyMark + " and is no age secret key")
		}
		if ids[public] = id; len(ids) > maxIdentities {
			return fmt.Errorf("holds more than %d age secret keys", maxIdentities)
		}
	}

	return nil
}

func parseIdentity(line string) (public string, id age.Identity, err error) {
	if strings.HasPrefix(line, keyMark+"PQ-") {
		h, err := age.ParseHybridIdentity(line)
		if err != nil {
			return "", nil, err
		}
		return h.Recipient().String(), h, nil
	}

	x, err := age.ParseX25519Identity(line)
	if err != nil {
		return "", nil, err
	}

	return x.Recipient().String(), x, nil
}

// publics are the public halves, for an error.
func (ids identities) publics() string {
	var all []string
	for public := range ids {
		all = append(all, public)
	}
	slices.Sort(all)
	return listed(all)
}

// listed is a short list of keys for an error.
func listed(all []string) string {
	const most = 4
	var shown []string
	for i, s := range all {
		if i == most {
			shown = append(shown, fmt.Sprintf("and %d more", len(all)-most))
			break
		}
		shown = append(shown, clip(s))
	}

	return strings.Join(shown, ", ")
}

// dataKey opens the document's data key. An error is a *store.Error whose text
// continues "the document ".
func (m *metadata) dataKey(ids identities) ([]byte, error) {
	var shares [][]byte
	var broken error
	for _, g := range m.groups {
		share, err := g.share(ids)
		if err != nil {
			broken = err // the other groups may do
		} else if share != nil {
			shares = append(shares, share)
		}
	}

	if len(m.groups) == 1 && len(shares) == 1 {
		return checkKey(shares[0])
	}
	if len(m.groups) > 1 && len(shares) >= max(m.threshold, 2) {
		key, err := combine(shares)
		if err != nil {
			return nil, store.Errorf(store.Invalid, "%s", err)
		}
		return checkKey(key)
	}

	if broken != nil {
		return nil, broken
	}

	return nil, m.locked(ids, len(shares))
}

func checkKey(key []byte) ([]byte, error) {
	if len(key) != 32 {
		return nil, store.Errorf(store.Invalid, "has a data key that is not 32 bytes long")
	}
	return key, nil
}

// share decrypts the group's share of the data key, nil where ids hold none of
// its keys. Only the copy that names one of ids is tried: a document that
// lists many recipients costs no more than one that lists ours.
func (g keyGroup) share(ids identities) ([]byte, error) {
	broken := false
	for _, k := range g {
		id, have := ids[k.id]
		if k.kind != "age" || !have {
			continue
		}
		share, err := unwrap(k.wrapped, id)
		if err == nil {
			return share, nil
		}
		broken = true
	}

	if broken {
		return nil, store.Errorf(store.Invalid, "names one of the given age keys (%s), but its copy of the data key cannot be opened with it: it was damaged, or is another document's", ids.publics())
	}

	return nil, nil
}

func unwrap(wrapped string, id age.Identity) ([]byte, error) {
	r, err := age.Decrypt(armor.NewReader(strings.NewReader(wrapped)), id)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, 256))
}

// locked says why ids cannot open the document.
func (m *metadata) locked(ids identities, opened int) error {
	var wanted, others []string
	for _, g := range m.groups {
		for _, k := range g {
			if k.kind == "age" {
				wanted = append(wanted, k.id)
			} else {
				others = append(others, k.kind+" "+clip(k.id))
			}
		}
	}

	if len(wanted) == 0 {
		return store.Errorf(store.Precondition, "is encrypted for no age key and needs the %s, which this store cannot use: add an age recipient to it with sops updatekeys", listed(others))
	}
	text := fmt.Sprintf("is encrypted for the age keys %s", listed(wanted))
	if len(m.groups) > 1 {
		text = fmt.Sprintf("needs %d of its %d key groups, of which %d can be opened; its age keys are %s", max(m.threshold, 2), len(m.groups), opened, listed(wanted))
	}
	if len(others) > 0 {
		text += fmt.Sprintf(" (and the %s)", listed(others))
	}

	return store.Errorf(store.Denied, "%s, and the given secret keys are those of %s: give the matching secret key, or add a recipient with sops updatekeys", text, ids.publics())
}

// combine makes a secret of its shares, by Shamir's scheme over GF(2^8) with
// the AES polynomial. A share is a value a byte of the secret, and at its end
// the point at which they were taken.
func combine(shares [][]byte) ([]byte, error) {
	n := len(shares[0]) - 1
	xs := make([]byte, len(shares))
	for i, s := range shares {
		if n < 1 || len(s) != n+1 {
			return nil, errors.New("has key shares of different lengths")
		}
		xs[i] = s[n]
		if xs[i] == 0 || slices.Contains(xs[:i], xs[i]) {
			return nil, errors.New("has two key groups with the same share")
		}
	}

	secret := make([]byte, n)
	for i, s := range shares {
		// The share's weight at zero: the product of x/(x-xi) over the others.
		weight := byte(1)
		for j, x := range xs {
			if j != i {
				weight = mul(weight, mul(x, inverse(x^xs[i])))
			}
		}

		for b := range secret {
			secret[b] ^= mul(s[b], weight)
		}
	}

	return secret, nil
}

// mul multiplies in GF(2^8) modulo x^8+x^4+x^3+x+1, in constant time.
func mul(a, b byte) byte {
	var p byte
	for range 8 {
		p ^= a & -(b & 1)
		a = a<<1 ^ 0x1b&-(a>>7)
		b >>= 1
	}
	return p
}

// inverse is a^254, since a^255 is 1.
func inverse(a byte) byte {
	r := byte(1)
	for range 7 {
		a = mul(a, a)
		r = mul(r, a)
	}
	return r
}
