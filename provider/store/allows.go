package store

// Allows says whether the platform lets a namespace use the store.
func (c *Config) Allows(namespace string) bool { return c.allows(namespace) }

// A SecretReader is Settings that read what the pod's volume names in
// nodePublishSecretRef, at least as they are set.
type SecretReader interface {
	// ReadsSecret says what the Secret must hold, "" where none is read.
	ReadsSecret() string
}
