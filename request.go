package grahak

import (
	"net/netip"
	"time"
)

// RequestRecord is what is kept of a request to the API. Nothing in it is personal
// data: no body, no query, no path but the route's pattern.
type RequestRecord struct {
	// At is when it came in, in whole microseconds.
	At        time.Time
	RequestID string
	// Merchant and Key are empty unless the key is known to be one.
	Merchant MerchantID
	Key      KeyID
	Customer CustomerID // whom the answer was about, or empty
	Method   string     // a known one or "other"
	Route    string     // the pattern; "unmatched" for none
	Status   int
	Code     string // the error code answered, or empty
	Took     time.Duration
	Addr     netip.Addr // the zero value if it could not be told
	Refusal  Refusal    // why the key was refused, or empty
	Limit    LimitKind  // the limit that refused the request, or empty
	// IPReport is set if the IP list would have refused the address, had it been
	// enforced.
	IPReport bool
	// Created is set if the request made a customer.
	Created bool
}

// RequestQuery chooses among the requests of a merchant: those that fit all that is
// given. The zero value is all of them.
type RequestQuery struct {
	// Limit is how many to return, from 1; more than [MaxPage] is MaxPage.
	Limit int
	// Before is the Next of an earlier page; empty for the newest.
	Before string
	From   time.Time // when they came in, or later
	Until  time.Time // before then; zero for no end

	RequestID string
	Method    string
	Route     string
	// Status is a whole status such as 404, or a class from 2 to 5; 0 for any.
	Status   int
	Code     string
	Key      KeyID
	Customer CustomerID
	Addr     netip.Prefix // the zero value for any
}

// RequestPage is requests, newest first. A page may hold fewer than were asked for,
// even none, and yet have a next one, because a bounded part of the log is looked
// through for each.
type RequestPage struct {
	Requests []RequestRecord
	// Next is the Before of the next page; empty when there is none.
	Next string
	// SearchedTo is how far back the search for this page has gone, zero if to the
	// oldest request there is.
	SearchedTo time.Time
}

// TrafficSpan is how far back a chart reaches.
type TrafficSpan string

// The spans of charts.
const (
	TrafficDay   TrafficSpan = "24h"
	TrafficWeek  TrafficSpan = "7d"
	TrafficMonth TrafficSpan = "30d"
)

// Traffic is how many requests of a merchant there were over time, and how they were
// answered.
type Traffic struct {
	// Points follow each other at equal steps, oldest first; the last one is still
	// under way.
	Step   time.Duration
	Points []TrafficPoint
	// Total is all of them together.
	Total TrafficPoint
	// Codes is how many requests were answered with each error code, most frequent
	// first.
	Codes []CodeCount
}

// TrafficPoint is a step of [Traffic].
type TrafficPoint struct {
	At       time.Time // when the step began
	Requests int64
	Created  int64 // customers made
	// ClientErrors and ServerErrors are statuses from 400 on and from 500 on.
	ClientErrors, ServerErrors int64
	// The percentiles of how long answers took, to within an eighth; 0 without
	// requests.
	P50, P95, P99 time.Duration
}

// CodeCount is how often an error code was answered.
type CodeCount struct {
	Code     string
	Status   int
	Requests int64
}

// AddressUse is what a merchant's requests from an address were like.
type AddressUse struct {
	Addr     netip.Addr
	Requests int64 // all of them
	Refused  int64 // by the IP list
	// WouldRefuse counts those that the list would have refused in report mode.
	WouldRefuse int64
	LastAt      time.Time
}

// ValidRequestID reports whether s can be the id of a request, its own or one that its
// caller gave: it matches [A-Za-z0-9._-]{1,64} (wire.md §2).
func ValidRequestID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
