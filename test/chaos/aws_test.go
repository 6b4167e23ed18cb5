package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	awsauth "github.com/coffre-csi/coffre/auth/aws"
	"github.com/coffre-csi/coffre/provider/store"
	awsstore "github.com/coffre-csi/coffre/provider/store/aws"
	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
	"github.com/coffre-csi/coffre/test/fakes/serve"
)

// Regions of the store: what one lacks, the other is asked for.
const primary, second = "eu-west-3", "eu-central-1"

// amazon is the fake AWS over TLS under its real host names, with the real SDK,
// real tokens and a role a service account.
type amazon struct {
	*aws.Server
	issuer    *oidc.Issuer
	transport http.RoundTripper
	undo      []func()
	mounts    atomic.Int64
}

// now is the broker's clock: two seconds on a mount, so that a sign-in that
// failed a moment ago is tried again, as it would be minutes later.
func (a *amazon) now() time.Time {
	return time.Now().Add(2 * time.Second * time.Duration(a.mounts.Load()))
}

func TestNoStepBreaksAPromiseOnAWS(t *testing.T) {
	issuer, err := oidc.NewIssuer("https://oidc.example")
	if err != nil {
		t.Fatal(err)
	}
	a := &amazon{Server: aws.New(aws.Options{}), issuer: issuer}
	a.AddIssuer(issuer.URL, issuer.Keys())
	ca, err := serve.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	l, err := serve.Start("127.0.0.1:0", a, ca)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	transport := l.Client().Transport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, l.Addr())
	}
	a.transport = transport
	run(t, a, *steps/50)
}

func role(sa string) string { return "arn:aws:iam::123456789012:role/" + sa }

// ServiceAccountAnnotation names the role of a service account.
func (a *amazon) ServiceAccountAnnotation(_ context.Context, _, name, _ string) (string, error) {
	return role(name), nil
}

func (a *amazon) kinds() store.Kinds {
	sdk := awsauth.NewSDK(awsauth.SDKOptions{Transport: a.transport})
	return awsstore.Kinds(awsstore.Options{SDK: sdk, Broker: awsauth.New(awsauth.Options{SDK: sdk, ServiceAccounts: a, Now: a.now})})
}

func (a *amazon) stores() string {
	return fmt.Sprintf("stores: {chaos: {kind: aws-secrets-manager, region: %s, failoverRegions: [%s], namespaces: [shop], refresh: %s, maxStale: %s, timeout: 3s}}", primary, second, refresh, maxStale)
}

func (a *amazon) modes() []mode { return []mode{down, throttled, rubbish, half} }

func (a *amazon) set(name, value string) {
	for _, region := range []string{primary, second} {
		if value == "" {
			a.DeleteSecret(region, name)
		} else {
			a.SetSecretValue(region, name, value)
		}
	}
}

func (a *amazon) grant(sa string, yes bool) {
	r := aws.Role{ARN: role(sa), Subjects: []string{"system:serviceaccount:shop:" + sa}}
	if yes {
		r.Permissions = aws.AllowAll
	}
	a.AddRole(r)
	a.RevokeAll() // sessions keep what they were given
}

func (a *amazon) enter(m mode) {
	for _, undo := range a.undo {
		undo()
	}
	a.undo = nil
	fault := func(f aws.Fault) { a.undo = append(a.undo, a.AddFault(f)) }
	switch m {
	case down:
		a.undo = append(a.undo, a.TakeDown(primary), a.TakeDown(second))
	case half:
		a.undo = append(a.undo, a.TakeDown(primary))
	case throttled:
		fault(aws.Fault{Service: aws.SecretsManager, Status: 400, Code: "ThrottlingException", Message: "Rate exceeded"})
	case rubbish:
		fault(aws.Fault{Service: aws.SecretsManager, Garbage: true})
	}
}

func (a *amazon) expire() { a.RevokeAll() }

func (a *amazon) attributes(sa string) map[string]string {
	a.mounts.Add(1)
	token := a.issuer.Token(oidc.Request{Namespace: "shop", ServiceAccount: sa, Audiences: []string{"sts.amazonaws.com"}})
	tokens, _ := json.Marshal(map[string]any{"sts.amazonaws.com": map[string]string{"token": token, "expirationTimestamp": time.Now().Add(time.Hour).Format(time.RFC3339)}})
	return map[string]string{"csi.storage.k8s.io/serviceAccount.tokens": string(tokens)}
}

func (a *amazon) whose(string) string { return "" }
