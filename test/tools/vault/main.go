// Command vaultcore is a real Vault core for tests: version 1.14.0, the last
// one under MPL-2.0, with its storage in memory. What it is not is the vault
// command: that does not build from the module proxy.
//
//	vaultcore [-listen 127.0.0.1:0] [-cert FILE -key FILE]
//
// It prints one line of JSON, {"address", "token", "unsealKey"}, and serves
// until its standard input ends. The secrets engine "lender" is our own: it
// issues credentials with leases, as a database engine does, of nobody's.
package main

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	jwtauth "github.com/hashicorp/vault-plugin-auth-jwt"
	kubeauth "github.com/hashicorp/vault-plugin-auth-kubernetes"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/credential/cert"
	"github.com/hashicorp/vault/builtin/credential/userpass"
	"github.com/hashicorp/vault/builtin/logical/pki"
	"github.com/hashicorp/vault/builtin/logical/transit"
	"github.com/hashicorp/vault/helper/namespace"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where to serve")
	certFile := flag.String("cert", "", "of the server, PEM; none is without TLS")
	keyFile := flag.String("key", "", "of the certificate, PEM")
	flag.Parse()
	if err := run(*listen, *certFile, *keyFile); err != nil {
		fmt.Fprintln(os.Stderr, "vaultcore:", err)
		os.Exit(1)
	}
}

func run(listen, certFile, keyFile string) error {
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: os.Stderr})
	storage, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical: storage, DisableMlock: true, Logger: logger,
		BuiltinRegistry: noPlugins{},
		LogicalBackends: map[string]logical.Factory{
			"kv": kv.Factory, "pki": pki.Factory, "transit": transit.Factory, "lender": lender,
		},
		CredentialBackends: map[string]logical.Factory{
			"kubernetes": kubeauth.Factory, "jwt": jwtauth.Factory, "approle": approle.Factory, "userpass": userpass.Factory, "cert": cert.Factory,
		},
	})
	if err != nil {
		return err
	}

	one := &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}
	made, err := core.Initialize(namespace.RootContext(context.Background()), &vault.InitParams{BarrierConfig: one, RecoveryConfig: one})
	if err != nil {
		return err
	}
	if _, err := core.Unseal(made.SecretShares[0]); err != nil {
		return err
	}

	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{}})
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	scheme := "http://"
	if certFile == "" {
		go func() { _ = server.Serve(l) }()
	} else {
		scheme = "https://"
		server.TLSConfig = &tls.Config{ClientAuth: tls.RequestClientCert} // as Vault asks for it
		go func() { _ = server.ServeTLS(l, certFile, keyFile) }()
	}
	err = json.NewEncoder(os.Stdout).Encode(map[string]string{
		"address": scheme + l.Addr().String(), "token": made.RootToken, "unsealKey": hex.EncodeToString(made.SecretShares[0]),
	})
	if err != nil {
		return err
	}

	_, _ = io.Copy(io.Discard, os.Stdin)
	return server.Close()
}
