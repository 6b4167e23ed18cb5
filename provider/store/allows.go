package store

// Allows says whether the platform lets a namespace use the store.
func (c *Config) Allows(namespace string) bool { return c.allows(namespace) }

// A RoleHolder is a Store that knows the name of the cloud's role, or of another
// identity of the store's own, that it reads as: for the audit trail.
type RoleHolder interface {
	Role() string // "" where it is not known
}

// A SecretReader is Settings that read what the pod's volume names in
// nodePublishSecretRef, at least as they are set.
type SecretReader interface {
	// ReadsSecret says what the Secret must hold, "" where none is read.
	ReadsSecret() string
}
