// Package driver helps to write a store: the base of a stack. It checks arguments and passes facts about the base to the
// layers above it.
//
// Each method of a base begins with a check of its arguments:
//
//	var checks = driver.Checks{Versions: true} // without Versions, writes under store.IfVersion are refused
//
//	func (s *Store) SaveThread(ctx context.Context, t chat.Thread) error {
//		w, err := checks.SaveThread(ctx, t)
//		if err != nil {
//			return err
//		}
//		… // in the transaction that writes, with the thread's version:
//		if err := w.Condition.Check(store.OpSaveThread, t.ID, version); err != nil {
//			return err
//		}
//		… // save w.Thread in mode w.Mode
//	}
//
// A base with thread versions calls [ReportVersion], so that caches can patch their entries. A base that knows how long an
// abandoned write may still take effect implements [WriteBounder]. For operators' programs, a base may have capabilities, such as [Eraser]. Check
// a base with package storetest.
//
// To call a Store, use package store. To write a layer around another Store, use package store/layer. A layer that answers
// without its base uses Checks too.
package driver
