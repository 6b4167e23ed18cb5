package aws

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/coffre-csi/coffre/auth"
	awsauth "github.com/coffre-csi/coffre/auth/aws"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/test/fakes/aws"
)

const who = "role arn:aws:iam::123456789012:role/shop (service account shop/api)"

// What AWS writes into an answer's body never shows.
const body = "BODY-TEXT"

func TestEveryRefusalIsOneSentence(t *testing.T) {
	for _, c := range []struct {
		kind   string
		ref    store.Ref
		f      aws.Fault
		reason store.Reason
		want   string
	}{
		{SecretsManager, store.Ref{Name: "s"}, aws.Fault{Status: 400, Code: "AccessDeniedException", Message: "User: x is not authorized " + body},
			store.Denied, "s: access denied: " + who + " lacks secretsmanager:GetSecretValue, in us-east-1 (request rq-1)"},
		{SecretsManager, store.Ref{Name: "s"}, aws.Fault{Status: 400, Code: "AccessDeniedException", Message: "Access to KMS is not allowed " + body},
			store.Denied, "s: access denied: " + who + " lacks kms:Decrypt on the KMS key that encrypts it (in its own policy, or in the key's), in us-east-1 (request rq-1)"},
		{SecretsManager, store.Ref{Name: "s"}, aws.Fault{Status: 400, Code: "DecryptionFailure", Message: body},
			store.Denied, "s: access denied: it cannot be decrypted in us-east-1 (DecryptionFailure): " + who + " needs kms:Decrypt on its KMS key, and the key must exist and be enabled (request rq-1)"},
		{SecretsManager, store.Ref{Name: "s"}, aws.Fault{Status: 400, Code: "ResourceNotFoundException", Message: "Secrets Manager can't find the specified secret."},
			store.NotFound, "s: there is no such secret in us-east-1 (request rq-1)"},
		{SecretsManager, store.Ref{Name: "s", Version: "v9"}, aws.Fault{Status: 400, Code: "ResourceNotFoundException", Message: "can't find the specified secret value for VersionId: v9"},
			store.NotFound, "s@v9: the secret has no version v9 in us-east-1 (request rq-1)"},
		{SecretsManager, store.Ref{Name: "s", Version: "AWSPREVIOUS"}, aws.Fault{Status: 400, Code: "ResourceNotFoundException", Message: "can't find the specified secret value for staging label: AWSPREVIOUS"},
			store.NotFound, "s@AWSPREVIOUS: the secret has no version of stage AWSPREVIOUS in us-east-1 (request rq-1)"},
		{SecretsManager, store.Ref{Name: "s"}, aws.Fault{Status: 400, Code: "ResourceNotFoundException", Message: "can't find the specified secret value for staging label: AWSCURRENT"},
			store.NotFound, "s: the secret has no value yet in us-east-1 (request rq-1)"},
		{SecretsManager, store.Ref{Name: "s"}, aws.Fault{Status: 400, Code: "InvalidRequestException", Message: "You can't perform this operation on the secret because it was marked for deletion."},
			store.NotFound, "s: the secret is marked for deletion in us-east-1; restore it, or take it out of the SecretProviderClass (request rq-1)"},
		{SecretsManager, store.Ref{Name: "s"}, aws.Fault{Status: 400, Code: "InvalidParameterException", Message: body},
			store.Invalid, "s: Secrets Manager in us-east-1 takes the name, or its version, for no valid one (InvalidParameterException) (request rq-1)"},
		{SecretsManager, store.Ref{Name: "s"}, aws.Fault{Status: 400, Code: "ThrottlingException", Message: body},
			store.Throttled, "s: throttled: Secrets Manager in us-east-1 answers ThrottlingException (request rq-1)"},
		{SecretsManager, store.Ref{Name: "s"}, aws.Fault{Status: 503, Code: "", Message: body},
			store.Unavailable, "s: Secrets Manager in us-east-1 failed: "},
		{SecretsManager, store.Ref{Name: "s"}, aws.Fault{Drop: true},
			store.Unavailable, "s: Secrets Manager in us-east-1 cannot be reached: "},
		{SecretsManager, store.Ref{Name: "s"}, aws.Fault{Hang: true},
			store.Unavailable, "s: Secrets Manager in us-east-1 cannot be reached: no answer in time"},
		{SecretsManager, store.Ref{Name: "s"}, aws.Fault{Status: 400, Code: "UnrecognizedClientException", Message: body},
			store.Denied, "s: access denied: " + who + ": Secrets Manager in us-east-1 does not take the credentials (UnrecognizedClientException) (request rq-1)"},
		{SecretsManager, store.Ref{Name: "s"}, aws.Fault{Status: 400, Code: "SomethingNew", Message: body},
			store.Unavailable, "s: Secrets Manager in us-east-1 answers SomethingNew to " + who},
		{SecretsManager, store.Ref{Name: "s"}, aws.Fault{Status: 403, Code: "SomethingNew", Message: body},
			store.Denied, "s: Secrets Manager in us-east-1 refused " + who + ": SomethingNew (request rq-1)"},
		{ParameterStore, store.Ref{Name: "p"}, aws.Fault{Status: 400, Code: "AccessDeniedException", Message: "not authorized to perform: ssm:GetParameters " + body},
			store.Denied, "p: access denied: " + who + " lacks ssm:GetParameters, in us-east-1 (request rq-1)"},
		{ParameterStore, store.Ref{Name: "p"}, aws.Fault{Status: 400, Code: "AccessDeniedException", Message: "The ciphertext refers to a customer master key " + body},
			store.Denied, "p: access denied: " + who + " lacks kms:Decrypt on"},
		{ParameterStore, store.Ref{Name: "p"}, aws.Fault{Status: 400, Code: "InvalidKeyId", Message: body},
			store.Denied, "p: access denied: it cannot be decrypted in us-east-1 (InvalidKeyId)"},
		{ParameterStore, store.Ref{Name: "p"}, aws.Fault{Status: 400, Code: "ValidationException", Message: body},
			store.Invalid, "p: Parameter Store in us-east-1 takes the name, or its version, for no valid one (ValidationException)"},
		{ParameterStore, store.Ref{Name: "p"}, aws.Fault{Status: 500, Code: "InternalServerError", Message: body},
			store.Unavailable, "p: Parameter Store in us-east-1 failed: InternalServerError"},
	} {
		t.Run(c.want, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.AddFault(broken(serviceOf(c.kind), c.f))
				_, err := w.open(t, c.kind, Settings{}).Fetch(t.Context(), []store.Ref{c.ref})
				if err == nil {
					t.Fatal("no error")
				}
				if !strings.HasPrefix(plainly(err), c.want) || strings.Contains(err.Error(), body) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s", err)
				}
				if store.ReasonOf(err) != c.reason {
					t.Errorf("%v", store.ReasonOf(err))
				}
				if d := new(RegionError); !errors.As(err, &d) || d.Region != "us-east-1" {
					t.Errorf("%+v", d)
				}
			})
		})
	}
}

