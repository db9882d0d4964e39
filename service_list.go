package grahak

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"
	"unicode"
)

// Paging limits of [Service.Customers] (wire.md §4).
const (
	DefaultPage = 10
	MaxPage     = 100
	MaxOffset   = 10_000
)

// ListQuery asks for a page of customers.
type ListQuery struct {
	// Limit is how many to return, from 1; more than [MaxPage] is MaxPage.
	Limit int
	// Offset is how many of the newest to skip, up to [MaxOffset].
	Offset int
	// After is the Next of an earlier page; empty for the first.
	After string
	// Filter chooses among the customers.
	Filter CustomerFilter
}

// CustomerFilter chooses customers: those that have all that is given. The zero
// value chooses all.
type CustomerFilter struct {
	Reference Input
	// Email is compared without regard to letter case.
	Email        Input
	MobileNumber Input
	// MobileCountryCode goes with MobileNumber only.
	MobileCountryCode Input
	// CreatedFrom and CreatedBefore bound the time of creation, in RFC 3339: the
	// first belongs to the range, the second does not.
	CreatedFrom, CreatedBefore Input
}

// CustomerPage is customers in order of creation, newest first.
type CustomerPage struct {
	Customers []Customer
	// Total counts all customers of the merchant, whatever the filter.
	Total int64
	// Next is the After of the next page; empty when there is none. A page of a
	// filter may hold fewer customers than were asked for and yet have a next
	// one.
	Next string
}

// Customers returns a page of the merchant's customers. What was written before
// the call is found. Paging by Next neither skips nor repeats a customer that
// exists throughout. Codes: [CodeInvalidField] for an offset over [MaxOffset], a
// limit below 1, a cursor that is not from this merchant's pages or a filter's
// value that no customer can have.
func (s *Service) Customers(ctx context.Context, c Caller, q ListQuery) (CustomerPage, error) {
	if err := c.may(ScopeRead); err != nil {
		return CustomerPage{}, err
	}
	return s.customers(ctx, c.Merchant, q)
}

// customers is Customers for whoever may have them.
func (s *Service) customers(ctx context.Context, m MerchantID, q ListQuery) (CustomerPage, error) {
	var v validator
	f := newFilter(q.Filter, &v)
	if q.Limit < 1 {
		v.bad = append(v.bad, FieldCount)
	}
	if q.Offset < 0 || q.Offset > MaxOffset {
		v.bad = append(v.bad, FieldOffset)
	}
	behind, ok, err := s.openCursor(ctx, m, q.After)
	if err != nil {
		return CustomerPage{}, err
	}
	if !ok {
		v.bad = append(v.bad, FieldCursor)
	}
	f.setTimes(q.Filter, &v)
	if err := v.err(); err != nil {
		return CustomerPage{}, err
	}
	list := s.list
	if f.indexed() {
		list = s.search
	}
	return list(ctx, m, f, behind, min(q.Limit, MaxPage), q.Offset)
}

// maxClockAhead is more than the clock of another node, or of the time when a customer
// was made, was ever ahead of ours, and than what an import may bring.
const maxClockAhead = 30 * 24 * time.Hour

// list returns a page of a filter that needs no index: the order of ids is that
// of creation, but for ids that were brought.
func (s *Service) list(ctx context.Context, m MerchantID, f filter, behind CustomerPlace, limit, offset int) (CustomerPage, error) {
	// One more than asked for tells whether there is a next page.
	around := f.customers(behind)
	around.Until = lowestID(tickOf(s.now().Add(maxClockAhead)))
	records, total, err := s.store.Customers(ctx, m, around, limit+1, offset)
	if err != nil {
		return CustomerPage{}, err
	}
	page := CustomerPage{Total: total}
	if len(records) > limit {
		records = records[:limit]
		last := CustomerPlace{ID: records[limit-1].ID}
		if records[limit-1].Brought {
			last.Brought = records[limit-1].CreatedAt
		}
		if page.Next, err = s.cursor(ctx, m, last); err != nil {
			return CustomerPage{}, err
		}
	}
	page.Customers, err = s.openAll(ctx, m, records)
	return page, err
}

// maxScan bounds how many customers are opened for a page, roughly: a filter may
// fit few of those that an index finds, such as a country code among equal
// numbers.
const maxScan = 5_000

