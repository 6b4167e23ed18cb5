// Package e2e proves Coffre where it will run: under the upstream Secrets Store
// CSI driver, on a real Kubernetes, each installed by its own chart. Every test
// is a promise to a user, kept as that user would see it: through kubectl,
// helm and what a container reads.
//
// The tests carry the build tag e2e, because they need a cluster, and helm,
// kubectl, sops and age-keygen on PATH. The command test/e2e/run provides all
// of that. README.md has the rest.
package e2e
