package rows

import (
	"bytes"
	"errors"
	"io"
)

// source is a text that is read line by line through a buffer.
type source struct {
	r        io.Reader
	buf      []byte
	pos, end int // what was read and not taken is buf[pos:end]
	line     int64
	err      error // of the reader, io.EOF at its end
}

// fill reads more behind what is there.
func (s *source) fill() {
	const step = 64 << 10
	if s.pos > 0 {
		s.end = copy(s.buf, s.buf[s.pos:s.end])
		s.pos = 0
	}
	if len(s.buf)-s.end < step {
		s.buf = append(s.buf[:s.end], make([]byte, max(step, s.end))...)
	}
	for range 100 {
		n, err := s.r.Read(s.buf[s.end:])
		s.end += n
		s.err = err
		if n > 0 || err != nil {
			return
		}
	}
	s.err = io.ErrNoProgress
}

// peek returns the next n bytes, or fewer at the end of the text.
func (s *source) peek(n int) ([]byte, error) {
	for s.end-s.pos < n && s.err == nil {
		s.fill()
	}
	if s.err != nil && !errors.Is(s.err, io.EOF) {
		return nil, s.err
	}
	return s.buf[s.pos:min(s.end, s.pos+n)], nil
}

// lineEnd returns where the line ends that begins at byte from of what is there:
// behind its line feed, or at the end of the text. It returns -1 for a line that
// is longer than MaxRow, with all before it.
func (s *source) lineEnd(from int) (int, error) {
	for looked := from; ; {
		if i := bytes.IndexByte(s.buf[s.pos+looked:s.end], '\n'); i >= 0 {
			return s.within(looked + i + 1), nil
		}
		looked = s.end - s.pos
		switch {
		case looked > MaxRow+1:
			return -1, nil
		case s.err == nil:
			s.fill()
		case errors.Is(s.err, io.EOF):
			return s.within(looked), nil
		default:
			return 0, s.err
		}
	}
}

// within returns n, or -1 if a row of n bytes with its end is too long.
func (s *source) within(n int) int {
	if len(bytes.TrimRight(s.buf[s.pos:s.pos+min(n, MaxRow+3)], "\r\n")) > MaxRow {
		return -1
	}
	return n
}

// take passes over n bytes of what is there, and returns them without the end of
// their last line.
func (s *source) take(n int) string {
	taken := s.buf[s.pos : s.pos+n]
	s.line += int64(bytes.Count(taken, []byte{'\n'}))
	s.pos += n
	return string(trimEnd(taken))
}

// trimEnd returns line without its end.
func trimEnd(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
		if n > 1 && line[n-2] == '\r' {
			line = line[:n-2]
		}
	}
	return line
}

// skipLine passes over the rest of a line of any length, and returns how it
// begins.
func (s *source) skipLine() (string, error) {
	const shown = 1 << 10
	start := string(s.buf[s.pos:min(s.end, s.pos+shown)])
	for {
		if i := bytes.IndexByte(s.buf[s.pos:s.end], '\n'); i >= 0 {
			s.pos += i + 1
			s.line++
			return start, nil
		}
		s.pos = s.end
		switch {
		case errors.Is(s.err, io.EOF):
			return start, nil
		case s.err != nil:
			return "", s.err
		}
		s.fill()
	}
}
