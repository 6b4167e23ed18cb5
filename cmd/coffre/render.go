package main

import (
	"cmp"
	"context"
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
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"
	"sigs.k8s.io/secrets-store-csi-driver/pkg/util/fileutil"
	pb "sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/coffre-csi/coffre/auth"
	"github.com/coffre-csi/coffre/cmd/coffre/internal/cloud"
	"github.com/coffre-csi/coffre/cmd/coffre/internal/manifest"
	"github.com/coffre-csi/coffre/provider"
	"github.com/coffre-csi/coffre/provider/cache"
	"github.com/coffre-csi/coffre/provider/request"
	"github.com/coffre-csi/coffre/provider/store"
)

// renderOptions are the flags of coffre render.
type renderOptions struct {
	files           []string
	out, socket     string
	stores, class   string
	serviceAccount  string
	secrets, tokens []string
	reveal          bool
}

func renderCommand(std stdio) *cobra.Command {
	var o renderOptions
	c := &cobra.Command{
		Use:   "render FILE… --out DIR",
		Short: "Do a Mount without a cluster, and show the volume's files",
		Long: "Does what a pod's mount would do, through the same code, and writes the files with the driver's own\n" +
			"writer. Files hold SecretProviderClasses; the workloads that mount them, the Secrets of\n" +
			"nodePublishSecretRef, the ServiceAccounts and the platform's stores are taken from them too.\n" +
			"- is standard input.",
		Example: "  coffre render -f class.yaml --secret age.agekey=age.key --out volume",
		RunE: func(c *cobra.Command, args []string) error {
			o.files = append(o.files, args...)
			return o.run(c.Context(), std)
		},
	}

	fs := c.Flags()
	fs.StringArrayVarP(&o.files, "filename", "f", nil, "a file or folder, as an argument is")
	fs.StringVar(&o.out, "out", "", "folder to write the volume to; several volumes get a folder each below it")
	fs.StringVar(&o.socket, "socket", "", "mount through a running provider's socket instead of in this process")
	fs.StringVar(&o.stores, "stores", "", "file of the platform's stores: serve's, or the chart's values")
	fs.StringVar(&o.class, "class", "", "render this SecretProviderClass only")
	fs.StringVar(&o.serviceAccount, "service-account", "default", "service account of the pod, where no workload is given")
	fs.StringArrayVar(&o.secrets, "secret", nil, "KEY=FILE of the nodePublishSecretRef Secret")
	fs.StringArrayVar(&o.tokens, "token", nil, "AUDIENCE=FILE of a projected service account token")
	fs.BoolVar(&o.reveal, "reveal", false, "print the files' contents too")

	return c
}

func (o renderOptions) run(ctx context.Context, std stdio) error {
	if len(o.files) == 0 || o.out == "" {
		return usagef("-f and --out are needed")
	}
	klog.SetLogger(logr.Discard()) // what fails is printed below, once

	set := manifest.Read(o.files, std.in)
	if err := unread(set); err != nil {
		return err
	}
	volumes, err := o.volumes(set)
	if err != nil {
		return err
	}
	mount, done, err := o.mounter(set)
	if err != nil {
		return err
	}
	defer done()

	failed := false
	for _, v := range volumes {
		dir := o.out
		if len(volumes) > 1 {
			dir = filepath.Join(o.out, v.folder)
		}
		err := v.render(ctx, mount, dir, std.out, o.reveal)
		if refused, ok := status.FromError(err); ok && err != nil {
			fmt.Fprintf(std.err, "%s: %s%s\n", v.title, refused.Message(), o.hint(refused.Message(), set))
			failed = true
		} else if err != nil {
			return fmt.Errorf("%s: %w", v.title, err)
		}
	}

	if failed {
		return errReported
	}

	return nil
}

// unread is the first thing in a set that could not be read.
func unread(set manifest.Set) error {
	for _, p := range set.Problems {
		if p.Trouble == manifest.KeyTwice || p.Trouble == manifest.OfChart {
			continue
		}
		err := fmt.Errorf("%s:%d: %s", p.File, p.Line, strings.TrimPrefix(p.Object+" "+p.Field+" "+p.Text, "  "))
		if p.Trouble == manifest.Unreadable {
			return &ioError{fmt.Errorf("%s: %s", p.File, p.Text)}
		}
		return err
	}

	return nil
}

