package aws

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/oidc"
)

// servePodIdentity is the agent of EKS Pod Identity: the token in the header
// Authorization, plain text for errors. Codes are those of the EKS Auth API
// reference, AssumeRoleForPodIdentity, which the agent passes on.
func (s *Server) servePodIdentity(w http.ResponseWriter, q *request) {
	q.service, q.op = PodIdentity, q.URL.Path
	if q.URL.Path != "/v1/credentials" {
		s.refuse(w, q, http.StatusNotFound, "", "404 page not found")
		return
	}
	if q.Method != http.MethodGet {
		s.refuse(w, q, http.StatusMethodNotAllowed, "", "405 method not allowed")
		return
	}
	w.Header().Set("x-amzn-RequestId", requestID())
	s.begin(q)
	if s.disturb(w, q) {
		return
	}
	who, e := s.podCredentials(q.Header.Get("Authorization"))
	if e != nil {
		s.fail(w, q, e)
		return
	}
	s.Amend(q.call, func(c *Call) { c.Caller, c.Role = who.name, who.roleARN })
	s.End(q.call, http.StatusOK, "")
	account, _ := roleParts(who.roleARN)
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(struct {
		AccessKeyId, SecretAccessKey, Token, AccountId string
		Expiration                                     time.Time
	}{who.id, who.secret, who.token, account, who.expires.UTC()})
}

// podSession is how long the agent's credentials live: six hours, EKS User
// Guide, "Understand how EKS Pod Identity works".
const podSession = 6 * time.Hour

func (s *Server) podCredentials(token string) (*session, *apiError) {
	if token == "" {
		return nil, &apiError{Status: http.StatusBadRequest, Message: "Service account token cannot be empty"}
	}
	if s.opts.AcceptAnyToken {
		return s.issue(s.lax("arn:aws:iam::"+Account+":role/pod"), s.opts.DefaultRegion, "eks-fake-pod", podSession, nil), nil
	}
	claims, err := s.VerifyToken(token)
	switch {
	case errors.Is(err, oidc.ErrMalformed):
		return nil, &apiError{Status: http.StatusBadRequest, Message: "Service account token cannot be parsed: token is malformed"}
	case err != nil:
		return nil, badRequest("InvalidTokenException", "The token is not one that the cluster issued: %v", err)
	case !slices.Contains(claims.Audience, "pods.eks.amazonaws.com"):
		return nil, badRequest("InvalidTokenException", "The audience of the token is not pods.eks.amazonaws.com")
	case float64(s.opts.Now().Unix()) >= claims.Expires:
		return nil, badRequest("ExpiredTokenException", "The token has expired")
	}
	k := claims.Kubernetes
	s.identities.mu.RLock()
	arn, ok := s.associations[[2]string{k.Namespace, k.ServiceAccount.Name}]
	role, known := s.roles[arn]
	s.identities.mu.RUnlock()
	if !ok || !known || claims.Subject != oidc.Subject(k.Namespace, k.ServiceAccount.Name) {
		return nil, badRequest("AccessDeniedException", "Unauthorized Exception! EKS does not have permissions to assume the associated role.")
	}
	tags := map[string]string{ // EKS User Guide, "Grant Pods access to AWS resources based on tags"
		"eks-cluster-name": "fake", "kubernetes-namespace": k.Namespace, "kubernetes-service-account": k.ServiceAccount.Name,
		"kubernetes-pod-name": k.Pod.Name, "kubernetes-pod-uid": k.Pod.UID,
	}
	name := "eks-fake-" + k.Pod.Name
	return s.issue(role, s.opts.DefaultRegion, name[:min(len(name), 64)], podSession, tags), nil
}
