package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// lender issues a user and a password for every read of creds/NAME?ttl=…:
// their lease can be renewed, and lives no longer than the mount lets it.
func lender(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	var issued atomic.Int64
	b := &framework.Backend{BackendType: logical.TypeLogical}
	renew := func(_ context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
		return &logical.Response{Secret: req.Secret}, nil
	}
	secret := &framework.Secret{
		Type:   "credential",
		Fields: map[string]*framework.FieldSchema{"username": {Type: framework.TypeString}},
		Renew:  renew,
		Revoke: func(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
			return nil, nil
		},
	}
	read := func(_ context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
		n := issued.Add(1)
		user := fmt.Sprintf("%s-%d", d.Get("name"), n)
		res := secret.Response(map[string]any{"username": user, "password": "of-" + user}, nil)
		if ttl := d.Get("ttl").(int); ttl > 0 {
			res.Secret.TTL = time.Duration(ttl) * time.Second
		}
		return res, nil
	}
	b.Secrets = []*framework.Secret{secret}
	b.Paths = []*framework.Path{{
		Pattern: "creds/" + framework.GenericNameRegex("name"),
		Fields: map[string]*framework.FieldSchema{
			"name": {Type: framework.TypeString}, "ttl": {Type: framework.TypeDurationSecond, Query: true},
		},
		Operations: map[logical.Operation]framework.OperationHandler{logical.ReadOperation: &framework.PathOperation{Callback: read}},
	}}
	return b, b.Setup(ctx, conf)
}