// search returns a page of a filter that has an index. The index finds too many
// at times; each is opened and compared.
func (s *Service) search(ctx context.Context, m MerchantID, f filter, behind CustomerPlace, limit, offset int) (CustomerPage, error) {
	by, err := s.indexOf(ctx, m, f)
	if err != nil {
		return CustomerPage{}, err
	}
	page := CustomerPage{Customers: []Customer{}}
	around := f.customers(behind)
	// Most often all that the index finds fits. More are not read at once for a page
	// that takes long: a customer with metadata may have a hundred kilobytes.
	chunk := min(offset+limit, MaxPage) + 1
	for scanned := 0; ; {
		// The client of a long search may have gone.
		if err := ctx.Err(); err != nil {
			return CustomerPage{}, Unavailable("the caller went away before the search ended", time.Second, err)
		}
		records, total, err := s.store.FindCustomers(ctx, m, by, around, chunk)
		if err != nil {
			return CustomerPage{}, err
		}
		page.Total = total
		customers, err := s.openAll(ctx, m, records)
		if err != nil {
			return CustomerPage{}, err
		}
		for _, customer := range customers {
			switch {
			case !f.match(customer):
			case offset > 0:
				offset--
			case len(page.Customers) == limit:
				page.Next, err = s.cursor(ctx, m, CustomerPlace{ID: page.Customers[limit-1].ID})
				return page, err
			default:
				page.Customers = append(page.Customers, customer)
			}
		}
		if len(records) < chunk {
			return page, nil
		}
		around.Behind = CustomerPlace{ID: records[chunk-1].ID}
		if scanned += chunk; scanned >= s.maxScan {
			page.Next, err = s.cursor(ctx, m, around.Behind)
			return page, err
		}
		chunk = min(MaxPage+1, s.maxScan)
	}
}

// indexOf returns the index that finds the fewest customers of f.
func (s *Service) indexOf(ctx context.Context, m MerchantID, f filter) (by CustomerIndex, err error) {
	switch {
	case f.reference != "":
		by.Reference, err = s.sealer.Index(ctx, m, IndexReference, f.reference)
	case f.email != "":
		by.Email, err = s.emailIndex(ctx, m, f.email)
	default:
		by.Mobile, err = s.mobileIndex(ctx, m, f.number)
	}
	return by, err
}

// emailIndex returns the index of an e-mail address, zero for an empty one.
func (s *Service) emailIndex(ctx context.Context, m MerchantID, email string) (ShortIndex, error) {
	if email == "" {
		return ShortIndex{}, nil
	}
	index, err := s.sealer.Index(ctx, m, IndexEmail, foldCase(email))
	return index.Short(), err
}

func (s *Service) mobileIndex(ctx context.Context, m MerchantID, number string) (ShortIndex, error) {
	index, err := s.sealer.Index(ctx, m, IndexMobile, number)
	return index.Short(), err
}

// foldCase returns the one text that stands for all that differ from s in
// letter case only, as [strings.EqualFold] compares them. Should a new edition
// of Unicode pair letters that had no case, addresses with them would be found
// in their own spelling only until they are sealed again.
func foldCase(s string) string {
	return strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII {
			if 'A' <= r && r <= 'Z' {
				r += 'a' - 'A'
			}
			if r != 'k' && r != 's' {
				return r
			}
		}
		// A letter's spellings form a circle, of which the least one stands for
		// all.
		least := r
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			least = min(least, other)
		}
		return least
	}, s)
}

// filter is a [CustomerFilter] that was checked.
type filter struct {
	reference, email, number, code string // empty: any
	from, before                   time.Time
}

// newFilter returns in without its times, and notes in v what is wrong with it.
func newFilter(in CustomerFilter, v *validator) filter {
	text := func(field Field, in Input, ok func(string) bool) string {
		if !in.Given {
			return ""
		}
		return v.require(field, in, ok)
	}
	f := filter{
		reference: text(FieldReference, in.Reference, validReference),
		number:    text(FieldMobileNumber, in.MobileNumber, validMobile),
	}
	// A country code alone would choose by far too many.
	withNumber := func(code string) bool { return in.MobileNumber.Given && validCountryCode(code) }
	f.code = stripPlus(text(FieldMobileCountryCode, in.MobileCountryCode, withNumber))
	f.email = text(FieldEmail, in.Email, validEmail)
	return f
}