func TestFaultsAreAsTheSDKModelsThem(t *testing.T) {
	for code, want := range map[string]string{"AccessDeniedException": "unknown", "ThrottlingException": "unknown", "ResourceNotFoundException": "client", "InternalServiceError": "server"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.AddFault(broken("secretsmanager", aws.Fault{Status: 400, Code: code}))
			_, err := w.open(t, SecretsManager, Settings{}).Fetch(t.Context(), refs("s"))
			if d := new(RegionError); !errors.As(err, &d) || d.Fault.String() != want || d.Code != code {
				t.Errorf("%+v", d)
			}
		})
	}
}

func TestMissingRequirementsAreSaidWhenTheStoreIsOpened(t *testing.T) {
	w := newWorld()
	id := identity()
	for _, c := range []struct {
		change   func(*auth.Identity)
		settings Settings
		want     string
	}{
		{func(id *auth.Identity) { id.Tokens = nil }, Settings{}, "CSI token error: serviceAccount.tokens not provided"},
		{func(id *auth.Identity) { id.Tokens = auth.Tokens{"x": {}} }, Settings{}, `IRSA token extraction failed: token for audience "sts.amazonaws.com" not found - ensure tokenRequests includes this audience in CSIDriver`},
		{func(id *auth.Identity) { id.Tokens = auth.Tokens{"sts.amazonaws.com": {}} }, Settings{}, `IRSA token extraction failed: token for audience "sts.amazonaws.com" is empty`},
		{func(id *auth.Identity) {}, Settings{Auth: awsauth.PodIdentity}, `Pod Identity token extraction failed: token for audience "pods.eks.amazonaws.com" not found - ensure tokenRequests includes this audience in CSIDriver`},
		{func(id *auth.Identity) { id.ServiceAccount = "bare" }, Settings{}, "An IAM role must be associated with service account bare (namespace: shop)"},
		{func(id *auth.Identity) {}, Settings{Auth: awsauth.Static}, "auth: static takes the tenant's own keys from the Secret that nodePublishSecretRef names, and the volume names none"},
		{func(id *auth.Identity) { id.Secrets = auth.Secrets{"access_key_id": "a"} }, Settings{Auth: awsauth.Static}, "which has no secret_access_key"},
	} {
		who := id
		c.change(&who)
		c.settings.Region = "us-east-1"
		config, errs := Inline(SecretsManager, "x", c.settings, store.InlineOptions{Dialect: store.OwnDialect})
		if errs != nil {
			t.Fatalf("got the error %v, want none", errs)
		}
		_, err := w.kinds()[0].Open(t.Context(), *config, who)
		if err == nil || !strings.Contains(err.Error(), c.want) || store.ReasonOf(err) != store.Precondition {
			t.Errorf("%v", err)
		}
	}
	if w.Count("") != 0 {
		t.Errorf("got the calls %q, want none", w.Notation())
	}
}

