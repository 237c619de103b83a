package examples_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/chatstore/chatstore/internal/testenv"
)

// importsAll is a program with every module of chatstore that a program imports.
const importsAll = `package main

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/encrypt"
	"github.com/chatstore/chatstore/redisbus"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/store"
)

func main() {
	base, err := sqlstore.OpenSQLite(context.Background(), "chat.db")
	if err != nil {
		panic(err)
	}
	b := redisbus.New(redis.NewClient(&redis.Options{}))
	s := store.Wrap(base, cache.New(cache.WithBus(b)))
	fmt.Println(s.GenerateThreadID(context.Background()), encrypt.WithPlaintext(), chatkit.NewHandler(s, nil))
}
`

// TestACloneCanBeUsed follows docs/clone.md: each block of commands, in a new module beside the clone.
func TestACloneCanBeUsed(t *testing.T) {
	page := testenv.Value(os.ReadFile("../docs/clone.md"))(t)
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) != 2 {
		t.Fatalf("docs/clone.md has %d blocks of commands, want 2", len(blocks))
	}
	clone := testenv.Value(filepath.Abs(".."))(t)
	for n, block := range blocks {
		t.Run(fmt.Sprint(n+1), func(t *testing.T) {
			parent := t.TempDir()
			testenv.Must(t, os.Symlink(clone, filepath.Join(parent, "chatstore")))
			module := filepath.Join(parent, "yourmodule")
			testenv.Must(t, os.Mkdir(module, 0o700))
			testenv.Must(t, os.WriteFile(filepath.Join(module, "main.go"), []byte(importsAll), 0o600))
			testenv.Must(t, os.WriteFile(filepath.Join(module, "go.mod"), []byte("module example.com/yourmodule\n\ngo 1.26.0\n"), 0o600))

			commands := exec.Command("bash", "-euxc", string(block[1]))
			commands.Dir = module
			// What go mod tidy needs is in the module cache, as the modules here need it too. The new module has no hashes for it. Without
			// GOSUMDB the go command does not ask the network for them.
			commands.Env = append(os.Environ(), "GOWORK=", "GOSUMDB=off")
			if out, err := commands.CombinedOutput(); err != nil {
				t.Errorf("the commands fail: %v\n%s", err, out)
			}
		})
	}
}
