package grahak

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"time"
)

// EventType says what happened.
type EventType string

// The types of events.
const (
	EventCustomerCreated EventType = "customer.created"
	EventCustomerUpdated EventType = "customer.updated"
	EventCustomerErased  EventType = "customer.erased"
	// EventCustomerRevealed is of an operator who was shown the customer's personal
	// data: no change, so it has no revision. Merchants and their endpoints are not
	// told of it.
	EventCustomerRevealed EventType = "customer.revealed"
	// EventCustomersExported is of somebody at the command line who was given all
	// customers of the merchant in clear. It has no subject.
	EventCustomersExported EventType = "customers.exported"
	EventMerchantCreated   EventType = "merchant.created"
	EventMerchantDisabled  EventType = "merchant.disabled"
	EventKeyCreated        EventType = "api_key.created"
	EventKeyImported       EventType = "api_key.imported"
	EventKeyRevoked        EventType = "api_key.revoked"
	EventKeyRotated        EventType = "api_key.rotated"
	EventIPEntryAdded      EventType = "ip_list.entry_added"
	EventIPEntryRemoved    EventType = "ip_list.entry_removed"
	EventIPModeChanged     EventType = "ip_list.mode_changed"
	// EventSealRotated is a new sealing key, EventSealRetired the end of the
	// older ones, EventSealRewrapped a new master key over them. The subject of
	// the first two is the key's version, of the third the master key's id.
	EventSealRotated   EventType = "seal.rotated"
	EventSealRetired   EventType = "seal.retired"
	EventSealRewrapped EventType = "seal.rewrapped"
	// The subject of these is the endpoint.
	EventWebhookCreated       EventType = "webhook.created"
	EventWebhookDisabled      EventType = "webhook.disabled"
	EventWebhookEnabled       EventType = "webhook.enabled"
	EventWebhookSecretRotated EventType = "webhook.secret_rotated"
	EventWebhookReplayed      EventType = "webhook.replayed"
	EventWebhookTested        EventType = "webhook.tested"
	// The subject of these is the operator, "name:role" of the first.
	EventRoleSet                   EventType = "operator.role_set"
	EventRoleRemoved               EventType = "operator.role_removed"
	EventOperatorCreated           EventType = "operator.created"
	EventOperatorSetUp             EventType = "operator.set_up"
	EventOperatorReset             EventType = "operator.reset"
	EventOperatorDisabled          EventType = "operator.disabled"
	EventOperatorEnabled           EventType = "operator.enabled"
	EventOperatorUnlocked          EventType = "operator.unlocked"
	EventOperatorLoggedIn          EventType = "operator.logged_in"
	EventOperatorLockedOut         EventType = "operator.locked_out"
	EventOperatorPasswordChanged   EventType = "operator.password_changed"
	EventOperatorRecoveryCodeUsed  EventType = "operator.recovery_code_used"
	EventOperatorRecoveryCodesMade EventType = "operator.recovery_codes_made"
	EventOperatorSessionsEnded     EventType = "operator.sessions_ended"
	// EventWebhookTest is only ever sent, and never stored.
	EventWebhookTest EventType = "webhook.test"
)

// EventTypes returns all types of events that are stored.
func EventTypes() []EventType {
	return []EventType{
		EventCustomerCreated, EventCustomerUpdated, EventCustomerErased, EventCustomerRevealed, EventCustomersExported,
		EventMerchantCreated, EventMerchantDisabled,
		EventKeyCreated, EventKeyImported, EventKeyRevoked, EventKeyRotated,
		EventIPEntryAdded, EventIPEntryRemoved, EventIPModeChanged,
		EventSealRotated, EventSealRetired, EventSealRewrapped,
		EventWebhookCreated, EventWebhookDisabled, EventWebhookEnabled, EventWebhookSecretRotated, EventWebhookReplayed, EventWebhookTested,
		EventRoleSet, EventRoleRemoved,
		EventOperatorCreated, EventOperatorSetUp, EventOperatorReset, EventOperatorDisabled, EventOperatorEnabled, EventOperatorUnlocked,
		EventOperatorLoggedIn, EventOperatorLockedOut, EventOperatorPasswordChanged, EventOperatorRecoveryCodeUsed, EventOperatorRecoveryCodesMade,
		EventOperatorSessionsEnded,
	}
}

// AboutCustomer reports whether the subject of such events is a customer.
func (t EventType) AboutCustomer() bool { return strings.HasPrefix(string(t), "customer.") }

// Event is the record of one change, or of somebody having looked at what is masked
// for others. It is written in the transaction of the change, or before the look, and
// never altered. It holds no personal data.
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
	// Revision is the customer's revision after the change, and 0 where no customer
	// changed.
	Revision int64
	// Changed names the fields whose values changed, for an update.
	Changed []Field
	// Actor is who asked: a key id, or the command line's user.
	Actor     string
	RequestID string // joins the event to the request log; empty from the command line
	At        time.Time
}

// Link is the SHA-256 that a merchant's chain of events has come to at one of
// them. It depends on that event and on all before it.
type Link [sha256.Size]byte

// Link returns the chain's link at e, which belongs to m, given the link at the
// event before, the zero Link for the first. Everything that is stored of the
// event is in it, each part behind its length, so that no two events look the
// same.
func (e Event) Link(m MerchantID, previous Link) Link {
	var space [512]byte
	buf := append(space[:0], "grahak event v1"...)
	buf = append(buf, previous[:]...)
	text := func(s string) {
		buf = binary.AppendUvarint(buf, uint64(len(s)))
		buf = append(buf, s...)
	}
	text(string(m))
	buf = binary.AppendVarint(buf, e.Position)
	text(string(e.ID))
	text(string(e.Type))
	text(e.Subject)
	buf = binary.AppendVarint(buf, e.Revision)
	buf = binary.AppendUvarint(buf, uint64(len(e.Changed)))
	for _, f := range e.Changed {
		text(f.String())
	}
	text(e.Actor)
	text(e.RequestID)
	buf = binary.AppendVarint(buf, e.At.UnixMicro())
	return sha256.Sum256(buf)
}

// ChainHead is where a merchant's chain has come to. The zero ChainHead is that
// of a merchant without events in it.
type ChainHead struct {
	Position int64 // of the last event in the chain
	Link     Link  // at it
	// Customers is how many customers the merchant had after that event.
	Customers int64
}

// Checkpoint is what is left of the beginning of a merchant's chain when the events
// there have been pruned: the chain's head at the last of them. The zero Checkpoint
// is that of a chain whose events are all there.
type Checkpoint struct {
	ChainHead
	// Proof is a keyed index of the head under [IndexCheckpoint], so that a segment's
	// proof is none: who can write the database but has no key cannot shorten the
	// chain.
	Proof Index
}

// ChainSegment is a piece of a merchant's chain, as it was added at once.
type ChainSegment struct {
	First int64  // position of the first event
	Links []Link // at each of the events, at least one
	// Customers is how many customers the merchant had after the last event.
	Customers int64
	// Proof is a keyed index of the last position and link: who can write the
	// database but has no key cannot make it.
	Proof Index
}

// Head returns the chain's head after the segment.
func (s ChainSegment) Head() ChainHead {
	return ChainHead{
		Position:  s.First + int64(len(s.Links)) - 1,
		Link:      s.Links[len(s.Links)-1],
		Customers: s.Customers,
	}
}
