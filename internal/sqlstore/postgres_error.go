package sqlstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"grahak"
)

// SQLSTATE codes with a meaning of their own here.
const (
	stateDivisionByZero       = "22012"
	stateNull                 = "23502" // where there must not be one
	stateReadOnly             = "25006"
	stateSerialization        = "40001"
	stateDeadlock             = "40P01"
	stateDiskFull             = "53100"
	stateTooManyConnections   = "53300"
	stateStatementTimeout     = "57014"
	stateNoStatement          = "26000"
	stateUnsupported          = "0A000"
	stateUndefinedTable       = "42P01"
	stateUndefinedDatabase    = "3D000"
	stateInvalidParameter     = "22023"
	stateUnknownParameter     = "42704"
	stateInvalidPassword      = "28P01"
	stateInvalidAuthorization = "28000"
	stateInsufficientRights   = "42501"
	stateNoSchema             = "3F000" // or none that the user may use
)

// sqlState returns the SQLSTATE in err's chain, empty if the error is not one of
// the server.
func sqlState(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// full reports whether the server let no further connection in, so that nothing was
// sent on it. One of those that there are may soon be free.
func full(err error) bool { return sqlState(err) == stateTooManyConnections }

// undone reports whether the server says that it has undone the transaction for
// others' sake, and that it may be tried again.
func undone(err error) bool {
	state := sqlState(err)
	return state == stateSerialization || state == stateDeadlock
}

// outdated reports whether a statement failed because what the connection has
// prepared is gone, or no longer fits the schema. It can run on another.
func outdated(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == stateNoStatement || e.Code == stateUnsupported && e.Routine == "RevalidateCachedQuery")
}

// postgresError turns a failure of the database itself into a
// [grahak.CodeUnavailable] error. lost says that the connection is gone. Anything
// else is returned as it is.
func postgresError(err error, lost bool) error {
	if err == nil {
		return nil
	}
	var known *grahak.Error
	if errors.As(err, &known) {
		return err
	}
	unavailable := func(what string) error { return grahak.Unavailable(what, retryStorage, oneLine{err}) }
	state := sqlState(err)
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) && state != stateTooManyConnections {
		return unavailable("the database cannot be reached")
	}
	if state == "" {
		if lost || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			return unavailable("the database did not answer")
		}
		return err
	}
	switch state {
	case stateReadOnly:
		return unavailable("the database is read-only: it is a standby")
	case stateDiskFull:
		return unavailable("the disk of the database is full")
	case stateTooManyConnections:
		return unavailable("the database has no connection free")
	case stateStatementTimeout:
		return unavailable("the database took too long")
	case stateSerialization, stateDeadlock:
		return unavailable("too many writes of the same rows at once")
	}
	switch state[:2] {
	case "08", "57":
		return unavailable("the database is not available")
	case "53":
		return unavailable("the database has run out of a resource")
	case "55":
		return unavailable("the database is busy with the same rows")
	case "58", "XX":
		return unavailable("the database had a fault of its own")
	case "40":
		return unavailable("the database has undone it, or cannot tell")
	}
	if lost {
		return unavailable("the database has ended the connection")
	}
	return err
}

// oneLine is an error whose text is on one line.
type oneLine struct{ error }

func (e oneLine) Error() string { return strings.Join(strings.Fields(e.error.Error()), " ") }

func (e oneLine) Unwrap() error { return e.error }

// pause waits before an operation is tried again: longer each time, and for other
// operations that were undone with it another time. It reports false if ctx ends
// first.
func pause(ctx context.Context, attempt int) bool {
	longest := min(time.Millisecond<<attempt, 100*time.Millisecond)
	timer := time.NewTimer(time.Duration(rand.Int64N(int64(longest)) + 1)) //nolint:gosec // Nobody gains by guessing it.
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
