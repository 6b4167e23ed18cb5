package chaos

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	awsauth "github.com/coffre-csi/coffre/auth/aws"
	"github.com/coffre-csi/coffre/provider/store"
	awsstore "github.com/coffre-csi/coffre/provider/store/aws"
	"github.com/coffre-csi/coffre/test/fakes/aws"
	"github.com/coffre-csi/coffre/test/fakes/fixture"
	"github.com/coffre-csi/coffre/test/fakes/oidc"
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
	issuer := fixture.Issuer(t, "https://oidc.example")
	a := &amazon{Server: aws.New(aws.Options{}), issuer: issuer}
	a.AddIssuer(issuer.URL, issuer.Keys())
	l := fixture.Serve(t, "", a, fixture.Authority(t))
	a.transport = fixture.Client(t, l).Transport
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
	return fmt.Sprintf("stores: {chaos: {kind: aws-secrets-manager, region: %s, failoverRegions: [%s], namespaces: [shop], refresh: %s, maxStale: %s, timeout: 15s}}", primary, second, refresh, maxStale)
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

func (a *amazon) tokens(sa string) auth.Tokens {
	a.mounts.Add(1)
	token := a.issuer.Token(oidc.Request{Namespace: "shop", ServiceAccount: sa, Audiences: []string{"sts.amazonaws.com"}})
	return auth.Tokens{"sts.amazonaws.com": auth.NewToken(token, oidc.Expiry(token))}
}

func (a *amazon) whose(string) string { return "" }

func (a *amazon) object(name string) string { return "{name: " + name + "}" }
