// Checks objects as the webhook of Knative Serving does, with its own code and the settings of a new cluster: rules that
// no schema tells of. Reads a list of objects as JSON; prints a line for each fault.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"knative.dev/pkg/apis"
	v1 "knative.dev/serving/pkg/apis/serving/v1"
	"knative.dev/serving/pkg/apis/serving/v1beta1"
)

type object interface {
	apis.Defaultable
	apis.Validatable
}

type head struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
}

func main() {
	var list []json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&list); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, raw := range list {
		var its head
		if err := json.Unmarshal(raw, &its); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		for _, fault := range check(its, raw) {
			fmt.Printf("%s %s: Knative: %s\n", its.Kind, its.Metadata.Name, fault)
		}
	}
}

func check(its head, raw json.RawMessage) []string {
	var it object
	switch its.APIVersion + " " + its.Kind {
	case "serving.knative.dev/v1 Service":
		it = &v1.Service{}
	case "serving.knative.dev/v1beta1 DomainMapping":
		it = &v1beta1.DomainMapping{}
	default:
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(it); err != nil {
		return []string{err.Error()}
	}
	ctx := apis.WithinCreate(context.Background())
	it.SetDefaults(ctx)
	// A list of everything, warnings too.
	if errs := it.Validate(ctx); errs != nil {
		return strings.Split(errs.Error(), "\n")
	}
	return nil
}
