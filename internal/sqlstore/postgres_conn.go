package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"grahak"
)

// postgresConn is a connection to PostgreSQL for the duration of one operation.
//
// It speaks the protocol in its binary form by itself: arguments go to where the
// statement, once prepared, says what it takes, so strings need no type of their
// own to be compared with ids, and no value is parsed or printed. Besides the
// arguments of [conn] it takes []string and []int64, for arrays.
type postgresConn struct {
	raw *pgconn.PgConn
	ctx context.Context
	// statements are those prepared on raw, by their text.
	statements map[string]*pgconn.StatementDescription
	inTx       bool
	delayed    []write // see later
}

// binaryFormat is the protocol's code for values in binary form.
var binaryFormat = []int16{1}

// statementsKey is under which a connection keeps its prepared statements.
const statementsKey = "grahak statements"

func newPostgresConn(ctx context.Context, raw *pgconn.PgConn) *postgresConn {
	statements, _ := raw.CustomData()[statementsKey].(map[string]*pgconn.StatementDescription)
	if statements == nil {
		statements = make(map[string]*pgconn.StatementDescription)
		raw.CustomData()[statementsKey] = statements
	}
	return &postgresConn{raw: raw, ctx: ctx, statements: statements}
}

// prepare returns query prepared, from memory after the first time. The queries
// of a process are its constants, so there are few.
func (c *postgresConn) prepare(query string) (*pgconn.StatementDescription, error) {
	if s := c.statements[query]; s != nil {
		return s, nil
	}
	s, err := c.raw.Prepare(c.ctx, "s"+strconv.Itoa(len(c.statements)+1), query, nil)
	if err != nil {
		return nil, err
	}
	c.statements[query] = s
	return s, nil
}

// maxDelayed bounds how many statements wait to be run together.
const maxDelayed = 64

// later implements [conn].
func (c *postgresConn) later(query string, args ...any) error {
	for i, arg := range args {
		if b, ok := arg.([]byte); ok {
			args[i] = bytes.Clone(b)
		}
	}
	c.delayed = append(c.delayed, write{query: query, args: args})
	if len(c.delayed) < maxDelayed {
		return nil
	}
	return c.catchUp()
}

// catchUp runs what is to run before the next statement.
func (c *postgresConn) catchUp() error {
	if len(c.delayed) == 0 {
		return nil
	}
	err := c.runTogether(c.delayed)
	c.delayed = c.delayed[:0]
	return err
}

// run prepares and runs a statement. The result is to be closed.
func (c *postgresConn) run(query string, args []any) (*pgconn.ResultReader, error) {
	if err := c.catchUp(); err != nil {
		return nil, err
	}
	s, err := c.prepare(query)
	if err != nil {
		return nil, err
	}
	values, err := encodeArgs(s, args)
	if err != nil {
		return nil, err
	}
	return c.raw.ExecStatement(c.ctx, s, values, binaryFormat, binaryFormat), nil
}

// exec implements [conn].
func (c *postgresConn) exec(query string, args ...any) (int64, error) {
	result, err := c.run(query, args)
	if err != nil {
		return 0, err
	}
	tag, err := result.Close()
	return tag.RowsAffected(), err
}

// query implements [conn].
func (c *postgresConn) query(scan func(row) error, query string, args ...any) error {
	result, err := c.run(query, args)
	if err != nil {
		return err
	}
	for result.NextRow() {
		if err = scan(postgresRow(result.Values())); err != nil {
			break
		}
	}
	_, closeErr := result.Close()
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if closeErr != nil {
		err = closeErr
	}
	return err
}

// queryRow implements [conn].
func (c *postgresConn) queryRow(query string, args ...any) row { return firstRow{c, query, args} }

// simple runs a statement without parameters and results.
func (c *postgresConn) simple(statement string) error {
	_, err := c.raw.Exec(c.ctx, statement).ReadAll()
	return err
}

// blockSize implements [conn]: beyond some 2,000 bytes PostgreSQL would keep a row
// in pieces.
func (c *postgresConn) blockSize() int { return 1800 }

// snapshot implements [conn].
func (c *postgresConn) snapshot(fn func() error) error {
	if c.inTx {
		return fn()
	}
	if err := c.simple("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		return err
	}
	c.inTx = true
	defer func() { c.inTx = false }()
	err := fn()
	return errors.Join(err, c.simple("ROLLBACK"))
}

// The types of parameters that are not what they seem, by their number in
// pg_type.
const (
	typeBool  = 16
	typeBytea = 17
	typeInt8  = 20
	typeInt2  = 21
	typeInt4  = 23
	typeText  = 25
	typeTexts = 1009
)

