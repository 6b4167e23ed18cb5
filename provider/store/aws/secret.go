package aws

import awsauth "github.com/coffre-csi/coffre/auth/aws"

// Role implements store.RoleHolder.
func (s *session) Role() string { return s.login.Role() }

// ReadsSecret implements store.SecretReader.
func (s *Settings) ReadsSecret() string {
	if s.Auth != awsauth.Static {
		return ""
	}
	return "access_key_id and secret_access_key"
}