func TestMistakesInSettingsAreFoundBeforeAnythingIsSent(t *testing.T) {
	for want, s := range map[string]Settings{
		`region: "us-east-1.evil.example/" is no AWS region`:                                      {Region: "us-east-1.evil.example/"},
		`region: "US-EAST-1" is no AWS region`:                                                    {Region: "US-EAST-1"},
		`failoverRegions[0]: us-east-1: failover region cannot be the same as the primary region`: {Region: "us-east-1", FailoverRegions: []string{"us-east-1"}},
		`failoverRegions[1]: eu-west-1 stands there twice`:                                        {FailoverRegions: []string{"eu-west-1", "eu-west-1"}},
		`failoverRegions[0]: cn-north-1 is in another partition`:                                  {Region: "us-east-1", FailoverRegions: []string{"cn-north-1"}},
		`auth: "iam" is none of irsa, pod-identity and static`:                                    {Auth: "iam"},
		`auth: "provider" is none of irsa, pod-identity and static`:                               {Auth: awsauth.Provider},
		`podIdentityAddress: "ipv5" is none of`:                                                   {PodIdentityAddress: "ipv5"},
		`roleARN: "shop" is no ARN of an IAM role`:                                                {RoleARN: "shop"},
		`roleARN: is for auth: irsa`:                                                              {RoleARN: "arn:aws:iam::123456789012:role/shop", Auth: awsauth.PodIdentity},
		`assumeRoleARN: "x" is no ARN`:                                                            {AssumeRoleARN: "x"},
		`externalID: goes with assumeRoleARN`:                                                     {ExternalID: "xx"},
		`sessionTags: go with assumeRoleARN`:                                                      {SessionTags: map[string]string{"a": "b"}},
		`sessionTags: "a&b": a tag's key has`:                                                     {AssumeRoleARN: "arn:aws:iam::123456789012:role/x", SessionTags: map[string]string{"a&b": ""}},
	} {
		errs := s.Check(true)
		if len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), want) {
			t.Errorf("%v, not %s", errs, want)
		}
	}
	for _, region := range []string{"us-east-1", "eu-west-3", "cn-north-1", "us-gov-west-1", "ap-southeast-5", "us-isob-east-1", "eusc-de-east-1", "mx-central-1"} {
		if errs := (&Settings{Region: region}).Check(false); errs != nil {
			t.Errorf("got the error %v, want none", errs)
		}
	}
}

