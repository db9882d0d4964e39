package grahak

import (
	"encoding/binary"
	"iter"
	"slices"
	"strings"
)

// Limits of metadata. Keys and values are counted in Unicode code points.
const (
	MaxMetadata      = 50 // keys of one customer
	MaxMetadataKey   = 40
	MaxMetadataValue = 500
)

// Metadata is what a merchant keeps with a customer in words of its own: a value
// for each key. The zero Metadata has no keys. It never changes, and can be
// compared with ==.
type Metadata struct {
	// pairs holds the pairs one after another, in ascending order of their keys'
	// bytes: the key and the value, each behind its length in two bytes. No key
	// or value is empty. So equal metadata has equal bytes, and a customer
	// without any pays for an empty string.
	pairs string
}

// All returns the keys and their values, in ascending order of the keys' bytes.
func (m Metadata) All() iter.Seq2[string, string] {
	return func(yield func(key, value string) bool) {
		for rest := m.pairs; rest != ""; {
			var key, value string
			key, rest = cutSized(rest)
			value, rest = cutSized(rest)
			if !yield(key, value) {
				return
			}
		}
	}
}

// Equal reports whether m and n have the same values for the same keys, for
// those who cannot use ==.
func (m Metadata) Equal(n Metadata) bool { return m == n }

// Text returns m in the form that is sealed, which [ParseMetadata] reads.
func (m Metadata) Text() string { return m.pairs }

// ParseMetadata is the inverse of [Metadata.Text]. It reports false for anything
// that Text does not return. The result shares text's memory.
func ParseMetadata(text string) (Metadata, bool) {
	last := ""
	for rest := text; rest != ""; {
		var key, value string
		key, rest = cutSized(rest)
		value, rest = cutSized(rest)
		if key <= last || value == "" {
			return Metadata{}, false
		}
		last = key
	}
	return Metadata{pairs: text}, true
}

// cutSized cuts off the text that s begins with, behind its length in two bytes.
// It returns two empty strings if there is none, or not all of it.
func cutSized(s string) (text, rest string) {
	if len(s) < 2 {
		return "", ""
	}
	end := 2 + int(s[0])<<8 + int(s[1])
	if end > len(s) {
		return "", ""
	}
	return s[2:end], s[end:]
}

// appendSized is the inverse of cutSized. Valid keys and values are shorter than
// 64 KiB.
func appendSized(buf []byte, text string) []byte {
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(text)))
	return append(buf, text...)
}

// MetadataInput is what a request says of a customer's metadata.
type MetadataInput struct {
	// Whole is set if the request gives metadata as one value: a blank one
	// clears what there is, any other is refused.
	Whole Input
	// Pairs are the keys that the request gives, in its order. The first of equal
	// keys counts.
	Pairs []MetadataPair
}

// MetadataPair is one key of a request's metadata and its value. A blank value
// removes the key.
type MetadataPair struct {
	Key, Value string
	// Malformed is set if the value can be none: a JSON object, say.
	Malformed bool
}

// sorted returns the pairs that count, in the order of their keys.
func (in MetadataInput) sorted() []MetadataPair {
	pairs := slices.Clone(in.Pairs)
	slices.SortStableFunc(pairs, func(a, b MetadataPair) int { return strings.Compare(a.Key, b.Key) })
	return slices.CompactFunc(pairs, func(a, b MetadataPair) bool { return a.Key == b.Key })
}

// metadata returns old with in put over it, and notes the field as bad if in
// breaks a rule or too many keys come of it.
func (v *validator) metadata(old Metadata, in MetadataInput) Metadata {
	if !in.Whole.Given && len(in.Pairs) == 0 {
		return old
	}
	next, ok := old.with(in)
	if !ok {
		v.bad = append(v.bad, FieldMetadata)
		return old
	}
	return next
}

// with returns m with in put over it, and false if in breaks a rule or too many
// keys come of it.
func (m Metadata) with(in MetadataInput) (Metadata, bool) {
	if in.Whole.Given {
		if in.Whole.Malformed || !isBlank(in.Whole.Value) {
			return Metadata{}, false
		}
		m = Metadata{}
	}
	given := in.sorted()
	for _, p := range given {
		if p.Malformed || !validMetadataKey(p.Key) || !isBlank(p.Value) && !validText(p.Value, MaxMetadataValue) {
			return Metadata{}, false
		}
	}
	var buf []byte
	count := 0
	put := func(key, value string) {
		if !isBlank(value) {
			buf = appendSized(appendSized(buf, key), value)
			count++
		}
	}
	for key, value := range m.All() {
		for len(given) > 0 && given[0].Key < key {
			put(given[0].Key, given[0].Value)
			given = given[1:]
		}
		if len(given) > 0 && given[0].Key == key {
			value, given = given[0].Value, given[1:]
		}
		put(key, value)
	}
	for _, p := range given {
		put(p.Key, p.Value)
	}
	return Metadata{pairs: string(buf)}, count <= MaxMetadata
}

func validMetadataKey(s string) bool { return !isBlank(s) && validText(s, MaxMetadataKey) }
