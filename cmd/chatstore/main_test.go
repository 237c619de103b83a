package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alecthomas/kong"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
)

// beMain makes a child process of a test the command.
const beMain = "CHATSTORE_TEST_BE_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(beMain) != "" {
		main()
	}
	pgtest.Main(m, mysqltest.Close)
}

var ada, grace = chat.Owner{Tenant: "acme", Subject: "ursula"}, chat.Owner{Tenant: "acme", Subject: "grace"}

// result is what a command printed.
type result struct {
	code           int
	stdout, stderr string
	t              *testing.T
	args           []string
}

// chatstore runs the command in this process.
func chatstore(t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(""), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String(), t, args}
}

// wants fails the test unless the command ended with this code and printed all of these.
func (r result) wants(code int, texts ...string) result {
	r.t.Helper()
	if r.code != code {
		r.t.Fatalf("%q ended with %d, not %d\n%s\n%s", r.args, r.code, code, r.stdout, r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(r.stdout+r.stderr, text) {
			r.t.Errorf("%q printed no %q\n%s\n%s", r.args, text, r.stdout, r.stderr)
		}
	}
	return r
}

// object returns the JSON object that the command printed.
func (r result) object() map[string]any {
	r.t.Helper()
	v := map[string]any{}
	d := json.NewDecoder(strings.NewReader(r.stdout))
	if err := d.Decode(&v); err != nil || d.More() {
		r.t.Fatalf("%q printed no JSON object: %v\n%s", r.args, err, r.stdout)
	}
	return v
}

// eachDatabase runs f with the URL of a missing or empty database of each engine.
func eachDatabase(t *testing.T, f func(t *testing.T, url string)) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		f(t, "sqlite:"+filepath.Join(t.TempDir(), "chat.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		f(t, pgtest.Shared(t).DSN(t))
	})
	t.Run("mariadb", func(t *testing.T) {
		t.Parallel()
		f(t, mysqltest.URL(mysqltest.Shared(t).DSN(t)))
	})
}

