package lifecycle_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// The lines of a file.
const (
	headerLine = `{"chatstore_export":1}` + "\n"
	threadLine = `{"thread":{"id":"thr_1","created_at":"2026-01-02T12:00:00Z"},"owner":{"subject":"ada","tenant":"acme"}}` + "\n"
	itemLine   = `{"item":{"id":"msg_1","type":"end_of_turn","created_at":"2026-01-02T12:00:00Z"}}` + "\n"
	fileLine   = `{"attachment":{"id":"atc_1","type":"file","name":"a.txt","mime_type":"text/plain"}}` + "\n"
)

// trailed adds a trailer that fits the lines.
func trailed(lines string) string {
	n := func(kind string) int { return strings.Count(lines, "\n{\""+kind+"\"") }
	return lines + fmt.Sprintf(`{"end":{"threads":%d,"items":%d,"attachments":%d,"sha256":"%x"}}`+"\n", n("thread"), n("item"), n("attachment"), sha256.Sum256([]byte(lines)))
}

// A line that Export would not write is refused with its number before anything is saved, also in a file whose trailer fits.
func TestImportRefusesWhatExportDoesNotWrite(t *testing.T) {
	good := trailed(headerLine + threadLine + itemLine + fileLine)
	if done, err := lifecycle.Import(t.Context(), memstore.New(), strings.NewReader(good)); err != nil || done.Added != (lifecycle.Counts{Threads: 1, Items: 1, Attachments: 1}) {
		t.Fatalf("the good file: %+v, %v", done, err)
	}
	deep := strings.Repeat("[", 2000) + strings.Repeat("]", 2000)
	body := headerLine + threadLine + itemLine
	end := strings.TrimPrefix(trailed(body), body)
	edit := func(line, old, by string) string {
		if !strings.Contains(line, old) {
			t.Fatalf("%s has no %s", line, old)
		}
		return strings.Replace(line, old, by, 1)
	}
	for name, tt := range map[string]struct {
		file string
		line int
	}{
		"an item first":               {trailed(headerLine + itemLine), 2},
		"an item of another thread":   {trailed(headerLine + threadLine + edit(itemLine, `"type"`, `"thread_id":"thr_2","type"`)), 3},
		"an item with an owner":       {trailed(body + edit(itemLine, "}\n", `,"owner":{"subject":"ada","tenant":"acme"}}`+"\n")), 4},
		"a byte order mark":           {trailed("\ufeff" + body), 1},
		"CRLF":                        {strings.ReplaceAll(trailed(body), "\n", "\r\n"), 4},
		"CRLF, with a new sum":        {strings.TrimSuffix(trailed(strings.ReplaceAll(body, "\n", "\r\n")), "\n") + "\r\n", 4},
		"an empty line":               {trailed(body + "\n"), 4},
		"a second header":             {trailed(body + headerLine), 4},
		"a header only":               {headerLine, 2},
		"no final line break":         {strings.TrimSuffix(good, "\n"), 5},
		"invalid UTF-8 in a title":    {trailed(headerLine + edit(threadLine, `"id"`, "\"title\":\"\xff\",\"id\"")), 2},
		"invalid UTF-8 in an owner":   {trailed(headerLine + edit(threadLine, "ada", "\xff")), 2},
		"half a surrogate pair":       {trailed(headerLine + edit(threadLine, "ada", `\ud800`)), 2},
		"two rows in a line":          {trailed(headerLine + edit(threadLine, `,"owner"`, `,"item":{},"owner"`)), 2},
		"two threads in a line":       {trailed(headerLine + edit(threadLine, `,"owner"`, `,"thread":{},"owner"`)), 2},
		"two owners":                  {trailed(headerLine + edit(threadLine, `}}`, `},"owner":{"subject":"bob","tenant":"acme"}}`)), 2},
		"two subjects":                {trailed(headerLine + edit(threadLine, `"ada"`, `"ada","subject":"bob"`)), 2},
		"an owner in capitals":        {trailed(headerLine + edit(threadLine, `"owner"`, `"OWNER"`)), 2},
		"a thread in capitals":        {edit(trailed(headerLine+edit(threadLine, `"thread"`, `"THREAD"`)), `"threads":0`, `"threads":1`), 2},
		"nobody as an owner":          {trailed(headerLine + edit(threadLine, `"ada","tenant":"acme"`, `"","tenant":""`)), 2},
		"more about an owner":         {trailed(headerLine + edit(threadLine, `"ada"`, `"ada","name":"Ada"`)), 2},
		"deep nesting":                {trailed(headerLine + edit(threadLine, `"id"`, `"metadata":{"a":`+deep+`},"id"`)), 2},
		"deep nesting, in a header":   {trailed(`{"chatstore_export":1,"a":` + deep + "}\n" + threadLine), 1},
		"a thread that is a list":     {trailed(headerLine + `{"thread":[]}` + "\n"), 2},
		"a thread that is null":       {trailed(headerLine + `{"thread":null}` + "\n"), 2},
		"a repeated member":           {trailed(headerLine + edit(threadLine, `"id"`, `"id":"thr_2","id"`)), 2},
		"a trailer with more":         {body + edit(end, `"sha256"`, `"by":"me","sha256"`), 4},
		"a trailer of another order":  {body + edit(end, `"threads":1,"items":1`, `"items":1,"threads":1`), 4},
		"a trailer with space":        {body + edit(end, `"items":1`, `"items": 1`), 4},
		"negative counts":             {body + edit(end, `"items":1`, `"items":-1`), 4},
		"bytes after the trailer":     {good + "x", 5},
		"a second file after it":      {good + good, 5},
		"format 0":                    {trailed(`{"chatstore_export":0}` + "\n"), 1},
		"a format that is a fraction": {trailed(`{"chatstore_export":1.5}` + "\n"), 1},
	} {
		refused(t, name, tt.file, tt.line)
	}
}

