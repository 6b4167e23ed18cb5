package aws

import (
	"net/http"
	"strconv"
	"time"

	"github.com/coffre-csi/coffre/test/fakes/traffic"
)

// Control is what traffic.Control has, and:
//
//	POST   /world                           a World in JSON, added
//	PUT    /world                           a World in JSON, in place of what is there
//	PUT    /secret?region=R&name=N          the body is the new current value
//	DELETE /secret?region=R&name=N
//	PUT    /parameter?region=R&name=N       the body is the new value
//	DELETE /parameter?region=R&name=N
//	PUT    /lifetime?duration=15m           of the credentials issued from now on
//	DELETE /sessions                        revokes all credentials
func (s *Server) Control() http.Handler {
	c := s.Gate.Control()
	traffic.World(c, LoadCompat, s.Load, s.Replace)

	in := []string{"region", "name"}
	c.Named("PUT /secret", in, func(value string, of ...string) string { return s.SetSecretValue(of[0], of[1], value) })
	c.Named("DELETE /secret", in, func(_ string, of ...string) string { s.DeleteSecret(of[0], of[1]); return "" })
	c.Named("PUT /parameter", in, func(value string, of ...string) string {
		return strconv.FormatInt(s.SetParameterValue(of[0], of[1], value), 10)
	})
	c.Named("DELETE /parameter", in, func(_ string, of ...string) string { s.DeleteParameter(of[0], of[1]); return "" })

	c.Timed("PUT /lifetime", func(_ *http.Request, d time.Duration) { s.SetLifetime(d) })
	c.Do("DELETE /sessions", s.RevokeAll)
	return c
}
