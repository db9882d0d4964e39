package grahak

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"
)

// orderInterval is how often events are put into their merchants' chains.
const orderInterval = 250 * time.Millisecond

// orderBatch bounds how many events are put into a chain at once, so that no
// write waits long for it.
const orderBatch = 512

// order puts events that are not in their merchants' chains there, a batch of each
// merchant, and reports whether there is more to do.
func (s *Service) order(ctx context.Context) (more bool, err error) {
	merchants, err := s.store.Unordered(ctx)
	if err != nil {
		return false, err
	}
	return round(ctx, s.nodes.mine(merchants), s.orderMerchant)
}

// OrderEvents puts all of the merchant's events in its chain that are there now,
// as [Service.Run] does in the background. It is for the command line.
// Code: [CodeInsufficientScope].
func (s *Service) OrderEvents(ctx context.Context, c Caller) error {
	if err := c.may(scopeOperator); err != nil {
		return err
	}
	return s.orderEvents(ctx, c.Merchant)
}

func (s *Service) orderEvents(ctx context.Context, m MerchantID) error {
	pending, err := s.store.CountPending(ctx, m)
	if err != nil || pending == 0 {
		return err
	}
	head, err := s.store.ChainHead(ctx, m)
	if err != nil {
		return err
	}
	// Another process may take the place with a segment from before the last event,
	// and more events may come for ever.
	for end := head.Position + pending; pending > 0 && head.Position < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := s.orderMerchant(ctx, m); err != nil {
			return err
		}
		if pending, err = s.store.CountPending(ctx, m); err != nil {
			return err
		}
		if head, err = s.store.ChainHead(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// roundSteps is how many steps of a round run at once: the store commits theirs
// together.
const roundSteps = 32

// round takes a step for each of the merchants, and reports whether one of them
// has more to do. One merchant's trouble is not another's: the error is that of
// one of the steps that failed.
func round(ctx context.Context, merchants []MerchantID, step func(context.Context, MerchantID) (more bool, err error)) (more bool, err error) {
	var mu sync.Mutex
	var steps sync.WaitGroup
	free := make(chan struct{}, roundSteps)
	for _, m := range merchants {
		free <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		steps.Go(func() {
			defer func() { <-free }()
			again, stepErr := step(ctx, m)
			mu.Lock()
			defer mu.Unlock()
			if stepErr != nil {
				err = fmt.Errorf("merchant %s: %w", m, stepErr)
				return
			}
			more = more || again
		})
	}
	steps.Wait()
	return more, err
}

// orderMerchant puts the next events of m into its chain and reports whether
// there is more to do.
func (s *Service) orderMerchant(ctx context.Context, m MerchantID) (bool, error) {
	if err := s.needKeys(ctx, m); err != nil {
		return false, err
	}
	head, err := s.store.ChainHead(ctx, m)
	if err != nil {
		return false, err
	}
	events, err := s.store.Pending(ctx, m, head.Position, orderBatch)
	if err != nil {
		return false, err
	}
	if len(events) == 0 {
		return s.store.Tidy(ctx, m)
	}
	segment := ChainSegment{First: head.Position + 1, Customers: head.Customers, Links: make([]Link, len(events))}
	link := head.Link
	for i, e := range events {
		link = e.Link(m, link)
		segment.Links[i] = link
		segment.Customers += e.Type.customers()
	}
	if segment.Proof, err = s.proof(ctx, m, segment.Head()); err != nil {
		return false, err
	}
	more, err := s.store.Order(ctx, m, segment, events)
	if err == nil {
		s.webhooks.wake()
	}
	if err == nil && more {
		more, err = s.store.Tidy(ctx, m)
	}
	return more || len(events) >= orderBatch, err
}

// customers is by how much an event of this type changes the number of its
// merchant's customers.
func (t EventType) customers() int64 {
	switch t {
	case EventCustomerCreated:
		return 1
	case EventCustomerErased:
		return -1
	}
	return 0
}

// proof returns what only a holder of the merchant's key can make of a head.
func (s *Service) proof(ctx context.Context, m MerchantID, h ChainHead) (Index, error) {
	return s.sealer.Index(ctx, m, IndexChain, h.proven())
}

// checkpointProof is proof for a [Checkpoint] at a head.
func (s *Service) checkpointProof(ctx context.Context, m MerchantID, h ChainHead) (Index, error) {
	return s.sealer.Index(ctx, m, IndexCheckpoint, h.proven())
}

// proven returns all of a head, as what is proven of it.
func (h ChainHead) proven() string {
	value := binary.BigEndian.AppendUint64(h.Link[:], uint64(h.Position))
	return string(binary.BigEndian.AppendUint64(value, uint64(h.Customers)))
}
