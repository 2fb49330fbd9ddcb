package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
)

var progressFile = flag.String("progress-file", "", "Append a line of JSON to this file when a test ends.")

// planned is the first line: how many tests will run.
type planned struct {
	Planned int `json:"planned"`
}

// ended is the line of a test.
type ended struct {
	Name    string  `json:"name"`
	State   string  `json:"state"`
	Seconds float64 `json:"seconds"`
}

// reportProgress lets the suite report, to be called before it runs. Nodes of a
// package would report the framework's preview of the suite, and of these the
// preview drops those that run after each test.
func reportProgress() {
	ginkgo.ReportBeforeSuite(func(report ginkgo.Report) {
		appendLine(planned{report.PreRunStats.SpecsThatWillRun})
	})
	ginkgo.ReportAfterEach(func(report ginkgo.SpecReport) {
		// Tests that a filter has left out come here, too.
		if report.State.Is(types.SpecStatePending) || (report.State.Is(types.SpecStateSkipped) && report.Failure.Message == "") {
			return
		}
		appendLine(ended{report.FullText(), report.State.String(), report.RunTime.Seconds()})
	})
}

// appendLine writes the line by one system call, so that lines of several
// processes do not mix. Progress is not worth a failed test.
func appendLine(line any) {
	if *progressFile == "" {
		return
	}
	content, err := json.Marshal(line)
	if err == nil {
		err = write(append(content, '\n'))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "dra-e2e: progress:", err)
	}
}

func write(content []byte) error {
	file, err := os.OpenFile(*progressFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := file.Write(content); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}
