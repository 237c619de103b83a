package sqlstore_test

import (
	"path/filepath"
	"testing"

	"github.com/chatstore/chatstore/internal/stacktest"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

// Each server has a Store of its own over one database.
func TestTwoServersAnswerOneFormAtOnce(t *testing.T) {
	t.Parallel()
	rounds := lightly(300, 20)
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "chat.db")
		stacktest.TwoServersAnswerOneForm(t, func(t testing.TB) store.Store {
			return get[*sqlstore.Store](t)(sqlstore.OpenSQLite(t.Context(), path, sqlstore.WithDurability(sqlstore.SurvivesKill), patient))
		}, rounds)
	})
	t.Run("postgres", func(t *testing.T) {
		dsn := pgtest.Shared(t).DSN(t)
		stacktest.TwoServersAnswerOneForm(t, func(t testing.TB) store.Store {
			return get[*sqlstore.Store](t)(sqlstore.OpenPostgres(t.Context(), dsn, patient))
		}, rounds)
	})
	t.Run("mariadb", func(t *testing.T) {
		dsn := mysqltest.Shared(t).DSN(t)
		stacktest.TwoServersAnswerOneForm(t, func(t testing.TB) store.Store {
			return get[*sqlstore.Store](t)(sqlstore.OpenMySQL(t.Context(), dsn, patient))
		}, rounds)
	})
}
