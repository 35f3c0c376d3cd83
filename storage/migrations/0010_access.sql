-- Who may come in: keys with names, scopes and networks, certificates of services, limits per tenant; and two worlds.
--
-- A tenant is in one world, test or live, for ever: money, webhooks and configuration belong to a tenant, so they are in
-- its world. Rails belong to the installation, so each says its world too, and no corridor leads from one into the other.

alter table tenants add column mode text not null default 'test' check (mode in ('test', 'live'));

create function mode_is_fixed() returns trigger
    language plpgsql set search_path = zentra
as $$
begin
    raise exception 'the mode of tenant % is fixed', old.id using errcode = 'check_violation';
end $$;
create trigger mode_is_fixed before update of mode on tenants
    for each row when (old.mode is distinct from new.mode) execute function mode_is_fixed();

-- Whatever writes a corridor or a rail, and from wherever. The rights are the writer's: under row security the owner
-- might not see the tenant.
create function worlds_stay_apart() returns trigger
    language plpgsql security definer set search_path = zentra
as $$
begin
    if tg_table_name = 'corridors' then
        if exists (
            select from zentra.rails r, zentra.tenants t
            where r.name = any (new.rails) and t.id = new.tenant and coalesce(r.settings ->> 'mode', 'test') <> t.mode
        ) then
            raise exception 'corridor % leads out of the world of %', new.name, new.tenant using errcode = 'check_violation';
        end if;
    elsif tg_op = 'UPDATE' and coalesce(new.settings ->> 'mode', 'test') <> coalesce(old.settings ->> 'mode', 'test') then
        raise exception 'the mode of rail % is fixed', new.name using errcode = 'check_violation';
    elsif exists (
        select from zentra.corridors c join zentra.tenants t on t.id = c.tenant
        where new.name = any (c.rails) and t.mode <> coalesce(new.settings ->> 'mode', 'test')
    ) then
        raise exception 'a corridor of another world leads to rail %', new.name using errcode = 'check_violation';
    end if;
    return new;
end $$;
alter function worlds_stay_apart() owner to zentra_writer;
revoke all on function worlds_stay_apart() from public;
create trigger worlds_stay_apart before insert or update on corridors
    for each row execute function worlds_stay_apart();
create trigger worlds_stay_apart before insert or update on rails
    for each row execute function worlds_stay_apart();

-- Keys, people, certificates ---------------------------------------------------------------------------------------

alter table principals add column disabled_at timestamptz;   -- nothing of theirs opens a door any more

alter table api_keys
    add column name         text not null default '',
    add column scopes       text[],         -- null: all that the role may do
    add column networks     cidr[],         -- null: from anywhere
    add column replaces     text,           -- the key that this one was made to follow
    add column last_used_at timestamptz;
grant update (last_used_at) on api_keys to zentra_writer;

-- What a service's certificate says (a URI of its alternative names, or its common name), and who that is.
create table certificates (
    identity     text primary key check (length(identity) between 1 and 255),
    tenant       text not null,
    principal    text not null,
    scopes       text[],
    created_at   timestamptz not null default now(),
    revoked_at   timestamptz,
    foreign key (tenant, principal) references principals
);

-- A tenant's own limits; where there is no row, the installation's defaults hold.
create table rate_limits (
    tenant         text not null references tenants,
    class          text not null check (class in ('money', 'write', 'read')),
    per            text not null check (per in ('tenant', 'key')),
    quota          integer not null check (quota between 1 and 10000000),
    window_seconds integer not null check (window_seconds between 1 and 86400),
    primary key (tenant, class, per)
);

grant select on certificates, rate_limits to zentra_writer, zentra_tenant;
do $$
declare
    name text;
begin
    foreach name in array array['certificates', 'rate_limits'] loop
        execute format('alter table zentra.%I enable row level security', name);
        execute format('alter table zentra.%I force row level security', name);
        execute format('create policy tenant_only on zentra.%I using (tenant = (select current_setting(''zentra.tenant'', true)))'
                       ' with check (tenant = (select current_setting(''zentra.tenant'', true)))', name);
    end loop;
end $$;

-- The questions that come before a tenant is known; each answers about the one thing that is named. `authenticate` stays
-- for gateways of the version before.

create function authenticate_key(key_id text)
    returns table (tenant text, principal text, role text, mode text, secret_hash bytea, scopes text[], networks text[],
                   expires_at timestamptz, revoked_at timestamptz, disabled_at timestamptz)
    language sql stable security definer set search_path = zentra
as $$
    select k.tenant, k.principal, p.role, t.mode, k.secret_hash, k.scopes, k.networks::text[],
           k.expires_at, k.revoked_at, p.disabled_at
    from zentra.api_keys k
    join zentra.principals p on p.tenant = k.tenant and p.id = k.principal
    join zentra.tenants t on t.id = k.tenant
    where k.id = key_id
$$;

create function authenticate_certificate(asked text)
    returns table (tenant text, principal text, role text, mode text, scopes text[],
                   revoked_at timestamptz, disabled_at timestamptz)
    language sql stable security definer set search_path = zentra
as $$
    select c.tenant, c.principal, p.role, t.mode, c.scopes, c.revoked_at, p.disabled_at
    from zentra.certificates c
    join zentra.principals p on p.tenant = c.tenant and p.id = c.principal
    join zentra.tenants t on t.id = c.tenant
    where c.identity = asked
$$;

-- Whether there is such a tenant, and what is stored of the principal: a token may speak for somebody who is not.
create function authenticate_claims(asked_tenant text, asked_principal text)
    returns table (mode text, role text, disabled_at timestamptz)
    language sql stable security definer set search_path = zentra
as $$
    select t.mode, p.role, p.disabled_at
    from zentra.tenants t left join zentra.principals p on p.tenant = t.id and p.id = asked_principal
    where t.id = asked_tenant
$$;

do $$
declare
    name text;
begin
    foreach name in array array['authenticate_key(text)', 'authenticate_certificate(text)',
                                'authenticate_claims(text, text)'] loop
        execute format('alter function zentra.%s owner to zentra_writer', name);   -- reads under its rights
        execute format('revoke all on function zentra.%s from public', name);
        execute format('grant execute on function zentra.%s to zentra_tenant, zentra_writer', name);
    end loop;
end $$;