// fill saves n threads with an item each, half of them of ada, and an attachment of each.
func fill(t *testing.T, url string, n int) {
	t.Helper()
	s, err := sqlstore.Open(t.Context(), url)
	must(t, err)
	defer func() { must(t, s.Close()) }()
	at := time.Now().Add(-1000 * time.Hour)
	for i := range n {
		owner := []chat.Owner{ada, grace}[i%2]
		id := fmt.Sprintf("thr_%04d", i)
		must(t, s.SaveThread(t.Context(), chat.Thread{ID: id, CreatedAt: at.Add(time.Duration(i) * time.Second), Owner: owner}))
		it, err := chat.NewItem(fmt.Sprint("msg_", i), at.Add(time.Duration(i)*time.Second), chat.UserMessage{})
		must(t, err)
		must(t, s.AddThreadItem(t.Context(), id, it))
	}
	for _, owner := range []chat.Owner{ada, grace} {
		a, err := chat.ParseAttachment(fmt.Sprintf(`{"id":"atc_%d","name":"a.txt","mime_type":"text/plain","type":"file"}`, len(owner.Subject)))
		must(t, err)
		a.Owner = owner
		must(t, s.SaveAttachment(t.Context(), a))
	}
	must(t, s.Grant(t.Context(), sharing.Grant{ThreadID: "thr_0000", To: sharing.Grantee{Tenant: "acme", Subject: "bob"}, Role: sharing.Viewer, By: ada}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestMigrateStatsAndCheck(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		chatstore(t, "stats", url).wants(failure)
		chatstore(t, "migrate", url, "--dry-run").wants(success, "would migrate from version 0 to ")
		chatstore(t, "stats", url).wants(failure)
		chatstore(t, "check", url).wants(failure, "FAIL")
		chatstore(t, "migrate", url).wants(success, "migrated from version 0 to ")
		chatstore(t, "migrate", url, "--dry-run", "--json").wants(success).object()
		fill(t, url, 4)
		chatstore(t, "stats", url).wants(success, "4 threads\n4 items\n2 attachments\n1 grants\n0 deleted ids\n0 erased ids")
		if v := chatstore(t, "stats", url, "--json").wants(success).object(); v["threads"] != 4.0 || v["bytes"].(float64) < 4096 {
			t.Errorf("got %v", v)
		}
		chatstore(t, "check", url).wants(success, "connection   ok", "permissions  ok", "triggers     "+map[bool]string{true: "skipped", false: "ok"}[strings.HasPrefix(url, "mysql:")])
		if v := chatstore(t, "check", url, "--json").wants(success).object(); len(v["checks"].([]any)) != 7 {
			t.Errorf("got %v", v)
		}
	})
}

func TestExportAndImport(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		fill(t, url, 6)
		dir := t.TempDir()
		file, other := filepath.Join(dir, "all.jsonl"), "sqlite:"+filepath.Join(dir, "other.db")
		chatstore(t, "export", url, file).wants(success, "6 threads, 6 items, 2 attachments")
		if got := chatstore(t, "export", url).wants(success).stdout; strings.Count(got, "\n") != 16 {
			t.Errorf("stdout has %s", got)
		}
		chatstore(t, "export", url, "--owner", "acme/ursula", filepath.Join(dir, "ada.jsonl")).wants(success, "3 threads, 3 items, 1 attachments")
		chatstore(t, "export", url, "--tenant", "none", filepath.Join(dir, "none.jsonl"), "--without-attachments").wants(success, "0 threads")
		chatstore(t, "import", other, file).wants(success, "added:    6 threads, 6 items, 2 attachments")
		v := chatstore(t, "import", other, file, "--json").wants(success).object()
		if same := v["same"].(map[string]any); same["threads"] != 6.0 || same["items"] != 6.0 || same["attachments"] != 2.0 {
			t.Errorf("got %v", v)
		}
		chatstore(t, "import", other, file, "--to-owner", "acme/bob").wants(failure, "conflict")
		chatstore(t, "import", other, file, "--to-owner", "acme/bob", "--conflicts", "skip").wants(success, "skipped:  6 threads")
		third := "sqlite:" + filepath.Join(dir, "third.db")
		chatstore(t, "import", third, file, "--to-owner", "acme/bob").wants(success, "added:    6 threads")
		chatstore(t, "export", third, "--owner", "acme/bob").wants(success, `"owner":{"subject":"bob","tenant":"acme"}`)
		chatstore(t, "export", third, "--owner", "acme/ursula", filepath.Join(dir, "none.jsonl")).wants(success, "0 threads")
		chatstore(t, "--table-prefix", "other_", "import", url, file).wants(success, "added:    6 threads, 6 items, 2 attachments")
		if text, err := os.ReadFile(file); err != nil || len(text) == 0 {
			t.Error(err)
		}
		if parts, _ := filepath.Glob(filepath.Join(dir, "*.part")); len(parts) > 0 {
			t.Errorf("the folder has %v", parts)
		}
	})
}

func TestAFailedExportLeavesTheOldFile(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	url, file := server.DSN(t), filepath.Join(t.TempDir(), "old.jsonl")
	fill(t, url, 2)
	must(t, os.WriteFile(file, []byte("old"), 0o600))
	server.Exec(t, url, `UPDATE chatstore_threads SET doc = 'broken' WHERE id = 'thr_0001'`)
	chatstore(t, "export", url, file).wants(failure)
	if text, _ := os.ReadFile(file); string(text) != "old" {
		t.Errorf("the file has %s", text)
	}
	if files, _ := os.ReadDir(filepath.Dir(file)); len(files) != 1 {
		t.Errorf("the folder has %v", files)
	}
}

func TestGrants(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		fill(t, url, 2)
		chatstore(t, "grants", url, "thr_0000").wants(success, `"thr_0000": viewer, to "acme"/"bob", by "acme"/"ursula"`)
		chatstore(t, "grants", url, "--to", "acme/bob").wants(success, `"thr_0000": viewer`)
		chatstore(t, "grants", url, "thr_0001").wants(success, "no grants")
		if v := chatstore(t, "grants", url, "thr_0000", "--json").wants(success).object(); len(v["grants"].([]any)) != 1 {
			t.Errorf("got %v", v)
		}
		chatstore(t, "grants", url).wants(wrongUsage)
		chatstore(t, "grants", url, "thr_0000", "--to", "acme/bob").wants(wrongUsage)
	})
}

