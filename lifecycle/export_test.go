package lifecycle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

var (
	noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	ada  = chat.Owner{Tenant: "acme", Subject: "ada"}
	bob  = chat.Owner{Tenant: "acme", Subject: "bob"}
)

// odd is the wire form of a message with white space, a line break, an unknown member and a large number.
const odd = " {\"id\":\"msg_odd\", \"type\":\"assistant_message\",\n\"created_at\":\"2026-01-02T12:00:00Z\", \"content\":[], \"n\":1e400}\n"

// fill saves threads of two owners and of nobody, with items, and attachments.
func fill(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	for i, o := range []chat.Owner{ada, bob, {}, ada} {
		th := chat.Thread{ID: fmt.Sprint("thr_", i), Title: "<tea> \u2028 \U0001F375", CreatedAt: noon.Add(time.Duration(i/2) * time.Second), Owner: o}
		testenv.Must(t, s.SaveThread(ctx, th))
		for j := range 250 * (i % 2) {
			it := testenv.OrPanic(chat.NewItem(fmt.Sprint("msg_", 999-j), noon, chat.EndOfTurn{}))
			testenv.Must(t, s.AddThreadItem(ctx, th.ID, it))
		}
		testenv.Must(t, s.AddThreadItem(ctx, th.ID, testenv.OrPanic(chat.ParseItem(odd))))
		a := testenv.OrPanic(chat.NewAttachment(fmt.Sprint("atc_", i), chat.AttachmentBody{Type: "file", Name: "a.txt", MIMEType: "text/plain"}))
		a.Owner = o
		testenv.Must(t, s.SaveAttachment(ctx, a))
	}
}

// dump returns all rows of s, in the order of listings.
func dump(t *testing.T, s store.Store) string {
	t.Helper()
	var b strings.Builder
	for th, err := range lifecycle.Threads(t.Context(), s, store.AnyOwner()) {
		testenv.Must(t, err)
		fmt.Fprintln(&b, th.Owner, th.JSON())
		for it, err := range lifecycle.Items(t.Context(), s, th.ID) {
			testenv.Must(t, err)
			fmt.Fprintln(&b, it.JSON())
		}
	}
	for a, err := range lifecycle.Attachments(t.Context(), s, store.AnyOwner()) {
		testenv.Must(t, err)
		fmt.Fprintln(&b, a.Owner, a.JSON())
	}
	return b.String()
}

// exported returns the export of s.
func exported(t *testing.T, s store.Store) string {
	t.Helper()
	var file bytes.Buffer
	_, err := lifecycle.Export(t.Context(), &file, s, store.AnyOwner())
	testenv.Must(t, err)
	return file.String()
}

func TestAnImportedExportIsTheSameByteForByte(t *testing.T) {
	from, to := memstore.New(), memstore.New()
	fill(t, from)
	file := exported(t, from)
	done, err := lifecycle.Import(t.Context(), to, strings.NewReader(file))
	want := lifecycle.Imported{Added: lifecycle.Counts{Threads: 4, Items: 504, Attachments: 4}}
	if err != nil || done != want {
		t.Fatalf("imported %+v, %v; want %+v", done, err, want)
	}
	if got, want := dump(t, to), dump(t, from); got != want {
		t.Errorf("imported\n%s\nwant\n%s", got, want)
	}
	done, err = lifecycle.Import(t.Context(), to, strings.NewReader(file))
	if again := (lifecycle.Imported{Same: want.Added}); err != nil || done != again {
		t.Errorf("imported again: %+v, %v; want %+v", done, err, again)
	}
}

// refused fails the test unless Import refuses the file with this line, and saves nothing.
func refused(t *testing.T, name, file string, line int) {
	t.Helper()
	to := memstore.New()
	_, err := lifecycle.Import(t.Context(), to, strings.NewReader(file))
	if !errors.Is(err, store.ErrInvalid) || !strings.Contains(fmt.Sprint(err), fmt.Sprintf("line %d:", line)) {
		t.Errorf("%s: %v, want line %d", name, err, line)
	}
	if rows := dump(t, to); rows != "" {
		t.Errorf("%s: saved %s", name, rows)
	}
}

// A file that is wrong anywhere is refused with a line before anything is saved.
func TestAFileIsCheckedBeforeAnythingIsSaved(t *testing.T) {
	from := memstore.New()
	fill(t, from)
	good := exported(t, from)
	lines := strings.SplitAfter(good, "\n")
	last := len(lines) - 2 // the trailer; the rest is empty
	with := func(i int, text string) string {
		return strings.Join(lines[:i], "") + text + strings.Join(lines[i+1:], "")
	}
	for name, tt := range map[string]struct {
		file string
		line int
	}{
		"empty":                {"", 1},
		"another file":         {"{\"id\":1}\n", 1},
		"newer":                {with(0, strings.Replace(lines[0], `"chatstore_export":1`, `"chatstore_export":2`, 1)), 1},
		"no trailer":           {strings.Join(lines[:last], ""), last + 1},
		"cut in the trailer":   {good[:len(good)-1], last + 1},
		"cut in a line":        {good[:len(lines[0])+10], 2},
		"a line is missing":    {with(5, ""), last},
		"a line is repeated":   {with(5, lines[5]+lines[5]), last + 2},
		"edited":               {strings.Replace(good, "a.txt", "b.txt", 1), last + 1},
		"no JSON":              {with(2, "tea\n"), 3},
		"a row of a new kind":  {with(2, "{\"poll\":{}}\n"), 3},
		"a bad row":            {with(1, "{\"thread\":{\"id\":\"\"}}\n"), 2},
		"an item of no thread": {with(1, ""), 2},
		"more":                 {good + "\n", last + 1},
	} {
		refused(t, name, tt.file, tt.line)
	}
}

