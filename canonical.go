package grahak

import "encoding/binary"

// AppendCanonical appends all that in says, in a form that is the same for two
// requests if and only if they say the same, however they were encoded. Only the
// order of metadata's keys, and those of them that do not count, are left out of
// it. It holds personal data in clear, so it is for a keyed fingerprint and never
// stored. Programs of different versions may have different forms.
func (in CustomerInput) AppendCanonical(buf []byte) []byte {
	for _, i := range []*Input{
		&in.Reference, &in.MobileNumber, &in.MobileCountryCode, &in.Email, &in.FirstName, &in.LastName, &in.Metadata.Whole,
	} {
		buf = appendCanonical(buf, i.Given, i.Malformed, i.Value)
	}
	pairs := in.Metadata.Pairs
	if len(pairs) > 0 {
		pairs = in.Metadata.sorted()
	}
	buf = binary.AppendUvarint(buf, uint64(len(pairs)))
	for _, p := range pairs {
		buf = appendCanonical(buf, true, false, p.Key)
		buf = appendCanonical(buf, true, p.Malformed, p.Value)
	}
	return buf
}

// appendCanonical appends one value behind its flags and its length.
func appendCanonical(buf []byte, given, malformed bool, value string) []byte {
	var flags byte
	if given {
		flags |= 1
	}
	if malformed {
		flags |= 2
	}
	buf = append(buf, flags)
	buf = binary.AppendUvarint(buf, uint64(len(value)))
	return append(buf, value...)
}
