package provider

import (
	"github.com/coffre-csi/coffre/provider/dialect/coffre"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/sops"
)

// Kinds lists the kinds of store that there are. A new secret manager is one
// folder under store, and one line here.
func Kinds() store.Kinds {
	return store.Kinds{
		sops.Kind(),
	}
}

// Dialects lists the dialects by name, which is that of their socket and of
// spec.provider.
func Dialects(kinds store.Kinds) map[string]Dialect {
	return map[string]Dialect{
		coffre.Name: coffre.Dialect{Kinds: kinds},
	}
}
