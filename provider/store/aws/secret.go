package aws

import awsauth "github.com/coffre-csi/coffre/auth/aws"

// ReadsSecret implements store.SecretReader.
func (s *Settings) ReadsSecret() string {
	if s.Auth != awsauth.Static {
		return ""
	}
	return "access_key_id and secret_access_key"
}