// A row that is in a file twice is saved once. If the two differ, they conflict.
func TestARowThatIsInAFileTwice(t *testing.T) {
	to := memstore.New()
	done, err := lifecycle.Import(t.Context(), to, strings.NewReader(trailed(headerLine+threadLine+itemLine+itemLine+threadLine+itemLine)))
	if err != nil || done.Added != (lifecycle.Counts{Threads: 1, Items: 1}) || done.Same != (lifecycle.Counts{Threads: 1, Items: 2}) {
		t.Errorf("%+v, %v", done, err)
	}
	other := strings.Replace(threadLine, "{\"id\"", "{\"title\":\"Tea\",\"id\"", 1)
	if _, err := lifecycle.Import(t.Context(), memstore.New(), strings.NewReader(trailed(headerLine+threadLine+other))); !errors.Is(err, store.ErrConflict) {
		t.Errorf("two threads of one id: %v", err)
	}
}

// A row of another owner is a conflict, also if the file says the same or names no owner.
func TestImportComparesOwners(t *testing.T) {
	adas := strings.Replace(fileLine, "}}", `},"owner":{"subject":"ada","tenant":"acme"}}`, 1)
	nobodys := `{"thread":{"id":"thr_1","created_at":"2026-01-02T12:00:00Z"}}` + "\n"
	for name, row := range map[string]string{"ada's thread": threadLine, "ada's attachment": adas,
		"nobody's thread": nobodys, "nobody's attachment": fileLine,
		"nobody's other thread": strings.Replace(nobodys, `"id"`, `"title":"Tea","id"`, 1), "nobody's other attachment": strings.Replace(fileLine, "a.txt", "b.txt", 1)} {
		for choice, want := range map[lifecycle.Conflict]error{lifecycle.Fail: store.ErrConflict, lifecycle.Skip: nil, lifecycle.Replace: store.ErrConflict} {
			s := memstore.New()
			th := testenv.OrPanic(chat.ParseThread(`{"id":"thr_1","created_at":"2026-01-02T12:00:00Z"}`))
			a := testenv.OrPanic(chat.ParseAttachment(`{"id":"atc_1","type":"file","name":"a.txt","mime_type":"text/plain"}`))
			th.Owner, a.Owner = bob, bob
			testenv.Must(t, errors.Join(s.SaveThread(t.Context(), th), s.SaveAttachment(t.Context(), a)))
			before := dump(t, s)
			done, err := lifecycle.Import(t.Context(), s, strings.NewReader(trailed(headerLine+row)), lifecycle.WithConflicts(choice))
			skipped := done.Skipped.Threads + done.Skipped.Attachments
			done.Skipped = lifecycle.Counts{}
			if !errors.Is(err, want) || done != (lifecycle.Imported{}) || skipped == 1 != (want == nil) || dump(t, s) != before {
				t.Errorf("%s, choice %d: %+v, %v, left %s", name, choice, done, err, dump(t, s))
			}
		}
	}
}

// Nobody's row under the id of a deleted row is a row of the old owner, as a store keeps it.
func TestNobodysRowUnderADeletedIDIsItsOwners(t *testing.T) {
	s := memstore.New()
	testenv.Must(t, s.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon, Owner: bob}))
	testenv.Must(t, s.DeleteThread(t.Context(), "thr_1"))
	done, err := lifecycle.Import(t.Context(), s, strings.NewReader(trailed(headerLine+`{"thread":{"id":"thr_1","created_at":"2026-01-02T12:00:00Z"}}`+"\n")))
	if th := testenv.Value(s.LoadThread(t.Context(), "thr_1"))(t); err != nil || done.Added.Threads != 1 || th.Owner != bob {
		t.Errorf("%+v, %v, of %v", done, err, th.Owner)
	}
}

