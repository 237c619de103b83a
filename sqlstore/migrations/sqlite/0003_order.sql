-- Threads are ordered by (created_at, id): without a counter that every new thread updates. The places of deleted items stay,
-- for cursors. Columns have new names, so that a program of the first edition that still runs fails and writes nothing.
DROP TABLE "{prefix}counters";

DROP INDEX "{prefix}threads_by_owner";
DROP INDEX "{prefix}threads_by_tenant";
DROP INDEX "{prefix}threads_by_time";
ALTER TABLE "{prefix}threads" DROP COLUMN seq;
ALTER TABLE "{prefix}threads" RENAME COLUMN item_seq TO places; -- the last place given to an item
ALTER TABLE "{prefix}threads" RENAME COLUMN deleted TO state; -- 0: live, 1: deleted, 2: erased
CREATE INDEX "{prefix}threads_by_owner" ON "{prefix}threads" (tenant, subject, created_at, id) WHERE state = 0;
CREATE INDEX "{prefix}threads_by_tenant" ON "{prefix}threads" (tenant, created_at, id) WHERE state = 0 AND subject <> '';
CREATE INDEX "{prefix}threads_by_time" ON "{prefix}threads" (created_at, id) WHERE state = 0;
CREATE INDEX "{prefix}threads_deleted" ON "{prefix}threads" (tenant, subject) WHERE state > 0 AND subject <> ''; -- to erase an owner

ALTER TABLE "{prefix}items" RENAME COLUMN seq TO place;

CREATE TABLE "{prefix}gone" (
	thread_id  TEXT    NOT NULL,
	id         TEXT    NOT NULL,
	created_at INTEGER NOT NULL,
	place      INTEGER NOT NULL,
	PRIMARY KEY (thread_id, id)
) STRICT, WITHOUT ROWID;

ALTER TABLE "{prefix}attachments" RENAME COLUMN deleted TO state;
CREATE INDEX "{prefix}attachments_by_owner" ON "{prefix}attachments" (tenant, subject, id);
CREATE INDEX "{prefix}attachments_by_tenant" ON "{prefix}attachments" (tenant, id) WHERE state = 0 AND subject <> '';
