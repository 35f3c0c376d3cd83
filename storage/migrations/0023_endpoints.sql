-- Endpoints that can be changed, disabled, enabled and deleted; secrets that rotate; the lane of each endpoint.

alter table endpoints drop constraint endpoints_status_check;
alter table endpoints
    add check (status in ('enabled', 'disabled', 'deleted')),
    add column version         integer not null default 1,          -- of the row, for whoever changes what they have seen
    add column terms           jsonb not null default '{}',
    add column secrets_until   timestamptz[] not null default '{}', -- of each secret; null or absent for no end
    add column keys            bytea[] not null default '{}',       -- seeds of Ed25519, sealed, the newest first
    add column keys_until      timestamptz[] not null default '{}',
    add column since           timestamptz not null default clock_timestamp(),  -- enabled and where it is for so long
    add column disabled_at     timestamptz,
    add column disabled_reason text check (disabled_reason in ('asked', 'gone', 'failing')),
    add column disabled_by     text;
update endpoints set disabled_at = now(), disabled_reason = 'gone', disabled_by = 'svc_events' where status = 'disabled';
grant update (version, terms, secrets_until, keys, keys_until, since, disabled_at, disabled_reason, disabled_by)
    on endpoints to zentra_tenant;

-- One row per endpoint that was ever sent something, written by the owner of its lane: the number of the last delivery
-- that it took in, and the failures since the last success.
create table endpoint_lanes (
    tenant        text not null,
    endpoint      text not null,
    sequence      bigint not null,
    failing_since timestamptz,
    failed_at     timestamptz,
    failures      integer not null,
    primary key (tenant, endpoint)
) with (fillfactor = 50);
grant select, insert, update on endpoint_lanes to zentra_writer;
grant select on endpoint_lanes to zentra_tenant;
alter table endpoint_lanes enable row level security;
alter table endpoint_lanes force row level security;
create policy tenant_only on endpoint_lanes using (tenant = (select current_setting('zentra.tenant', true)))
    with check (tenant = (select current_setting('zentra.tenant', true)));

-- The place of a delivery among all that its endpoint gets: the order of a lane, and of what waits in it.
alter table delivery_states add column sequence bigint not null default 0;
drop index delivery_states_open;
create index delivery_states_open on delivery_states (tenant, endpoint, sequence)
    where status in ('pending', 'delivering', 'retrying');
