package aws

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"

	awsauth "github.com/coffre-csi/coffre/auth/aws"
	"github.com/coffre-csi/coffre/provider/store"
	"github.com/coffre-csi/coffre/provider/store/ask"
)

const (
	batchSize  = 20 // BatchGetSecretValue's limit
	worthBatch = 4  // below it, single reads cost as little and need one permission less
	// noBatchFor is how long it is remembered that an identity may not batch.
	noBatchFor = time.Hour
	maxNoBatch = 4096
)

// secretsManager is a store of kind aws-secrets-manager.
type secretsManager struct{ *session }

// Fetch implements store.Store.
func (s *secretsManager) Fetch(ctx context.Context, refs []store.Ref) ([]store.Secret, error) {
	return s.FetchEach(ctx, refs, func(int, store.Secret) {})
}

// FetchEach implements store.Streamer.
func (s *secretsManager) FetchEach(ctx context.Context, refs []store.Ref, answered func(int, store.Secret)) ([]store.Secret, error) {
	return s.fetch(ctx, refs, answered, readSecrets)
}

var stage = regexp.MustCompile(`^AWS(CURRENT|PENDING|PREVIOUS)$`)

// named is the version id and the stage that a ref names: a version may be
// either, for Coffre's own schema has one field for both. A version id of such
// a text cannot be.
func named(ref store.Ref) (version, label string) {
	if extra := extraOf(ref); extra.Stage != "" {
		return ref.Version, extra.Stage
	}
	if name, ok := strings.CutPrefix(ref.Version, stagePrefix); ok {
		return "", name
	}
	if stage.MatchString(ref.Version) {
		return "", ref.Version
	}
	return ref.Version, ""
}

func readSecrets(ctx context.Context, r *regional, refs []store.Ref, told func(int, store.Secret)) []ask.Result {
	out := make([]ask.Result, len(refs))
	places := map[store.Ref][]int{}
	var singles, plain []store.Ref
	for i, ref := range refs {
		if err := r.checkName(ref.Name, "secretsmanager"); err != nil {
			out[i].Err = err
			continue
		}
		if places[ref] = append(places[ref], i); len(places[ref]) > 1 {
			continue
		}
		if ref.Version == "" {
			plain = append(plain, ref)
		} else {
			singles = append(singles, ref)
		}
	}

	if len(plain) < worthBatch || !r.mayBatch() {
		singles, plain = append(singles, plain...), nil
	}

	var mu sync.Mutex
	settle := func(answer map[store.Ref]ask.Result) {
		mu.Lock()
		defer mu.Unlock()
		for ref, res := range answer {
			for _, i := range places[ref] {
				out[i] = res
				if res.Err == nil {
					told(i, res.Secret)
				}
			}
		}
	}

	batches := slices.Collect(slices.Chunk(plain, batchSize))
	ask.Each(len(batches)+len(singles), func(i int) {
		if i < len(batches) {
			settle(r.batch(ctx, batches[i]))
			return
		}
		ref := singles[i-len(batches)]
		settle(map[store.Ref]ask.Result{ref: r.secret(ctx, ref)})
	})

	return out
}

// secret reads one.
func (r *regional) secret(ctx context.Context, ref store.Ref) ask.Result {
	in := &secretsmanager.GetSecretValueInput{SecretId: sdk.String(ref.Name)}
	version, label := named(ref)
	if version != "" {
		in.VersionId = sdk.String(version)
	}
	if label != "" {
		in.VersionStage = sdk.String(label)
	}

	var got *secretsmanager.GetSecretValueOutput
	if d := r.call(ctx, "GetSecretValue", func(ctx context.Context) (err error) {
		if got, err = r.clients.secrets.GetSecretValue(ctx, in, r.asSecrets); err != nil {
			return err
		}
		return r.about(ref, got.Name, got.ARN)
	}); d != nil {
		return ask.Result{Err: r.refused(d, ref, "secretsmanager:GetSecretValue")}
	}

	return r.value(ref, got.SecretString, got.SecretBinary, got.VersionId)
}

// errOther is an answer about another secret than the one that was asked for;
// no answer at all, that is.
var errOther = errors.New("the answer is about another secret")

func (r *regional) about(ref store.Ref, name, arn *string) error {
	if !sameSecret(ref.Name, sdk.ToString(name), sdk.ToString(arn)) {
		return errOther
	}
	return nil
}

func (r *regional) asSecrets(o *secretsmanager.Options) { o.Credentials = r.provider() }

func (r *regional) value(ref store.Ref, text *string, binary []byte, version *string) ask.Result {
	switch {
	case text != nil:
		return ask.Result{Secret: store.Secret{Value: store.Value(*text), Version: sdk.ToString(version)}}
	case binary != nil:
		return ask.Result{Secret: store.Secret{Value: binary, Version: sdk.ToString(version)}}
	}
	return ask.Result{Err: store.RefErrorf(store.NotFound, ref, "the secret has no value yet in %s", r.region)}
}