// hint says how a store that is not there is given here: the error's own remedy
// is for a cluster.
func (o renderOptions) hint(text string, set manifest.Set) string {
	if o.socket != "" || o.stores != "" || len(set.Stores) > 0 || !strings.Contains(text, "no store of this name is configured") {
		return ""
	}
	return "; to render, give the platform's values: --stores values.yaml"
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

		v.request = mountRequest(class, m, data, tokens)
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
func mountRequest(c manifest.Class, m manifest.Mount, secrets, tokens map[string]string) *pb.MountRequest {
	parameters := maps.Clone(c.Parameters)
	if parameters == nil {
		parameters = map[string]string{}
	}
	maps.Copy(parameters, m.Attributes)

	id := auth.Identity{
		Namespace: cmp.Or(m.Namespace, c.Namespace, "default"), ServiceAccount: m.ServiceAccount,
		Pod:     auth.Pod{Name: cmp.Or(strings.ReplaceAll(m.Workload, "/", "-"), "coffre-render"), UID: "00000000-0000-0000-0000-000000000000"},
		Secrets: secrets, Tokens: auth.Tokens{},
	}
	for audience, raw := range tokens {
		id.Tokens[audience] = auth.NewToken(strings.TrimSpace(raw), time.Time{})
	}

	return request.Volume{Class: c.Name, Identity: id, Parameters: parameters, TargetPath: "coffre-render"}.MountRequest()
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

// mounter mounts in this process, or through a socket. What a mount in this
// process was lent (a lease, a sign-in that can be ended) is given back by done.
func (o renderOptions) mounter(set manifest.Set) (_ mounter, done func(), _ error) {
	if o.socket != "" {
		conn, err := grpc.NewClient("unix:"+o.socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
		if err != nil {
			return nil, nil, err
		}
		client := pb.NewCSIDriverProviderClient(conn)
		return func(ctx context.Context, _ string, req *pb.MountRequest) (*pb.MountResponse, error) {
			return client.Mount(ctx, req)
		}, func() { _ = conn.Close() }, nil
	}

	process := thisProcess()
	process.Kubernetes.Known = map[string]map[string]string{}
	for _, a := range set.ServiceAccounts {
		process.Kubernetes.Known[cmp.Or(a.Namespace, "default")+"/"+a.Name] = a.Annotations
	}
	wiring := cloud.New(process, cloud.All())
	stores := store.NewSet(wiring.Catalog)
	if err := o.configure(stores, set); err != nil {
		return nil, nil, err
	}
	secrets := cache.New(stores, cache.Options{})
	done = func() {
		secrets.Close()
		wiring.Close()
	}

	return func(ctx context.Context, name string, req *pb.MountRequest) (*pb.MountResponse, error) {
		d, ok := wiring.Dialects[name]
		if !ok {
			return nil, fmt.Errorf("spec.provider %q is no dialect of this build; there are: %s", name, strings.Join(wiring.Names(), ", "))
		}
		p := &provider.Provider{Name: name, Dialect: d, Secrets: secrets}
		return provider.NewService(p, version, provider.DefaultMountTimeout, unobserved{}).Mount(ctx, req)
	}, done, nil
}

// entries adds those of a mapping.
func entries(into map[string]yaml.Node, n *yaml.Node) {
	if n == nil {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		into[n.Content[i].Value] = *n.Content[i+1]
	}
}

// configure loads the stores of --stores, or those among the files: in any of
// the forms that lint reads.
func (o renderOptions) configure(stores *store.Set, set manifest.Set) error {
	from := set.Stores
	if o.stores != "" {
		read := manifest.Read([]string{o.stores}, nil)
		if err := unread(read); err != nil {
			return err
		}
		if from = read.Stores; len(from) == 0 {
			return fmt.Errorf("%s: holds no stores: a mapping stores, as in the chart's values", o.stores)
		}
	}

	all, policies := map[string]yaml.Node{}, map[string]yaml.Node{}
	for _, s := range from {
		entries(all, s.Node)
		entries(policies, s.Dialects)
	}

	text, err := yaml.Marshal(map[string]any{"stores": all, "dialects": policies})
	if err == nil {
		err = stores.Load(string(text))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", cmp.Or(o.stores, "stores"), err)
	}

	return nil
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
	if err := fileutil.Validate(r.GetFiles()); err != nil {
		return err
	}
	if err := ours(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	if err := fileutil.WritePayloads(dir, r.GetFiles()); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s → %s\n", v.title, dir)
	printTree(out, r, reveal)

	return nil
}

// ours refuses a folder that holds what render did not make: the driver's
// writer would put links in the place of files.
func ours(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		made := err == nil && (strings.HasPrefix(target, "..data/") || e.Name() == "..data")
		if !made && !strings.HasPrefix(e.Name(), "..") {
			return &ioError{fmt.Errorf("--out %s: holds %s, which render did not make; name a folder that is new or empty", dir, e.Name())}
		}
	}

	return nil
}
