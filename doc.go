// Package grahak is the domain of a customer service for payments: merchants,
// their customers, the API keys and IP lists that guard them, and the tokens
// and events that come of them.
//
// The package holds types, invariants, validation and use cases ([Service]),
// and the ports that the use cases need ([Store], [Sealer], [Clock]). It knows
// no SQL, no HTTP and no flags; those live in the adapters under internal/.
//
// Three rules hold everywhere:
//
//   - Merchant first. Every operation on a merchant's data takes the
//     [MerchantID] right after the context, and nothing of one merchant is
//     ever visible through another.
//   - Personal data crosses the [Store] port only sealed. The store sees
//     ciphertext and blind indexes, never a name, number or address.
//   - A change and its [Event] are one transaction, and a nil error means that
//     both are on disk.
package grahak
