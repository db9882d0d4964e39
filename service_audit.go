package grahak

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Anchor is a merchant's chain at one position, as it was noted down outside
// of the store.
type Anchor struct {
	Position int64
	Link     Link
}

// String returns the anchor as [ParseAnchor] reads it: the position, a colon,
// and the link in hexadecimal digits.
func (a Anchor) String() string {
	return strconv.FormatInt(a.Position, 10) + ":" + hex.EncodeToString(a.Link[:])
}

// ParseAnchor is the inverse of [Anchor.String].
func ParseAnchor(text string) (Anchor, error) {
	position, link, _ := strings.Cut(text, ":")
	var a Anchor
	var err error
	a.Position, err = strconv.ParseInt(position, 10, 64)
	raw, hexErr := hex.DecodeString(link)
	if err != nil || hexErr != nil || a.Position < 1 || copy(a.Link[:], raw) != len(a.Link) || len(raw) != len(a.Link) {
		return Anchor{}, fmt.Errorf("%q is not an anchor: write a position, a colon and %d hexadecimal digits, as grahak audit verify prints them", text, 2*len(a.Link))
	}
	return a, nil
}

// orAnchor is what else is thinkable when the chain and an anchor do not agree.
const orAnchor = "or the anchor is of another merchant, mistyped, or from before a restore"

// AuditReport is what [Service.VerifyAudit] found of a merchant's events.
type AuditReport struct {
	Merchant MerchantID
	// Head is where the chain has come to; Position 0 if there is none yet.
	Head Anchor
	// Pruned is the position up to which events were pruned because of their age, 0 if
	// none were: they are not there to be checked. The chain begins behind it with a
	// checkpoint.
	Pruned int64
	// Pending counts the events that are not in the chain yet, and cannot be
	// checked.
	Pending int64
	// Keyless is set if the merchant's key could not be had, so that a chain that
	// was made anew with the events it covers would not be told from the real
	// one.
	Keyless bool
	// Fault says what is wrong with the first event that does not fit, and with
	// which position; empty if all do.
	Fault string
}

// EventQuery chooses among the events of a merchant. Its zero value is all of
// them.
type EventQuery struct {
	After int64     // position that they stand above
	Type  EventType // empty for every one
	Since time.Time // when they happened, or later
}

// Events calls each with the events that q chooses, in order of position, and
// ends with its first error. However many there are, it holds a bounded number
// of them. Viewers may. Codes: [CodeInsufficientScope], [CodeMerchantNotFound].
func (s *Service) Events(ctx context.Context, c Caller, q EventQuery, each func(Event) error) error {
	if err := c.may(scopeViewer); err != nil {
		return err
	}
	if _, err := s.store.Merchant(ctx, c.Merchant); err != nil {
		return err
	}
	since := q.Since.Truncate(time.Microsecond) // as events have it
	for last := q.After; ; {
		events, err := s.store.Events(ctx, c.Merchant, last, auditEvents)
		if err != nil {
			return err
		}
		for _, e := range events {
			last = e.Position
			if q.Type != "" && e.Type != q.Type || e.At.Before(since) {
				continue
			}
			if err := each(e); err != nil {
				return err
			}
		}
		if len(events) < auditEvents {
			return nil
		}
	}
}

// VerifyAudit checks the events of the merchant against its chain, the number of
// its customers against the events and, if anchor is not nil, the chain against
// that. progress, which may be nil, is told
// now and then how many events were checked. A fault that is found is in the
// report, not an error. With another error the report says how far the check came.
// Admins may. Codes: [CodeInsufficientScope],
// [CodeMerchantNotFound].
func (s *Service) VerifyAudit(ctx context.Context, c Caller, anchor *Anchor, progress func(events int64)) (AuditReport, error) {
	if err := c.may(scopeAdmin); err != nil {
		return AuditReport{}, err
	}
	if _, err := s.store.Merchant(ctx, c.Merchant); err != nil {
		return AuditReport{}, err
	}
	a := audit{Service: s, anchor: anchor, report: AuditReport{Merchant: c.Merchant}}
	err := a.run(ctx, progress)
	var fault auditFault
	if errors.As(err, &fault) {
		a.report.Fault = string(fault)
		err = nil
	}
	return a.report, err
}

