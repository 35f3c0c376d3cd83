-- Who had a delivery sent again, and what an attempt was made of. Older attempts have none of it: '' and null.
alter table zentra.delivery_states add column actor text not null default '';
alter table zentra.delivery_attempts
    add column actor           text not null default '',
    add column request_headers text not null default '',    -- JSON, as sent; '' where they were not kept
    add column next_at         timestamptz;                 -- when it was to be tried again after this attempt

-- Recoveries: what an endpoint has not had is sent to it, in steps. A row says what was asked and how far it is; it is
-- written by the owner of the endpoint's lane, in the commits of its steps.
create table zentra.recoveries (
    id         uuid primary key,            -- of the command that asked for it
    tenant     text not null,
    endpoint   text not null,
    which      text not null check (which in ('failed', 'missing', 'undelivered', 'any')),
    since      timestamptz not null,
    before     timestamptz not null,
    events     text[] not null,
    principal  text not null,
    dry_run    boolean not null,
    status     text not null check (status in ('running', 'done', 'stopped')),
    phase      text not null check (phase in ('deliveries', 'begun', 'open', 'sealed')),
    place      text not null,
    found      bigint not null,
    replayed   bigint not null,
    made       bigint not null,
    skipped    bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    check (replayed + made + skipped <= found)
) with (fillfactor = 70);
create index recoveries_in_order on zentra.recoveries (tenant, created_at, id);
create index recoveries_running on zentra.recoveries (tenant) where status = 'running';   -- a few at the most

-- What a recovery walks along: what one tenant recovers may not cost as much as all of them have. Tenant and id are one
-- expression: as columns, the planner takes the index for whatever names a tenant of which it knows nothing, and goes
-- through all that the tenant has.
create index intents_of_tenant on zentra.intents ((tenant || '/' || id::text) collate "C");
create index timers_of_tenant on zentra.timers (tenant, key) where kind = 'intent';

grant select on zentra.recoveries to zentra_writer, zentra_tenant;
grant insert on zentra.recoveries to zentra_writer;
grant update (status, phase, place, found, replayed, made, skipped, updated_at) on zentra.recoveries to zentra_writer;

alter table zentra.recoveries enable row level security;
alter table zentra.recoveries force row level security;
create policy tenant_only on zentra.recoveries using (tenant = (select current_setting('zentra.tenant', true)))
    with check (tenant = (select current_setting('zentra.tenant', true)));
