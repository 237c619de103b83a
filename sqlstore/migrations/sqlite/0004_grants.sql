-- Grants of threads to others. A trigger ends them with their thread, so that programs of the edition before may go on: they know
-- no grants.
CREATE TABLE "{prefix}grants" (
	thread_id  TEXT    NOT NULL REFERENCES "{prefix}threads" (id) ON DELETE CASCADE,
	tenant     TEXT    NOT NULL, -- to whom: a subject, a group, or if both are empty all of the tenant
	subject    TEXT    NOT NULL,
	grp        TEXT    NOT NULL,
	role       INTEGER NOT NULL, -- 1: viewer, 2: editor
	by_tenant  TEXT    NOT NULL,
	by_subject TEXT    NOT NULL,
	granted_at INTEGER NOT NULL, -- microseconds since 1970
	version    INTEGER NOT NULL, -- of the thread at that time
	PRIMARY KEY (thread_id, tenant, subject, grp)
) STRICT;
-- These two are for listings only. Their expressions keep other statements from using them instead of the primary key: for a subject
-- or thread with many grants, that would read all of them.
CREATE INDEX "{prefix}grants_by_time" ON "{prefix}grants" ((thread_id || ''), granted_at, tenant, subject, grp);
CREATE INDEX "{prefix}grants_by_grantee" ON "{prefix}grants" ((tenant || ''), (subject || ''), (grp || ''), granted_at, thread_id);
CREATE INDEX "{prefix}grants_by_granter" ON "{prefix}grants" (by_tenant, by_subject) WHERE by_subject <> ''; -- to erase an owner

CREATE TRIGGER "{prefix}end_grants" AFTER UPDATE OF state ON "{prefix}threads" WHEN OLD.state = 0 AND NEW.state <> 0 BEGIN
	DELETE FROM "{prefix}grants" WHERE thread_id = NEW.id;
END;