// encodeArgs returns the arguments in binary form.
func encodeArgs(s *pgconn.StatementDescription, args []any) ([][]byte, error) {
	if len(args) != len(s.ParamOIDs) {
		return nil, fmt.Errorf("a statement with %d parameters has %d arguments", len(s.ParamOIDs), len(args))
	}
	values := make([][]byte, len(args))
	numbers := make([]byte, 0, 8*len(args))
	for i, arg := range args {
		integer := func(v int64) error {
			start := len(numbers)
			switch s.ParamOIDs[i] {
			case typeInt8:
				numbers = binary.BigEndian.AppendUint64(numbers, uint64(v))
			case typeInt4:
				numbers = binary.BigEndian.AppendUint32(numbers, uint32(v))
			case typeInt2:
				numbers = binary.BigEndian.AppendUint16(numbers, uint16(v))
			case typeBool:
				numbers = append(numbers, byte(v))
			default:
				return fmt.Errorf("argument $%d is a number, but the statement takes type %d there", i+1, s.ParamOIDs[i])
			}
			values[i] = numbers[start:len(numbers):len(numbers)]
			return nil
		}
		var err error
		switch v := arg.(type) {
		case nil:
		case string:
			values[i] = []byte(v)
		case []byte:
			values[i] = v
			if v == nil {
				values[i] = []byte{}
			}
		case int:
			err = integer(int64(v))
		case int64:
			err = integer(v)
		case bool:
			var n int64
			if v {
				n = 1
			}
			err = integer(n)
		case []string:
			element := uint32(typeBytea)
			if s.ParamOIDs[i] == typeTexts {
				element = typeText
			}
			array := arrayHeader(len(v), element)
			for _, text := range v {
				array = append(binary.BigEndian.AppendUint32(array, uint32(len(text))), text...)
			}
			values[i] = array
		case []int64:
			array := arrayHeader(len(v), typeInt8)
			for _, n := range v {
				array = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(array, 8), uint64(n))
			}
			values[i] = array
		default:
			err = fmt.Errorf("a %T cannot be an argument", v)
		}
		if err != nil {
			return nil, err
		}
	}
	return values, nil
}

// arrayHeader begins an array of one dimension without NULLs.
func arrayHeader(length int, element uint32) []byte {
	dimensions := uint32(1)
	if length == 0 {
		dimensions = 0
	}
	header := binary.BigEndian.AppendUint32(nil, dimensions)
	header = binary.BigEndian.AppendUint32(header, 0)
	header = binary.BigEndian.AppendUint32(header, element)
	if length > 0 {
		header = binary.BigEndian.AppendUint32(header, uint32(length))
		header = binary.BigEndian.AppendUint32(header, 1)
	}
	return header
}

// postgresRow is the values of a row in binary form.
type postgresRow [][]byte

// Scan implements [row].
func (r postgresRow) Scan(dest ...any) error {
	if len(r) != len(dest) {
		return fmt.Errorf("a row of %d columns cannot be read as %d", len(r), len(dest))
	}
	for i, d := range dest {
		if err := scanPostgres(r[i], d); err != nil {
			return fmt.Errorf("column %d: %w", i+1, err)
		}
	}
	return nil
}

// scanPostgres stores a value in the variable that dest points to.
func scanPostgres(value []byte, dest any) error {
	switch d := dest.(type) {
	case *[]byte:
		if *d = nil; value != nil {
			*d = append([]byte{}, value...)
		}
		return nil
	case *grahak.ShortIndex:
		*d = grahak.ShortIndex{}
		copy(d[:], value)
		return nil
	case *sql.NullString:
		*d = sql.NullString{String: string(value), Valid: value != nil}
		return nil
	case *time.Time:
		*d = time.Time{}
		if value == nil {
			return nil
		}
		us, err := decodeInt(value)
		*d = time.UnixMicro(us).UTC()
		return err
	}
	if value == nil {
		return fmt.Errorf("NULL does not go into a %T", dest)
	}
	switch d := dest.(type) {
	case *string:
		*d = string(value)
		return nil
	case *grahak.Index:
		*d = grahak.Index{}
		copy(d[:], value)
		return nil
	}
	n, err := decodeInt(value)
	switch d := dest.(type) {
	case *int64:
		*d = n
	case *int:
		*d = int(n)
	case *bool:
		*d = n != 0
	default:
		err = fmt.Errorf("nothing goes into a %T", dest)
	}
	return err
}

// decodeInt returns the integer, or truth, in a value.
func decodeInt(value []byte) (int64, error) {
	switch len(value) {
	case 8:
		return int64(binary.BigEndian.Uint64(value)), nil
	case 4:
		return int64(int32(binary.BigEndian.Uint32(value))), nil
	case 2:
		return int64(int16(binary.BigEndian.Uint16(value))), nil
	case 1:
		return int64(value[0]), nil
	}
	return 0, fmt.Errorf("a value of %d bytes is not an integer", len(value))
}
