package azure

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/auth/fault"
	"github.com/coffre-csi/coffre/auth/peer"
)

// askNode is a managed identity, by the SDK: of the instance, or of Azure Arc
// and the other hosts that the environment names.
func (s *Session) askNode(ctx context.Context, _ auth.Token, resource string) (auth.Token, error) {
	out, err := again(ctx, func(ctx context.Context) (auth.Token, time.Duration, error) {
		t, err := s.askManaged(ctx, resource)
		return t, 0, err
	})
	auth.Tried(s.broker.opts.Metrics, "azure-imds", err)
	return out, err
}

func (s *Session) askManaged(ctx context.Context, resource string) (auth.Token, error) {
	o := &azidentity.ManagedIdentityCredentialOptions{}
	o.Transport, o.Retry.MaxRetries = s.broker.opts.Local, -1
	if s.login.Client != "" {
		o.ID = azidentity.ClientID(s.login.Client)
	}
	credential, err := azidentity.NewManagedIdentityCredential(o)
	if err != nil {
		return auth.Token{}, setup(fault.Precondition, "this node's kind of managed identity takes no client id: leave clientID out")
	}

	t, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{resource + "/.default"}})
	if err == nil {
		return auth.NewToken(t.Token, t.ExpiresOn), nil
	}
	answered := new(azidentity.AuthenticationFailedError)
	if !errors.As(err, &answered) || answered.RawResponse == nil {
		return auth.Token{}, refused(fault.Unavailable, &Answer{}, "", "the node's metadata server gives no token: %s (a pod reaches it only where no network policy forbids it)", peer.Unreached(err))
	}

	a := &Answer{Status: answered.RawResponse.StatusCode}
	switch {
	case a.Status == http.StatusTooManyRequests:
		return auth.Token{}, refused(fault.Throttled, a, "", "throttled: the node's metadata server was asked too often")
	case a.Status >= 500, a.Status == http.StatusNotFound, a.Status == http.StatusGone:
		return auth.Token{}, refused(fault.Unavailable, a, "", "the node's metadata server answers HTTP %d", a.Status)
	}
	return auth.Token{}, refused(fault.Denied, a, "", "the node has no managed identity %s, or several and none is named: az vmss identity assign must have given it to the node pool, and clientID must be its client id", cmp.Or(s.login.Client, "of its own"))
}

// askNMI is pod identity: the node server of AAD Pod Identity. The sentences of
// its failures are the Azure provider's.
func (s *Session) askNMI(ctx context.Context, _ auth.Token, resource string) (auth.Token, error) {
	at := s.broker.opts.NMI + "/host/token/?resource=" + url.QueryEscape(cmp.Or(s.login.Cloud.VaultEndpoint, resource))
	out, err := again(ctx, func(ctx context.Context) (auth.Token, time.Duration, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
		if err != nil {
			return auth.Token{}, 0, setup(fault.Invalid, "the address of NMI is no URL")
		}
		req.Header.Set("podname", s.id.Pod.Name)
		req.Header.Set("podns", s.id.Namespace)
		t, err := s.askNMIOnce(req)
		return t, 0, err
	})
	auth.Tried(s.broker.opts.Metrics, "azure-nmi", err)
	return out, err
}

func (s *Session) askNMIOnce(req *http.Request) (auth.Token, error) {
	res, err := s.broker.opts.Local.Do(req)
	if err != nil {
		return auth.Token{}, refused(fault.Unavailable, &Answer{}, "", "NMI of pod identity cannot be reached at %s: %s", req.URL.Host, peer.Unreached(err))
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return auth.Token{}, refused(fault.Unavailable, &Answer{}, "", "NMI of pod identity broke off its answer")
	}

	a := &Answer{Status: res.StatusCode}
	if res.StatusCode != http.StatusOK {
		reason := fault.Denied
		if res.StatusCode >= 500 {
			reason = fault.Unavailable
		}
		return auth.Token{}, refused(reason, a, "", "nmi response failed with status code: %d, response body: %s", res.StatusCode, Sentence(string(body)))
	}
	var answer struct {
		Token  json.RawMessage `json:"token"`
		Client string          `json:"clientid"`
	}
	_ = json.Unmarshal(body, &answer) // what is no JSON holds no token
	t, ok := readToken(answer.Token, s.broker.opts.Now())
	if !ok || answer.Client == "" {
		return auth.Token{}, refused(fault.Unavailable, a, "", "nmi did not return expected values in response: token and clientid")
	}
	return t, nil
}
