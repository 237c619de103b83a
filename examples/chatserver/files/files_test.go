package files_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/examples/chatserver/files"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

const limit = 1 << 10

func as(user string) context.Context {
	return store.WithPrincipal(context.Background(), store.Principal{Owner: chat.Owner{Subject: user}})
}

// rig is a folder behind real HTTP, over a guarded store.
type rig struct {
	t   *testing.T
	dir string
	f   *files.Folder
	s   store.Store
	srv *httptest.Server
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), s: store.Wrap(memstore.New(), authz.New(authz.OwnerOnly()))}
	r.f = testenv.Value(files.Open(r.dir, r.s, "", files.Limits{File: limit, User: 1 << 20}))(t)
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /files/{id}", r.f.Put)
	mux.HandleFunc("GET /files/{id}", r.f.Get)
	r.srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mux.ServeHTTP(w, req.WithContext(as(req.Header.Get("Test-User"))))
	}))
	t.Cleanup(func() {
		r.srv.Close()
		testenv.Must(t, r.f.Close())
	})
	return r
}

// announce saves an attachment of ada that waits for its content.
func (r *rig) announce(id string, b chat.AttachmentBody) chat.AttachmentBody {
	r.t.Helper()
	b = testenv.Value(r.f.Create(as("ada"), id, limit, b))(r.t)
	a := testenv.Value(chat.NewAttachment(id, b))(r.t)
	testenv.Must(r.t, r.s.SaveAttachment(as("ada"), a))
	return b
}

var aFile = chat.AttachmentBody{Type: "file", Name: "a", MIMEType: "b"}

// load returns ada's attachment atc_1.
func (r *rig) load() (chat.Attachment, chat.AttachmentBody) {
	r.t.Helper()
	a := testenv.Value(r.s.LoadAttachment(as("ada"), "atc_1"))(r.t)
	return a, testenv.Value(a.Decode())(r.t)
}

// wantFiles fails the test unless the folder has n files, apart from those that count for users.
func (r *rig) wantFiles(n int) {
	r.t.Helper()
	all := testenv.Value(os.ReadDir(r.dir))(r.t)
	all = slices.DeleteFunc(all, func(e os.DirEntry) bool { return e.IsDir() })
	if len(all) != n {
		r.t.Errorf("%d files, want %d: %v", len(all), n, all)
	}
}

// want makes a request that must be answered with the given status.
func (r *rig) want(status int, method, user, path, body string) {
	r.t.Helper()
	if res, text := r.do(method, user, path, strings.NewReader(body)); res.StatusCode != status {
		r.t.Errorf("%s by %s: %d %s, want %d", method, user, res.StatusCode, text, status)
	}
}

func (r *rig) do(method, user, path string, body io.Reader) (*http.Response, string) {
	r.t.Helper()
	req := testenv.Value(http.NewRequestWithContext(r.t.Context(), method, r.srv.URL+path, body))(r.t)
	req.Header.Set("Test-User", user)
	res := testenv.Value(r.srv.Client().Do(req))(r.t)
	defer res.Body.Close()
	return res, string(testenv.Value(io.ReadAll(res.Body))(r.t))
}

func TestContentIsTakenOnceAndGivenToItsOwnerAlone(t *testing.T) {
	r := newRig(t)
	b := r.announce("atc_1", chat.AttachmentBody{Type: "file", Name: "a.html", MIMEType: "text/html"})
	const page = "<script>alert(1)</script>"
	r.want(404, "PUT", "grace", b.Upload.URL, page)
	r.want(204, "PUT", "ada", b.Upload.URL, page)
	r.want(409, "PUT", "ada", b.Upload.URL, "other")
	r.want(404, "GET", "grace", "/files/atc_1", "")
	res, text := r.do("GET", "ada", "/files/atc_1", nil)
	if res.StatusCode != 200 || text != page {
		t.Errorf("download: %d %q", res.StatusCode, text)
	}
	// An uploaded page must not run as a page of the server.
	h := res.Header
	if h.Get("Content-Type") != "application/octet-stream" || !strings.HasPrefix(h.Get("Content-Disposition"), "attachment") ||
		h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("headers: %v", h)
	}
	if _, b := r.load(); b.Upload != nil {
		t.Errorf("the attachment still waits for its content: %+v", b)
	}
	for range 2 {
		if err := r.f.Delete(as("ada"), "atc_1"); err != nil {
			t.Error(err)
		}
	}
	r.want(404, "GET", "ada", "/files/atc_1", "")
}