// auditFault ends an audit with what is wrong.
type auditFault string

func (f auditFault) Error() string { return string(f) }

func faultf(format string, args ...any) error { return auditFault(fmt.Sprintf(format, args...)) }

// audit is one run of [Service.VerifyAudit].
type audit struct {
	*Service
	anchor *Anchor
	report AuditReport
	head   ChainHead // of what was checked
	latest time.Time // of the events of the last segment that was checked
}

// auditBatch is how many segments and events are read at once.
const (
	auditSegments = 64
	auditEvents   = 1024
)

func (a *audit) run(ctx context.Context, progress func(int64)) error {
	m := a.report.Merchant
	if _, err := a.sealer.Index(ctx, m, IndexChain, ""); CodeOf(err) == CodeUnavailable {
		a.report.Keyless = true
	} else if err != nil {
		return err
	}
	if err := a.begin(ctx); err != nil {
		return err
	}
	for more := true; more; {
		err := ctx.Err()
		if err != nil {
			return err
		}
		if more, err = a.segments(ctx); err != nil {
			// What is missing may just have been pruned.
			checked := a.head.Position
			if beginErr := a.begin(ctx); beginErr != nil {
				return beginErr
			}
			if more = a.head.Position > checked; !more {
				return err
			}
		}
		a.report.Head = Anchor{Position: a.head.Position, Link: a.head.Link}
		if progress != nil {
			progress(a.head.Position)
		}
	}
	if a.anchor != nil && a.anchor.Position > a.head.Position {
		return faultf("the chain ends at position %d, before the anchor's position %d: events at its end were removed, %s", a.head.Position, a.anchor.Position, orAnchor)
	}
	if err := a.tail(ctx); err != nil {
		return err
	}
	first, err := a.store.Events(ctx, m, math.MinInt64, 1)
	if err != nil {
		return err
	}
	if len(first) > 0 && first[0].Position <= a.report.Pruned {
		begin := "positions begin at 1"
		if a.report.Pruned > 0 {
			begin = fmt.Sprintf("what stood up to position %d was pruned", a.report.Pruned)
		}
		return faultf("the event at position %d (%s) was added: %s", first[0].Position, first[0].ID, begin)
	}
	counted, recorded, err := a.store.CountCustomers(ctx, m)
	if err == nil && counted != recorded {
		err = faultf("there are %d customers, but the events tell of %d: customers were removed or added without an event", counted, recorded)
	}
	return err
}

// begin goes on behind the checkpoint of the chain, if that is ahead: what stood
// before it was pruned.
func (a *audit) begin(ctx context.Context) error {
	m := a.report.Merchant
	c, err := a.store.ChainCheckpoint(ctx, m)
	if err != nil || c == (Checkpoint{}) {
		return err
	}
	proof := c.Proof
	if !a.report.Keyless {
		if proof, err = a.checkpointProof(ctx, m, c.ChainHead); err != nil {
			return err
		}
	}
	if c.Position < 1 || subtle.ConstantTimeCompare(proof[:], c.Proof[:]) != 1 {
		return faultf("the checkpoint at position %d was not made by this service: events up to there were removed, not pruned", c.Position)
	}
	a.report.Pruned = c.Position
	if a.anchor != nil && a.anchor.Position < c.Position && a.anchor.Position > a.head.Position {
		return faultf("the events up to position %d were pruned because of their age, so the chain cannot be compared with the anchor's position %d any more: use a head that was noted later", c.Position, a.anchor.Position)
	}
	if a.anchor != nil && a.anchor.Position == c.Position && a.anchor.Link != c.Link {
		return faultf("the chain does not agree with the anchor at position %d: it was made anew, %s", c.Position, orAnchor)
	}
	if c.Position > a.head.Position {
		a.head = c.ChainHead
		a.report.Head = Anchor{Position: a.head.Position, Link: a.head.Link}
	}
	return nil
}

