package grahak

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"math"
	"slices"
	"time"
)

// NoteRequest has a request be written to the request log soon. It never waits: what
// cannot be kept up with is dropped and counted. Safe for concurrent use.
func (s *Service) NoteRequest(r RequestRecord) {
	if s.requests.store != nil {
		s.requests.note(r)
	}
}

// LogsRequests reports whether there is a request log, without which nothing is known of
// who calls.
func (s *Service) LogsRequests() bool { return s.requests.store != nil }

// DroppedRequests returns how many requests this process has not written to the request
// log, because it could not be written fast enough.
func (s *Service) DroppedRequests() int64 { return s.requests.dropped.Load() }

// Requests returns a page of the merchant's requests. Viewers may. Code:
// [CodeInvalidField] for a limit below 1 or a cursor that is none.
func (s *Service) Requests(ctx context.Context, c Caller, q RequestQuery) (RequestPage, error) {
	if err := c.may(scopeViewer); err != nil {
		return RequestPage{}, err
	}
	return s.requestPage(ctx, c.Merchant, q)
}

// maxSameID is how many requests with one id are shown.
const maxSameID = 10

// Request returns the merchant's requests with the given id, newest first: callers may
// give an id of theirs more than once. At most ten are returned. Viewers may.
func (s *Service) Request(ctx context.Context, c Caller, requestID string) ([]RequestRecord, error) {
	if err := c.may(scopeViewer); err != nil || !ValidRequestID(requestID) {
		return nil, err
	}
	page, err := s.requestPage(ctx, c.Merchant, RequestQuery{Limit: maxSameID, RequestID: requestID})
	return page.Requests, err
}

// UnknownRequests is Requests of those whose key is none, which are no merchant's.
// Visitors with a role at all merchants may, others get [CodeInsufficientScope].
func (s *Service) UnknownRequests(ctx context.Context, v Visitor, q RequestQuery) (RequestPage, error) {
	if err := (Caller{Scope: v.Role(OperatorsMerchant).scope()}).may(scopeViewer); err != nil {
		return RequestPage{}, err
	}
	return s.requestPage(ctx, UnknownMerchant, q)
}

// Bounds of what a page of requests looks at.
const (
	requestHeaders = 64      // blocks asked for at once
	requestsAtOnce = 4_000   // rows read at once
	maxRequestScan = 100_000 // rows of a page
	// maxRequestsPassed is in requests whose block cannot have what is looked for. The
	// id of a request is looked for in the whole log.
	maxRequestsPassed = 5_000_000
)

// requestPage returns a page of a merchant's requests. Blocks come with the newest last
// request first, and may overlap in time, so what was found is sure to be next only
// where no later block reaches.
func (s *Service) requestPage(ctx context.Context, m MerchantID, q RequestQuery) (RequestPage, error) {
	behind, ok := parseRequestCursor(q.Before)
	if q.Limit < 1 {
		return RequestPage{}, &Error{Code: CodeInvalidField, Message: "The limit is at least 1.", Fields: []Field{FieldCount}}
	}
	if !ok {
		return RequestPage{}, &Error{Code: CodeInvalidField, Message: "The cursor is not one of this list: begin with its newest page.", Fields: []Field{FieldCursor}}
	}
	if s.requests.store == nil {
		return RequestPage{}, nil
	}
	// What is pending is shown if it can be written; if not, what is there is.
	if err := s.requests.flush(ctx); err != nil {
		s.log.Warn("the request log could not be written", "error", err)
	}
	scan := requestScan{Service: s, merchant: m, query: q, behind: behind, limit: min(q.Limit, MaxPage)}
	return scan.run(ctx)
}

// requestScan is the search for a page of requests.
type requestScan struct {
	*Service
	merchant MerchantID
	query    RequestQuery
	behind   RequestRecord // the last of the page before
	limit    int

	found   []RequestRecord
	scanned int64 // requests in blocks that were read
	passed  int64 // and in those that were not
}

func (r *requestScan) run(ctx context.Context) (RequestPage, error) {
	from := r.behind.At
	if !r.query.Until.IsZero() && r.query.Until.Before(from) {
		from = r.query.Until
	}
	var behind RequestBlockID
	for {
		blocks, err := r.requests.store.RequestBlocks(ctx, r.merchant, from, behind, requestHeaders)
		if err != nil {
			return RequestPage{}, err
		}
		for rest := blocks; len(rest) > 0; {
			switch reach := rest[0].To; {
			case reach.Before(r.query.From):
				return r.page(time.Time{}), nil
			case r.enough(reach):
				return r.page(reach), nil
			}
			n, err := r.read(ctx, rest)
			if err != nil {
				return RequestPage{}, err
			}
			rest = rest[n:]
		}
		if len(blocks) < requestHeaders {
			return r.page(time.Time{}), nil
		}
		behind = blocks[len(blocks)-1].ID
	}
}

