module github.com/coffre-csi/coffre

go 1.26.0
