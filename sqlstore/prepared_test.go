package sqlstore

import (
	"path/filepath"
	"reflect"
	"testing"
)

func TestAllStatementsOfSQLiteArePrepared(t *testing.T) {
	s, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "chat.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	texts := 0
	var look func(v reflect.Value)
	look = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.String:
			texts++
			if s.forReads[v.String()] == nil || s.forWrites[v.String()] == nil {
				t.Errorf("not prepared: %s", v.String())
			}
		case reflect.Struct:
			for i := range v.NumField() {
				look(v.Field(i))
			}
		case reflect.Array:
			for i := range v.Len() {
				look(v.Index(i))
			}
		}
	}
	look(reflect.ValueOf(s.sql))
	if texts < 30 {
		t.Errorf("found %d statements only", texts)
	}
}
