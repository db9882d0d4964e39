package seal

import (
	"encoding/binary"
	"errors"

	"grahak"
)

// The tags of a profile's fields inside a sealed blob. They are stored: a tag
// is never given another meaning.
const (
	tagReference byte = iota + 1
	tagMobileCountryCode
	tagMobileNumber
	tagEmail
	tagFirstName
	tagLastName
	tagMetadata // the text of grahak.Metadata
)

var errProfile = errors.New("the opened bytes are not a profile")

// appendProfile appends p as a sequence of tag, length (uvarint) and bytes;
// unset fields are left out.
func appendProfile(buf []byte, p grahak.Profile) []byte {
	put := func(tag byte, value string) {
		if value == "" {
			return
		}
		buf = append(buf, tag)
		buf = binary.AppendUvarint(buf, uint64(len(value)))
		buf = append(buf, value...)
	}
	put(tagReference, p.Reference)
	put(tagMobileCountryCode, p.MobileCountryCode)
	put(tagMobileNumber, p.MobileNumber)
	put(tagEmail, p.Email)
	put(tagFirstName, p.FirstName)
	put(tagLastName, p.LastName)
	put(tagMetadata, p.Metadata.Text())
	return buf
}

// parseProfile is the inverse of appendProfile. An unknown tag is an error: a
// profile that a newer version wrote must not be rewritten without its new
// fields.
func parseProfile(raw []byte) (grahak.Profile, error) {
	var p grahak.Profile
	// One string backs all fields, so that opening allocates once for them.
	text := string(raw)
	for len(raw) > 0 {
		tag := raw[0]
		size, n := binary.Uvarint(raw[1:])
		if n <= 0 || size > uint64(len(raw)-1-n) {
			return grahak.Profile{}, errProfile
		}
		end := 1 + n + int(size)
		value := text[1+n : end]
		switch tag {
		case tagReference:
			p.Reference = value
		case tagMobileCountryCode:
			p.MobileCountryCode = value
		case tagMobileNumber:
			p.MobileNumber = value
		case tagEmail:
			p.Email = value
		case tagFirstName:
			p.FirstName = value
		case tagLastName:
			p.LastName = value
		case tagMetadata:
			var ok bool
			if p.Metadata, ok = grahak.ParseMetadata(value); !ok {
				return grahak.Profile{}, errProfile
			}
		default:
			return grahak.Profile{}, errProfile
		}
		raw, text = raw[end:], text[end:]
	}
	if p.Reference == "" {
		return grahak.Profile{}, errProfile
	}
	return p, nil
}