// No choice takes a row from another owner.
func TestReplaceDoesNotOvercomeAnotherOwner(t *testing.T) {
	for name, mine := range map[string]func(s *memstore.Store) error{
		"live": func(s *memstore.Store) error { return nil },
		"deleted": func(s *memstore.Store) error {
			return errors.Join(s.DeleteThread(t.Context(), "thr_1"), s.DeleteAttachment(t.Context(), "atc_1"))
		},
		"erased": func(s *memstore.Store) error { _, err := s.EraseOwner(t.Context(), bob); return err },
	} {
		s := memstore.New()
		testenv.Must(t, s.SaveThread(t.Context(), chat.Thread{ID: "thr_1", Title: "bob's", CreatedAt: noon, Owner: bob}))
		upload(t, s, "atc_1", "bobs.txt", bob)
		testenv.Must(t, mine(s))
		before := dump(t, s)
		for _, row := range []string{threadLine, strings.Replace(fileLine, "}}", `},"owner":{"subject":"ada","tenant":"acme"}}`, 1)} {
			_, err := lifecycle.Import(t.Context(), s, strings.NewReader(trailed(headerLine+row)), lifecycle.WithConflicts(lifecycle.Replace))
			if !errors.Is(err, store.ErrConflict) || dump(t, s) != before {
				t.Errorf("%s: %v, left %s", name, err, dump(t, s))
			}
		}
		done, err := lifecycle.Import(t.Context(), s, strings.NewReader(trailed(headerLine+threadLine+itemLine)), lifecycle.WithConflicts(lifecycle.Skip))
		if err != nil || done.Skipped != (lifecycle.Counts{Threads: 1, Items: 1}) || dump(t, s) != before {
			t.Errorf("%s, skipped: %+v, %v", name, done, err)
		}
	}
}

func TestExportAndImportReportProgress(t *testing.T) {
	from := memstore.New()
	fill(t, from)
	for i := range 200 {
		upload(t, from, fmt.Sprint("more_", i), "a.txt", ada)
	}
	want := []lifecycle.Counts{{Threads: 1, Items: 1}, {Threads: 2, Items: 252}, {Threads: 3, Items: 253}, {Threads: 4, Items: 504},
		{Threads: 4, Items: 504, Attachments: 100}, {Threads: 4, Items: 504, Attachments: 200}, {Threads: 4, Items: 504, Attachments: 204}}
	var got []lifecycle.Counts
	told := lifecycle.WithProgress(func(n lifecycle.Counts) { got = append(got, n) })
	var file strings.Builder
	testenv.Value(lifecycle.Export(t.Context(), &file, from, store.AnyOwner(), told))(t)
	if !slices.Equal(got, want) {
		t.Errorf("Export: %+v", got)
	}
	got = nil
	testenv.Value(lifecycle.Import(t.Context(), memstore.New(), strings.NewReader(file.String()), told))(t)
	if got = slices.Compact(got[1:]); got[2] != want[2] || got[len(got)-1] != want[len(want)-1] {
		t.Errorf("Import: %+v", got)
	}
}

// FuzzImport imports any file, with a trailer that fits. If it is refused, nothing is saved. Else the export of what was saved has the
// same rows.
func FuzzImport(f *testing.F) {
	f.Add(threadLine + itemLine + fileLine)
	f.Add(threadLine + itemLine + threadLine)
	f.Add(strings.Replace(threadLine, "{\"id\"", "{\"x\":\"\\u003c\xff<\",\"id\"", 1) + "\r\n")
	f.Add(`{"thread":" {\"id\":\"thr_1\",\n\"created_at\":\"2026-01-02T12:00:00.123456789+01:00\"}"}` + "\n")
	f.Fuzz(func(t *testing.T, rows string) {
		s := memstore.New()
		done, err := lifecycle.Import(t.Context(), s, strings.NewReader(trailed(headerLine+rows)))
		switch {
		case errors.Is(err, store.ErrInvalid):
			if left := dump(t, s); left != "" {
				t.Fatalf("refused, and saved %s", left)
			}
		case errors.Is(err, store.ErrConflict): // two rows of one id
		case err != nil:
			t.Fatal(err)
		default:
			file := exported(t, s)
			again := memstore.New()
			if n, err := lifecycle.Import(t.Context(), again, strings.NewReader(file)); err != nil || n.Added != done.Added || dump(t, again) != dump(t, s) {
				t.Fatalf("imported %+v, its export %+v, %v", done, n, err)
			}
			for line := range strings.Lines(rows) {
				if !strings.Contains(file, line) && !strings.HasPrefix(line, `{"item"`) && !strings.HasPrefix(line, `{"thread":"`) && !strings.HasPrefix(line, `{"attachment":"`) {
					t.Fatalf("%q is not in the export\n%s", line, file)
				}
			}
		}
	})
}

// endless is a file without a line break.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	return copy(p, bytes.Repeat([]byte("x"), len(p))), nil
}

func (*endless) Seek(int64, int) (int64, error) { return 0, nil }

// A line without an end is refused before memory is full.
func TestAnEndlessLineIsRefused(t *testing.T) {
	if !testenv.Full {
		t.Skip("needs 600 MB of memory; CHATSTORE_FULL=1 runs it")
	}
	file := &endless{}
	if _, err := lifecycle.Import(t.Context(), memstore.New(), file); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "line 1:") || file.read > 300<<20 {
		t.Errorf("%v after %d bytes", err, file.read)
	}
}
