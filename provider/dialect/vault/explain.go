package vault

import (
	"errors"
	"fmt"
	"strings"

	"github.com/coffre-csi/coffre/provider/plan"
	vaultstore "github.com/coffre-csi/coffre/provider/store/vault"
)

// Explain words a failure as the users of those providers know it, with the
// cause.
func (Dialect) Explain(err error) error {
	lines := make([]string, 0, 1)
	for _, e := range plan.Split(err) {
		lines = append(lines, worded(e))
	}
	return &plan.Reworded{Text: "error making mount request: " + strings.Join(lines, "; "), Err: err}
}

func worded(e error) string {
	query, object, refused := new(plan.QueryError), new(plan.ObjectError), new(vaultstore.Refused)
	switch {
	case errors.As(e, &object):
		return fmt.Sprintf("couldn't read secret %q: %s", object.Object, e)
	case !errors.As(e, &query):
		return e.Error()
	case !errors.As(e, &refused) || refused.Login:
		return fmt.Sprintf("couldn't read secret %q: %s", query.Query.Object, query.Err)
	}
	return fmt.Sprintf("couldn't read secret %q: error requesting secret: %s", query.Query.Object, query.Err)
}
