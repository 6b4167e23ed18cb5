package aws

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/oidc"
)

const (
	formType   = "application/x-www-form-urlencoded"
	stsVersion = "2011-06-15"
	stsSpace   = "https://sts.amazonaws.com/doc/2011-06-15/"
)

// serveSTS is the query protocol: a form in, XML out.
func (s *Server) serveSTS(w http.ResponseWriter, q *request) {
	if !q.isContentType(formType) {
		s.refuse(w, q, http.StatusNotFound, "UnknownOperationException", "")
		return
	}
	form, err := url.ParseQuery(string(q.body))
	if err != nil {
		s.refuse(w, q, http.StatusBadRequest, "MalformedQueryString", err.Error())
		return
	}
	q.params = map[string]string{}
	for k, v := range form {
		q.params[k] = v[0]
	}
	q.op = q.params["Action"]
	unsigned := q.op == "AssumeRoleWithWebIdentity"
	if q.region == "" && !unsigned {
		q.region = q.scopeRegion()
	}
	if q.region == "" {
		q.region = s.opts.DefaultRegion
	}
	s.begin(q)
	if s.disturb(w, q) {
		return
	}
	if !unsigned {
		if e := s.authenticate(q); e != nil {
			s.fail(w, q, e)
			return
		}
	}
	out, e := s.sts(q)
	if e != nil {
		s.fail(w, q, e)
		return
	}
	s.End(q.call, http.StatusOK, "")
	w.Header().Set("Content-Type", "text/xml")
	b, _ := xml.Marshal(out)
	w.Write(b)
}

func (s *Server) sts(q *request) (any, *apiError) {
	if v := q.params["Version"]; v != stsVersion {
		return nil, badRequest("NoSuchVersion", "The requested version ( %s ) is not valid.", v)
	}
	switch q.op {
	case "AssumeRoleWithWebIdentity":
		return s.assumeRoleWithWebIdentity(q)
	case "AssumeRole":
		return s.assumeRole(q)
	case "GetCallerIdentity":
		return s.getCallerIdentity(q)
	case "":
		return nil, badRequest("MissingAction", "The request must contain the parameter Action")
	}
	return nil, badRequest("InvalidAction", "Could not find operation %s for version %s", q.op, stsVersion)
}

type credentialsXML struct {
	AccessKeyId     string
	SecretAccessKey string
	SessionToken    string
	Expiration      string
}

type assumedXML struct {
	AssumedRoleId string
	Arn           string
}

type metadataXML struct{ RequestId string }

func (who *session) credentials() credentialsXML {
	return credentialsXML{who.id, who.secret, who.token, who.expires.UTC().Format(time.RFC3339)}
}

// assumeRoleWithWebIdentity follows the STS API reference,
// AssumeRoleWithWebIdentity: limits, and the codes of its section Errors.
func (s *Server) assumeRoleWithWebIdentity(q *request) (any, *apiError) {
	token, arn, name := q.params["WebIdentityToken"], q.params["RoleArn"], q.params["RoleSessionName"]
	var role Role
	var claims oidc.Claims
	lifetime, e := q.checkAssume(token, "webIdentityToken", s.opts.AcceptAnyToken)
	if e != nil {
		return nil, e
	}
	if s.opts.AcceptAnyToken {
		role, claims.Audience = s.lax(arn), oidc.Audience{"sts.amazonaws.com"}
	} else {
		if claims, e = s.verifyWebIdentity(token); e != nil {
			return nil, e
		}
		if role, e = s.trusted(arn, claims); e != nil {
			return nil, e
		}
	}
	if e := role.checkLifetime(lifetime); e != nil {
		return nil, e
	}
	who := s.issue(role, q.region, name, lifetime, nil)
	type result struct {
		SubjectFromWebIdentityToken string
		Audience                    string
		Provider                    string
		AssumedRoleUser             assumedXML
		Credentials                 credentialsXML
	}
	return struct {
		XMLName          xml.Name
		Result           result `xml:"AssumeRoleWithWebIdentityResult"`
		ResponseMetadata metadataXML
	}{
		XMLName: xml.Name{Space: stsSpace, Local: "AssumeRoleWithWebIdentityResponse"},
		Result: result{claims.Subject, strings.Join(claims.Audience, ","), claims.Issuer,
			assumedXML{who.userID, who.arn}, who.credentials()},
		ResponseMetadata: metadataXML{requestID()},
	}, nil
}