func TestEraseLeavesNoName(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		fill(t, url, 6)
		receipt := filepath.Join(t.TempDir(), "receipt")
		args := []string{"erase", url, "--owner", "acme/ursula", "--receipt", receipt, "--statement-timeout", "3s", "--lock-timeout", "100ms"}
		chatstore(t, args...).wants(failure, "--yes")
		chatstore(t, "stats", url).wants(success, "6 threads")
		got := chatstore(t, append(args, "--yes", "--json")...).wants(success)
		if v := got.object(); v["complete"] != true || v["erased"].(map[string]any)["threads"] != 3.0 {
			t.Errorf("got %v", v)
		}
		text, err := os.ReadFile(receipt)
		must(t, err)
		if string(text) != got.stdout {
			t.Errorf("the receipt is\n%s, printed was\n%s", text, got.stdout)
		}
		if strings.Contains(got.stdout+got.stderr, "ursula") {
			t.Errorf("printed was %s %s", got.stdout, got.stderr)
		}
		chatstore(t, "stats", url).wants(success, "3 threads\n3 items\n1 attachments", "4 erased ids")
		all := chatstore(t, "export", url).wants(success).stdout
		if strings.Contains(all, "ursula") || !strings.Contains(all, `"grace"`) {
			t.Errorf("there is\n%s", all)
		}
		chatstore(t, append(args, "--yes", "--statement-timeout", "5s")...).wants(success, "nothing was found")
		if text, _ := os.ReadFile(receipt); bytes.Count(text, []byte("\n")) != 2 {
			t.Errorf("the second receipt is not behind the first: %s", text)
		}
	})
}

func TestEraseLeavesNoNameInTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "chat.db")
	fill(t, "sqlite:"+file, 100)
	chatstore(t, "erase", "sqlite:"+file, "--owner", "acme/ursula", "--receipt", filepath.Join(dir, "receipt"), "--yes").wants(success)
	if text, err := os.ReadFile(file); err != nil || bytes.Contains(text, []byte("ursula")) {
		t.Errorf("the file has the name, or %v", err)
	}
}

