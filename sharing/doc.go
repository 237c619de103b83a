// Package sharing keeps grants: who may read or edit another owner's thread.
package sharing
