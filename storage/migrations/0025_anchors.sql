-- Checkpoints kept elsewhere: where, and which were handed over.

create table anchor_sinks (
    name       text primary key check (name ~ '^[a-z0-9][a-z0-9_-]{0,63}$'),
    kind       text not null check (kind in ('file', 'webhook')),
    target     text not null,                   -- a path on the machine of the worker, or a URL
    tenant     text references tenants,         -- null: every tenant
    leaves     integer not null check (leaves > 0),
    seconds    integer not null check (seconds > 0),
    created_by text not null,
    created_at timestamptz not null default now(),
    removed_at timestamptz
);

-- At most one of a sink and tenant is pending: the next one covers all that came since.
create table anchors (
    sink       text not null references anchor_sinks,
    tenant     text not null references tenants,
    size       bigint not null check (size > 0),
    created_at timestamptz not null default now(),
    next_at    timestamptz not null default now(),
    attempts   integer not null default 0,
    error      text,                            -- of the last attempt that failed
    kept_at    timestamptz,
    primary key (sink, tenant, size)
);
create unique index anchors_pending on anchors (sink, tenant) where kept_at is null;

grant select, insert, update on anchor_sinks, anchors to zentra_writer;
grant select on anchors to zentra_tenant;
alter table anchors enable row level security;
alter table anchors force row level security;
create policy tenant_only on anchors using (tenant = (select current_setting('zentra.tenant', true)))
    with check (tenant = (select current_setting('zentra.tenant', true)));
