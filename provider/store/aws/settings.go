package aws

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	awsauth "github.com/coffre-csi/coffre/auth/aws"
	"github.com/coffre-csi/coffre/provider/store"
)

// Settings are the fields of both kinds.
type Settings struct {
	// Region is asked first. Default: AWS_REGION, then the node's.
	Region string `yaml:"region,omitempty"`
	// FailoverRegions are asked in order for what the regions before could not
	// give because they did not answer, or were asked too much.
	FailoverRegions []string `yaml:"failoverRegions,omitempty"`
	// Auth is irsa (default), pod-identity or static.
	Auth awsauth.Method `yaml:"auth,omitempty"`
	// PodIdentityAddress is auto (default), ipv4 or ipv6.
	PodIdentityAddress awsauth.AddressType `yaml:"podIdentityAddress,omitempty"`
	// RoleARN is the role of IRSA. Default: what the ServiceAccount's
	// annotation eks.amazonaws.com/role-arn says.
	RoleARN string `yaml:"roleARN,omitempty"`
	// AssumeRoleARN is a role to take on from there, often another account's,
	// with ExternalID and SessionTags where its trust policy wants them.
	AssumeRoleARN string            `yaml:"assumeRoleARN,omitempty"`
	ExternalID    string            `yaml:"externalID,omitempty"`
	SessionTags   map[string]string `yaml:"sessionTags,omitempty"`
	// UseFIPS asks FIPS endpoints, those of STS too.
	UseFIPS bool `yaml:"useFIPS,omitempty"`
}

func newSettings() store.Settings { return &Settings{} }

// DefaultTimeout implements store.Patient: a service that is asked too much is
// waited for nearly as long as a mount may take (60 s). One that does not
// answer costs less, the time of its attempts.
func (*Settings) DefaultTimeout() time.Duration { return 50 * time.Second }

// Grammars, by AWS's reference. A region goes into a host name.
var (
	regionName = regexp.MustCompile(`^[a-z]{2,5}(-[a-z]{2,12}){1,3}-[0-9]{1,2}$`)
	roleARN    = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}$`)
	externalID = regexp.MustCompile(`^[\w+=,.@:/-]+$`)
	tagText    = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
)

func validRegion(r string) bool { return regionName.MatchString(r) }

const (
	maxFailoverRegions = 5
	maxSessionTags     = 50
)

// Check says what is wrong. Everything in here may be the pod author's word:
// whatever AWS lets the pod's own identity do, its author may ask for.
func (s *Settings) Check(bool) []store.Mistake {
	var found store.Mistakes
	bad := found.Add
	if s.Region != "" && !validRegion(s.Region) {
		bad("region", "%.40q is no AWS region, such as eu-west-3", s.Region)
	}
	if len(s.FailoverRegions) > maxFailoverRegions {
		bad("failoverRegions", "%d are more than %d", len(s.FailoverRegions), maxFailoverRegions)
	}
	for i, r := range s.FailoverRegions {
		at := fmt.Sprintf("failoverRegions[%d]", i)
		switch {
		case !validRegion(r):
			bad(at, "%.40q is no AWS region, such as eu-central-1", r)
		case r == s.Region:
			bad(at, "%s: failover region cannot be the same as the primary region", r)
		case slices.Contains(s.FailoverRegions[:i], r):
			bad(at, "%s stands there twice", r)
		case s.Region != "" && partition(r) != partition(s.Region):
			bad(at, "%s is in another partition of AWS than %s, where no credential of it is good", r, s.Region)
		}
	}

	switch s.Auth {
	case "", awsauth.IRSA, awsauth.PodIdentity, awsauth.Static:
	default:
		bad("auth", "%.40q is none of irsa, pod-identity and static", s.Auth)
	}
	switch s.PodIdentityAddress {
	case "", awsauth.Auto, awsauth.IPv4, awsauth.IPv6:
	default:
		bad("podIdentityAddress", "%.40q is none of auto, ipv4 and ipv6", s.PodIdentityAddress)
	}
	if s.RoleARN != "" {
		if !roleARN.MatchString(s.RoleARN) {
			bad("roleARN", "%.80q is no ARN of an IAM role, such as arn:aws:iam::123456789012:role/shop", s.RoleARN)
		} else if s.Auth == awsauth.PodIdentity || s.Auth == awsauth.Static {
			bad("roleARN", "is for auth: irsa; to take on a role after %s, use assumeRoleARN", s.Auth)
		}
	}

	s.checkChain(bad)

	return found
}

func (s *Settings) checkChain(bad func(field, format string, args ...any)) {
	if s.AssumeRoleARN == "" {
		if s.ExternalID != "" {
			bad("externalID", "goes with assumeRoleARN, which is missing")
		}
		if len(s.SessionTags) > 0 {
			bad("sessionTags", "go with assumeRoleARN, which is missing")
		}
		return
	}

	if !roleARN.MatchString(s.AssumeRoleARN) {
		bad("assumeRoleARN", "%.80q is no ARN of an IAM role, such as arn:aws:iam::123456789012:role/shop", s.AssumeRoleARN)
	}
	if n := len(s.ExternalID); n > 0 && (n < 2 || n > 1224 || !externalID.MatchString(s.ExternalID)) {
		bad("externalID", "must be 2 to 1224 letters, digits and any of _+=,.@:/-")
	}
	if len(s.SessionTags) > maxSessionTags {
		bad("sessionTags", "%d are more than %d", len(s.SessionTags), maxSessionTags)
	}
	for k, v := range s.SessionTags {
		if k == "" || len(k) > 128 || len(v) > 256 || !tagText.MatchString(k) || !tagText.MatchString(v) {
			bad("sessionTags", "%.40q: a tag's key has 1 to 128 characters, its value up to 256: letters, digits, spaces and any of _.:/=+-@", k)
		}
	}
}

// partition of a region: credentials of one are no good in another.
func partition(region string) string {
	for prefix, name := range map[string]string{"cn-": "aws-cn", "us-gov-": "aws-us-gov", "us-iso-": "aws-iso", "us-isob-": "aws-iso-b", "us-isof-": "aws-iso-f", "eu-isoe-": "aws-iso-e", "eusc-": "aws-eusc"} {
		if strings.HasPrefix(region, prefix) {
			return name
		}
	}
	return "aws"
}

func (s *Settings) login() awsauth.Login {
	l := awsauth.Login{
		Method: s.Auth, Address: s.PodIdentityAddress, RoleARN: s.RoleARN, UseFIPS: s.UseFIPS,
		Chain: awsauth.Chain{RoleARN: s.AssumeRoleARN, ExternalID: s.ExternalID, Tags: s.SessionTags},
	}
	if l.Method == "" {
		l.Method = awsauth.IRSA
	}
	return l
}

// Inline makes the store of a SecretProviderClass that says in its own way what
// a store would say. kind is SecretsManager or ParameterStore; the name is what
// errors, metrics and audit lines show.
func Inline(kind, name string, s Settings, o store.InlineOptions) (*store.Config, []store.Mistake) {
	return store.NewInline(kind, name, &s, o)
}
