package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"grahak"
)

// appendBody appends the body of an event's message. It holds no personal data: who
// wants to know more reads the customer.
func appendBody(buf []byte, e grahak.Event) ([]byte, error) {
	type data struct {
		Event    grahak.EventID   `json:"event_id,omitempty"`
		Position int64            `json:"position,omitempty"`
		Customer string           `json:"customer_id,omitempty"`
		Changed  []string         `json:"changed,omitempty"`
		Webhook  grahak.WebhookID `json:"webhook_id,omitempty"`
	}
	body := struct {
		Type      grahak.EventType `json:"type"`
		Timestamp string           `json:"timestamp"`
		Data      data             `json:"data"`
	}{Type: e.Type, Timestamp: e.At.UTC().Format(time.RFC3339), Data: data{Event: e.ID}}
	if e.Type == grahak.EventWebhookTest {
		body.Data.Webhook = grahak.WebhookID(e.Subject)
	} else {
		body.Data.Position, body.Data.Customer = e.Position, e.Subject
		for _, f := range e.Changed {
			body.Data.Changed = append(body.Data.Changed, f.String())
		}
	}
	text, err := json.Marshal(body)
	return append(buf, text...), err
}

// signatures returns the header that shows who sent a message: a signature by each
// of the secrets.
func signatures(secrets [][]byte, id, at string, body []byte) string {
	list := make([]string, len(secrets))
	for i, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(id + "." + at + "."))
		mac.Write(body)
		list[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(list, " ")
}
