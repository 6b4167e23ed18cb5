//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
)

// Google and Azure are the fake that AWS is, in a pod of its own with port 443:
// Coffre finds them by their own names, which its pod's /etc/hosts has from the
// chart.
var cloudNames = []string{
	"secretmanager.googleapis.com", "sts.googleapis.com", "iamcredentials.googleapis.com",
	"login.microsoftonline.com", azureVault + ".vault.azure.net",
}

// startClouds starts the fake, and gives the chart's values that send the names
// to it.
func startClouds() (values []string, err error) {
	if fakeCloudImage == "" {
		return nil, nil
	}
	if err := startFake(cloudsName, object{}, "-listen=https://0.0.0.0:443"); err != nil {
		return nil, err
	}
	ip, err := kubectl("-n", system, "get", "pod", cloudsName, "-o", "jsonpath={.status.podIP}")
	if err != nil {
		return nil, err
	}
	aliases, err := json.Marshal([]object{{"ip": ip, "hostnames": cloudNames}})
	return []string{"--set-json", "hostAliases=" + string(aliases)}, err
}

// clusterIssuer is who signs the pods' tokens.
func clusterIssuer() (string, error) {
	discovery, err := kubectl("get", "--raw", "/.well-known/openid-configuration")
	if err != nil {
		return "", err
	}
	var said struct{ Issuer string }
	if err := json.Unmarshal([]byte(discovery), &said); err != nil {
		return "", fmt.Errorf("the cluster's OpenID configuration: %w", err)
	}
	return said.Issuer, nil
}

// addTo adds to a fake cloud's world.
func addTo(t *testing.T, cloud string, world object) {
	t.Helper()
	body, err := json.Marshal(world)
	must(t, err)
	must(t, control(cloud, "create", "world", string(body), nil))
}