func TestAnImageIsShown(t *testing.T) {
	r := newRig(t)
	b := r.announce("atc_1", chat.AttachmentBody{Type: "image", Name: "cat.png", MIMEType: "image/png"})
	r.do("PUT", "ada", b.Upload.URL, strings.NewReader("png"))
	res, _ := r.do("GET", "ada", b.PreviewURL, nil)
	if res.Header.Get("Content-Type") != "image/png" || res.Header.Get("Content-Disposition") != "inline" {
		t.Errorf("headers: %v", res.Header)
	}
}

// newPut returns a request of ada without a network, and a writer of its answer.
func newPut(id, content string) (*httptest.ResponseRecorder, *http.Request) {
	req := httptest.NewRequest("PUT", "/", strings.NewReader(content)).WithContext(as("ada"))
	req.SetPathValue("id", id)
	return httptest.NewRecorder(), req
}

func TestWhatIsTooLargeLeavesNothing(t *testing.T) {
	r := newRig(t)
	if _, err := r.f.Create(as("ada"), "atc_0", limit+1, chat.AttachmentBody{}); status(err) != 413 {
		t.Errorf("announced: %v", err)
	}
	b := r.announce("atc_1", aFile)
	large := io.MultiReader(bytes.NewReader(make([]byte, limit+1))) // without a Content-Length
	if res, text := r.do("PUT", "ada", b.Upload.URL, large); res.StatusCode != 413 || !strings.Contains(text, "1024") {
		t.Errorf("uploaded: %d %s", res.StatusCode, text)
	}
	r.wantFiles(0)
	r.want(204, "PUT", "ada", b.Upload.URL, "less")
}

// status returns the status of a StatusError.
func status(err error) int {
	e, _ := errors.AsType[chatkit.StatusError](err)
	return e.Status
}

// uploading begins an upload, and returns the writer for its rest.
func (r *rig) uploading(path string) (rest *io.PipeWriter, answered <-chan int) {
	body, rest := io.Pipe()
	done := make(chan int, 1)
	go func() {
		res, _ := r.do("PUT", "ada", path, body)
		done <- res.StatusCode
	}()
	_, _ = rest.Write([]byte("half ")) // once this is read, the request is running
	return rest, done
}

func TestAMessageSentInMidUploadKeepsItsAttachment(t *testing.T) {
	r := newRig(t)
	b := r.announce("atc_1", aFile)
	rest, answered := r.uploading(b.Upload.URL)
	r.begun(1)
	a, _ := r.load()
	a.ThreadID = "thr_1"
	testenv.Must(t, r.s.SaveAttachment(as("ada"), a))
	_, _ = rest.Write([]byte("and half"))
	_ = rest.Close()
	if status := <-answered; status != 204 {
		t.Fatalf("upload: %d", status)
	}
	if a, b := r.load(); a.ThreadID != "thr_1" || b.Upload != nil {
		t.Errorf("the attachment is of thread %q; waiting: %v", a.ThreadID, b.Upload != nil)
	}
}

// begun waits until n uploads have their temporary files.
func (r *rig) begun(n int) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if all, _ := filepath.Glob(filepath.Join(r.dir, "*.part-*")); len(all) >= n {
			return
		}
	}
	r.t.Fatal("the upload did not begin")
}

func TestADeletionInMidUploadLeavesNothing(t *testing.T) {
	r := newRig(t)
	b := r.announce("atc_1", aFile)
	rest, answered := r.uploading(b.Upload.URL)
	r.begun(1)
	testenv.Must(t, errors.Join(r.s.DeleteAttachment(as("ada"), "atc_1"), r.f.Delete(as("ada"), "atc_1")))
	_ = rest.Close()
	if status := <-answered; status != 404 {
		t.Errorf("upload: %d", status)
	}
	r.wantFiles(0)
}

func TestOfUploadsAtOnceOneIsTaken(t *testing.T) {
	r := newRig(t)
	b := r.announce("atc_1", aFile)
	var mu sync.Mutex
	var taken []string
	var wg sync.WaitGroup
	for n := range 4 { // more are refused
		content := fmt.Sprint("content ", n)
		wg.Go(func() {
			rest, answered := r.uploading(b.Upload.URL)
			_, _ = rest.Write([]byte(content))
			_ = rest.Close()
			switch status := <-answered; status {
			case 204:
				mu.Lock()
				defer mu.Unlock()
				taken = append(taken, "half "+content)
			case 409:
			default:
				t.Errorf("upload: %d", status)
			}
		})
	}
	wg.Wait()
	if _, text := r.do("GET", "ada", b.Upload.URL, nil); len(taken) != 1 || text != taken[0] {
		t.Errorf("accepted %q, but served %q", taken, text)
	}
	r.wantFiles(1)
}

