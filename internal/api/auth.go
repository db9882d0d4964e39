package api

import (
	"encoding/base64"
	"strings"
	"time"

	"grahak"
	"grahak/internal/web"
)

// authenticate finds out who calls and notes it for the log (wire.md §2).
func (e *Edge) authenticate(x *web.Exchange) (grahak.Caller, error) {
	header := x.Request.Header
	x.Version = datedVersion(header.Get("Version"))
	key, ok := basicKey(header.Get("Authorization"))
	if !ok {
		x.Refusal = string(grahak.RefusalMalformed)
		return grahak.Caller{}, errInvalidAPIKey
	}
	merchant := ""
	for _, name := range [...]string{"X-Merchantid", "X-Merchant-Id", "X-Jp-Merchant-Id"} {
		for _, value := range header[name] {
			// One that is given empty names no merchant of ours, and two that
			// differ cannot both be right.
			if value == "" || merchant != "" && merchant != value {
				x.Refusal = string(grahak.RefusalOtherMerchant)
				return grahak.Caller{}, errInvalidAPIKey
			}
			merchant = value
		}
	}
	access, err := e.service.Authenticate(x.Request.Context(), grahak.Credential{Key: key, Merchant: merchant, Addr: x.Addr})
	x.Key, x.Refusal = access.KeyID, string(access.Refusal)
	if id := access.Caller.Merchant; id != "" {
		x.Merchant, x.IPReport = id, access.IP.WouldRefuse()
		x.Header()["X-Jp-Merchant-Id"] = []string{string(id)}
	}
	access.Caller.RequestID = x.RequestID
	return access.Caller, err
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
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return "", false
	}
	key, password, _ := strings.Cut(string(raw), ":")
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
