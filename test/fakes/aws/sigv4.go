package aws

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// skew is how far a signature's date may be from the clock: 15 minutes, IAM
// User Guide, "Troubleshoot Signature Version 4 signing for AWS API requests".
const skew = 15 * time.Minute

const amzDate = "20060102T150405Z"

// authorization is the header of Signature Version 4, IAM User Guide, "Create a
// signed AWS API request".
var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/,\s]+)/(\d{8})/([^/,\s]+)/([^/,\s]+)/aws4_request,\s*SignedHeaders=([^,\s]+),\s*Signature=([0-9a-f]{64})$`)

type signature struct {
	key, date, region, service string
	headers                    []string
	value                      string
}

func parseAuthorization(h string) (signature, bool) {
	m := authorization.FindStringSubmatch(h)
	if m == nil {
		return signature{}, false
	}
	return signature{m[1], m[2], m[3], m[4], strings.Split(m[5], ";"), m[6]}, true
}

// peek is who a request says it is from: for the record, before any check.
func (s *Server) peek(q *request) *session {
	sig, ok := parseAuthorization(q.Header.Get("Authorization"))
	if !ok {
		return nil
	}
	return s.session(sig.key)
}

// scopeRegion is the region of the credential scope. The single endpoint has no
// other place to say it.
func (q *request) scopeRegion() string {
	sig, _ := parseAuthorization(q.Header.Get("Authorization"))
	return sig.region
}

// authenticate verifies the signature and sets q.who. The codes differ between
// the JSON services, which answer HTTP 400, and STS, which answers 403.
func (s *Server) authenticate(q *request) *apiError {
	header := q.Header.Get("Authorization")
	if header == "" {
		return q.authError("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	sig, ok := parseAuthorization(header)
	if !ok {
		return q.authError("IncompleteSignatureException",
			"Authorization header is not of the form AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…")
	}
	who := s.session(sig.key)
	if who == nil || !hmac.Equal([]byte(who.token), []byte(q.Header.Get("X-Amz-Security-Token"))) {
		return q.authError("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	now := s.opts.Now()
	if who.token != "" && !now.Before(who.expires) {
		return q.authError("ExpiredTokenException", "The security token included in the request is expired")
	}
	if sig.service != q.service {
		return q.authError("InvalidSignatureException", "Credential should be scoped to correct service: '"+q.service+"'. ")
	}
	if sig.region != q.region {
		return q.authError("InvalidSignatureException", "Credential should be scoped to a valid region. ")
	}
	if e := q.checkDate(sig, now); e != nil {
		return e
	}
	if e := q.checkSigned(sig); e != nil {
		return e
	}
	payload := sha256.Sum256(q.body)
	if h := q.Header.Get("X-Amz-Content-Sha256"); h != "" && h != hex.EncodeToString(payload[:]) {
		return q.authError("InvalidSignatureException", "The value of x-amz-content-sha256 does not match the payload")
	}
	if !hmac.Equal([]byte(sig.value), []byte(q.sign(sig, who.secret, payload))) {
		return q.authError("InvalidSignatureException", "The request signature we calculated does not match the signature you provided. "+
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	q.who = who
	return nil
}

// stsCodes are STS's names for the front end's errors: STS API reference,
// "Common Error Types", which are those of the query protocol.
var stsCodes = map[string]string{
	"MissingAuthenticationTokenException": "MissingAuthenticationToken",
	"IncompleteSignatureException":        "IncompleteSignature",
	"UnrecognizedClientException":         "InvalidClientTokenId",
	"ExpiredTokenException":               "ExpiredToken",
	"InvalidSignatureException":           "SignatureDoesNotMatch",
}

func (q *request) authError(code, message string) *apiError {
	e := &apiError{Status: http.StatusBadRequest, Code: code, Message: message, front: true}
	if q.service == STS {
		e.Status, e.Code = http.StatusForbidden, stsCodes[code]
	}
	return e
}

func (q *request) checkDate(sig signature, now time.Time) *apiError {
	text := q.Header.Get("X-Amz-Date")
	date, err := time.Parse(amzDate, text)
	if err != nil || !strings.HasPrefix(text, sig.date) {
		return q.authError("IncompleteSignatureException", "X-Amz-Date must be in the form YYYYMMDDTHHMMSSZ and on the day of the credential scope")
	}
	clock := now.UTC().Format(amzDate)
	if oldest := now.Add(-skew); date.Before(oldest) {
		return q.authError("InvalidSignatureException",
			"Signature expired: "+text+" is now earlier than "+oldest.UTC().Format(amzDate)+" ("+clock+" - 15 min.)")
	}
	if latest := now.Add(skew); date.After(latest) {
		return q.authError("InvalidSignatureException",
			"Signature not yet current: "+text+" is still later than "+latest.UTC().Format(amzDate)+" ("+clock+" + 15 min.)")
	}
	return nil
}

// checkSigned demands what the guide does: the host and every x-amz- header
// that is there are signed, and the list is sorted.
func (q *request) checkSigned(sig signature) *apiError {
	signed := func(name string) bool { return slices.Contains(sig.headers, name) }
	if !signed("host") {
		return q.authError("InvalidSignatureException", "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for name := range q.Header {
		name = strings.ToLower(name)
		if strings.HasPrefix(name, "x-amz-") && !signed(name) {
			return q.authError("InvalidSignatureException", "'"+name+"' must be a 'SignedHeader' in the AWS Authorization.")
		}
	}
	if !slices.IsSorted(sig.headers) {
		return q.authError("IncompleteSignatureException", "SignedHeaders is not in order")
	}
	return nil
}

// sign computes the signature that the request should have, in the steps of
// "Create a signed AWS API request".
func (q *request) sign(sig signature, secret string, payload [32]byte) string {
	// 1. The canonical request.
	var c bytes.Buffer
	c.WriteString(q.Method + "\n" + canonicalPath(q.URL.EscapedPath()) + "\n" + canonicalQuery(q.URL.Query()) + "\n")
	for _, name := range sig.headers {
		c.WriteString(name + ":" + q.canonicalHeader(name) + "\n")
	}
	c.WriteString("\n" + strings.Join(sig.headers, ";") + "\n" + hex.EncodeToString(payload[:]))
	// 2. Its hash in the string to sign.
	sum := sha256.Sum256(c.Bytes())
	scope := sig.date + "/" + sig.region + "/" + sig.service + "/aws4_request"
	text := "AWS4-HMAC-SHA256\n" + q.Header.Get("X-Amz-Date") + "\n" + scope + "\n" + hex.EncodeToString(sum[:])
	// 3. The signing key, one HMAC a part of the scope.
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = hmacSHA256(key, part)
	}
	// 4. The signature.
	return hex.EncodeToString(hmacSHA256(key, text))
}

func hmacSHA256(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// canonicalPath escapes the escaped path once more, as every service but S3
// wants it.
func canonicalPath(escaped string) string {
	if escaped == "" {
		return "/"
	}
	parts := strings.Split(escaped, "/")
	for i, p := range parts {
		parts[i] = uriEncode(p)
	}
	return strings.Join(parts, "/")
}

func canonicalQuery(q url.Values) string {
	var pairs []string
	for k, vs := range q {
		for _, v := range vs {
			pairs = append(pairs, uriEncode(k)+"="+uriEncode(v))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// uriEncode leaves RFC 3986's unreserved characters alone.
func uriEncode(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(url.QueryEscape(s), "+", "%20"), "%7E", "~")
}

func (q *request) canonicalHeader(name string) string {
	switch name {
	case "host":
		return q.Host
	case "content-length":
		return strconv.FormatInt(q.ContentLength, 10)
	}
	var values []string
	for _, v := range q.Header.Values(name) {
		values = append(values, strings.Join(strings.Fields(v), " "))
	}
	return strings.Join(values, ",")
}