// enough reports whether the page is full, or has cost enough, when all that came in
// after reach was looked at. However much it costs, it comes further than the page before.
func (r *requestScan) enough(reach time.Time) bool {
	much := r.scanned >= maxRequestScan || r.passed >= maxRequestsPassed && r.query.RequestID == ""
	if much && reach.Before(r.behind.At) {
		return true
	}
	certain := 0
	for _, record := range r.found {
		if record.At.After(reach) {
			certain++
		}
	}
	return certain >= r.limit
}

// read looks through the first of some blocks, and returns how many those were.
func (r *requestScan) read(ctx context.Context, blocks []RequestBlock) (n int, err error) {
	var ids []RequestBlockID
	for rows := int64(0); n < len(blocks) && rows < requestsAtOnce; n++ {
		b := blocks[n]
		if r.mayHold(b) {
			ids = append(ids, b.ID)
			rows += b.Count
			r.scanned += b.Count
		} else {
			r.passed += b.Count
		}
	}
	if len(ids) == 0 {
		return n, nil
	}
	rows, err := r.requests.store.RequestRows(ctx, r.merchant, ids)
	if err != nil {
		return 0, err
	}
	for _, b := range rows {
		if err := readBlock(r.merchant, b, r.look); err != nil {
			r.log.Warn("part of the request log is left out, because it cannot be read", "error", err)
		}
	}
	return n, nil
}

// mayHold reports whether a block may have requests that are looked for.
func (r *requestScan) mayHold(b RequestBlock) bool {
	q := r.query
	return (q.RequestID == "" || mayHold(b.Filter, filterHash(q.RequestID))) &&
		(q.Customer == "" || mayHold(b.Filter, filterHash(string(q.Customer))))
}

// look takes a request that fits the query.
func (r *requestScan) look(record RequestRecord) {
	if newestFirst(r.behind, record) < 0 && r.query.fits(record) {
		record.Merchant = r.merchant
		if r.merchant == UnknownMerchant {
			record.Merchant = ""
		}
		r.found = append(r.found, record)
	}
}

// fits reports whether the query chooses a request.
func (q RequestQuery) fits(r RequestRecord) bool {
	return (q.RequestID == "" || r.RequestID == q.RequestID) &&
		(q.Customer == "" || r.Customer == q.Customer) &&
		(q.Method == "" || r.Method == q.Method) &&
		(q.Route == "" || r.Route == q.Route) &&
		(q.Status == 0 || r.Status == q.Status || r.Status/100 == q.Status) &&
		(q.Code == "" || r.Code == q.Code) &&
		(q.Key == "" || r.Key == q.Key) &&
		(!q.Addr.IsValid() || q.Addr.Contains(r.Addr)) &&
		!r.At.Before(q.From) &&
		(q.Until.IsZero() || r.At.Before(q.Until))
}

// page returns what was found, as far as it is certain that nothing is missing between:
// after reach, or to the oldest request if that is zero.
func (r *requestScan) page(reach time.Time) RequestPage {
	slices.SortFunc(r.found, newestFirst)
	list := r.found
	if !reach.IsZero() {
		n, _ := slices.BinarySearchFunc(list, reach, func(record RequestRecord, t time.Time) int { return t.Compare(record.At) })
		list = list[:n]
	}
	switch {
	case len(list) > r.limit, len(list) == r.limit && !reach.IsZero():
		list = list[:r.limit]
		return RequestPage{Requests: list, Next: requestCursor(list[len(list)-1]), SearchedTo: list[len(list)-1].At}
	case !reach.IsZero():
		return RequestPage{Requests: list, Next: requestCursor(RequestRecord{At: reach, RequestID: aboveRequestID}), SearchedTo: reach}
	}
	return RequestPage{Requests: list}
}

// aboveRequestID sorts behind all ids of requests.
const aboveRequestID = "~"

// requestCursor returns the cursor of what follows a request.
func requestCursor(r RequestRecord) string {
	return base64.RawURLEncoding.EncodeToString(append(binary.BigEndian.AppendUint64(nil, uint64(r.At.UnixMicro())), r.RequestID...))
}

