module github.com/coffre-csi/coffre

go 1.26.0

require (
	filippo.io/age v1.3.2
	go.yaml.in/yaml/v3 v3.0.6
	gopkg.in/ini.v1 v1.67.3
)

require (
	filippo.io/hpke v0.4.0 // indirect
	golang.org/x/crypto v0.55.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
)
