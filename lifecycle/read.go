package lifecycle

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/jsondoc"
	"github.com/chatstore/chatstore/store"
)

// row is a row of a file. One of its values is set.
type row struct {
	thread     *chat.Thread
	item       *chat.Item
	attachment *chat.Attachment
}

// maxLine bounds the memory for a line.
const maxLine = 256 << 20

// readFile calls f for each row of a file. Its error is the error of f, of reading, or of the first line that is wrong.
func readFile(file io.Reader, f func(row) error) error {
	r := bufio.NewReader(file)
	sum := sha256.New()
	var found Counts
	threadID := "" // of the last thread
	for n := 1; ; n++ {
		wrong := func(what string) error {
			return &store.Error{Code: store.CodeInvalid, Field: fmt.Sprintf("line %d: %s", n, what)}
		}
		text, err := readLine(r)
		switch {
		case errors.Is(err, io.EOF):
			return wrong("the file is cut off")
		case errors.Is(err, bufio.ErrTooLong):
			return wrong("the line is too long")
		case err != nil:
			return err
		}
		var l line
		members, ok := jsondoc.MembersOf(string(text), '{')
		if !ok || json.Unmarshal(text, &l) != nil {
			return wrong("it is no line of an export")
		}
		var v row
		switch {
		case n == 1 && l.Format > format:
			return wrong(fmt.Sprintf("the file has format %d; this program reads up to %d", l.Format, format))
		case n == 1 && l.Format < 1:
			return wrong("it is no header of an export")
		case n == 1:
			sum.Write(text)
			continue
		case l.End != nil:
			if string(appendJSON(nil, map[string]trailer{"end": *l.End}))+"\n" != string(text) {
				return wrong("it is no trailer of an export")
			}
			return end(l.End, found, hex.EncodeToString(sum.Sum(nil)), r, wrong)
		case !l.exact(string(text), members):
			return wrong("it has other members than a row of an export")
		}
		sum.Write(text)
		if err := l.parse(&v, threadID); err != nil {
			return wrong(err.Error())
		}
		switch {
		case v.thread != nil:
			threadID = v.thread.ID
			found.Threads++
		case v.item != nil:
			found.Items++
		default:
			found.Attachments++
		}
		if err := f(v); err != nil {
			return err
		}
	}
}

// exact reports whether the members are those of a row. Package json accepts other spellings, and takes the last of equal names.
func (l *line) exact(text string, members []jsondoc.Member) bool {
	names := ""
	for _, m := range members {
		names += " " + m.Name
	}
	switch names {
	case " thread", " item", " attachment":
		return true
	case " thread owner", " attachment owner":
		o := map[string]string{"tenant": l.Owner.Tenant, "subject": l.Owner.Subject}
		return !l.Owner.IsZero() && text[members[1].Start:members[1].End] == string(appendJSON(nil, o))
	}
	return false
}

// end checks the trailer of a file.
func end(t *trailer, found Counts, sum string, r *bufio.Reader, wrong func(string) error) error {
	switch {
	case t.Counts != found:
		return wrong(fmt.Sprintf("the file has %+v, its trailer says %+v", found, t.Counts))
	case t.SHA256 != sum:
		return wrong("the SHA-256 differs: the file was edited")
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		return errors.Join(err, wrong("there is more after the trailer"))
	}
	return nil
}

// readLine returns the next line with its line break.
func readLine(r *bufio.Reader) ([]byte, error) {
	var text []byte
	for {
		part, err := r.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case !errors.Is(err, bufio.ErrBufferFull):
			return text, err
		case len(text) > maxLine:
			return nil, bufio.ErrTooLong
		}
	}
}

// parse parses the row of a line. threadID is the thread to which an item must belong.
func (l *line) parse(v *row, threadID string) error {
	switch {
	case l.Thread != nil:
		t, err := parsed(l.Thread, chat.ParseThread[string])
		t.Owner = l.Owner
		if err == nil {
			t, err = t.Normalized()
		}
		v.thread = &t
		return err
	case l.Item != nil:
		it, err := parsed(l.Item, chat.ParseItem[string])
		if err == nil {
			it, err = it.Normalized(threadID)
		}
		v.item = &it
		return err
	case l.Attachment != nil:
		a, err := parsed(l.Attachment, chat.ParseAttachment[string])
		a.Owner = l.Owner
		if err == nil {
			a, err = a.Normalized()
		}
		v.attachment = &a
		return err
	}
	return errors.New("it has no row")
}

func parsed[T any](raw json.RawMessage, parse func(string) (T, error)) (T, error) {
	text := string(raw)
	if raw[0] == '"' {
		if err := json.Unmarshal(raw, &text); err != nil {
			var zero T
			return zero, err
		}
	}
	return parse(text)
}