var (
	roleARN     = regexp.MustCompile(`^arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+$`)
	sessionName = regexp.MustCompile(`^[\w+=,.@-]*$`)
)

// checkAssume checks what both ways to assume a role have in common. token is
// "" where none is due.
func (q *request) checkAssume(token, tokenField string, lax bool) (time.Duration, *apiError) {
	arn, name := q.params["RoleArn"], q.params["RoleSessionName"]
	lifetime := 3600
	if d := q.params["DurationSeconds"]; d != "" {
		var err error
		if lifetime, err = strconv.Atoi(d); err != nil || lifetime < 900 || lifetime > 43200 {
			return 0, stsInvalid("durationSeconds", d, "Member must have value between 900 and 43200")
		}
	}
	switch {
	case name == "" || len(name) < 2:
		return 0, stsInvalid("roleSessionName", name, "Member must have length greater than or equal to 2")
	case len(name) > 64:
		return 0, stsInvalid("roleSessionName", name, "Member must have length less than or equal to 64")
	case !sessionName.MatchString(name):
		return 0, stsInvalid("roleSessionName", name, `Member must satisfy regular expression pattern: [\w+=,.@-]*`)
	case tokenField != "" && token == "":
		return 0, stsInvalid(tokenField, "", "Member must not be null")
	case lax:
		return time.Duration(lifetime) * time.Second, nil
	case tokenField != "" && (len(token) < 4 || len(token) > 20000):
		return 0, stsInvalid(tokenField, "…", "Member must have length between 4 and 20000")
	case len(arn) < 20:
		return 0, stsInvalid("roleArn", arn, "Member must have length greater than or equal to 20")
	case !roleARN.MatchString(arn):
		return 0, badRequest("ValidationError", "Request ARN is invalid")
	}
	return time.Duration(lifetime) * time.Second, nil
}

func stsInvalid(field, value, constraint string) *apiError {
	e := invalid(field, value, constraint)
	e.Code = "ValidationError"
	return e
}