func TestWhatAKilledServerLeftHalfUploadedIsSwept(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{"a.part-X": 2 * time.Hour, "b.part-X": 0, "c": 2 * time.Hour} {
		path := filepath.Join(dir, name)
		testenv.Must(t, os.WriteFile(path, nil, 0o600))
		at := time.Now().Add(-age)
		testenv.Must(t, os.Chtimes(path, at, at))
	}
	f := testenv.Value(files.Open(dir, memstore.New(), "", files.Limits{File: limit}))(t)
	defer f.Close()
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	for i := range left {
		left[i] = filepath.Base(left[i])
	}
	if got := strings.Join(left, " "); got != "b.part-X c" {
		t.Errorf("left: %s; want uploads of other servers and content to stay", got)
	}
}

func TestHostileIDsStayInTheFolder(t *testing.T) {
	r := newRig(t)
	for _, id := range []string{"..", "../../x", "a/b", strings.Repeat("x", 256), "…"} {
		body := aFile
		body.Upload = &chat.UploadDescriptor{Method: "PUT", Headers: map[string]string{}}
		testenv.Must(t, r.s.SaveAttachment(as("ada"), testenv.Value(chat.NewAttachment(id, body))(t)))
		w, req := newPut(id, "content")
		r.f.Put(w, req)
		if w.Code != 204 {
			t.Errorf("%q: %d %s", id, w.Code, w.Body)
		}
	}
	r.wantFiles(5)
}

func TestAUserMayNotAnnounceWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := testenv.Value(files.Open(t.TempDir(), memstore.New(), "", files.Limits{File: limit}))(t)
		defer f.Close()
		create := func(user string) error {
			_, err := f.Create(as(user), "atc", 1, chat.AttachmentBody{})
			return err
		}
		allowed := 0
		for range 100 {
			if err := create("ada"); err == nil {
				allowed++
			} else if e, _ := errors.AsType[*store.Error](err); !errors.Is(err, store.ErrLimited) || e.RetryAfter != 10*time.Second {
				t.Fatal(err)
			}
		}
		if allowed != 30 {
			t.Errorf("%d announcements were allowed at once", allowed)
		}
		if err := create("grace"); err != nil {
			t.Errorf("another user was limited too: %v", err)
		}
		time.Sleep(10 * time.Second)
		if err := create("ada"); err != nil {
			t.Errorf("after ten seconds: %v", err)
		}
		if err := create("ada"); err == nil {
			t.Error("two announcements were allowed within ten seconds")
		}
	})
}

func TestAnUploadHasAtMostItsAnnouncedSize(t *testing.T) {
	r := newRig(t)
	b := testenv.Value(r.f.Create(as("ada"), "atc_1", 3, aFile))(t)
	testenv.Must(t, r.s.SaveAttachment(as("ada"), testenv.Value(chat.NewAttachment("atc_1", b))(t)))
	for name, body := range map[string]io.Reader{
		"with its length": strings.NewReader("four"), "without a length": io.MultiReader(strings.NewReader("four")),
	} {
		if res, text := r.do("PUT", "ada", b.Upload.URL, body); res.StatusCode != 413 || !strings.Contains(text, "more than 3 bytes") {
			t.Errorf("%s: %d %s", name, res.StatusCode, text)
		}
	}
	r.wantFiles(0)
	r.want(204, "PUT", "ada", b.Upload.URL, "tea")
}

