// Reads rules as Prometheus does and prints what is wrong with them: PromQL, labels, templates. Then it asks, for each
// case (series with a value a minute), which alerts its own engine raises at a minute, and prints what was not expected.
//
// Standard input: {"rules": "groups: ...", "cases": [{"name": ..., "series": [...], "at": minute, "raised": [...]}]}
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

type testCase struct {
	Name   string
	Series []string
	At     int
	Raised []string
}

var reader = parser.NewParser(parser.Options{})

func main() {
	var input struct {
		Rules string
		Cases []testCase
	}
	if err := json.NewDecoder(os.Stdin).Decode(&input); err != nil {
		log.Fatal(err)
	}
	groups, faults := rulefmt.Parse([]byte(input.Rules), false, model.LegacyValidation, reader, slog.Default())
	for _, fault := range faults {
		fmt.Println(fault)
	}
	if len(faults) > 0 {
		return
	}
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, Parser: reader})
	for _, each := range input.Cases {
		raised := []string{}
		for _, group := range groups.Groups {
			for _, rule := range group.Rules {
				if rule.Alert != "" && fires(engine, rule, each) {
					raised = append(raised, rule.Alert)
				}
			}
		}
		slices.Sort(raised)
		slices.Sort(each.Raised)
		if !slices.Equal(raised, each.Raised) {
			fmt.Printf("%s: at minute %d %v are raised, not %v\n", each.Name, each.At, raised, each.Raised)
		}
	}
}

// fires tells whether the rule has been true in each minute of its `for`.
func fires(engine *promql.Engine, rule rulefmt.Rule, given testCase) bool {
	for minute := given.At - int(time.Duration(rule.For).Minutes()); minute <= given.At; minute++ {
		at := time.UnixMilli(0).Add(time.Duration(minute) * time.Minute)
		query, err := engine.NewInstantQuery(context.Background(), queryable(given.Series), nil, rule.Expr, at)
		if err != nil {
			log.Fatal(err)
		}
		found, err := query.Exec(context.Background()).Vector()
		if err != nil {
			log.Fatal(err)
		}
		if len(found) == 0 {
			return false
		}
	}
	return true
}

// queryable holds series as promtool writes them: `name{label="value"} 0+1x60`.
func queryable(texts []string) storage.Queryable {
	held := make([]storage.Series, 0, len(texts))
	for _, text := range texts {
		metric, values, err := reader.ParseSeriesDesc(text)
		if err != nil {
			log.Fatalf("%s: %v", text, err)
		}
		series := promql.Series{Metric: metric}
		for minute, value := range values {
			if !value.Omitted {
				series.Floats = append(series.Floats, promql.FPoint{T: int64(minute) * 60_000, F: value.Value})
			}
		}
		held = append(held, promql.NewStorageSeries(series))
	}
	find := func(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
		var found []storage.Series
		for _, series := range held {
			if matches(series.Labels(), matchers) {
				found = append(found, series)
			}
		}
		return &set{found, -1}
	}
	return &storage.MockQueryable{MockQuerier: &storage.MockQuerier{SelectMockFunction: find}}
}

func matches(given labels.Labels, matchers []*labels.Matcher) bool {
	return !slices.ContainsFunc(matchers, func(each *labels.Matcher) bool { return !each.Matches(given.Get(each.Name)) })
}

// set walks over series.
type set struct {
	series []storage.Series
	at     int
}

func (s *set) Next() bool                        { s.at++; return s.at < len(s.series) }
func (s *set) At() storage.Series                { return s.series[s.at] }
func (s *set) Err() error                        { return nil }
func (s *set) Warnings() annotations.Annotations { return nil }
