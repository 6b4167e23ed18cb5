package ask

import "sync"

// Credential is what the reads of one visit share to say who asks. However many
// of them find it refused at nearly the same time, it is made anew once.
type Credential[T comparable] struct {
	renewing sync.Mutex // one read at a time signs in anew
	err      error      // why there is none in the place of the one that is held

	mu   sync.Mutex
	held T
}

// Held is the credential as it is now.
func (c *Credential[T]) Held() T {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held
}

// Hold puts a credential in the place of the one that is held.
func (c *Credential[T]) Hold(t T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = t
}

// Renew has signIn make a new one for the one that was refused, unless another
// read did so meanwhile, or found out that there is none. Until there is a new
// one the old one is held.
func (c *Credential[T]) Renew(refused T, signIn func() (T, error)) error {
	c.renewing.Lock()
	defer c.renewing.Unlock()
	if c.Held() != refused {
		return nil
	}
	if c.err != nil {
		return c.err
	}

	fresh, err := signIn()
	if err != nil {
		c.err = err
		return err
	}
	c.Hold(fresh)

	return nil
}
