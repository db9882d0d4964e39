package api

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"grahak"
	"grahak/internal/web"
)

// authenticate finds out who calls and notes it for the log (wire.md §2).
func (e *Edge) authenticate(x *web.Exchange) (grahak.Caller, error) {
	header := x.Request.Header
	x.Version = datedVersion(header.Get("Version"))
	cred := grahak.Credential{Addr: x.Addr}
	key, ok := basicKey(header.Get("Authorization"))
	if !ok {
		return e.refuse(x, cred, grahak.RefusalMalformed)
	}
	cred.Key = key
	for _, name := range [...]string{"X-Merchantid", "X-Merchant-Id", "X-Jp-Merchant-Id"} {
		for _, value := range header[name] {
			// One that is given empty names no merchant of ours, and two that
			// differ cannot both be right.
			if value == "" || cred.Merchant != "" && cred.Merchant != value {
				return e.refuse(x, cred, grahak.RefusalOtherMerchant)
			}
			cred.Merchant = value
		}
	}
	access, err := e.service.Authenticate(x.Request.Context(), cred)
	note(x, access)
	access.Caller.RequestID = x.RequestID
	return access.Caller, err
}

// refuse refuses a credential that cannot be valid.
func (e *Edge) refuse(x *web.Exchange, cred grahak.Credential, why grahak.Refusal) (grahak.Caller, error) {
	access, err := e.service.RefuseCredential(cred, why)
	note(x, access)
	return grahak.Caller{}, err
}

// note notes the outcome for the log, and sets the headers that a caller who is known
// gets with every answer.
func note(x *web.Exchange, access grahak.Access) {
	x.Key, x.KeyMerchant = access.KeyID, access.KeyMerchant
	x.Refusal, x.Limit = string(access.Refusal), string(access.Limited)
	id := access.Caller.Merchant
	if id == "" {
		return
	}
	x.Merchant, x.IPReport = id, access.IP.WouldRefuse()
	values := [...]string{string(id), "", ""}
	h := x.Header()
	h["X-Jp-Merchant-Id"] = values[:1:1]
	if access.Quota.Kind != "" {
		values[1], values[2] = rateLimit(access.Quota)
		h["Ratelimit-Policy"], h["Ratelimit"] = values[1:2:2], values[2:]
	}
}

// rateLimit returns the values of the header fields RateLimit-Policy and RateLimit
// (draft-ietf-httpapi-ratelimit-headers-10), whose times are whole seconds. Of a window
// that is rounded up the nanoseconds are not told.
func rateLimit(q grahak.Quota) (policy, left string) {
	var space [96]byte
	b := append(space[:0], '"')
	b = append(b, q.Kind...)
	b = append(b, `";q=`...)
	b = strconv.AppendInt(b, int64(q.Limit), 10)
	b = append(b, `;w=`...)
	b = strconv.AppendInt(b, int64(q.Window/time.Second), 10)
	end := len(b)
	b = append(b, '"')
	b = append(b, q.Kind...)
	b = append(b, `";r=`...)
	b = strconv.AppendInt(b, int64(q.Left), 10)
	b = append(b, `;t=`...)
	b = strconv.AppendInt(b, int64(min(q.Full+time.Second-1, q.Window)/time.Second), 10)
	both := string(b)
	return both[:end], both[end:]
}

// maxAuthorization bounds the credentials that are decoded, in bytes.
const maxAuthorization = 512

// basicKey returns the API key in an Authorization header: Basic with the key
// as the user name and an empty password. A credential without a colon is a
// key too, because the official Node client sends that.
func basicKey(authorization string) (string, bool) {
	scheme, encoded, ok := strings.Cut(authorization, " ")
	if !ok || !strings.EqualFold(scheme, "Basic") || len(encoded) > maxAuthorization {
		return "", false
	}
	var space, raw [maxAuthorization]byte
	n, err := base64.StdEncoding.Decode(raw[:], append(space[:0], strings.TrimSpace(encoded)...))
	if err != nil {
		return "", false
	}
	key, password, _ := strings.Cut(string(raw[:n]), ":")
	return key, key != "" && password == ""
}

// datedVersion returns the value of a version header if it is a date, and
// nothing otherwise: only dates are logged.
func datedVersion(s string) string {
	if s == "" {
		return ""
	}
	if _, err := time.Parse(time.DateOnly, s); err != nil {
		return ""
	}
	return s
}
