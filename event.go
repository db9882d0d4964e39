package grahak

import "time"

// EventType says what happened.
type EventType string

// The types of events.
const (
	EventCustomerCreated  EventType = "customer.created"
	EventCustomerUpdated  EventType = "customer.updated"
	EventMerchantCreated  EventType = "merchant.created"
	EventMerchantDisabled EventType = "merchant.disabled"
	EventKeyCreated       EventType = "api_key.created"
	EventKeyImported      EventType = "api_key.imported"
	EventKeyRevoked       EventType = "api_key.revoked"
	EventKeyRotated       EventType = "api_key.rotated"
	EventIPEntryAdded     EventType = "ip_list.entry_added"
	EventIPEntryRemoved   EventType = "ip_list.entry_removed"
	EventIPModeChanged    EventType = "ip_list.mode_changed"
)

// Event is the record of one change. It is written in the transaction of the
// change and never altered. It holds no personal data.
type Event struct {
	// Position is the event's place among those of its merchant, from 1 without
	// gaps, in the order of commits. The store gives it; it is ignored in an
	// event to write.
	Position int64
	ID       EventID
	Type     EventType
	// Subject is the id of what changed: a customer, a key, a network. It is
	// empty when the merchant itself changed.
	Subject string
	// Revision is the customer's revision after the change, and 0 for other
	// subjects.
	Revision int64
	// Changed names the fields whose values changed, for an update.
	Changed []Field
	// Actor is who asked: a key id, or the command line's user.
	Actor     string
	RequestID string // joins the event to the request log; empty from the command line
	At        time.Time
}
