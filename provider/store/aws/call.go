package aws

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	awsauth "github.com/coffre-csi/coffre/auth/aws"
	"github.com/coffre-csi/coffre/provider/pace"
)

// Attempts at one request. Refusals for asking too much do not come at once
// again: the pacer spaces them out.
const (
	attempts         = 3 // where nothing, or a failure, is answered
	attemptsThenNext = 2 // the same, where another region can be asked
	throttles        = 10
	throttlesNext    = 3
	attemptTime      = 6 * time.Second // a region that hangs costs three of them
	firstBackoff     = 50 * time.Millisecond
	maxBackoff       = time.Second
	maxRetryAfter    = 30
)

// call makes one request until it is answered. op is the operation's name; fn
// makes one attempt.
func (r *regional) call(ctx context.Context, op string, fn func(context.Context) error) *awsauth.RegionError {
	failures, refusals, renewed := 0, 0, false
	limitFailures, limitRefusals := attempts, throttles
	if !r.last {
		limitFailures, limitRefusals = attemptsThenNext, throttlesNext
	}
	for {
		err := r.attempt(ctx, op, fn)
		if err == nil {
			return nil
		}
		switch {
		case err.Expired() && !renewed:
			// AWS no longer takes what was thought to be good.
			renewed = true
			r.forget()
			if r.log(ctx) != nil {
				return err
			}
			continue
		case err.Throttled:
			if refusals++; refusals < limitRefusals && ctx.Err() == nil {
				continue
			}
		case err.Transient:
			if failures++; failures < limitFailures && sleep(ctx, rand.N(min(firstBackoff<<failures, maxBackoff))) {
				continue
			}
		}
		return err
	}
}

func (r *regional) forget() {
	r.mu.Lock()
	c := r.credentials
	r.mu.Unlock()
	r.login.Forget(c)
}

func (r *regional) attempt(ctx context.Context, op string, fn func(context.Context) error) *awsauth.RegionError {
	service := serviceOf(r.kind)
	grant, err := r.pacer.Acquire(ctx, r.tenant)
	if err != nil {
		d := &awsauth.RegionError{Region: r.region, Service: service, Op: op, Transient: true}
		// Waiting for a turn, and not getting it in time, is being throttled.
		if errors.Is(err, pace.ErrFull) || r.pacer.Rate() > 0 {
			d.Throttled, d.Code = true, "ThrottlingException"
		}
		return d
	}
	outcome, after := pace.Failed, time.Duration(0)
	defer func() { grant.Release(outcome, after) }()

	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	err = fn(ctx)
	if err == nil {
		outcome = pace.Answered
		r.requested(op, "ok")
		return nil
	}
	d := awsauth.Describe(err, r.region, service, op)
	if d.Code == "" && d.Status == 0 {
		d.Unreached = awsauth.Unreached(err)
	}
	switch {
	case d.Throttled:
		outcome, after = pace.Throttled, time.Duration(min(awsauth.RetryAfter(err), maxRetryAfter))*time.Second
	case !d.Transient:
		outcome = pace.Answered
	}
	code := d.Code
	if code == "" {
		code = "none"
	}
	r.requested(op, code)
	return d
}

func (r *regional) requested(op, code string) {
	if m := r.cloud.opts.Metrics; m != nil {
		m.Requested(r.kind, op, code)
	}
}

func serviceOf(kind string) string {
	if kind == ParameterStore {
		return "ssm"
	}
	return "secretsmanager"
}

// sleep says whether ctx lasted.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