func (r Role) checkLifetime(d time.Duration) *apiError {
	limit := r.MaxSession
	if limit == 0 {
		limit = time.Hour
	}
	if d > limit {
		return badRequest("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	return nil
}

// verifyWebIdentity checks a token as STS does: against the keys of a
// registered issuer, for its own audience, in its time.
func (s *Server) verifyWebIdentity(token string) (oidc.Claims, *apiError) {
	claims, err := s.VerifyToken(token)
	now := s.opts.Now()
	switch {
	case errors.Is(err, oidc.ErrMalformed):
		return claims, badRequest("InvalidIdentityToken", "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
	case errors.Is(err, oidc.ErrIssuer):
		return claims, badRequest("InvalidIdentityToken", "No OpenIDConnect provider found in your account for %s", claims.Issuer)
	case errors.Is(err, oidc.ErrKey):
		return claims, badRequest("InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements")
	case err != nil:
		return claims, badRequest("InvalidIdentityToken", "Provided web identity token is not valid: %v", err)
	case !slices.Contains(claims.Audience, "sts.amazonaws.com"):
		return claims, badRequest("InvalidIdentityToken", "Incorrect token audience")
	case float64(now.Unix()) >= claims.Expires:
		return claims, badRequest("ExpiredTokenException", "Token expired: current date/time %d must be before the expiration date/time %.0f", now.Unix(), claims.Expires)
	case claims.NotBefore > float64(now.Add(5*time.Minute).Unix()):
		return claims, badRequest("InvalidIdentityToken", "Token is not valid before %.0f", claims.NotBefore)
	}
	return claims, nil
}

// assumeRole follows the STS API reference, AssumeRole, and the IAM User Guide,
// "Pass session tags in AWS STS". The role's trust decides alone, as it does
// within one account.
func (s *Server) assumeRole(q *request) (any, *apiError) {
	arn, name := q.params["RoleArn"], q.params["RoleSessionName"]
	lifetime, e := q.checkAssume("", "", false)
	if e != nil {
		return nil, e
	}
	if q.who.token != "" && lifetime > time.Hour {
		return nil, badRequest("ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
	}
	tags, e := q.sessionTags()
	if e != nil {
		return nil, e
	}
	role, ok := s.role(arn)
	if !ok || !role.trusts(q.who, q.params["ExternalId"], tags) {
		return nil, &apiError{Status: http.StatusForbidden, Code: "AccessDenied",
			Message: fmt.Sprintf("User: %s is not authorized to perform: sts:AssumeRole on resource: %s", q.who.arn, arn)}
	}
	if e := role.checkLifetime(lifetime); e != nil {
		return nil, e
	}
	who := s.issue(role, q.region, name, lifetime, tags)
	type result struct {
		AssumedRoleUser assumedXML
		Credentials     credentialsXML
		SourceIdentity  string `xml:",omitempty"`
	}
	return struct {
		XMLName          xml.Name
		Result           result `xml:"AssumeRoleResult"`
		ResponseMetadata metadataXML
	}{
		XMLName:          xml.Name{Space: stsSpace, Local: "AssumeRoleResponse"},
		Result:           result{assumedXML{who.userID, who.arn}, who.credentials(), q.params["SourceIdentity"]},
		ResponseMetadata: metadataXML{requestID()},
	}, nil
}

func (r Role) trusts(who *session, externalID string, tags map[string]string) bool {
	principal := who.roleARN
	if principal == "" {
		principal = who.arn
	}
	for k, pattern := range r.RequiredTags {
		if v, ok := tags[k]; !ok || !glob(pattern, v) {
			return false
		}
	}
	return matchesAny(r.AssumableBy, principal) && (r.ExternalID == "" || r.ExternalID == externalID)
}

// sessionTags reads Tags.member.N: at most 50, keys up to 128 and values up to
// 256 characters.
func (q *request) sessionTags() (map[string]string, *apiError) {
	tags := map[string]string{}
	for n := 1; ; n++ {
		prefix := "Tags.member." + strconv.Itoa(n)
		key, ok := q.params[prefix+".Key"]
		if !ok {
			return tags, nil
		}
		value := q.params[prefix+".Value"]
		switch {
		case n > 50:
			return nil, stsInvalid("tags", "…", "Member must have length less than or equal to 50")
		case key == "" || len(key) > 128:
			return nil, stsInvalid("tags."+strconv.Itoa(n)+".member.key", key, "Member must have length between 1 and 128")
		case len(value) > 256:
			return nil, stsInvalid("tags."+strconv.Itoa(n)+".member.value", value, "Member must have length less than or equal to 256")
		}
		tags[key] = value
	}
}

func (s *Server) getCallerIdentity(q *request) (any, *apiError) {
	type result struct{ Arn, UserId, Account string }
	account, _ := roleParts(q.who.arn)
	return struct {
		XMLName          xml.Name
		Result           result `xml:"GetCallerIdentityResult"`
		ResponseMetadata metadataXML
	}{
		XMLName:          xml.Name{Space: stsSpace, Local: "GetCallerIdentityResponse"},
		Result:           result{q.who.arn, q.who.userID, account},
		ResponseMetadata: metadataXML{requestID()},
	}, nil
}
