package jsondoc

import (
	"time"
)

// WireTime returns t in its stored form: in UTC, cut to microseconds.
func WireTime(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// SameTime reports whether the stored form of set is doc, which is a stored time.
func SameTime(set, doc time.Time) bool { return set == doc || WireTime(set).Equal(doc) }

// TimeFault returns what is wrong with a CreatedAt, or "".
func TimeFault(t time.Time) string {
	t = WireTime(t)
	switch {
	case t.IsZero():
		return "created_at: zero"
	case t.Year() < 1 || t.Year() > 9999:
		return "created_at: outside the years 1 to 9999"
	}
	return ""
}

// AppendTime appends t as RFC 3339 in UTC, with as few fraction digits as it needs. It appends null for a time that cannot
// be stored, such as the zero time.
func AppendTime(b []byte, t time.Time) []byte {
	if TimeFault(t) != "" {
		return append(b, "null"...)
	}
	b = append(b, '"')
	b = t.UTC().AppendFormat(b, "2006-01-02T15:04:05.999999Z")
	return append(b, '"')
}

// parseTime reads an RFC 3339 time with any offset. A time without an offset, as Python writes naive times, is UTC. Digits
// beyond microseconds are cut off.
func parseTime(s string) (time.Time, bool) {
	if len(s) < 19 || s[4] != '-' || s[7] != '-' || s[13] != ':' || s[16] != ':' ||
		s[10] != 'T' && s[10] != 't' && s[10] != ' ' {
		return time.Time{}, false
	}
	year, month, day := number(s[:4]), number(s[5:7]), number(s[8:10])
	hour, minute, second := number(s[11:13]), number(s[14:16]), number(s[17:19])
	if year < 0 || month < 1 || month > 12 || day < 1 ||
		hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 {
		return time.Time{}, false
	}
	rest := s[19:]
	micros := 0
	if len(rest) > 0 && rest[0] == '.' {
		n := 1
		for ; n < len(rest) && '0' <= rest[n] && rest[n] <= '9'; n++ {
			if n <= 6 {
				micros = micros*10 + int(rest[n]-'0')
			}
		}
		if n == 1 {
			return time.Time{}, false
		}
		for i := n; i <= 6; i++ {
			micros *= 10
		}
		rest = rest[n:]
	}
	offset, ok := parseOffset(rest)
	if !ok {
		return time.Time{}, false
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, micros*1000, time.UTC)
	if t.Day() != day { // the month has no such day
		return time.Time{}, false
	}
	return t.Add(-offset), true
}

// parseOffset reads Z, +hh:mm, -hh:mm, or nothing.
func parseOffset(s string) (time.Duration, bool) {
	switch {
	case s == "", s == "Z", s == "z":
		return 0, true
	case len(s) != 6 || s[0] != '+' && s[0] != '-' || s[3] != ':':
		return 0, false
	}
	hours, minutes := number(s[1:3]), number(s[4:6])
	if hours < 0 || hours > 23 || minutes < 0 || minutes > 59 {
		return 0, false
	}
	offset := time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute
	if s[0] == '-' {
		return -offset, true
	}
	return offset, true
}

// number returns the value of a few digits, or -1.
func number(s string) int {
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return -1
		}
		n = n*10 + int(s[i]-'0')
	}
	return n
}
