package sops

// ReadsSecret implements store.SecretReader.
func (s *Settings) ReadsSecret() string {
	if s.AgeKeyFile != "" {
		return ""
	}
	return "the age secret key"
}
