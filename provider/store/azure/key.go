package azure

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	azureauth "github.com/coffre-csi/coffre/auth/azure"
)

// unsupported is a key that has no public half that anybody could use here.
func unsupported(sentence string) *failed {
	return &failed{answer: azureauth.Answer{Status: 200, Code: "UnsupportedKey", Text: "failed to get key. " + sentence}}
}

// publicKey is a key as PKIX "PUBLIC KEY" in PEM. The sentences of what cannot be
// are the Azure provider's.
func publicKey(k *azkeys.JSONWebKey) ([]byte, error) {
	if k.Kty == nil {
		return nil, incomplete("the key says not of what type it is")
	}

	var public any
	switch *k.Kty {
	case azkeys.KeyTypeRSA, azkeys.KeyTypeRSAHSM:
		e := new(big.Int).SetBytes(k.E)
		if len(k.N) == 0 || !e.IsInt64() || e.Int64() < 2 || e.Int64() > 1<<31-1 {
			return nil, incomplete("the key has no modulus or exponent")
		}
		public = &rsa.PublicKey{N: new(big.Int).SetBytes(k.N), E: int(e.Int64())}
	case azkeys.KeyTypeEC, azkeys.KeyTypeECHSM:
		curve, err := curveOf(k.Crv)
		if err != nil {
			return nil, err
		}
		public = &ecdsa.PublicKey{Curve: curve, X: new(big.Int).SetBytes(k.X), Y: new(big.Int).SetBytes(k.Y)}
	default:
		return nil, unsupported("key type '" + azureauth.Sentence(string(*k.Kty)) + "' currently not supported")
	}

	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, incomplete("the key is none")
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

func curveOf(name *azkeys.CurveName) (elliptic.Curve, error) {
	if name == nil {
		return nil, incomplete("the key says not on which curve it is")
	}
	switch *name {
	case azkeys.CurveNameP256:
		return elliptic.P256(), nil
	case azkeys.CurveNameP384:
		return elliptic.P384(), nil
	case azkeys.CurveNameP521:
		return elliptic.P521(), nil
	}
	return nil, unsupported("curve " + azureauth.Sentence(string(*name)) + " is not supported")
}
