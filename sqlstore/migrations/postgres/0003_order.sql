-- Threads are ordered by (created_at, id): without a counter that every new thread updates. The places of deleted items stay,
-- for cursors. Columns have new names, so that a program of the first edition that still runs fails and writes nothing.
DROP TABLE {schema}"{prefix}counters";

DROP INDEX {schema}"{prefix}threads_by_owner";
DROP INDEX {schema}"{prefix}threads_by_tenant";
DROP INDEX {schema}"{prefix}threads_by_time";
ALTER TABLE {schema}"{prefix}threads" DROP COLUMN seq;
ALTER TABLE {schema}"{prefix}threads" RENAME COLUMN item_seq TO places; -- the last place given to an item
ALTER TABLE {schema}"{prefix}threads" RENAME COLUMN deleted TO state; -- 0: live, 1: deleted, 2: erased
CREATE INDEX "{prefix}threads_by_owner" ON {schema}"{prefix}threads" (tenant, subject, created_at, id) WHERE state = 0;
CREATE INDEX "{prefix}threads_by_tenant" ON {schema}"{prefix}threads" (tenant, created_at, id) WHERE state = 0 AND subject <> '';
CREATE INDEX "{prefix}threads_by_time" ON {schema}"{prefix}threads" (created_at, id) WHERE state = 0;
CREATE INDEX "{prefix}threads_deleted" ON {schema}"{prefix}threads" (tenant, subject) WHERE state > 0 AND subject <> ''; -- to erase an owner

ALTER TABLE {schema}"{prefix}items" RENAME COLUMN seq TO place;

CREATE TABLE {schema}"{prefix}gone" (
	thread_id  text COLLATE "C" NOT NULL,
	id         text COLLATE "C" NOT NULL,
	created_at bigint NOT NULL,
	place      bigint NOT NULL,
	PRIMARY KEY (thread_id, id)
);

ALTER TABLE {schema}"{prefix}attachments" RENAME COLUMN deleted TO state;
CREATE INDEX "{prefix}attachments_by_owner" ON {schema}"{prefix}attachments" (tenant, subject, id);
CREATE INDEX "{prefix}attachments_by_tenant" ON {schema}"{prefix}attachments" (tenant, id) WHERE state = 0 AND subject <> '';

-- A first Bus enables them.
ALTER TABLE {schema}"{prefix}threads" DISABLE TRIGGER "{prefix}notify_insert";
ALTER TABLE {schema}"{prefix}threads" DISABLE TRIGGER "{prefix}notify_update";
ALTER TABLE {schema}"{prefix}threads" DISABLE TRIGGER "{prefix}notify_delete";
ALTER TABLE {schema}"{prefix}threads" DISABLE TRIGGER "{prefix}notify_truncate";
ALTER TABLE {schema}"{prefix}items" DISABLE TRIGGER "{prefix}notify_insert";
ALTER TABLE {schema}"{prefix}items" DISABLE TRIGGER "{prefix}notify_update";
ALTER TABLE {schema}"{prefix}items" DISABLE TRIGGER "{prefix}notify_delete";
ALTER TABLE {schema}"{prefix}items" DISABLE TRIGGER "{prefix}notify_truncate";
ALTER TABLE {schema}"{prefix}attachments" DISABLE TRIGGER "{prefix}notify_insert";
ALTER TABLE {schema}"{prefix}attachments" DISABLE TRIGGER "{prefix}notify_update";
ALTER TABLE {schema}"{prefix}attachments" DISABLE TRIGGER "{prefix}notify_delete";
ALTER TABLE {schema}"{prefix}attachments" DISABLE TRIGGER "{prefix}notify_truncate";
