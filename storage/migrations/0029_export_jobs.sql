-- Exports of evidence that somebody asked for and a worker makes: what was asked, how far it is, and the finished file.

create table zentra.export_jobs (
    id            uuid primary key,
    tenant        text not null references zentra.tenants,
    actor         text not null,
    role          text not null,
    at            timestamptz not null default now(),
    since         timestamptz,
    until         timestamptz not null,     -- fixed when it was asked: whoever makes it makes the same bytes
    types         text[],                   -- null: everything
    state         text not null default 'waiting' check (state in ('waiting', 'running', 'done', 'failed', 'expired')),
    attempt       integer not null default 0,               -- of whoever makes it; a later one takes it from an earlier one
    claimed_until timestamptz not null default now(),
    leaves_done   bigint not null default 0,
    leaves        bigint not null default 0,
    entries       bigint not null default 0,
    first_leaf    bigint,
    log_size      bigint,
    manifest      bytea,
    sha256        bytea,
    bytes         bigint,
    error         text,
    finished_at   timestamptz,
    expires_at    timestamptz
);
create index export_jobs_in_order on zentra.export_jobs (tenant, at, id);
create index export_jobs_open on zentra.export_jobs (at) where state in ('waiting', 'running');     -- a few at the most
create index export_jobs_kept on zentra.export_jobs (expires_at) where state = 'done';

-- The bytes of a finished export, a mebibyte in each row but the last, until it expires.
create table zentra.export_parts (
    tenant  text not null,
    job     uuid not null references zentra.export_jobs,
    attempt integer not null,
    number  integer not null,
    content bytea not null,
    primary key (job, attempt, number)
);
alter table zentra.export_parts alter column content set storage external;

grant select, insert on zentra.export_jobs to zentra_tenant;
grant select on zentra.export_parts to zentra_tenant;
grant select, insert, update on zentra.export_jobs to zentra_writer;
grant select, insert, delete on zentra.export_parts to zentra_writer;
do $$
declare
    name text;
begin
    foreach name in array array['export_jobs', 'export_parts'] loop
        execute format('alter table zentra.%I enable row level security', name);
        execute format('alter table zentra.%I force row level security', name);
        execute format('create policy tenant_only on zentra.%I using (tenant = (select current_setting(''zentra.tenant'', true)))'
                       ' with check (tenant = (select current_setting(''zentra.tenant'', true)))', name);
    end loop;
end $$;
