package sqlstore

import (
	"fmt"
	"testing"

	"zombiezen.com/go/sqlite"

	"github.com/chatstore/chatstore/store"
)

// The outcome of a COMMIT is unknown after an error of the disk, and of a damaged file. All other errors leave the transaction
// to be rolled back.
func TestResultCodesOfSQLiteHaveAMeaning(t *testing.T) {
	for code, want := range map[sqlite.ResultCode]verdict{
		sqlite.ResultBusy:                 {code: store.CodeUnavailable, retry: true, settled: true},
		sqlite.ResultBusySnapshot:         {code: store.CodeUnavailable, retry: true, settled: true},
		sqlite.ResultLockedSharedCache:    {code: store.CodeUnavailable, retry: true, settled: true},
		sqlite.ResultProtocol:             {code: store.CodeUnavailable, retry: true, settled: true},
		sqlite.ResultFull:                 {code: store.CodeUnavailable, settled: true},
		sqlite.ResultReadOnlyDBMoved:      {code: store.CodeUnavailable, settled: true},
		sqlite.ResultCantOpenIsDir:        {code: store.CodeUnavailable, settled: true},
		sqlite.ResultNoMem:                {code: store.CodeUnavailable, settled: true},
		sqlite.ResultIOErr:                {code: store.CodeUnavailable},
		sqlite.ResultIOErrFsync:           {code: store.CodeUnavailable},
		sqlite.ResultCorrupt:              {code: store.CodeInternal},
		sqlite.ResultNotADB:               {code: store.CodeInternal},
		sqlite.ResultInterrupt:            {code: store.CodeCanceled, settled: true},
		sqlite.ResultConstraintUnique:     {code: store.CodeConflict, settled: true},
		sqlite.ResultConstraintPrimaryKey: {code: store.CodeConflict, settled: true},
		sqlite.ResultConstraintForeignKey: {code: store.CodeNotFound, settled: true},
		sqlite.ResultConstraintTrigger:    {code: store.CodeInternal, settled: true},
		sqlite.ResultError:                {code: store.CodeInternal, settled: true},
	} {
		if got := (&sqliteEngine{}).classify(fmt.Errorf("wrapped: %w", fault(code.ToError()))); got != want {
			t.Errorf("%v: got %+v, want %+v", code, got, want)
		}
	}
}
