package app

import (
	"strings"

	"grahak"
	"grahak/internal/rows"
)

// CompleteRejected lets a run that goes on complete the file at path, which takes
// the rejected rows of the file of customers in text, and returns how many of them
// it lacks.
func CompleteRejected(path, text string, state grahak.ImportState) (int64, error) {
	reader, err := rows.NewReader(strings.NewReader(text), rows.Options{})
	if err != nil {
		return 0, err
	}
	last := lastRejected(state)
	for range state.Rows {
		row, err := reader.Next()
		if err != nil {
			return 0, err
		}
		last.keep(row)
	}
	f, err := openRejected(path, true)
	if err != nil {
		return 0, err
	}
	unnoted, err := f.resume(reader, state, last)
	if closeErr := f.close(); err == nil {
		err = closeErr
	}
	return unnoted, err
}