// A thread that is written to during its export is read again. One that never rests ends the export.
func TestAThreadIsExportedAtOneVersion(t *testing.T) {
	for writes, want := range map[int]error{3: nil, 1000: store.ErrConflict} {
		base := memstore.New()
		fill(t, base)
		s := faulty.New(base)
		n := 0
		s.Inject(faulty.Fault{Op: store.OpLoadThreadItems, Do: func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			err := next(ctx)
			if c.ThreadID == "thr_1" && n < writes { // behind each page: the item moves to its end
				n++
				at := noon.Add(time.Duration(n) * time.Second)
				testenv.Must(t, base.SaveItem(ctx, "thr_1", testenv.OrPanic(chat.NewItem("msg_999", at, chat.EndOfTurn{}))))
			}
			return err
		}})
		var file bytes.Buffer
		_, err := lifecycle.Export(t.Context(), &file, s, store.AnyOwner())
		if !errors.Is(err, want) {
			t.Fatalf("%d writes: %v", writes, err)
		}
		if err == nil && strings.Count(file.String(), `"msg_999"`) != 2 { // in thr_1 and thr_3, once each
			t.Errorf("the item that moved is in the file %d times", strings.Count(file.String(), `"msg_999"`))
		}
	}
}

// The lines of a long thread keep their order, some of them in memory and some in a file that has no name any more.
func TestALongThreadIsExportedInOrderAndLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	from, to := memstore.New(), memstore.New()
	testenv.Must(t, from.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon, Owner: ada}))
	for i := range 250 {
		size := 10
		if i%50 == 49 {
			size = 900 << 10
		}
		text := chat.AssistantMessage{Content: []chat.AssistantContent{{Text: strings.Repeat("a", size)}}}
		testenv.Must(t, from.AddThreadItem(t.Context(), "thr_1", testenv.OrPanic(chat.NewItem(fmt.Sprint("msg_", i), noon, text))))
	}
	s := faulty.New(from)
	s.Inject(faulty.Fault{Op: store.OpLoadThreadItems, Skip: 2, Times: 1, Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		if files := testenv.Value(os.ReadDir(dir))(t); len(files) != 0 && runtime.GOOS != "windows" {
			t.Errorf("beside the export: %v", files)
		}
		return next(ctx)
	}})
	testenv.Value(lifecycle.Import(t.Context(), to, strings.NewReader(exported(t, s))))(t)
	if dump(t, to) != dump(t, from) {
		t.Error("the imported rows differ")
	}
	if files := testenv.Value(os.ReadDir(dir))(t); len(files) != 0 {
		t.Errorf("left: %v", files)
	}
}

func TestAThreadThatIsDeletedMeanwhileIsNotInTheExport(t *testing.T) {
	base := memstore.New()
	fill(t, base)
	s := faulty.New(base)
	s.Inject(faulty.Fault{Op: store.OpLoadThreadItems, Times: 1, Do: func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
		return errors.Join(base.DeleteThread(ctx, c.ThreadID), next(ctx))
	}})
	to := memstore.New()
	testenv.Value(lifecycle.Import(t.Context(), to, strings.NewReader(exported(t, s))))(t)
	if dump(t, to) != dump(t, base) || length(t, lifecycle.Threads(t.Context(), to, store.AnyOwner())) != 3 {
		t.Errorf("exported\n%s", dump(t, to))
	}
}

// A store that cannot list attachments is found out at once, not behind hours.
func TestExportNeedsAListOfAttachmentsFirst(t *testing.T) {
	base := memstore.New()
	fill(t, base)
	var file bytes.Buffer
	if _, err := lifecycle.Export(t.Context(), &file, struct{ store.Store }{base}, store.AnyOwner()); !errors.Is(err, errors.ErrUnsupported) || file.Len() > 0 {
		t.Errorf("%v after %d bytes", err, file.Len())
	}
}

func TestConflictsAreHandledByChoice(t *testing.T) {
	from := memstore.New()
	fill(t, from)
	file := exported(t, from)
	for choice, want := range map[lifecycle.Conflict]lifecycle.Imported{
		lifecycle.Fail:    {Added: lifecycle.Counts{Threads: 1, Items: 1}},
		lifecycle.Skip:    {Added: lifecycle.Counts{Threads: 3, Items: 253, Attachments: 3}, Skipped: lifecycle.Counts{Threads: 1, Items: 251, Attachments: 1}},
		lifecycle.Replace: {Added: lifecycle.Counts{Threads: 3, Items: 504, Attachments: 3}, Replaced: lifecycle.Counts{Threads: 1, Attachments: 1}},
	} {
		to := memstore.New()
		testenv.Must(t, to.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon, Owner: bob}))
		a := testenv.OrPanic(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file", Name: "old.txt", MIMEType: "text/plain"}))
		a.Owner = bob
		testenv.Must(t, to.SaveAttachment(t.Context(), a))
		done, err := lifecycle.Import(t.Context(), to, strings.NewReader(file), lifecycle.WithConflicts(choice))
		if done != want || errors.Is(err, store.ErrConflict) != (choice == lifecycle.Fail) {
			t.Errorf("choice %d: %+v, %v; want %+v", choice, done, err, want)
		}
		if choice == lifecycle.Replace && dump(t, to) != dump(t, from) {
			t.Error("replaced rows differ from the file's")
		}
	}
}