func TestAnEraseThatFailsSaysWhatIsLeft(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	dsn := server.DSN(t)
	fill(t, dsn, 6)
	server.Exec(t, dsn, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$`)
	server.Exec(t, dsn, `CREATE TRIGGER refuse BEFORE UPDATE ON chatstore_threads FOR EACH ROW WHEN (NEW.id = 'thr_0002' AND NEW.state <> 0) EXECUTE FUNCTION refuse()`)
	receipt := filepath.Join(t.TempDir(), "receipt")
	args := []string{"erase", dsn, "--owner", "acme/ursula", "--receipt", receipt, "--yes", "--statement-timeout", "3s", "--lock-timeout", "100ms"}
	chatstore(t, args...).wants(failure, "erased 1 threads and 0 attachments", "run the same erase again")
	server.Exec(t, dsn, "DROP TRIGGER refuse ON chatstore_threads")
	chatstore(t, args...).wants(success, "erased 2 threads")
	text, err := os.ReadFile(receipt)
	must(t, err)
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		var r struct{ Complete bool }
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Complete != (i == 1) {
			t.Errorf("line %d: %s, %v", i, line, err)
		}
	}
}

func TestPrune(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		fill(t, url, 10)
		dir := t.TempDir()
		hold := filepath.Join(dir, "hold")
		must(t, os.WriteFile(hold, []byte("thr_0002\n\nthr_0003\n"), 0o600))
		chatstore(t, "prune", url).wants(wrongUsage, "--inactive")
		chatstore(t, "prune", url, "--inactive", "720h", "--dry-run").wants(success, "would delete 10,")
		chatstore(t, "prune", url, "--inactive", "720000h").wants(success, "deleted 0,")
		chatstore(t, "prune", url, "--newest", "4", "--dry-run", "--hold", hold, "--owner", "acme/ursula").wants(success, "would delete 1, held 0")
		if v := chatstore(t, "prune", url, "--newest", "0", "--dry-run", "--json").wants(success).object(); v["deleted"] != 10.0 {
			t.Errorf("got %v", v)
		}
		chatstore(t, "prune", url, "--inactive", "720h", "--hold", hold).wants(success, "deleted 8, held 2")
		chatstore(t, "stats", url).wants(success, "2 threads")
	})
}

func TestBench(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		fill(t, url, 2)
		v := chatstore(t, "bench", url, "--turns", "3", "--threads", "2", "--json").wants(success).object()
		stacks := v["stacks"].([]any)
		without, with := stacks[0].(map[string]any)["reads_per_turn"].(float64), stacks[1].(map[string]any)["reads_per_turn"].(float64)
		if without < 2 || with >= without {
			t.Errorf("%v reads without a cache, %v with it", without, with)
		}
		chatstore(t, "bench", url, "--turns", "1", "--threads", "1").wants(success, "add the answer", "a typical turn: ", "reads without the cache")
		chatstore(t, "stats", url).wants(success, "2 threads\n2 items\n2 attachments", "6 deleted ids\n0 erased ids")
	})
}

func TestCopyAndVerify(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		fill(t, url, 6)
		dir := t.TempDir()
		to := "sqlite:" + filepath.Join(dir, "to.db")
		chatstore(t, "copy", url, to, "--journal", filepath.Join(dir, "journal")).wants(success, "saved:   6 threads, 6 items, 2 attachments")
		chatstore(t, "verify", url, to).wants(success, "no differences")
		v := chatstore(t, "copy", url, to, "--journal", filepath.Join(dir, "journal"), "--last", "--json",
			"--statement-timeout", "3s", "--lock-timeout", "100ms").wants(success).object()
		if found, ok := v["differences"].([]any); !ok || len(found) > 0 {
			t.Errorf("got %v", v)
		}
		chatstore(t, "prune", to, "--newest", "2").wants(success, "deleted 2,")
		chatstore(t, "verify", url, to).wants(failure, `thread "thr_0000": `, "differences")
		if v := chatstore(t, "verify", url, to, "--json").wants(failure).object(); len(v["differences"].([]any)) == 0 {
			t.Errorf("got %v", v)
		}
		chatstore(t, "copy", url, url).wants(wrongUsage)
		third := "sqlite:" + filepath.Join(dir, "third.db")
		stop := []string{"copy", url, third, "--statement-timeout", "3s", "--lock-timeout", "100ms", "--fence"}
		chatstore(t, append(stop, "exit 3")...).wants(failure, "--fence: exit status 3")
		chatstore(t, append(stop, "touch "+filepath.Join(dir, "stopped"))...).wants(success, "same:    6 threads", "no differences")
		if _, err := os.Stat(filepath.Join(dir, "stopped")); err != nil {
			t.Error(err)
		}
		chatstore(t, append(stop, "true", "--last")...).wants(wrongUsage)
	})
}

func TestPruneUnnamedAttachments(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		fill(t, url, 2)
		r := chatstore(t, "prune", url, "--unnamed-attachments", "1ms", "--owner", "acme/ursula")
		r.wants(success, "deleted 1,")
		chatstore(t, "stats", url).wants(success, "2 threads\n2 items\n1 attachments")
	})
}

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	url := "sqlite:" + filepath.Join(t.TempDir(), "chat.db")
	fill(t, url, 2)
	for _, args := range [][]string{
		{}, {"no"}, {"stats"}, {"stats", url, "more"}, {"stats", url, "--no"}, {"bench", url, "--turns", "x"}, {"bench", url, "--turns", "0"},
		// An unset variable must not mean "everybody" or "no hold".
		{"prune", url, "--newest", "0", "--owner", ""}, {"prune", url, "--newest", "0", "--owner="}, {"prune", url, "--newest", "0", "--tenant="},
		{"prune", url, "--newest", "0", "--hold="}, {"export", url, "--owner=acme/"},
		{"prune", url, "--newest", "0", "--owner", "acme/ursula", "--tenant", "acme"}, {"prune", url, "--newest", "0", "--inactive", "1h"},
		{"prune", url, "--inactive", "0s"}, {"prune", url, "--newest", "-1"}, {"stats", "oracle://h/db"}, {"stats", "mysql://h"}, {"stats", url, "--table-prefix="}, {"stats", url, "--schema", "s"},
		{"check", "no"}, {"migrate", "no"}, {"import", "no", os.Args[0]}, {"copy", url, "no"}, {"copy", url, url + "2", "--parallel", "0"},
		{"prune", url, "--newest", "0", "--unnamed-attachments", "1h"},
		{"erase", url, "--owner", "acme/ursula", "--yes"}, {"erase", url, "--receipt", "r", "--yes"},
		{"import", url, os.Args[0], "--conflicts", "no"}, {"copy", url, url},
	} {
		chatstore(t, args...).wants(wrongUsage)
	}
	chatstore(t, "import", url, "no-such-file").wants(failure, "no-such-file")
	chatstore(t, "stats", url).wants(success, "2 threads")
	chatstore(t, "--help").wants(success, "Exit codes", "prune")
	chatstore(t, "erase", "--help").wants(success, "--receipt")
}

func TestAnOwnerWithASlash(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]chat.Owner{
		"ada": {Subject: "ada"}, "/ada": {Subject: "ada"}, "acme/a/b": {Tenant: "acme", Subject: "a/b"}, `{"tenant":"a/b","subject":"c"}`: {Tenant: "a/b", Subject: "c"},
	} {
		var o owner
		if err := o.UnmarshalText([]byte(text)); err != nil || chat.Owner(o) != want {
			t.Errorf("%s: %v, %v", text, o, err)
		}
	}
}

func TestOnlyMigrateChangesASchema(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	dsn, dir := server.DSN(t), t.TempDir()
	fill(t, dsn, 2)
	file := filepath.Join(dir, "all.jsonl")
	chatstore(t, "export", dsn, file).wants(success)
	server.Exec(t, dsn, "DELETE FROM chatstore_migrations WHERE version_id = 4")
	server.Exec(t, dsn, "DROP TABLE chatstore_grants CASCADE")
	server.Exec(t, dsn, "DROP FUNCTION chatstore_end_grants CASCADE")
	chatstore(t, "import", dsn, file).wants(failure, "migrate the database first")
	chatstore(t, "stats", dsn).wants(failure, "migrate the database first")
	chatstore(t, "migrate", dsn, "--dry-run").wants(success, "would migrate from version 3 to 4")
	chatstore(t, "stats", dsn).wants(failure, "migrate the database first")
	chatstore(t, "migrate", dsn).wants(success, "migrated from version 3 to 4")
	chatstore(t, "import", dsn, file).wants(success, "same:     2 threads")
	for _, command := range []string{"stats", "check", "export", "prune --newest=1", "bench"} {
		chatstore(t, append(strings.Fields(command), "sqlite:"+filepath.Join(dir, "missing.db"))...).wants(failure, "does not exist")
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "missing*")); len(found) > 0 {
		t.Errorf("a command created %v", found)
	}
}

func TestTheCommandLineComesBeforeTheEnvironmentAndTheFile(t *testing.T) {
	file, dir := filepath.Join(t.TempDir(), "config.json"), t.TempDir()
	must(t, os.WriteFile(file, []byte(`{"table-prefix": "file_", "newest": 1}`), 0o600))
	url := "sqlite:" + filepath.Join(dir, "chat.db")
	for _, prefix := range []string{"file_", "env_", "line_"} {
		s, err := sqlstore.Open(t.Context(), url, sqlstore.WithTablePrefix(prefix))
		must(t, err)
		for n := range len(prefix) { // tells them apart
			must(t, s.SaveThread(t.Context(), chat.Thread{ID: fmt.Sprint("thr_", n), CreatedAt: time.Now(), Owner: ada}))
		}
		must(t, s.Close())
	}
	stats := func(args ...string) float64 {
		return chatstore(t, append(args, "stats", url, "--json")...).wants(success).object()["threads"].(float64)
	}
	got := []float64{stats("--config", file)}
	chatstore(t, "--config", file, "prune", url, "--dry-run").wants(success, "would delete 4,")
	t.Setenv("CHATSTORE_TABLE_PREFIX", "env_")
	t.Setenv("CHATSTORE_CONFIG", file)
	got = append(got, stats(), stats("--table-prefix", "line_"))
	if want := []float64{5, 4, 5}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	must(t, os.WriteFile(file, []byte(`{"hodl": "file"}`), 0o600))
	chatstore(t, "stats", url).wants(wrongUsage, "hodl")
	must(t, os.WriteFile(file, []byte(`{"hold"`), 0o600))
	chatstore(t, "stats", url).wants(wrongUsage, "not one JSON object")
}

// A password is in each database. None is printed, whatever fails.
func TestSecretsAreNeverPrinted(t *testing.T) {
	refused := pgtest.Refusing(t)
	_, maria, _ := strings.Cut(mysqltest.URL(mysqltest.Shared(t).TCP(mysqltest.Shared(t).DSN(t))), "@")
	_, port, _ := net.SplitHostPort(refused)
	t.Setenv("SECRET_URL", "postgres://u:s3cret@127.0.0.1:1/db")
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, []byte("x"), 0o600))
	full := filepath.Join(dir, "chat.db")
	fill(t, "sqlite:"+full, 2)
	var all sync.WaitGroup
	for _, url := range []string{
		"postgres://u:s3cret@127.0.0.1:1/db", "postgres://u:s3cret@" + refused + "/db?sslmode=disable", "env:SECRET_URL",
		"host=127.0.0.1 port=" + port + " user=u password=s3cret sslmode=disable", "postgres://u:12/s3cret@127.0.0.1:1/db",
		"host=127.0.0.1 password='s3cret", "postgres://u:s3cret%zz@h/db", "oracle://u:s3cret@h/db",
		"mysql://u:s3cret@127.0.0.1:1,127.0.0.1:2/db", "mariadb://u:s3cret@" + maria, "mysql://u:12/s3cret@127.0.0.1:1/db", "mysql://u:s3cret%zz@h/db",
	} {
		for _, args := range [][]string{
			{"copy", url, "sqlite:" + file}, {"copy", "sqlite::memory:", url}, {"copy", url, url}, {"verify", url, "sqlite:" + file}, {"export", url},
			{"import", url, file},
			{"import", file, url + "/no/file"},
			{"export", "sqlite:" + full, url + "/no/file"},
			{"prune", "sqlite:" + full, "--newest", "0", "--hold", url + "/no/file"}, {"erase", "sqlite:" + full, "--owner", "a/b", "--yes", "--receipt", url + "/no/file"},
			{"erase", url, "--owner", "a/b", "--yes", "--receipt", filepath.Join(dir, "r")},
			{"prune", url, "--newest", "1"}, {"stats", url},
			{"grants", url, "t"}, {"migrate", url}, {"migrate", url, "--dry-run"}, {"check", url}, {"bench", url},
			// wrong usage
			{url}, {"stats", url, url}, {"stats", "--url", url}, {"stats", "--url=" + url}, {"bench", url, "--turns", url}, {"bench", url, "--turns=" + url},
			{"prune", url, "--newest=" + url}, {"prune", url, "--inactive", url}, {"import", url, url}, {"import", "--conflicts=" + url, url, file}, {"verify", "x", url, "y"},
			{"stats", "x", "password=", "s3cret"}, {"--config=" + url, "stats", url}, {"--config", url}, {"--help", url}, {"stats", url, "--help"},
			{"stats", url, "--statement-timeout=" + url}, {"-" + url}, {"erase", url, "--owner", "", "--receipt=" + url},
		} {
			for _, more := range [][]string{nil, {"--json"}} {
				all.Go(func() {
					var out bytes.Buffer
					args := append(slices.Clone(args), more...)
					code := run(t.Context(), args, strings.NewReader(""), &out, &out)
					if code == success && !slices.Contains(args, "--help") {
						t.Errorf("%q succeeded", args)
					}
					if strings.Contains(out.String(), "s3cret") {
						t.Errorf("%q printed %s", args, out.String())
					}
				})
			}
		}
	}
	all.Wait()
}

func TestTheEnvironmentsValuesAreNotPrinted(t *testing.T) {
	t.Setenv("CHATSTORE_SCHEMA", "s3cret")
	t.Setenv("CHATSTORE_STATEMENT_TIMEOUT", "s3cret")
	for _, args := range [][]string{{"--help"}, {"stats", "--help"}, {"stats", "sqlite::memory:"}, {}} {
		if r := chatstore(t, args...); strings.Contains(r.stdout+r.stderr, "s3cret") {
			t.Errorf("%q printed %s%s", args, r.stdout, r.stderr)
		}
	}
}

// child starts the command as a process. said reads its standard error until a line contains the text.
func child(t *testing.T, args ...string) (c *exec.Cmd, said func(text string)) {
	t.Helper()
	c = exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), beMain+"=1")
	pipe, err := c.StderrPipe()
	must(t, err)
	must(t, c.Start())
	t.Cleanup(func() { _ = c.Process.Kill() })
	lines, seen := bufio.NewScanner(pipe), ""
	return c, func(text string) {
		t.Helper()
		for lines.Scan() {
			if seen += lines.Text() + "\n"; strings.Contains(lines.Text(), text) {
				return
			}
		}
		t.Fatalf("it did not say %q, but:\n%s", text, seen)
	}
}

func TestAnInterruptStopsAfterABatchAndTheSameCommandGoesOn(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Shared(t).DSN(t)
	fill(t, dsn, 250)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		if sig == syscall.SIGTERM {
			fill(t, dsn, 250)
		}
		c, said := child(t, "prune", dsn, "--inactive", "1h", "--pause", "24h")
		pgtest.Await(t, dsn, "SELECT count(*) = 151 FROM chatstore_threads WHERE state = 0") // then it pauses
		must(t, c.Process.Signal(sig))
		said("stopping; interrupt again")
		said("run the same prune again")
		if err := c.Wait(); c.ProcessState.ExitCode() != interrupted {
			t.Errorf("%v: %v", sig, err)
		}
		chatstore(t, "prune", dsn, "--inactive", "1h").wants(success, "deleted 151,")
		chatstore(t, "stats", dsn).wants(success, "0 threads")
	}
}

func TestASecondInterruptEndsAtOnce(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Shared(t).DSN(t)
	fill(t, dsn, 2)
	n := pgtest.NewNetwork(t, dsn)
	lost := make(chan struct{})
	var once sync.Once
	n.Do(func(sent []byte) pgtest.Action {
		if !bytes.Contains(sent, []byte("DELETE")) && !bytes.Contains(sent, []byte("state = 1")) {
			return pgtest.Pass
		}
		once.Do(func() { close(lost) })
		return pgtest.LoseAnswer
	})
	c, said := child(t, "prune", n.DSN, "--inactive", "1h")
	<-lost
	must(t, c.Process.Signal(syscall.SIGINT))
	said("interrupt again to end at once")
	must(t, c.Process.Signal(syscall.SIGINT))
	_ = c.Wait()
	if st := c.ProcessState.Sys().(syscall.WaitStatus); !st.Signaled() || st.Signal() != syscall.SIGINT {
		t.Errorf("it ended as %v", c.ProcessState)
	}
}

func TestProgress(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			a := &app{stderr: &out}
			p := a.progress(t.Context(), nil)
			p.terminal = terminal
			p.total.Store(100)
			for n := range 50 {
				time.Sleep(6 * time.Second)
				p.show(lifecycle.Counts{Threads: int64(n + 1), Items: int64(n + 1)})
			}
			p.end()
			last := "50 threads, 50 items, 0 attachments, 0 rows/s, about 5m0s left"
			if !strings.Contains(out.String(), last) {
				t.Errorf("got %s", out.String())
			}
			lines := map[bool]int{false: 5, true: 0}[terminal]
			rewrites := map[bool]int{false: 0, true: 51}[terminal]
			if strings.Count(out.String(), "\n") != lines || strings.Count(out.String(), "\r") != rewrites {
				t.Errorf("got %q", out.String())
			}
		})
	}
}

// Each line of a page that calls the command has flags and arguments that it takes.
func TestPagesCallTheCommandRight(t *testing.T) {
	var names []string
	for _, n := range kong.Must(&cli{}).Model.Children {
		names = append(names, n.Name)
	}
	called := regexp.MustCompile(`(?m)^(?:    )?(?:go run \./cmd/)?chatstore ((?:` + strings.Join(names, "|") + `) .*?)(?:   +#.*)?$`)
	for page, most := range map[string]int{"README.md": 13, "../../README.md": 1, "../../docs/lifecycle.md": 4} {
		text, err := os.ReadFile(page)
		must(t, err)
		lines := called.FindAllStringSubmatch(string(text), -1)
		if len(lines) < most {
			t.Errorf("%s has %d calls, want %d", page, len(lines), most)
		}
		for _, line := range lines {
			parser, err := kong.New(&cli{}, kong.Configuration(configuration), kong.Exit(func(int) {}))
			must(t, err)
			if _, err := parser.Parse(strings.Fields(line[1])); err != nil && !strings.Contains(err.Error(), "no such file") {
				t.Errorf("%s: chatstore %s: %v", page, line[1], err)
			}
		}
	}
}
