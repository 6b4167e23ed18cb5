package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"
	"sigs.k8s.io/secrets-store-csi-driver/pkg/util/fileutil"
	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/cmd/coffre/internal/cloud"
	"github.com/coffre-csi/coffre/cmd/coffre/internal/manifest"
	"github.com/coffre-csi/coffre/provider"
	"github.com/coffre-csi/coffre/provider/cache"
	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/provider/store"
)

// renderOptions are the flags of coffre render.
type renderOptions struct {
	files           list
	out, socket     string
	stores, class   string
	serviceAccount  string
	secrets, tokens list
	reveal          bool
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// fileMode is what the driver sends for files that name no mode of their own.
const fileMode = "420"

func renderCommand(ctx context.Context, args []string, std stdio) error {
	var o renderOptions
	fs := newFlags("render", std, "-f FILE… --out DIR [FLAG…]")
	fs.Var(&o.files, "f", "manifests: SecretProviderClasses, and optionally the workloads that mount them and the Secrets of nodePublishSecretRef; - is standard input")
	fs.StringVar(&o.out, "out", "", "folder to write the volume to; several volumes get a folder each below it")
	fs.StringVar(&o.socket, "socket", "", "mount through a running provider's socket instead of in this process")
	fs.StringVar(&o.stores, "stores", "", "file of the platform's stores, as for serve")
	fs.StringVar(&o.class, "class", "", "render this SecretProviderClass only")
	fs.StringVar(&o.serviceAccount, "service-account", "default", "service account of the pod, where no workload is given")
	fs.Var(&o.secrets, "secret", "KEY=FILE of the nodePublishSecretRef Secret")
	fs.Var(&o.tokens, "token", "AUDIENCE=FILE of a projected service account token")
	fs.BoolVar(&o.reveal, "reveal", false, "print the files' contents too")
	rest, err := parse(fs, args)
	if err != nil {
		return err
	}
	o.files = append(o.files, rest...)
	if len(o.files) == 0 || o.out == "" {
		return usageError(fs, "-f and --out are needed")
	}
	klog.SetLogger(logr.Discard()) // what fails is printed below, once

	set := manifest.Read(o.files, std.in)
	for _, p := range set.Problems {
		if p.Trouble != manifest.KeyTwice {
			return fmt.Errorf("%s:%d: %s", p.File, p.Line, p.Text)
		}
	}
	volumes, err := o.volumes(set)
	if err != nil {
		return err
	}
	mount, err := o.mounter()
	if err != nil {
		return err
	}
	failed := false
	for _, v := range volumes {
		dir := o.out
		if len(volumes) > 1 {
			dir = filepath.Join(o.out, v.folder)
		}
		if err := v.render(ctx, mount, dir, std.out, o.reveal); err != nil {
			fmt.Fprintf(std.err, "%s: %s\n", v.title, status.Convert(err).Message())
			failed = true
		}
	}
	if failed {
		return errReported
	}
	return nil
}

// volume is one volume to render.
type volume struct {
	title, folder string
	dialect       string
	request       *pb.MountRequest
}

type mounter func(ctx context.Context, dialect string, req *pb.MountRequest) (*pb.MountResponse, error)

// volumes are those of the workloads; of the classes by themselves where there
// is no workload.
func (o renderOptions) volumes(set manifest.Set) ([]volume, error) {
	secrets, err := keyFiles(o.secrets)
	if err != nil {
		return nil, fmt.Errorf("--secret: %w", err)
	}
	tokens, err := keyFiles(o.tokens)
	if err != nil {
		return nil, fmt.Errorf("--token: %w", err)
	}
	mounts := set.Mounts
	if len(mounts) == 0 {
		for _, c := range set.Classes {
			mounts = append(mounts, manifest.Mount{Place: c.Place, Namespace: c.Namespace, ServiceAccount: o.serviceAccount, Volume: c.Name, Class: c.Name})
		}
	}
	var volumes []volume
	for _, m := range mounts {
		if o.class != "" && m.Class != o.class {
			continue
		}
		class, err := findClass(set, m)
		if err != nil {
			return nil, err
		}
		v := volume{title: manifest.Qualified(class.Namespace, class.Name), folder: m.Volume, dialect: class.Provider}
		if m.Workload != "" {
			v.title, v.folder = m.Workload+" volume "+m.Volume+": "+v.title, filepath.Join(strings.ReplaceAll(m.Workload, "/", "-"), m.Volume)
		}
		data := maps.Clone(secrets)
		if m.SecretRef != "" {
			i := slices.IndexFunc(set.Secrets, func(s manifest.Secret) bool {
				return s.Name == m.SecretRef && manifest.SameNamespace(s.Namespace, m.Namespace)
			})
			switch {
			case i >= 0:
				maps.Copy(data, set.Secrets[i].Data)
			case len(data) == 0:
				return nil, fmt.Errorf("%s:%d: nodePublishSecretRef %s/%s is in none of the files; add the Secret, or give its keys with --secret", m.File, m.Line, cmp.Or(m.Namespace, "default"), m.SecretRef)
			}
		}
		if v.request, err = mountRequest(class, m, data, tokens); err != nil {
			return nil, err
		}
		volumes = append(volumes, v)
	}
	if volumes == nil {
		return nil, errors.New("no SecretProviderClass to render in these files")
	}
	return volumes, nil
}

func findClass(set manifest.Set, m manifest.Mount) (manifest.Class, error) {
	for _, c := range set.Classes {
		if c.Name == m.Class && manifest.SameNamespace(c.Namespace, m.Namespace) {
			return c, nil
		}
	}
	return manifest.Class{}, fmt.Errorf("%s:%d: SecretProviderClass %s/%s is in none of the files", m.File, m.Line, cmp.Or(m.Namespace, "default"), m.Class)
}

// mountRequest is what kubelet and the driver would make of a volume.
func mountRequest(c manifest.Class, m manifest.Mount, secrets, tokens map[string]string) (*pb.MountRequest, error) {
	attributes := maps.Clone(c.Parameters)
	if attributes == nil {
		attributes = map[string]string{}
	}
	maps.Copy(attributes, m.Attributes)
	maps.Copy(attributes, map[string]string{
		"secretProviderClass":                    c.Name,
		"csi.storage.k8s.io/pod.name":            cmp.Or(strings.ReplaceAll(m.Workload, "/", "-"), "coffre-render"),
		"csi.storage.k8s.io/pod.namespace":       cmp.Or(m.Namespace, c.Namespace, "default"),
		"csi.storage.k8s.io/pod.uid":             "00000000-0000-0000-0000-000000000000",
		"csi.storage.k8s.io/serviceAccount.name": m.ServiceAccount,
		"csi.storage.k8s.io/ephemeral":           "true",
	})
	if len(tokens) > 0 {
		type token struct {
			Token   string `json:"token"`
			Expires string `json:"expirationTimestamp"`
		}
		all := map[string]token{}
		for audience, raw := range tokens {
			all[audience] = token{strings.TrimSpace(raw), time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}
		}
		raw, err := json.Marshal(all)
		if err != nil {
			return nil, err
		}
		attributes["csi.storage.k8s.io/serviceAccount.tokens"] = string(raw)
	}
	a, err := json.Marshal(attributes)
	if err != nil {
		return nil, err
	}
	s, err := json.Marshal(secrets)
	if err != nil {
		return nil, err
	}
	return &pb.MountRequest{Attributes: string(a), Secrets: string(s), TargetPath: "coffre-render", Permission: fileMode}, nil
}

func keyFiles(pairs []string) (map[string]string, error) {
	out := map[string]string{}
	for _, p := range pairs {
		key, file, ok := strings.Cut(p, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%q is not KEY=FILE", p)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		out[key] = string(text)
	}
	return out, nil
}

// mounter mounts in this process, or through a socket.
func (o renderOptions) mounter() (mounter, error) {
	if o.socket != "" {
		conn, err := grpc.NewClient("unix:"+o.socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
		if err != nil {
			return nil, err
		}
		client := pb.NewCSIDriverProviderClient(conn)
		return func(ctx context.Context, _ string, req *pb.MountRequest) (*pb.MountResponse, error) {
			return client.Mount(ctx, req)
		}, nil
	}
	wiring := cloud.New(ours(), cloud.All())
	stores := store.NewSet(wiring.Catalog)
	if o.stores != "" {
		text, err := os.ReadFile(o.stores)
		if err == nil {
			err = stores.Load(string(text))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.stores, err)
		}
	}
	secrets := cache.New(stores, cache.Options{})
	return func(ctx context.Context, name string, req *pb.MountRequest) (*pb.MountResponse, error) {
		d, ok := wiring.Dialects[name]
		if !ok {
			return nil, fmt.Errorf("spec.provider %q is no dialect of this build; there are: %s", name, strings.Join(wiring.Names(), ", "))
		}
		p := &provider.Provider{Name: name, Dialect: d, Secrets: secrets, Audit: func(request.Request, []plan.Answer) {}}
		return provider.NewService(p, version, provider.DefaultMountTimeout, unobserved{}).Mount(ctx, req)
	}, nil
}

type unobserved struct{}

func (unobserved) Mounted(string, string, time.Duration) {}
func (unobserved) Panicked()                             {}

// render mounts one volume, writes it with the driver's own writer and prints
// it.
func (v volume) render(ctx context.Context, mount mounter, dir string, out io.Writer, reveal bool) error {
	r, err := mount(ctx, v.dialect, v.request)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	if err := fileutil.Validate(r.GetFiles()); err != nil {
		return err
	}
	if err := fileutil.WritePayloads(dir, r.GetFiles()); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s → %s\n", v.title, dir)
	printTree(out, r, reveal)
	return nil
}
