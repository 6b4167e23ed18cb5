package azure

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	azureauth "github.com/coffre-csi/coffre/auth/azure"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/request"
	azurestore "github.com/coffre-csi/coffre/provider/store/azure"
)

// Explain words a failure as the Azure provider did, with the cause. That
// provider told of the first object that failed; this dialect tells of all.
func (Dialect) Explain(err error) error {
	if r := new(request.Error); errors.As(err, &r) {
		return malformed(r)
	}

	var lines []string
	for _, e := range plan.Split(err) {
		query, object := new(plan.QueryError), new(plan.ObjectError)
		line := e.Error()
		switch {
		case errors.As(e, &query):
			line = unread(query)
		case errors.As(e, &object) && object.Object != "":
			line = wrapped(object.Object, object.Text)
		}
		if !slices.ContainsFunc(lines, sameFault(line)) {
			lines = append(lines, line)
		}
	}

	return &failure{text: "failed to mount objects, error: " + strings.Join(lines, "; "), err: err}
}

// sameFault says whether two lines say the same of two objects: no sign-in, for
// all of them.
func sameFault(line string) func(string) bool {
	what := func(l string) string {
		if _, after, ok := strings.Cut(l, ": "); ok && strings.HasPrefix(l, "failed to get objectType:") {
			_, after, _ = strings.Cut(after, ": ")
			return after
		}
		return l
	}
	return func(other string) bool {
		return line == other || what(line) == what(other) && !strings.Contains(line, "GET https://")
	}
}

// unread is a secret that could not be read.
func unread(q *plan.QueryError) string {
	answer := new(azureauth.Answer)
	said := errors.As(q, &answer)
	switch {
	case said && answer.Setup && answer.SignIn:
		return setup(q)
	case said && answer.Setup:
		return q.Err.Text + from(q)
	case said && !answer.SignIn && answer.Status >= http.StatusBadRequest:
		return wrapped(q.Query.Object, responded(answer)+" ("+q.Err.Error()+")")
	}
	return wrapped(q.Query.Object, q.Err.Text+from(q))
}

// from names the store of an error whose text stands first.
func from(q *plan.QueryError) string {
	if q.Err.Store == "" {
		return ""
	}
	return " (" + q.Err.Store + ")"
}

// setup is why there is no credential. What the class does not say and an
// annotation could have said is missed in the Azure provider's words first.
func setup(q *plan.QueryError) string {
	var s azurestore.Settings
	if c := q.Query.Store.Inline; c != nil {
		if own, ok := c.Settings.(*azurestore.Settings); ok {
			s = *own
		}
	}
	text := q.Err.Text
	missed := func(sentence string) {
		if !strings.HasPrefix(text, sentence) {
			text = sentence + ", and " + text
		}
	}

	switch {
	case s.TenantID == "" && !s.Auth.OfNode():
		missed("tenantId is not provided")
		return text + from(q)
	case s.Auth == azureauth.WorkloadIdentity && s.ClientID == "":
		missed("failed to get credentials, nodePublishSecretRef secret is not set")
	case s.Auth == azureauth.TokenProxy && s.ClientID == "":
		missed("clientID is required for identity binding")
	}

	return "failed to build auth config for mode " + modeOf(s.Auth) + ": " + text
}

// responded is a vault's answer as Azure's SDK prints it, on one line.
func responded(a *azureauth.Answer) string {
	code := a.Code
	if code == "" {
		code = "UNAVAILABLE"
	}
	status := http.StatusText(a.Status)

	return fmt.Sprintf("GET %s RESPONSE %d: %d %s ERROR CODE: %s", a.URL, a.Status, a.Status, status, code)
}

// bare are errors that the Azure provider wraps in nothing.
var bare = []string{
	"secret value is nil", "secret id is nil", "key value is nil", "key id is nil",
	"certificate value is nil", "certificate id is nil",
}

// wrapped puts the object before an error's text, or after it where the Azure
// provider named none.
func wrapped(object, text string) string {
	if strings.Contains(text, byEncoding) {
		return text + " (" + object + ")"
	}
	for _, words := range bare {
		if strings.Contains(text, words) {
			return words + " (" + object + ": " + text + ")"
		}
	}
	return "failed to get " + object + ": " + text
}

// malformed is a request that could not be read.
func malformed(r *request.Error) error {
	cause := r.Text
	if r.Cause != nil {
		cause = strings.ReplaceAll(r.Cause.Error(), "struct field .token", "struct field saToken.token")
	}
	text := cause
	switch {
	case r.Part == request.PartPod || r.Part == request.PartAttributes && r.Cause == nil:
		text = "failed to mount objects, error: pod name is not provided: " + r.Text
	case r.Part == request.PartNamespace:
		text = "failed to mount objects, error: pod namespace is not provided: " + r.Text
	case r.Part == request.PartTokens:
		const unread = "failed to mount objects, error: failed to build auth config for mode None: failed to parse workload identity tokens, error: "
		text = unread + "failed to unmarshal service account tokens, error: " + cause
	case r.Cause != nil:
		text = fmt.Sprintf("failed to unmarshal %s, error: %s", r.Part, cause)
	}

	return &failure{text: text, err: r}
}