// A browser must not show what can have a script, such as an SVG.
func TestOnlyImagesWithoutScriptsAreInline(t *testing.T) {
	r := newRig(t)
	for typ, inline := range map[string]string{
		"image/png": "image/png", "image/jpg": "image/jpeg", "IMAGE/GIF": "image/gif", "image/webp; q=1": "image/webp", "image/avif": "image/avif",
		"image/svg+xml": "", "IMAGE/SVG+XML": "", "image/svg+xml; charset=utf-8": "", "text/html": "", "application/xhtml+xml": "", "text/xml": "",
		"application/pdf": "", "text/plain": "", "image/png, text/html": "", "x": "",
	} {
		id := "atc_" + typ
		b := r.announce(id, chat.AttachmentBody{Type: "image", Name: "a", MIMEType: typ})
		if (b.PreviewURL != "") != (inline != "") {
			t.Errorf("%s has the preview %q", typ, b.PreviewURL)
		}
		r.f.Put(newPut(id, "<svg/>"))
		w, req := newPut(id, "")
		r.f.Get(w, req)
		got, disposition := w.Header().Get("Content-Type"), w.Header().Get("Content-Disposition")
		if inline == "" {
			inline = "application/octet-stream"
			if !strings.HasPrefix(disposition, "attachment") {
				t.Errorf("%s is shown: %s", typ, disposition)
			}
		}
		if w.Code != 200 || got != inline {
			t.Errorf("%s: %d, served as %s", typ, w.Code, got)
		}
	}
}

func TestFilesAreForTheirServerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "files")
	s := store.Wrap(memstore.New(), authz.New(authz.OwnerOnly()))
	f := testenv.Value(files.Open(dir, s, "", files.Limits{File: limit}))(t)
	defer f.Close()
	r := &rig{t: t, dir: dir, f: f, s: s}
	r.announce("atc_1", aFile)
	f.Put(newPut("atc_1", "x"))
	r.wantFiles(1)
	testenv.Must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		want := os.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		}
		if info := testenv.Value(e.Info())(t); info.Mode().Perm() != want {
			t.Errorf("%s has the mode %v", path, info.Mode())
		}
		return nil
	}))
}

// The parts of running uploads do not count for the quota.
func TestAUserRunsFewUploadsAtOnce(t *testing.T) {
	r := newRig(t)
	b := r.announce("atc_1", aFile)
	var rests []*io.PipeWriter
	var all []<-chan int
	for n := range 10 {
		rest, answered := r.uploading(b.Upload.URL)
		rests, all = append(rests, rest), append(all, answered)
		r.begun(n + 1)
	}
	res, text := r.do("PUT", "ada", b.Upload.URL, strings.NewReader("x"))
	if res.StatusCode != 429 || !strings.Contains(text, `"limited"`) || res.Header.Get("Retry-After") == "" {
		t.Errorf("one more upload: %d %s", res.StatusCode, text)
	}
	r.wantFiles(10)
	for n := range rests {
		_ = rests[n].Close()
		<-all[n]
	}
	b = r.announce("atc_2", aFile)
	r.want(204, "PUT", "ada", b.Upload.URL, "x")
}

// Another server may have taken a slow upload for abandoned. Its content counts again.
func TestASlowUploadCountsAgain(t *testing.T) {
	r := newRig(t)
	b := r.announce("atc_1", aFile)
	rest, answered := r.uploading(b.Upload.URL)
	r.begun(1)
	marks := func() []string { return testenv.Value(filepath.Glob(filepath.Join(r.dir, "of-*", "*")))(t) }
	for _, m := range marks() {
		testenv.Must(t, os.Remove(m))
	}
	_ = rest.Close()
	if status := <-answered; status != 204 || len(marks()) != 1 {
		t.Errorf("%d, counted as %v", status, marks())
	}
}

func TestADeletionBeforeTheLastSaveLeavesNothing(t *testing.T) {
	base := memstore.New()
	deleting := layer.Intercept("deleting", layer.InterceptorFunc(func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
		if c.Op == store.OpSaveAttachment && store.SaveModeFrom(ctx) == store.UpdateOnly {
			testenv.Must(t, base.DeleteAttachment(as("ada"), "atc_1"))
		}
		return next(ctx)
	}))
	dir, s := t.TempDir(), store.Wrap(base, authz.New(authz.OwnerOnly()), deleting)
	f := testenv.Value(files.Open(dir, s, "", files.Limits{File: limit, User: 1 << 20}))(t)
	defer f.Close()
	r := &rig{t: t, dir: dir, f: f, s: s}
	r.announce("atc_1", aFile)
	w, req := newPut("atc_1", "x")
	f.Put(w, req)
	if marks, _ := filepath.Glob(filepath.Join(dir, "of-*", "*")); w.Code != 404 || len(marks) > 0 {
		t.Errorf("%d, counted as %v", w.Code, marks)
	}
	r.wantFiles(0)
}
