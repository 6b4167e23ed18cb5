package aws

import (
	"errors"
	"fmt"
	"strings"

	"github.com/aws/smithy-go"

	"github.com/coffre-csi/coffre/provider/plan"
	"github.com/coffre-csi/coffre/provider/store"
	awsstore "github.com/coffre-csi/coffre/provider/store/aws"
)

// Sentences of the AWS provider that its users and their alerts know. What it
// hid behind them follows.
const (
	noSecret     = "Failed to fetch secret from all regions. Verify secret exists and required permissions are granted for: %s: %s"
	noParameters = "Failed to fetch parameters from all regions. %s"
)

// Explain words a failure as the AWS provider did, with the cause.
func (Dialect) Explain(err error) error {
	var lines []string
	var missing []string // parameters, by region
	var missingIn string
	for _, e := range plan.Split(err) {
		query, object, region := new(plan.QueryError), new(plan.ObjectError), new(awsstore.RegionError)
		switch {
		case errors.As(e, &query) && errors.As(e, &region):
			parameter := query.Query.Store.Inline != nil && query.Query.Store.Inline.Kind == awsstore.ParameterStore
			if parameter && query.Err.Reason == store.NotFound && query.Query.Find == nil {
				missing, missingIn = append(missing, selected(query.Query.Ref)), region.Region
				continue
			}
			lines = append(lines, regional(query, region, parameter))
		case errors.As(e, &object) && object.Ref.Name != "":
			if object.Store == ssmParameter {
				lines = append(lines, fmt.Sprintf(noParameters, e))
			} else {
				lines = append(lines, fmt.Sprintf(noSecret, object.Ref.Name, e))
			}
		default:
			lines = append(lines, e.Error())
		}
	}

	if missing != nil {
		lines = append(lines, fmt.Sprintf("%s: invalid parameters: %s (no such parameter, version or label)", missingIn, strings.Join(missing, ", ")))
	}

	return &plan.Reworded{Text: strings.Join(lines, "; "), Err: err}
}

// regional words one object's failure. An error that the service's model knows
// as the caller's was fatal at once; anything else was tried in every region.
func regional(query *plan.QueryError, region *awsstore.RegionError, parameter bool) string {
	name := query.Query.Ref.Name
	if query.Query.Find != nil {
		name = query.Query.Find.Prefix + query.Query.Find.Regexp
	}
	// Parameter Store's model knows this one only since the AWS provider's was made.
	modelled := region.Fault == smithy.FaultClient && region.Code != "AccessDeniedException"
	switch {
	case modelled && parameter:
		return fmt.Sprintf("%s: Failed fetching parameters: %s", region.Region, query.Err)
	case modelled:
		return fmt.Sprintf("%s: Failed fetching secret %s: %s", region.Region, name, query.Err)
	case parameter:
		return fmt.Sprintf(noParameters, query.Err)
	default:
		return fmt.Sprintf(noSecret, name, query.Err)
	}
}

// selected is a parameter as AWS names it, with its version or label.
func selected(ref store.Ref) string {
	if ref.Version == "" {
		return ref.Name
	}
	return ref.Name + ":" + strings.TrimPrefix(ref.Version, "stage:")
}
