package request_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/provider/request"
)

func TestAVolumeIsReadAsItWasWritten(t *testing.T) {
	want := request.Request{
		Class: "mysql",
		Identity: auth.Identity{
			Namespace: "shop", ServiceAccount: "api", Pod: auth.Pod{Name: "api-0", UID: "u-1"},
			Tokens:  auth.Tokens{"vault": auth.NewToken("no-jwt", time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC))},
			Secrets: auth.Secrets{"key": "value"},
		},
		Parameters: map[string]string{"objects": "- name: x\n"},
		Mode:       0o600,
		TargetPath: "/t",
	}
	v := request.Volume{Class: want.Class, Identity: want.Identity, Parameters: want.Parameters, Mode: want.Mode, TargetPath: want.TargetPath}

	got, err := request.Parse(v.MountRequest())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v and the error %v, want %+v", got, err, want)
	}
}

func TestAVolumeThatSaysLittleIsAsTheDriverHasIt(t *testing.T) {
	req := request.Volume{Class: "c", Identity: auth.Identity{Pod: auth.Pod{UID: "u"}}}.MountRequest()

	if req.GetPermission() != "420" || req.GetSecrets() != "null" {
		t.Errorf("got the permission %s and the secrets %s, want 420 and null", req.GetPermission(), req.GetSecrets())
	}
	if want := "/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/v/mount"; req.GetTargetPath() != want {
		t.Errorf("got the target %s, want %s", req.GetTargetPath(), want)
	}
}
