// Package driver is for those who write a store: the base of a stack. It checks arguments, and tells the layers above what the
// base knows.
//
// Each method of a base begins with a check of its arguments:
//
//	var checks = driver.Checks{}
//
//	func (s *Store) SaveThread(ctx context.Context, t chat.Thread) error {
//		w, err := checks.SaveThread(ctx, t)
//		if err != nil {
//			return err
//		}
//		… // save w.Thread, as w.Mode says
//	}
//
// A base that keeps thread versions calls [ReportVersion], so that caches can patch their entries. One that knows how long
// an abandoned write may still take effect is a [WriteBounder]. Check a base with package storetest.
//
// Do not use it to call a Store, which package store is for. For a layer around another Store there is package layer; if it
// answers without its base, it uses Checks too.
package driver
