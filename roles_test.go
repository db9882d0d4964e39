package grahak_test

import (
	"context"
	"reflect"
	"slices"
	"testing"

	"grahak"
)

// leastRoles is what the caller of each use case has at least. Those of "operators"
// are for the command line at all merchants only.
var leastRoles = map[string]string{
	"Addresses": "viewer", "FindCustomer": "viewer", "MaskedCustomer": "viewer", "MaskedCustomers": "viewer", "PlanIPChange": "viewer", "WebhookDelivery": "viewer", "AuditEvents": "viewer", "ChainPosition": "viewer", "CustomerTimeline": "viewer", "Events": "viewer", "IPList": "viewer", "Keys": "viewer", "Request": "viewer", "Requests": "viewer", "Team": "viewer",
	"TestIP": "viewer", "Traffic": "viewer", "WebhookLog": "viewer", "Webhooks": "viewer",
	"Customer": "read", "CustomerEvents": "read", "Customers": "read",
	"CreateCustomer": "write", "EnsureCustomer": "write", "EraseCustomer": "write", "UpdateCustomer": "write",
	"AddIPEntry": "admin", "RevealCustomer": "admin", "ChangeIPList": "admin", "CreateKey": "admin", "CreateWebhook": "admin", "DisableWebhook": "admin", "EnableWebhook": "admin", "ExportCustomer": "admin",
	"ImportKey": "admin", "RemoveIPEntry": "admin", "ReplayWebhook": "admin", "RevokeKey": "admin", "RotateKey": "admin", "RotateWebhookSecret": "admin",
	"SetIPMode": "admin", "TestWebhook": "admin", "VerifyAudit": "admin",
	"Invite": "owner", "SetRole": "owner",
	"CreateMerchant": "operator", "DisableMerchant": "operator", "ExportCustomers": "operator", "ImportCustomers": "operator", "ImportState": "operator",
	"NewImportCheck": "operator", "OrderEvents": "operator", "Reseal": "operator", "RotateSeal": "operator",
	"CreateOperator": "operators", "DisableOperator": "operators", "EnableOperator": "operators", "LoginLink": "operators", "Operators": "operators",
	"ResetOperator": "operators", "UnlockOperator": "operators",
}

// allowed is who may what has a least role.
var allowed = map[string][]string{
	"viewer":    {"viewer", "admin", "owner", "operator"},
	"read":      {"read", "write", "admin", "owner", "operator"},
	"write":     {"write", "admin", "owner", "operator"},
	"admin":     {"admin", "owner", "operator"},
	"owner":     {"owner", "operator"},
	"operator":  {"operator"},
	"operators": nil,
}

// TestRoles calls every use case that takes a caller as everybody.
func TestRoles(t *testing.T) {
	t.Parallel()
	d := MustDesk(t, grahak.Production)
	callers := map[string]grahak.Caller{
		"read": caller(acme, grahak.ScopeRead), "write": caller(acme, grahak.ScopeWrite), "operator": operator(acme),
	}
	for _, role := range []grahak.Role{grahak.RoleViewer, grahak.RoleAdmin, grahak.RoleOwner} {
		v := grahak.Visitor{Account: grahak.Account{Name: "asha"}, Grants: []grahak.Grant{{Merchant: acme, Operator: "asha", Role: role}}}
		c, _, err := d.VisitorCaller(t.Context(), v, acme)
		if err != nil {
			t.Fatal(err)
		}
		callers[string(role)] = c
	}
	spec := grahak.KeySpec{Scope: grahak.ScopeRead}
	// What is looked at before the caller is.
	given := map[string][]any{
		"CreateKey": {spec}, "ImportKey": {"a-key-that-somebody-brings", spec},
		"AddIPEntry": {"192.0.2.0/24", ""}, "RemoveIPEntry": {"192.0.2.0/24"}, "TestIP": {"192.0.2.1"}, "SetIPMode": {grahak.IPModeOff},
	}
	service := reflect.TypeFor[*grahak.Service]()
	for i := range service.NumMethod() {
		m := service.Method(i)
		at := slices.Index(params(m.Type), reflect.TypeFor[grahak.Caller]())
		if at < 0 {
			continue
		}
		least, listed := leastRoles[m.Name]
		if !listed {
			t.Errorf("%s: it is not said who may", m.Name)
			continue
		}
		delete(leastRoles, m.Name)
		for _, who := range []string{"viewer", "read", "write", "admin", "owner", "operator"} {
			args := []reflect.Value{reflect.ValueOf(d.Service)}
			for n, p := range params(m.Type)[1:] {
				switch {
				case n+1 == at:
					args = append(args, reflect.ValueOf(callers[who]))
				case n+1 > at && len(given[m.Name]) > n-at:
					args = append(args, reflect.ValueOf(given[m.Name][n-at]))
				case p == reflect.TypeFor[context.Context]():
					args = append(args, reflect.ValueOf(t.Context()))
				case p.Kind() == reflect.Func:
					args = append(args, reflect.MakeFunc(p, func([]reflect.Value) (out []reflect.Value) {
						for i := range p.NumOut() {
							out = append(out, reflect.Zero(p.Out(i)))
						}
						return out
					}))
				case p.Kind() == reflect.Int:
					args = append(args, reflect.ValueOf(1))
				default:
					args = append(args, reflect.Zero(p))
				}
			}
			results := m.Func.Call(args)
			err, _ := results[len(results)-1].Interface().(error)
			refused := grahak.CodeOf(err) == grahak.CodeInsufficientScope
			if may := slices.Contains(allowed[least], who); may == refused {
				t.Errorf("%s as %s: %v; may: %t", m.Name, who, err, may)
			}
		}
	}
	for name := range leastRoles {
		t.Errorf("%s is no use case that takes a caller", name)
	}
}

// params are the types of a function's parameters.
func params(f reflect.Type) (types []reflect.Type) {
	for i := range f.NumIn() {
		types = append(types, f.In(i))
	}
	return types
}
