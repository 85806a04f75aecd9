// Reads a file of Prometheus' rules from standard input as Prometheus does, and prints what is wrong with it: PromQL,
// labels, templates.
package main

import (
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	content, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	_, faults := rulefmt.Parse(content, false, model.LegacyValidation, parser.NewParser(parser.Options{}), slog.Default())
	for _, fault := range faults {
		fmt.Println(fault)
	}
}
