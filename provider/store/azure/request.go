package azure

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/coffre-csi/coffre/auth"
	azureauth "github.com/coffre-csi/coffre/auth/azure"
	"github.com/coffre-csi/coffre/auth/peer"
	"github.com/coffre-csi/coffre/provider/store/ask"
)

const (
	// apiVersion is what every cloud has, Azure Stack too.
	apiVersion = "7.4"
	// A secret has 25 KB at most, a page of a list 25 entries.
	maxAnswer = 1 << 20
)

// failed is a request that was not answered with data.
type failed struct {
	answer  azureauth.Answer
	request string        // what Key Vault calls it
	after   time.Duration // what it asked for
	limited bool          // asked too much, or no turn in time
	why     string        // why there was no answer of Key Vault's; "" where there was one
	host    string        // that does not exist
}

func (f *failed) Error() string { return f.answer.Error() }
func (f *failed) Unwrap() error { return &f.answer }

// failureOf is the failed inside an error; whatever else failed was no answer.
func failureOf(err error) *failed {
	if f := new(failed); errors.As(err, &f) {
		return f
	}
	return &failed{why: peer.Unreached(err)}
}

func answerOf(err error) *azureauth.Answer {
	a := new(azureauth.Answer)
	if errors.As(err, &a) {
		return a
	}
	return nil
}

// get makes one request; the zero token asks for the challenge.
func (v *visit) get(ctx context.Context, at *url.URL, t auth.Token) ([]byte, error) {
	asked := azureauth.Answer{URL: at.Scheme + "://" + at.Host + at.Path}
	u := *at
	query := u.Query()
	query.Set("api-version", apiVersion)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, &failed{answer: asked, why: "the address is no URL"}
	}
	req.Header.Set("Accept", "application/json")
	if t.Reveal() != "" {
		req.Header.Set("Authorization", "Bearer "+t.Reveal())
	}

	res, err := v.cloud.opts.Network.Vault(req)
	if err != nil {
		return nil, &failed{answer: asked, why: peer.Unreached(err)}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil || len(body) > maxAnswer {
		return nil, &failed{answer: asked, why: "the answer broke off"}
	}
	if res.StatusCode == http.StatusOK {
		return body, nil
	}
	return nil, v.readFailure(asked, res, body)
}

var (
	errorCode = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}$`)
	requestID = regexp.MustCompile(`^[0-9A-Za-z-]{8,64}$`)
)

// readFailure reads {"error": {"code": …, "message": …, "innererror": {"code": …}}}.
func (v *visit) readFailure(asked azureauth.Answer, res *http.Response, body []byte) *failed {
	f := &failed{answer: asked, after: azureauth.RetryAfter(res.Header)}
	f.answer.Status = res.StatusCode
	if id := res.Header.Get("x-ms-request-id"); requestID.MatchString(id) {
		f.request = id
	}
	if res.StatusCode == http.StatusUnauthorized {
		if c, ok := readChallenge(res.Header.Get("WWW-Authenticate"), v.vault.host); ok {
			v.vault.learn(c)
		} else {
			f.why = "it asks for tokens that are for another host"
		}
	}

	var said struct {
		Error struct {
			Code, Message string
			Inner         struct{ Code string } `json:"innererror"`
		}
	}
	if json.Unmarshal(body, &said) == nil && errorCode.MatchString(said.Error.Code) {
		f.answer.Code, f.answer.Text = said.Error.Code, azureauth.Sentence(said.Error.Message)
		if errorCode.MatchString(said.Error.Inner.Code) {
			f.answer.Inner = said.Error.Inner.Code
		}
	}
	return f
}

// judge says what to do about a request that failed. An answer without Key
// Vault's own code is a proxy's, or that of something in between.
func judge(err error) ask.Verdict {
	f := failureOf(err)
	out := ask.Verdict{Code: f.answer.Code, RetryAfter: f.after}
	switch status := f.answer.Status; {
	case status == http.StatusUnauthorized:
		out.Expired = f.why == ""
	case status == http.StatusTooManyRequests:
		out.Throttled = true
	case status >= 500, status == http.StatusRequestTimeout, status == 0, f.answer.Code == "":
		out.Transient = true
	}
	return out
}

// next is the address of a list's next page, where it is of the same vault: a
// token goes nowhere else.
func (v *visit) next(link *string) (*url.URL, bool) {
	if link == nil || *link == "" {
		return nil, true
	}
	u, err := url.Parse(*link)
	if err != nil || u.Scheme != "https" || u.User != nil {
		return nil, false
	}
	host := strings.TrimSuffix(strings.ToLower(u.Host), ":443")
	if host != v.vault.host {
		return nil, false
	}
	u.Host = host
	return u, true
}