// batch reads up to batchSize secrets in one request, and one by one what that
// does not give.
func (r *regional) batch(ctx context.Context, refs []store.Ref) map[store.Ref]ask.Result {
	out := make(map[store.Ref]ask.Result, len(refs))
	in := &secretsmanager.BatchGetSecretValueInput{}
	for _, ref := range refs {
		in.SecretIdList = append(in.SecretIdList, ref.Name)
	}
	for {
		var got *secretsmanager.BatchGetSecretValueOutput
		if d := r.call(ctx, "BatchGetSecretValue", func(ctx context.Context) (err error) {
			got, err = r.clients.secrets.BatchGetSecretValue(ctx, in, r.asSecrets)
			return err
		}); d != nil {
			if d.Throttled || d.Transient || d.Expired() {
				for _, ref := range refs {
					if _, ok := out[ref]; !ok {
						out[ref] = ask.Result{Err: r.refused(d, ref, "secretsmanager:BatchGetSecretValue")}
					}
				}

				return out
			}

			r.refuseBatch(d)
			break
		}

		r.match(got, refs, out)
		if in.NextToken = got.NextToken; sdk.ToString(in.NextToken) == "" {
			break
		}
	}

	var missing []store.Ref
	for _, ref := range refs {
		if _, ok := out[ref]; !ok {
			missing = append(missing, ref)
		}
	}

	singles := make([]ask.Result, len(missing))
	ask.Each(len(missing), func(i int) { singles[i] = r.secret(ctx, missing[i]) })
	for i, ref := range missing {
		out[ref] = singles[i]
	}

	return out
}

// match finds out which ref each part of an answer is about. A part that says
// nothing final is left out, to be read by itself: a failure of the moment, and
// whatever is said about an ARN, which may be another account's.
func (r *regional) match(got *secretsmanager.BatchGetSecretValueOutput, refs []store.Ref, out map[store.Ref]ask.Result) {
	for _, ref := range refs {
		for _, v := range got.SecretValues {
			if sameSecret(ref.Name, sdk.ToString(v.Name), sdk.ToString(v.ARN)) {
				out[ref] = r.value(ref, v.SecretString, v.SecretBinary, v.VersionId)
			}
		}

		for _, e := range got.Errors {
			if sdk.ToString(e.SecretId) != ref.Name || strings.HasPrefix(ref.Name, "arn:") {
				continue
			}
			d := awsauth.Item(r.region, "secretsmanager", "BatchGetSecretValue", sdk.ToString(e.ErrorCode), sdk.ToString(e.Message))
			if !d.Transient && !d.Throttled && modelled(d.Code) {
				d.Fault = smithy.FaultClient
			}
			if !d.Transient && !d.Throttled {
				out[ref] = ask.Result{Err: r.refused(d, ref, "secretsmanager:GetSecretValue")}
			}
		}
	}
}

// modelled are the client's errors that the SDK's model of GetSecretValue has.
func modelled(code string) bool {
	switch code {
	case "ResourceNotFoundException", "InvalidParameterException", "InvalidRequestException", "DecryptionFailure":
		return true
	}
	return false
}

// sameSecret says whether id, a name or an ARN with or without its random
// ending, is that of a secret.
func sameSecret(id, name, arn string) bool {
	if id == name || id == arn {
		return true
	}
	const random = len("-AbCdEf")
	return strings.HasPrefix(id, "arn:") && len(arn) == len(id)+random && strings.HasPrefix(arn, id+"-")
}

// noBatchKey is an identity in a region.
type noBatchKey struct{ who, region string }

func (r *regional) batchKey() noBatchKey {
	return noBatchKey{r.login.Principal() + "\x00" + r.login.Who(), r.region}
}

func (r *regional) mayBatch() bool {
	c := r.cloud
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.opts.Now().Before(c.noBatch[r.batchKey()])
}

// refuseBatch remembers who may not batch, or where nobody can. An answer that
// the service's model knows is about one of the names, not about batching.
func (r *regional) refuseBatch(d *awsauth.RegionError) {
	if d.Fault != smithy.FaultUnknown && !denied(d) {
		return
	}
	c := r.cloud
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.opts.Now()
	if len(c.noBatch) >= maxNoBatch {
		for k, until := range c.noBatch {
			if now.After(until) || len(c.noBatch) >= maxNoBatch {
				delete(c.noBatch, k)
			}
		}
	}

	c.noBatch[r.batchKey()] = now.Add(noBatchFor)
}

// List implements store.Lister.
func (s *secretsManager) List(ctx context.Context, f store.Filter, limit int) ([]store.Ref, error) {
	return s.list(ctx, f, limit, listSecrets)
}

const listPage = 100

func listSecrets(ctx context.Context, r *regional, f *store.Finder) *store.Error {
	in := &secretsmanager.ListSecretsInput{MaxResults: sdk.Int32(listPage)}
	if f.Prefix != "" {
		in.Filters = append(in.Filters, types.Filter{Key: types.FilterNameStringTypeName, Values: []string{f.Prefix}})
	}
	// AWS's filters match the beginnings of tags; f checks whole ones.
	for _, t := range f.Tags {
		in.Filters = append(in.Filters, types.Filter{Key: types.FilterNameStringTypeTagKey, Values: []string{t.Key}})
		if t.Value != "" {
			in.Filters = append(in.Filters, types.Filter{Key: types.FilterNameStringTypeTagValue, Values: []string{t.Value}})
		}
	}

	for {
		var got *secretsmanager.ListSecretsOutput
		if d := r.call(ctx, "ListSecrets", func(ctx context.Context) (err error) {
			got, err = r.clients.secrets.ListSecrets(ctx, in, r.asSecrets)
			return err
		}); d != nil {
			return r.refused(d, store.Ref{}, "secretsmanager:ListSecrets, which find needs")
		}
		for _, s := range got.SecretList {
			if s.DeletedDate != nil {
				continue
			}
			tags := make(map[string]string, len(s.Tags))
			for _, t := range s.Tags {
				tags[sdk.ToString(t.Key)] = sdk.ToString(t.Value)
			}
			if !f.Take(sdk.ToString(s.Name), tags) {
				return nil
			}
		}

		if in.NextToken = got.NextToken; sdk.ToString(in.NextToken) == "" {
			return nil
		}
	}
}
