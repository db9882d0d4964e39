package grahak

import (
	"context"
	"runtime"
	"sync"
)

// ExportCustomers returns at most limit customers of the merchant with an id above
// after, in ascending order of id, and the after of the next page, which is empty
// when there is none. Whoever follows the pages gets every customer that exists
// throughout, once. It is for the command line, and that an export has begun, with an
// empty after, is an event. Codes: [CodeInsufficientScope], [CodeMerchantNotFound].
func (s *Service) ExportCustomers(ctx context.Context, c Caller, after CustomerID, limit int) ([]Customer, CustomerID, error) {
	if err := c.may(scopeOperator); err != nil {
		return nil, "", err
	}
	if after == "" {
		if _, err := s.store.Merchant(ctx, c.Merchant); err != nil {
			return nil, "", err
		}
	}
	records, err := s.store.CustomersAfter(ctx, c.Merchant, after, limit)
	if err != nil {
		return nil, "", err
	}
	var next CustomerID
	if len(records) == limit {
		next = records[limit-1].ID
	}
	// To open is most of the work, so all cores do it.
	parts := min(runtime.GOMAXPROCS(0), len(records))
	opened, faults := make([][]Customer, parts), make([]error, parts)
	var work sync.WaitGroup
	for i := range parts {
		part := records[i*len(records)/parts : (i+1)*len(records)/parts]
		work.Go(func() { opened[i], faults[i] = s.openAll(ctx, c.Merchant, part) })
	}
	work.Wait()
	customers := make([]Customer, 0, len(records))
	for i := range parts {
		if faults[i] != nil {
			return nil, "", faults[i]
		}
		customers = append(customers, opened[i]...)
	}
	if after == "" {
		e, err := s.event(c, EventCustomersExported, "", s.now())
		if err == nil {
			err = s.store.RecordEvent(ctx, c.Merchant, e)
		}
		if err != nil {
			return nil, "", err
		}
	}
	return customers, next, nil
}