// setTimes adds the times of in to f, and notes in v what is wrong with them.
func (f *filter) setTimes(in CustomerFilter, v *validator) {
	moment := func(field Field, in Input) (t time.Time) {
		if !in.Given {
			return t
		}
		// The + of an offset becomes a space where a client does not escape it.
		t, err := time.Parse(time.RFC3339, strings.Replace(in.Value, " ", "+", 1))
		if err != nil {
			v.bad = append(v.bad, field)
		}
		if t = ceilMicro(t); t.IsZero() && err == nil {
			// The zero time is no bound. There is no customer between the two.
			t = t.Add(time.Microsecond)
		}
		return t
	}
	f.from = moment(FieldCreatedAfter, in.CreatedFrom)
	f.before = moment(FieldCreatedBefore, in.CreatedBefore)
}

// ceilMicro returns t, or the next whole microsecond. Times of creation are
// whole ones, so they are before both or neither.
func ceilMicro(t time.Time) time.Time {
	if whole := t.Truncate(time.Microsecond); whole.Equal(t) {
		return whole
	}
	return t.Truncate(time.Microsecond).Add(time.Microsecond)
}

// indexed reports whether an index finds what f chooses.
func (f filter) indexed() bool { return f.reference != "" || f.email != "" || f.number != "" }

// match reports whether f chooses c.
func (f filter) match(c Customer) bool {
	return (f.reference == "" || c.Reference == f.reference) &&
		(f.email == "" || strings.EqualFold(c.Email, f.email)) &&
		(f.number == "" || c.MobileNumber == f.number) &&
		(f.code == "" || c.MobileCountryCode == f.code) &&
		(f.from.IsZero() || !c.CreatedAt.Before(f.from)) &&
		(f.before.IsZero() || c.CreatedAt.Before(f.before))
}

// customers returns the range of the customers that f can choose and that come
// behind a place, unless that is empty. An id that was not brought tells when its
// customer was made, to within [maxAhead], so a range of time is one of ids too.
func (f filter) customers(behind CustomerPlace) CustomerRange {
	r := CustomerRange{CreatedFrom: f.from, CreatedBefore: f.before, Behind: behind}
	if !f.from.IsZero() {
		r.From = lowestID(tickOf(f.from))
	}
	if !f.before.IsZero() {
		r.Before = lowestID(tickOf(f.before) + maxAhead + 1)
	}
	return r
}

// cursorStart begins every cursor, so that none looks like a flag on a command
// line.
const cursorStart = "p"

// cursorCheck is how many bytes of a cursor prove that it is ours.
const cursorCheck = 8

// maxCursor is the length of the longest decoded cursor, in bytes.
const maxCursor = 256

// broughtCursor begins what is in the cursor of a place among brought ids. No id
// begins with it.
const broughtCursor = "\x00"

// cursor returns an opaque, self-checking name for what is behind a place.
func (s *Service) cursor(ctx context.Context, m MerchantID, behind CustomerPlace) (string, error) {
	var place []byte
	if !behind.Brought.IsZero() {
		place = binary.BigEndian.AppendUint64([]byte(broughtCursor), uint64(behind.Brought.UnixMicro()))
	}
	place = append(place, behind.ID...)
	sum, err := s.sealer.Index(ctx, m, IndexCursor, string(place))
	if err != nil {
		return "", err
	}
	return cursorStart + base64.RawURLEncoding.EncodeToString(append(sum[:cursorCheck:cursorCheck], place...)), nil
}

// openCursor returns the place in a cursor, and reports whether it is one of the
// merchant's. The empty cursor is the place before all others.
func (s *Service) openCursor(ctx context.Context, m MerchantID, cursor string) (CustomerPlace, bool, error) {
	var behind CustomerPlace
	if cursor == "" {
		return behind, true, nil
	}
	encoded, ok := strings.CutPrefix(cursor, cursorStart)
	if !ok {
		return behind, false, nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return behind, false, nil //nolint:nilerr // A cursor that is not ours is an answer, not a failure.
	}
	if len(raw) <= cursorCheck || len(raw) > maxCursor {
		return behind, false, nil
	}
	place := string(raw[cursorCheck:])
	sum, err := s.sealer.Index(ctx, m, IndexCursor, place)
	if err != nil || subtle.ConstantTimeCompare(sum[:cursorCheck], raw[:cursorCheck]) != 1 {
		return behind, false, err
	}
	if made, ok := strings.CutPrefix(place, broughtCursor); ok && len(made) >= 8 {
		behind.Brought = time.UnixMicro(int64(binary.BigEndian.Uint64([]byte(made)))).UTC()
		place = made[8:]
	}
	behind.ID = CustomerID(place)
	return behind, true, nil
}