func TestSettingsKeepTheirMeaningThroughYAML(t *testing.T) {
	in := Settings{Region: "eu-west-1", FailoverRegions: []string{"eu-west-2"}, Auth: awsauth.PodIdentity, PodIdentityAddress: awsauth.IPv6,
		RoleARN: "r", AssumeRoleARN: "a", ExternalID: "e", SessionTags: map[string]string{"k": "v"}, UseFIPS: true}
	text, err := yaml.Marshal(&in)
	if err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	var out Settings
	if err := yaml.Unmarshal(text, &out); err != nil || fmt.Sprint(out) != fmt.Sprint(in) {
		t.Errorf("%v %v", err, out)
	}
	a, _ := Inline(SecretsManager, "x", Settings{Region: "eu-west-1"}, store.InlineOptions{Dialect: store.OwnDialect})
	b, _ := Inline(SecretsManager, "x", Settings{Region: "eu-west-2"}, store.InlineOptions{Dialect: store.OwnDialect})
	c, _ := Inline(ParameterStore, "x", Settings{Region: "eu-west-1"}, store.InlineOptions{Dialect: store.OwnDialect})
	if a.Digest == b.Digest || a.Digest == c.Digest || !a.Inline || a.Timeout != a.Settings.(*Settings).DefaultTimeout() {
		t.Errorf("%+v %+v %+v", a, b, c)
	}
}

// A service that throttles is waited for nearly as long as a mount may take,
// unless the store says otherwise.
func TestStoresWaitForAThrottledServiceByDefault(t *testing.T) {
	kinds := newWorld().kinds()
	for text, want := range map[string]time.Duration{"": 50 * time.Second, "timeout: 5s": 5 * time.Second} {
		for _, kind := range []string{SecretsManager, ParameterStore} {
			file, err := store.Catalog{Kinds: kinds}.Parse("stores: {x: {kind: " + kind + ", region: eu-west-3, namespaces: [shop], " + text + "}}")
			if err != nil || file.Stores["x"].Timeout != want {
				t.Errorf("%s %q: %v %v", kind, text, file.Stores["x"], err)
			}
		}
	}
}

// Credentials that AWS no longer takes cost one more login, not a failed mount.
func TestExpiredCredentialsAreRenewedWithinTheCall(t *testing.T) {
	w := newWorld()
	w.put("us-east-1", "s", current("v")...)
	w.AddFault(aws.Fault{Op: "GetSecretValue", Status: 400, Code: "ExpiredTokenException", Times: 1})
	if _, err := w.open(t, SecretsManager, Settings{}).Fetch(t.Context(), refs("s")); err != nil {
		t.Fatalf("got the error %v, want none", err)
	}
	if n := w.total("AssumeRoleWithWebIdentity"); n != 2 {
		t.Errorf("%d logins", n)
	}
	if w.requested["aws-secrets-manager GetSecretValue ok"] != 1 || w.requested["aws-secrets-manager GetSecretValue ExpiredTokenException"] != 1 || w.exchanged["irsa ok"] != 2 {
		t.Errorf("got %v %v, which is not what this test promises", w.requested, w.exchanged)
	}
}

func TestRegionOfTheNodeIsUsedWhereNobodyNamesOne(t *testing.T) {
	w := newWorld()
	w.put("eu-west-1", "s", current("v")...)
	sdk := awsauth.NewSDK(awsauth.SDKOptions{Transport: w.transport()})
	kind := func(o Options) store.Kind {
		o.SDK, o.Broker = sdk, awsauth.New(awsauth.Options{SDK: sdk, ServiceAccounts: w})
		return Kinds(o)[0]
	}
	config, _ := Inline(SecretsManager, "x", Settings{}, store.InlineOptions{Dialect: store.OwnDialect, Timeout: time.Second})
	for _, o := range []Options{{Region: "eu-west-1"}, {Node: node{"eu-west-1", nil}}} {
		s, err := kind(o).Open(t.Context(), *config, identity())
		if err != nil {
			t.Fatalf("got the error %v, want none", err)
		}
		if _, err := s.Fetch(t.Context(), refs("s")); err != nil {
			t.Errorf("got the error %v, want none", err)
		}
	}
	for want, o := range map[string]Options{
		"no region is known": {}, `"nowhere" is no AWS region`: {Region: "nowhere"},
		"failed to retrieve region from node. error Region not found": {Node: node{"", errors.New("failed to retrieve region from node. error Region not found")}},
	} {
		if _, err := kind(o).Open(t.Context(), *config, identity()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf(`got %v, where err == nil || !strings.Contains(err.Error(), want) must not be so`, err)
		}
	}
}