// maxRequestCursor bounds cursors, in characters.
const maxRequestCursor = 128

// parseRequestCursor returns the request that a page follows. All do for an empty cursor.
func parseRequestCursor(cursor string) (r RequestRecord, ok bool) {
	if cursor == "" {
		return RequestRecord{At: time.UnixMicro(math.MaxInt64 / 2)}, true
	}
	if len(cursor) > maxRequestCursor {
		return RequestRecord{}, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(raw) < 8 {
		return RequestRecord{}, false
	}
	return RequestRecord{At: time.UnixMicro(int64(binary.BigEndian.Uint64(raw) & (math.MaxInt64 / 2))), RequestID: string(raw[8:])}, true
}

// trafficSteps is how long the steps of a span are; its points are as many as it has
// steps.
var trafficSteps = map[TrafficSpan]struct{ span, step time.Duration }{
	TrafficDay:   {24 * time.Hour, 30 * time.Minute},
	TrafficWeek:  {7 * 24 * time.Hour, 3 * time.Hour},
	TrafficMonth: {30 * 24 * time.Hour, 12 * time.Hour},
}

// quarters calls each with what all nodes have counted since a time, in whole quarters
// of an hour, a node at a time.
func (s *Service) quarters(ctx context.Context, m MerchantID, since time.Time, each func(at time.Time, data []byte) error) error {
	if s.requests.store == nil {
		return nil
	}
	if err := s.requests.flush(ctx); err != nil {
		s.log.Warn("the request log could not be written", "error", err)
	}
	stats, err := s.requests.store.RequestStats(ctx, m, since.Truncate(statsStep))
	if err != nil {
		return err
	}
	for _, r := range stats {
		if err := each(r.At, r.Data); err != nil {
			s.log.Warn("a quarter of an hour is left out of the statistics of requests, because it cannot be read", "error", err)
		}
	}
	return nil
}

// Traffic returns how the merchant's requests were over a span until now. Viewers may.
// Code: [CodeInvalidField] for an unknown span.
func (s *Service) Traffic(ctx context.Context, c Caller, span TrafficSpan) (Traffic, error) {
	if err := c.may(scopeViewer); err != nil {
		return Traffic{}, err
	}
	of, ok := trafficSteps[span]
	if !ok {
		return Traffic{}, &Error{Code: CodeInvalidField, Message: "The span is 24h, 7d or 30d."}
	}
	first := s.now().Truncate(of.step).Add(of.step - of.span)
	points := make([]*quarter, of.span/of.step)
	for i := range points {
		points[i] = newQuarter(first.Add(time.Duration(i) * of.step))
	}
	err := s.quarters(ctx, c.Merchant, first, func(at time.Time, data []byte) error {
		i := int(at.Sub(first) / of.step)
		if i < 0 || i >= len(points) {
			return nil // another node's clock is ahead
		}
		return points[i].addEncoded(data)
	})
	if err != nil {
		return Traffic{}, err
	}
	total := newQuarter(first)
	t := Traffic{Step: of.step}
	for _, p := range points {
		t.Points = append(t.Points, p.point())
		total.addAll(p)
	}
	t.Total = total.point()
	for kind, n := range total.kinds {
		if kind.code != "" {
			t.Codes = append(t.Codes, CodeCount{Code: kind.code, Status: kind.status, Requests: n})
		}
	}
	slices.SortFunc(t.Codes, func(a, b CodeCount) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Status, b.Status))
	})
	return t, nil
}

// Addresses returns the addresses that the merchant's valid keys were used from since
// a time, to within a quarter of an hour, latest first. Viewers may.
func (s *Service) Addresses(ctx context.Context, c Caller, since time.Time) ([]AddressUse, error) {
	if err := c.may(scopeViewer); err != nil {
		return nil, err
	}
	return s.addresses(ctx, c.Merchant, since)
}

// addresses is Addresses for a merchant.
func (s *Service) addresses(ctx context.Context, m MerchantID, since time.Time) ([]AddressUse, error) {
	all := newQuarter(since)
	if err := s.quarters(ctx, m, since, func(_ time.Time, data []byte) error { return all.addEncoded(data) }); err != nil {
		return nil, err
	}
	var list []AddressUse
	for _, use := range all.addrs {
		if !use.LastAt.Before(since.Truncate(statsStep)) {
			list = append(list, *use)
		}
	}
	slices.SortFunc(list, func(a, b AddressUse) int {
		return cmp.Or(b.LastAt.Compare(a.LastAt), a.Addr.Compare(b.Addr))
	})
	return list, nil
}
