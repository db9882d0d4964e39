package api

import (
	"math"
	"net/http"
	"strconv"

	"grahak"
	"grahak/internal/web"
)

// events answers with a page of events.
func (e *Edge) events(x *web.Exchange, caller grahak.Caller) error {
	q := parseEventQuery(x.Request.URL.RawQuery)
	page, err := e.service.CustomerEvents(x.Request.Context(), caller, q)
	if err != nil {
		return err
	}
	x.Buf = appendEvents(x.Buf[:0], page, q.Follow)
	x.JSON(http.StatusOK, x.Buf)
	return nil
}

// parseEventQuery reads the query of a list of events, of whose keys the first
// counts. An empty number is as none; what is not a number becomes one that the
// service refuses.
func parseEventQuery(query string) grahak.EventListQuery {
	q := grahak.EventListQuery{Limit: grahak.DefaultPage}
	seen := make(map[string]bool)
	_ = eachPair(query, func(key string, v value) {
		if seen[key] {
			return
		}
		seen[key] = true
		switch {
		case key == "type":
			q.Types = grahak.Input{Value: v.text, Given: true, Malformed: v.malformed}
		case key == "customer":
			q.Customer = grahak.Input{Value: v.text, Given: true, Malformed: v.malformed}
		case v.text == "":
		case key == "count":
			q.Limit = number(v.text)
		case key == "after":
			q.Follow, q.After = true, position(v.text)
		case key == "before":
			if q.Before = position(v.text); q.Before == 0 {
				q.Before = -1 // Nothing stands there.
			}
		}
	})
	return q
}

// position reads plain digits; a larger number than fits is the largest that does,
// and anything else is -1.
func position(s string) int64 {
	if !plainDigits(s) {
		return -1
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return math.MaxInt64
	}
	return n
}

// appendEvents appends a page of events. Whoever follows always has a next position.
func appendEvents(buf []byte, p grahak.EventPage, follow bool) []byte {
	buf = append(buf, `{"object":"list","list":[`...)
	for i, e := range p.Events {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = appendEvent(buf, e)
	}
	buf = append(buf, `],"count":`...)
	buf = strconv.AppendInt(buf, int64(len(p.Events)), 10)
	buf = append(buf, `,"next":`...)
	if !follow && p.Next == 0 {
		return append(buf, "null}"...)
	}
	return append(strconv.AppendInt(buf, p.Next, 10), '}')
}

// appendEvent appends an event of a customer.
func appendEvent(buf []byte, e grahak.Event) []byte {
	buf = append(buf, `{"id":`...)
	buf = appendString(buf, string(e.ID))
	buf = append(buf, `,"object":"event","type":`...)
	buf = appendString(buf, string(e.Type))
	buf = append(buf, `,"position":`...)
	buf = strconv.AppendInt(buf, e.Position, 10)
	buf = append(buf, `,"customer_id":`...)
	buf = appendString(buf, e.Subject)
	if e.Type == grahak.EventCustomerUpdated {
		buf = append(buf, `,"changed":[`...)
		for i, f := range e.Changed {
			if i > 0 {
				buf = append(buf, ',')
			}
			buf = appendString(buf, fieldNames[f])
		}
		buf = append(buf, ']')
	}
	buf = append(buf, `,"request_id":`...)
	buf = appendOptional(buf, e.RequestID)
	buf = append(buf, `,"date_created":`...)
	return append(appendTime(buf, e.At), '}')
}
