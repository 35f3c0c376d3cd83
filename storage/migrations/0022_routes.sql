-- Corridors as documents in versions, with a life like that of policies. The table of corridors holds what is in force:
-- the corridors of the active version, written with it, so that whoever reads corridors reads them where they always
-- were. What stood there before is version 1.

create table routing_documents (
    tenant     text not null references tenants,
    version    integer not null,
    document   jsonb not null,
    state      text not null check (state in ('draft', 'validated', 'active', 'retired')),
    digest     text,                    -- null: made by this migration
    note       text not null default '',
    created_by text not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (tenant, version)
);
create unique index routing_documents_active on routing_documents (tenant) where state = 'active';

create table routing_events (
    tenant    text not null,
    number    bigint generated always as identity,
    version   integer not null,
    action    text not null check (action in ('drafted', 'validated', 'promoted', 'rolled_back', 'installed', 'retired')),
    principal text not null,
    at        timestamptz not null default clock_timestamp(),
    detail    jsonb not null default '{}',
    primary key (tenant, number),
    foreign key (tenant, version) references routing_documents
);

alter table corridors
    add column version      integer not null default 0,   -- of the routing document; 0: set up by none
    add column routes       jsonb not null default '[]',
    add column prefer       text not null default 'weight' check (prefer in ('weight', 'cost')),
    add column wait_seconds integer not null default 120 check (wait_seconds between 0 and 86400);

alter table corridors no force row level security;   -- the owner gives what is there its version
update corridors set version = 1, routes = (
    select jsonb_agg(jsonb_build_object('rail', rail, 'priority', place) order by place)
    from unnest(rails) with ordinality as named (rail, place)
);
insert into routing_documents (tenant, version, document, state, note, created_by)
select tenant, 1, jsonb_build_object('corridors', jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
    'name', name, 'currency', currency, 'kind', kind, 'country', country, 'minor_min', minor_min, 'minor_max', minor_max,
    'rails', routes)) order by name)), 'active', 'what was in force before there were versions', 'migration'
from corridors group by tenant;
insert into routing_events (tenant, version, action, principal)
select tenant, version, 'installed', created_by from routing_documents;
alter table corridors force row level security;

create function routing_documents_are_kept() returns trigger
    language plpgsql set search_path = zentra
as $$
begin
    raise exception 'version % of the routes of % is kept as it is', old.version, old.tenant
        using errcode = 'check_violation';
end $$;
create trigger routing_documents_are_kept
    before update of tenant, version, document, created_by, created_at, digest, note on routing_documents
    for each row execute function routing_documents_are_kept();
create trigger routing_documents_are_never_deleted before delete on routing_documents
    for each row execute function routing_documents_are_kept();

grant select, insert on routing_documents, routing_events to zentra_tenant;
grant update (state) on routing_documents to zentra_tenant;
grant insert, delete on corridors to zentra_tenant;
grant select on routing_documents, routing_events to zentra_writer;
do $$
declare
    name text;
begin
    foreach name in array array['routing_documents', 'routing_events'] loop
        execute format('alter table zentra.%I enable row level security', name);
        execute format('alter table zentra.%I force row level security', name);
        execute format('create policy tenant_only on zentra.%I using (tenant = (select current_setting(''zentra.tenant'', true)))'
                       ' with check (tenant = (select current_setting(''zentra.tenant'', true)))', name);
    end loop;
end $$;

-- The rails that a tenant's corridors may lead to: those of its world. Tenants do not see the table, which has secrets.
create function reachable_rails(asked text) returns setof text
    language sql stable security definer set search_path = zentra
as $$
    select r.name from zentra.rails r join zentra.tenants t on t.id = asked
    where coalesce(r.settings ->> 'mode', 'test') = t.mode
$$;
alter function reachable_rails(text) owner to zentra_writer;
revoke all on function reachable_rails(text) from public;
grant execute on function reachable_rails(text) to zentra_tenant, zentra_writer;

-- How rails are operated: what operators say of them, and how they do -------------------------------------------------

create table rail_operations (
    rail        text primary key references rails,
    draining    boolean not null default false,
    reason      text not null default '',
    maintenance jsonb not null default '[]'
);
create table rail_events (
    number    bigint generated always as identity primary key,
    rail      text not null,
    action    text not null check (action in ('drained', 'resumed', 'maintenance_set', 'maintenance_lifted')),
    principal text not null,
    at        timestamptz not null default clock_timestamp(),
    detail    jsonb not null default '{}'
);
grant select on rail_operations, rail_events to zentra_writer;
create trigger configuration_changed after insert or update or delete on rail_operations
    for each statement execute function bump_configuration_version();

-- What each worker has counted of each rail within its window: a few rows that are overwritten every two seconds.
create table rail_health (
    worker  text not null,
    rail    text not null,
    calls   bigint not null,
    failed  bigint not null,
    slow    bigint not null,
    seconds double precision not null,
    circuit text not null check (circuit in ('closed', 'open', 'half_open')),
    waiting integer not null,
    at      timestamptz not null default clock_timestamp(),
    primary key (worker, rail)
) with (fillfactor = 50);
grant select, insert, update, delete on rail_health to zentra_writer;