// segments checks the next segments of the chain, and reports whether there may be
// more.
func (a *audit) segments(ctx context.Context) (more bool, err error) {
	after := a.head.Position
	if after == a.report.Pruned {
		after = 0 // Nothing may stand before the checkpoint.
	}
	segments, err := a.store.Chain(ctx, a.report.Merchant, after, auditSegments)
	if err != nil {
		return false, err
	}
	for _, segment := range segments {
		if err := a.segment(ctx, segment); err != nil {
			return false, err
		}
	}
	return len(segments) == auditSegments, nil
}

// segment checks one segment and the events that it covers.
func (a *audit) segment(ctx context.Context, segment ChainSegment) error {
	m := a.report.Merchant
	if segment.First != a.head.Position+1 {
		return faultf("the chain does not go on at position %d: a part of it is missing", a.head.Position+1)
	}
	end := segment.Head()
	customers := a.head.Customers
	a.latest = time.Time{}
	for a.head.Position < end.Position {
		events, err := a.store.Events(ctx, m, a.head.Position, int(min(auditEvents, end.Position-a.head.Position)))
		if err != nil {
			return err
		}
		for _, e := range events {
			if e.Position != a.head.Position+1 {
				break
			}
			a.head.Link = e.Link(m, a.head.Link)
			a.head.Position = e.Position
			customers += e.Type.customers()
			if e.At.After(a.latest) {
				a.latest = e.At
			}
			if a.head.Link != segment.Links[e.Position-segment.First] {
				return faultf("the event at position %d (%s) was altered, or stood elsewhere", e.Position, e.ID)
			}
			if a.anchor != nil && a.anchor.Position == e.Position && a.anchor.Link != a.head.Link {
				return faultf("the chain does not agree with the anchor at position %d: it was made anew, %s", e.Position, orAnchor)
			}
		}
		if len(events) == 0 || events[0].Position > a.head.Position || events[len(events)-1].Position != a.head.Position {
			return faultf("the event at position %d is missing", a.head.Position+1)
		}
	}
	a.head.Customers = segment.Customers
	if customers != segment.Customers {
		return faultf("the chain up to position %d counts %d customers, and its events %d: the count was altered", end.Position, segment.Customers, customers)
	}
	if a.report.Keyless {
		return nil
	}
	proof, err := a.proof(ctx, m, end)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(proof[:], segment.Proof[:]) != 1 {
		return faultf("the chain up to position %d was not made by this service: events from position %d on were altered together with it", end.Position, segment.First)
	}
	return nil
}

// tail counts the events that are not in the chain yet. Those that have a position
// already must follow on the chain without a gap, and be the next to go into it:
// if others stand there, the end of the chain was removed.
func (a *audit) tail(ctx context.Context) (err error) {
	m := a.report.Merchant
	if a.report.Pending, err = a.store.CountPending(ctx, m); err != nil {
		return err
	}
	for last := a.head.Position; ; {
		events, err := a.store.Events(ctx, m, last, auditEvents)
		if err != nil {
			return err
		}
		for _, e := range events {
			if e.Position != last+1 {
				return faultf("the event at position %d is missing", last+1)
			}
			last = e.Position
		}
		if len(events) < auditEvents {
			break
		}
	}
	for {
		head, err := a.store.ChainHead(ctx, m)
		if err != nil {
			return err
		}
		behind, err := a.store.Events(ctx, m, head.Position, 1)
		if err != nil || len(behind) == 0 {
			return err
		}
		next, err := a.store.Pending(ctx, m, head.Position, 1)
		if err != nil || len(next) > 0 && next[0].ID == behind[0].ID {
			return err
		}
		// The chain may have gone on meanwhile.
		now, err := a.store.ChainHead(ctx, m)
		if err != nil {
			return err
		}
		if now.Position == head.Position {
			return faultf("the chain ends at position %d, but there is an event at position %d (%s): the end of the chain was removed", head.Position, behind[0].Position, behind[0].ID)
		}
	}
}
